package judge

import (
	"time"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// endpoints judges pods and, where one fails alone, blames the edges to it that would not show on their own.
type endpoints struct {
	store       *observe.Store
	connections *connections
}

func (j *endpoints) judge(e *observe.Endpoint, now int64) {
	e.Win.Advance(now)
	rule := j.store.Catalogue.For("", "", e.App.Name.Namespace, e.App.Name.Name).Get(rules.PartialOutage)
	if rule == nil || j.store.Gone(e) {
		e.Fault.On, e.Errors.On = false, false
		return
	}
	j.family(e, &e.Fault, rule, counts{w: &e.Win, bad: observe.Failed, total: observe.Closed}, observe.Connections, now)
	j.family(e, &e.Errors, rule, counts{w: &e.Win, bad: observe.RequestsFailed, total: observe.Requests}, observe.RequestErrors, now)
}

// odd tells whether chance hardly explains what fails on an edge, what its kept connections carry taken into account: of these a pod
// tells only the ends.
func (c counts) odd(hit span, rule *rules.Rule) bool {
	var all uint64
	for age := range hit.slots {
		all += c.all(age)
	}
	return stats.BinomialTail(hit.bad, all, c.noise(rule, hit.slots)) <= rule.Chance
}

func (j *endpoints) family(e *observe.Endpoint, f *observe.Fault, rule *rules.Rule, c counts, family observe.Family, now int64) {
	s, found := c.excess(rule)
	if !found {
		f.On = false
		return
	}
	if !f.On {
		c.start(f, rule, s, now)
	}
	c.follow(f, now)
	if now-f.LastBad > int64(settleTime) {
		return
	}
	for _, p := range e.App.In {
		if p.Faults[family].On {
			continue
		}
		p.Win.Advance(now)
		mine := requestsOf(p)
		if family == observe.Connections {
			mine = connectionsOf(p)
		}
		slots := min(p.Win.SlotsFor(time.Duration(now-f.Since)), p.Win.Since(c.bad))
		hit := span{slots: slots, bad: p.Win.Sum(c.bad, slots), total: p.Win.Sum(c.total, slots)}
		if hit.bad < rule.MinCount || mine.kept > 0 && !mine.odd(hit, rule) {
			continue
		}
		if family == observe.Connections {
			named, reason := dominant(p, f.Since)
			if named == nil || j.store.FailuresOnly(p) || j.connections.untold(p, f.Since) || reason.Type == semconv.ErrorTypePolicyDenied && j.connections.alwaysDenied(p, reason) {
				continue
			}
		}
		mine.open(&p.Faults[family], p, rule, hit, now)
		if family == observe.Connections {
			name(p, &p.Faults[family])
		} else {
			p.Faults[family].Kind = rules.KindHTTPErrors
		}
		j.store.Edges.Watch(p)
	}
}
