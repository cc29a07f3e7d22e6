// Package stores names the stores of the extension: the ingester writes to them and the API reads them.
package stores

import (
	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/endpoints"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/events"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/lines"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/proxies"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/records"
)

// Stores are all stores. Each has a lock of its own and may be used from several goroutines.
type Stores struct {
	Live      *live.Graph
	Sources   *sources.Tracker
	Inventory *inventory.Inventory
	Changes   *changes.Store
	Proxies   *proxies.Table
	Outages   *outages.Store
	Endpoints *endpoints.Catalogue
	Events    *events.Hub
	// Drops is what the components left out of the data.
	Drops *drops.Table
	// Past answers for the past: the embedded history, or a server elsewhere. History is what writes the embedded one, nil
	// where something else stores the metrics.
	Past    *history.Store
	History *history.Writer
	// Traces answers for traces: the embedded store, or a server elsewhere.
	Traces traces.Reader
	Kept
}

// Kept is what is kept as records, on disk or by a server.
type Kept struct {
	// Records tells what is kept.
	Records interface{ Status() []records.Status }
	Flows   *flows.Store
	Lines   *lines.Store
	// Spans is nil where something else stores the traces.
	Spans *traces.Store
}
