// Package naming tells who the ends of connections are, by the mesh's state: workloads by pod or address, parties outside the
// mesh by address, and what stands behind a waypoint.
package naming

import (
	"time"
	"unique"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
)

// maxGone bounds the deleted pods that are remembered: their last connections are reported after their end.
const maxGone = 10_000

// Intern returns a copy of s that all equal strings share, so that a map entry does not keep a whole batch in memory.
func Intern(s string) string { return unique.Make(s).Value() }

// Config bounds a directory.
type Config struct {
	MaxEntities int
	MaxExternal int
	// MaxWeights bounds the divisions of a service's requests that are remembered, by client and backend.
	MaxWeights int
	// Hold is how long the first mesh state is waited for.
	Hold time.Duration
}

// Pod is the name of a pod.
type Pod struct{ Namespace, Name string }

// Code writes the name or reads it.
func (p *Pod) Code(c *journal.Coder) { records.Texts(c, &p.Namespace, &p.Name) }

// Directory names the parties of connections by the mesh's state.
type Directory struct {
	cfg   Config
	state *mesh.State
	// Externals name the parties outside the mesh, Weights say how waypoints divide requests between backends, Holders say whose an
	// address was, Proxies find waypoints and gateways, Spoken finds what is called by a name.
	Externals  *Externals
	Weights    *Weights
	Holders    *Holders
	Clients    Clients
	Proxies    *Proxies
	Spoken     *Spoken
	generation uint64 // moves with the mesh's state
	begun      pcommon.Timestamp
	gone       *expiry.Table[Pod, *mesh.Workload]
	emptied    *expiry.Table[string, lastBehind] // by service
	derived    derived
}

// NewDirectory returns a directory that knows nothing yet.
func NewDirectory(cfg Config) *Directory {
	state := mesh.NewState(cfg.MaxEntities)
	d := &Directory{
		cfg:       cfg,
		state:     state,
		Holders:   newHolders(state),
		Externals: newExternals(cfg.MaxExternal),
		gone:      expiry.New[Pod, *mesh.Workload](maxGone, nil),
		emptied:   expiry.New[string, lastBehind](maxGone, nil),
		Weights:   newWeights(cfg.MaxWeights),
	}
	d.Proxies, d.Spoken, d.Clients = &Proxies{names: d}, newSpoken(d), Clients{d}
	return d
}

// Apply takes over an entity event; false means that the bound on entities is reached.
func (d *Directory) Apply(event mesh.Event) bool {
	if w, ok := event.Entity.(*mesh.Workload); ok && !event.Deleted {
		d.Holders.come(w, event.Time)
	}
	previous, taken := d.state.Apply(event)
	if !taken {
		return false
	}
	d.generation++
	d.Spoken.take(previous, event)
	if w, ok := previous.(*mesh.Workload); ok && w != nil {
		if event.Deleted {
			d.gone.Put(Pod{w.Namespace, w.Name}, w, pcommon.Timestamp(d.generation))
		}
		d.Holders.leave(w)
		for service := range w.Services {
			last, _ := d.emptied.Get(service)
			d.emptied.Put(service, last.followedBy(w, event.Time), pcommon.Timestamp(d.generation))
		}
	}
	return true
}

// lastBehind is the workload that left a service last; several, if more than one party did so at that time.
type lastBehind struct {
	workload *mesh.Workload
	at       pcommon.Timestamp
	several  bool
}

func (l lastBehind) followedBy(w *mesh.Workload, at pcommon.Timestamp) lastBehind {
	return lastBehind{w, at, l.workload != nil && l.at == at && (l.several || PartyOf(l.workload) != PartyOf(w))}
}

// Version moves when a name, or what becomes of a hop to a waypoint, may have changed.
func (d *Directory) Version() uint64 { return d.generation + d.Weights.version }

// Known tells whether anything is known about the mesh.
func (d *Directory) Known() bool { return d.generation > 0 }

// Begin notes the first data's time.
func (d *Directory) Begin(at pcommon.Timestamp) {
	if d.begun == 0 {
		d.begun = at
	}
}

// Begun is the time of a directory's first data, 0 before there is any.
func Begun(d *Directory) pcommon.Timestamp { return d.begun }

// Meshless tells whether so much time passed without any mesh state that none is to be waited for.
func (d *Directory) Meshless(now pcommon.Timestamp) bool {
	return !d.Known() && d.begun > 0 && moment.Since(d.begun, now, d.cfg.Hold)
}

// Pod finds a workload by its pod's name, also if it is gone.
func (d *Directory) Pod(namespace, name string) *mesh.Workload {
	if name == "" {
		return nil
	}
	if w := d.state.Pod(namespace, name); w != nil {
		return w
	}
	w, _ := d.gone.Get(Pod{namespace, name})
	return w
}

// Service finds a service by its host name, nil if it is not known.
func (d *Directory) Service(hostname string) *mesh.Service { return d.state.Hostname(hostname) }

// Sweep forgets what has had no news for long.
func (d *Directory) Sweep(now pcommon.Timestamp, life time.Duration) {
	d.Externals.sweep()
	d.Weights.requests.Sweep(now - min(now, pcommon.Timestamp(life)))
}

// PartyOf is the end of an edge that a workload is.
func PartyOf(w *mesh.Workload) edge.Party {
	return edge.Party{
		Workload:  w.Owner(),
		Namespace: w.Namespace,
		App:       w.App(),
		Version:   w.CanonicalRevision,
		Cluster:   w.ClusterID,
	}
}
