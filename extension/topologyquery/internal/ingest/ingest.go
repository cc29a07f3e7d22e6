// Package ingest takes over what reaches the topology exporter and brings each part to its store: edges to the live
// graph and the history, liveness to the sources, entity events to the inventory, flow records, changes, outages and
// spans to theirs.
package ingest

import (
	"context"
	"maps"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/endpoints"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/lines"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Recorder keeps what must outlive the process. state.Keeper is one.
type Recorder interface {
	Entity(event mesh.Event)
	Outage(o *outage.Outage, at int64)
	Change(change changes.Change)
}

// Settings bound an Ingester.
type Settings struct {
	MaxSeries int
	// SeriesExpiry is how long, in milliseconds of data time, a series that nobody reports any more is remembered.
	SeriesExpiry int64
	// Keep tells which metrics are stored in the history.
	Keep func(metric string) bool
	// Catalog, unless nil, is told what the stored metrics are.
	Catalog *history.Catalog
	// Restored tells that there is a history from before this process.
	Restored bool
	// Changed is called after each write.
	Changed func()
	// State is told what happens to the mesh, the outages and the changes; nil where nothing is kept.
	State Recorder
}

// Ingester writes telemetry to the stores. Its methods may be called from several goroutines.
type Ingester struct {
	*stores.Stores
	Settings

	identity identity
	namer    *history.Namer
	mesh     changes.Mesh
	requests *endpoints.Joiner

	mu      sync.Mutex
	series  map[seriesKey]*series // bounded by MaxSeries
	dropped map[string]uint64     // bounded by the reasons
	since   int64                 // the first time that this process heard of
	before  int64                 // the newest time of what was stored before it
	swept   int64
}

// New returns an ingester.
func New(all *stores.Stores, settings Settings) *Ingester {
	namer := history.NewNamer()
	namer.Catalog = settings.Catalog
	return &Ingester{
		Stores:   all,
		Settings: settings,
		identity: newIdentity(),
		namer:    namer,
		requests: endpoints.NewJoiner(all.Endpoints, all.Inventory),
		series:   map[seriesKey]*series{},
		dropped:  map[string]uint64{},
	}
}

func (in *Ingester) changed() {
	if in.Changed != nil {
		in.Changed()
	}
}

// Logs takes over entity events, flow records, changes and outage events.
func (in *Ingester) Logs(_ context.Context, ld plog.Logs) error {
	var connections flows.Batch
	var logged lines.Batch
	for _, rl := range ld.ResourceLogs().All() {
		for _, sl := range rl.ScopeLogs().All() {
			entities := mesh.IsEntityScope(sl.Scope())
			for _, record := range sl.LogRecords().All() {
				switch {
				case entities:
					event, err := mesh.ParseEvent(record)
					if err != nil {
						in.drop("entity")
						continue
					}
					if z, ok := event.Entity.(*mesh.Ztunnel); ok && event.Deleted {
						in.Sources.Forget(z.Node)
					}
					previous, taken := in.Inventory.Apply(event)
					if !taken {
						in.drop("entity_limit")
						continue
					}
					if in.State != nil {
						in.State.Entity(event)
					}
					for _, change := range in.mesh.Compare(previous, event) {
						in.addChange(change)
					}
				case record.EventName() == semconv.EventLookup:
					connections.AddLookup(nodeOf(rl.Resource().Attributes()), record)
				case record.EventName() == semconv.EventAccess:
					connections.Add(nodeOf(rl.Resource().Attributes()), record)
				case record.EventName() == semconv.EventRequest:
					connections.AddRequest(rl.Resource().Attributes(), record)
					if r, ok := endpoints.FromRecord(in.Inventory, rl.Resource().Attributes(), record); ok {
						in.Endpoints.Add(&r)
					}
				case record.EventName() == semconv.EventZtunnelLog, record.EventName() == semconv.EventCNILog:
					node := text(rl.Resource().Attributes(), semconv.AttrNodeName)
					logged.Add(node, record)
					in.message(node, record)
				case record.EventName() == semconv.EventChange:
					in.change(rl.Resource(), record)
				case record.EventName() == semconv.EventChronic:
					c, err := outage.ChronicFromBody(record.Body())
					if err != nil {
						in.drop("chronic")
						continue
					}
					in.Outages.Chronic.Put(c)
				case record.EventName() == semconv.EventOutage:
					o, err := outage.FromBody(record.Body())
					if err != nil {
						in.drop("outage")
						continue
					}
					in.Outages.Put(o, text(record.Attributes(), semconv.AttrOutageTransition), millis(record.Timestamp()))
					if in.State != nil {
						in.State.Outage(o, millis(record.Timestamp()))
					}
				}
			}
		}
	}
	if len(connections) > 0 && in.Flows != nil {
		in.Flows.Add(connections)
	}
	if len(logged) > 0 && in.Lines != nil {
		in.Lines.Add(logged)
	}
	in.changed()
	return nil
}

// message takes over a line of a node's ztunnel; what is not of the data's time is as of now.
func (in *Ingester) message(node string, record plog.LogRecord) {
	_, now := in.Sources.Clock()
	if first, last := in.Sources.Bounds(); record.Timestamp() < first || record.Timestamp() > last {
		in.drop(datatime.Implausible.String())
		return
	}
	in.Proxies.Message(node, record, max(pcommon.Timestamp(now)*1e6, record.Timestamp()))
}

func (in *Ingester) change(resource pcommon.Resource, record plog.LogRecord) {
	change, err := mesh.ParseChange(record)
	if err != nil {
		in.drop("change")
		return
	}
	var workload string
	if change.Kind == "Pod" {
		if pod := in.Inventory.Pod(change.Namespace, change.Name); pod != nil {
			workload = pod.Owner()
		}
	}
	in.addChange(changes.FromKubernetes(change, text(resource.Attributes(), semconv.AttrClusterName), workload))
}

func (in *Ingester) addChange(change changes.Change) {
	if in.Changes.Add(change) && in.State != nil {
		in.State.Change(change)
	}
}

// Traces takes spans over.
func (in *Ingester) Traces(_ context.Context, td ptrace.Traces) error {
	in.requests.Add(td)
	if in.Spans != nil {
		in.Spans.Add(td)
	}
	return nil
}

func (in *Ingester) drop(reason string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.dropped[reason]++
}

// Final stores what still waits for its slot of time to end. Nothing may be written afterwards.
func (in *Ingester) Final(ctx context.Context) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.History == nil {
		return nil
	}
	_, clock := in.Sources.Clock()
	return in.History.Batch(ctx).Commit(clock, true)
}

// Stats are an ingester's counts.
type Stats struct {
	Series  int
	Dropped map[string]uint64 // bounded by the reasons, as is Refused
	// Stored and Refused are the history's samples; Refused is by reason.
	Stored  uint64
	Refused map[string]uint64 // bounded by the reasons
}

// Stats returns the counts.
func (in *Ingester) Stats() Stats {
	in.mu.Lock()
	defer in.mu.Unlock()
	s := Stats{Series: len(in.series), Dropped: maps.Clone(in.dropped)}
	if in.History != nil {
		s.Stored, s.Refused = in.History.Stored(), maps.Clone(in.History.Dropped())
	}
	return s
}
