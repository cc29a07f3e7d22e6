// Package judge decides what is wrong with each edge, pod, node and the control plane: one file per family of rules,
// thresholds from the catalogue. It says what fails, not why; that is package cause.
package judge

import "github.com/nephilia/nephilia/processor/outagedetector/internal/observe"

// Judge looks at what changed since the last boundary.
type Judge struct {
	store *observe.Store
	// ControlPlane is what is wrong with the control plane, Certificates with identities.
	ControlPlane ControlPlane
	Certificates []Certificate
	pairs        []*observe.Pair
	endpoints    []*observe.Endpoint
	silent       []*observe.Pair
	checkedCerts int64
	checkedSLOs  int64
}

// New returns a judge of a store.
func New(store *observe.Store) *Judge { return &Judge{store: store} }

// Round judges everything that changed, at the store's present boundary. It returns the number of edges judged.
func (j *Judge) Round() int {
	now := j.store.Now
	j.pairs = j.store.TakeDirty(j.pairs)
	for _, p := range j.pairs {
		j.pair(p, now)
	}
	j.endpoints = j.store.TakeDirtyEndpoints(j.endpoints)
	for _, e := range j.endpoints {
		j.endpoint(e, now)
	}
	j.silent = j.store.Silent(j.silent)
	for _, p := range j.silent {
		j.silence(p, now)
	}
	j.nodes(now)
	j.controlPlane(now)
	j.certificates(now)
	j.budgets(now)
	return len(j.pairs)
}

func (j *Judge) pair(p *observe.Pair, now int64) {
	w := &p.Win
	w.Advance(now)
	if p.Succeeded() {
		p.LastSuccess = now
	}
	j.connections(p, now)
	j.requestErrors(p, now)
	j.latency(p, now)
	j.stalled(p, now)
	if p.Faults[observe.Silence].On {
		j.silence(p, now)
	} else if p.LastActive == now {
		j.awaitSilence(p)
	}
	p.Mark()
	j.store.Watch(p)
}
