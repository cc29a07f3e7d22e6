package attribution

import (
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

// leastPart is what part of a service's excess an edge must carry to count as failing.
const leastPart = 0.1

// fault marks the edges to what is ill.
func (i *Incident) fault(a *Attribution) {
	for m, ill := range i.members {
		rule := a.ruleOf(m)
		if rule == nil {
			continue
		}
		in := calls(m.app.In, a.store.Now)
		if len(in) > 0 && in[0].Rows.At()-ill.last >= silent*ill.length {
			m.heal(ill, a.store)
			continue
		}
		part := 0.0
		for _, p := range in {
			e, _ := p.Rows.Since(i.Since)
			part += leastPart * max(excess(&e, m.symptom), 0)
		}
		for _, p := range m.app.In {
			if p.Rows == nil {
				continue
			}
			f := &p.Faults[m.symptom]
			e, sum := p.Rows.Since(ill.since)
			if more := excess(&e, m.symptom); !f.On && (more <= 0 || more < part) {
				continue
			}
			bad, total, failed := observe.RequestsFailed, observe.Requests, uint64(sum.Failed)
			counted := uint64(sum.Calls)
			if m.symptom == observe.Latency {
				bad, total, counted = observe.Slow, observe.Timed, p.Win.Sum(observe.Timed, p.Win.SlotsFor(time.Duration(a.store.Now-ill.since)))
				failed = p.Win.Sum(observe.Slow, p.Win.SlotsFor(time.Duration(a.store.Now-ill.since)))
			}
			if !f.On {
				*f = observe.Fault{On: true, Rule: rule, Since: ill.since, Fired: a.store.Now, Kind: rule.Kind}
				f.Base = [2]uint64{p.Win.Ever(bad) - min(failed, p.Win.Ever(bad)), p.Win.Ever(total) - min(counted, p.Win.Ever(total))}
			}
			f.Attributed = true
			if p.Rows.At() > ill.last {
				f.Recovered = ill.last + ill.length
			} else {
				// What goes well after the last bad interval is not part of it.
				f.LastBad, f.Recovered = p.Rows.At(), 0
				f.Failed, f.Total = p.Win.Ever(bad)-f.Base[0], p.Win.Ever(total)-f.Base[1]
				if m.symptom == observe.Latency && e.Usual > 0 {
					f.Times = e.Seconds / e.Usual
					f.Failed = max(f.Failed, uint64(float64(f.Total)*max(1-1/f.Times, 0)))
				}
				f.Total = max(f.Total, f.Failed)
				f.Ratio = float64(f.Failed) / float64(max(f.Total, 1))
			}
			f.Quiet = a.store.Now-p.Rows.At() >= silent*p.Rows.Length()
			p.Win.MarkBad(f.Since)
			p.Rows.SetApart(i.Since)
			a.store.Edges.Watch(p)
		}
	}
}

// end takes an incident's faults away.
func (i *Incident) end(store *observe.Store) {
	for m, ill := range i.members {
		m.heal(ill, store)
		for _, p := range m.app.In {
			if p.Rows != nil {
				p.Rows.SetApart(0)
			}
		}
	}
}

// heal ends a member's faults.
func (m member) heal(ill *illness, store *observe.Store) {
	for _, p := range m.app.In {
		if f := &p.Faults[m.symptom]; f.On && f.Attributed {
			f.On, f.Ended = false, store.Now
			if p.Rows != nil && p.Rows.At() > ill.last {
				f.Recovered = ill.last + ill.length
			}
			store.Edges.Watch(p)
		}
	}
}
