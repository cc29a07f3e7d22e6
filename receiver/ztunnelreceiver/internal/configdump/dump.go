// Package configdump reads a ztunnel's /config_dump: what the ztunnel is, the certificates and proxied workloads that it
// holds, and optionally the mesh's state as istiod told it.
//
// Source: istio/ztunnel src/admin.rs, src/state.rs, src/state/*.rs, src/proxy/connection_manager.rs.
package configdump

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
)

// Options choose and bound what Parse reads.
type Options struct {
	// State reads workloads, services and policies too.
	State bool
	// MaxBytes bounds the dump, MaxEntities each of its lists; 0 means the default.
	MaxBytes    int
	MaxEntities int
}

// Defaults of Options.
const (
	DefaultMaxBytes    = 128 << 20
	DefaultMaxEntities = 200_000
)

// Dump is what one ztunnel stated at one time.
type Dump struct {
	Time    time.Time
	Ztunnel *mesh.Ztunnel
	// Connections are the open connections of each proxied workload, ordered by namespace and pod.
	Connections []Connections
	// HasState tells that Workloads, Services and Policies were read; they are ordered as dumped.
	HasState  bool
	Workloads []*mesh.Workload
	Services  []*mesh.Service
	Policies  []*mesh.Policy
	// Dropped counts what was left out: entities beyond the bound, and those without an identity.
	Dropped int
}

// Connections counts a workload's open connections.
type Connections struct {
	Namespace string
	Pod       string
	Inbound   int
	Outbound  int
}

// Events are the dump's entities as of its time: the ztunnel, then workloads, services and policies if they were read.
func (d Dump) Events() []mesh.Event {
	when := pcommon.NewTimestampFromTime(d.Time)
	events := make([]mesh.Event, 0, 1+len(d.Workloads)+len(d.Services)+len(d.Policies))
	d.each(func(entity mesh.Entity) {
		events = append(events, mesh.Event{Time: when, Entity: entity})
	})
	return events
}

func (d Dump) each(visit func(mesh.Entity)) {
	if d.Ztunnel != nil {
		visit(d.Ztunnel)
	}
	for _, w := range d.Workloads {
		visit(w)
	}
	for _, s := range d.Services {
		visit(s)
	}
	for _, p := range d.Policies {
		visit(p)
	}
}
