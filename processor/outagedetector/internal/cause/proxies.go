package cause

import (
	"slices"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// before is by how much an effect may be seen before the ztunnel's own word of its cause.
const before = 3 * together

// uncaptured makes an explanation of every app whose pods a ztunnel does not serve: connections to them, and theirs, are refused.
type uncaptured struct {
	store *observe.Store
	judge *judge.Judge
}

func (f uncaptured) find(open []Blame) (found []*Explanation, rest []Blame) {
	for _, u := range f.judge.Proxies.Uncaptured {
		e := ofFault(u.Root, &u.Fault, u.Node)
		e.Evidence, e.Confirmed = slices.Clone(u.Evidence), true
		open = take(&e.Edges, open, func(b Blame) bool {
			return u.Apps[b.Pair.Destination.Name] && during(b, &u.Fault) && lostWith(b.Fault().Kind) && b.Family != observe.Silence
		})
		open = take(&e.Affected, open, func(b Blame) bool {
			return u.Apps[b.Pair.Source.Name] && during(b, &u.Fault)
		})
		if !lingers(e, &u.Fault) {
			continue
		}
		if e.Root.Type == TypeWorkload && len(u.Pods) < len(f.store.Mesh.Pods(outage.Name{Namespace: u.Root.Namespace, Name: u.Root.Name})) {
			e.Pods = slices.Clone(u.Pods)
		}
		found = append(found, e)
	}
	return found, open
}

// during tells whether a fault was seen while another went on: what is left of it ends later.
func during(b Blame, f *observe.Fault) bool {
	since, lastBad := b.span()
	return since >= f.Since-before && lastBad >= f.Since && (f.On || lastBad <= f.Recovered+late)
}

// lingers tells whether an explanation still says something: its fault goes on, or what followed from it does.
func lingers(e *Explanation, f *observe.Fault) bool { return f.On || len(e.Edges)+len(e.Affected) > 0 }

// unresolved makes an explanation of names that are not resolved, or late: what does not know an address makes no connection, and who
// waits for one is slow or fails.
type unresolved struct {
	store *observe.Store
	judge *judge.Judge
}

func (f unresolved) find(open []Blame) (found []*Explanation, rest []Blame) {
	for _, u := range f.judge.Names.All {
		e := ofFault(u.Root, &u.Fault, u.Nodes...)
		e.Evidence, e.Told, e.Former, e.Confirmed = slices.Clone(u.Evidence), slices.Clone(u.Edges), u.Former, true
		asks := func(app *observe.App) bool {
			return u.Apps[app.Name] || u.Everyone && !f.store.Mesh.Captured(app.Name)
		}
		open = take(&e.Edges, open, func(b Blame) bool {
			return b.Fault().Kind == rules.KindDNSFailure && b.Family == observe.Connections && (u.Everyone || asks(b.Pair.Source)) ||
				asks(b.Pair.Source) && outside(f.store, b.Pair.Destination) && during(b, &u.Fault)
		})
		open = take(&e.Affected, open, func(b Blame) bool {
			if !during(b, &u.Fault) {
				return false
			}
			switch b.Family {
			case observe.RequestErrors, observe.Latency, observe.Stalled, observe.NoAnswer:
				return u.Apps[b.Pair.Destination.Name] || u.Disturbed[b.Pair.Destination.Name]
			case observe.Silence:
				return asks(b.Pair.Source)
			}
			return false
		})
		if lingers(e, &u.Fault) {
			found = append(found, e)
		}
	}
	return f.onDemand(found, open)
}

// outside tells whether an app is none of the cluster's.
func outside(store *observe.Store, app *observe.App) bool {
	return app.Name.Namespace == "" || len(store.Mesh.Pods(app.Name)) == 0 && len(app.Endpoints) == 0
}

// onDemand finds the resolver behind connections whose hosts' names ztunnels do not resolve, where several hosts are out of reach at once.
func (f unresolved) onDemand(found []*Explanation, open []Blame) ([]*Explanation, []Blame) {
	hosts := map[*observe.App]bool{}
	var rule *rules.Rule
	for _, b := range open {
		if b.Family == observe.Connections && b.Fault().Kind == rules.KindDNSFailure {
			hosts[b.Pair.Destination] = true
			rule = b.Fault().Rule
		}
	}
	if len(hosts) < 2 {
		return found, open
	}
	resolver := f.store.Mesh.Resolver()
	e := &Explanation{Diagnosis: Diagnosis{
		Root: outage.Subject{Type: TypeService, Namespace: resolver.Namespace, Name: resolver.Name}, Kind: rules.KindDNSFailure, Rule: rule,
	}}
	open = take(&e.Edges, open, func(b Blame) bool { return b.Family == observe.Connections && b.Fault().Kind == rules.KindDNSFailure })
	return append(found, e), open
}

// overloaded makes an explanation of every ztunnel that is too busy: all that passes it is late, some of it fails.
type overloaded struct {
	store *observe.Store
	judge *judge.Judge
}

func (f overloaded) find(open []Blame) (found []*Explanation, rest []Blame) {
	for _, name := range f.store.Nodes.Names() {
		n := f.store.Nodes.ByName[name]
		fault := n.Proxy.Overloaded()
		if !fault.On && (fault.Recovered == 0 || f.store.Now-fault.Recovered > judge.Remembered) || n.Down.On {
			continue
		}
		e := ofFault(outage.Subject{Type: TypeNode, Name: name}, fault, name)
		e.Evidence, e.Confirmed = []outage.Evidence{judge.LoadEvidence(n)}, true
		e.Told = f.judge.Proxies.Late.Edges(name, fault.Since)
		touches := func(b Blame) bool {
			return f.store.Touches(b.Pair.Source, name) || f.store.Touches(b.Pair.Destination, name)
		}
		open = take(&e.Edges, open, func(b Blame) bool {
			return b.Family != observe.Silence && during(b, fault) && lostWith(b.Fault().Kind) && touches(b)
		})
		open = take(&e.Affected, open, func(b Blame) bool { return during(b, fault) && touches(b) })
		if lingers(e, fault) {
			found = append(found, e)
		}
	}
	return found, open
}
