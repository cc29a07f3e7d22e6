// Package judge decides what is wrong with each edge, pod, node and the control plane: one type and file for each family of
// rules, thresholds from the catalogue. It says what fails, not why; that is package cause.
package judge

import (
	"github.com/nephilia/nephilia/processor/outagedetector/internal/attribution"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Judge looks at what changed since the last boundary.
type Judge struct {
	// ControlPlane is what is wrong with the control plane, Certificates with identities.
	ControlPlane ControlPlane
	Certificates Certificates
	// Attribution is what is wrong with edges of which points tell rarely, with its root.
	Attribution *attribution.Attribution
	// Chronic is what always fails, which is no outage.
	Chronic Chronic
	// Names is who does not resolve names, Proxies what ztunnels say of themselves.
	Names   Names
	Proxies Proxies

	store       *observe.Store
	connections connections
	silences    silences
	stalls      stalls
	endpoints   endpoints
	nodes       nodes
	budgets     budgets

	buffers
}

// buffers are what is judged at a boundary, kept for their memory.
type buffers struct {
	changed []*observe.Pair
	pods    []*observe.Endpoint
	quiet   []*observe.Pair
}

// New returns a judge of a store.
func New(store *observe.Store) *Judge {
	j := &Judge{
		ControlPlane: ControlPlane{store: store}, Certificates: Certificates{store: store}, Attribution: attribution.New(store),
		Chronic: Chronic{store: store, standing: map[chronicKey]*Condition{}},
		Names:   Names{store: store}, Proxies: Proxies{store: store, Late: Late{store: store, since: map[*observe.Pair]int64{}}}, store: store, connections: connections{store},
		silences: silences{store}, stalls: stalls{store}, nodes: nodes{store}, budgets: budgets{store: store},
	}
	j.endpoints = endpoints{store, &j.connections}
	j.Proxies.Late.names = &j.Names
	return j
}

// Round judges everything that changed, at the store's present boundary. It returns the number of edges judged.
func (j *Judge) Round() int {
	now := j.store.Now
	j.changed = j.store.Edges.TakeDirty(j.changed)
	for _, p := range j.changed {
		j.edge(p, now)
	}
	j.Attribution.Round(j.changed)
	j.pods = j.store.Endpoints.TakeDirty(j.pods)
	for _, e := range j.pods {
		j.endpoints.judge(e, now)
	}
	j.quiet = j.store.Edges.Silent(j.quiet)
	for _, p := range j.quiet {
		j.silences.judge(p, now)
	}
	j.nodes.judge(now)
	j.ControlPlane.judge(now)
	j.Certificates.judge(now)
	j.Names.judge(now)
	j.Proxies.judge(now)
	j.budgets.judge(now)
	j.Chronic.judge(now)
	return len(j.changed)
}

func (j *Judge) edge(p *observe.Pair, now int64) {
	p.Win.Advance(now)
	if p.Succeeded() {
		p.LastSuccess = now
	}
	j.connections.judge(p, now)
	if p.Behind {
		// A waypoint keeps its connections and shares them between clients: their pace says nothing.
		p.Mark()
		j.store.Edges.Watch(p)
		return
	}
	if p.Rows == nil || p.Rules.Get(rules.ErrorExcess) == nil {
		judgeCounts(p, observe.RequestErrors, p.Rules.Get(rules.HTTPErrors), requestsOf(p), now)
	}
	if p.Rows == nil || p.Rules.Get(rules.LatencyExcess) == nil {
		// Which requests are slow was decided as they were counted.
		judgeCounts(p, observe.Latency, slowRule(p, now), slowOf(p), now)
	}
	j.stalls.judge(p, now)
	j.Proxies.Late.note(p, now)
	if f := &p.Faults[observe.NoAnswer]; !j.connections.leftBehind(p, observe.Unanswered) {
		judgeCounts(p, observe.NoAnswer, p.Rules.Get(rules.NoAnswer), unansweredOf(p), now)
	} else if f.On {
		shut(p, unansweredOf(p), f, now)
	}
	j.Chronic.note(p, now)
	if p.Faults[observe.Silence].On {
		j.silences.judge(p, now)
	} else if p.LastActive == now {
		j.silences.await(p)
	}
	p.Mark()
	j.store.Edges.Watch(p)
}
