package attribution

import (
	"cmp"
	"slices"
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// Incident is what fails or is slow for one reason.
type Incident struct {
	// Since is when it began, to the interval.
	Since int64
	// Root is who adds most to it, in the way that Symptom says.
	Root    *observe.App
	Symptom observe.Family
	// Blamed are those who may be the root, the likeliest first.
	Blamed []Blamed
	// Users tells that the services are known that users call, Felt that those do not do well either.
	Users, Felt bool

	members map[member]*illness // bounded by the apps, twice
	started int64
}

// Excess is by how much more than usual calls fail, and how much longer they take.
type Excess struct{ Failures, Seconds float64 }

func (e *Excess) of(symptom observe.Family) *float64 {
	if symptom == observe.Latency {
		return &e.Seconds
	}
	return &e.Failures
}

// Blamed is a service with what it adds of its own to an incident, and what those explain that it calls.
type Blamed struct {
	App            *observe.App
	Own, Explained Excess
	// Score is its share of the blame.
	Score float64
}

// Has tells whether an app is part of it.
func (i *Incident) Has(app *observe.App) bool {
	return i.members[member{app, observe.RequestErrors}] != nil || i.members[member{app, observe.Latency}] != nil
}

func (i *Incident) shares(group []member) bool {
	return slices.ContainsFunc(group, func(m member) bool { return i.members[m] != nil })
}

func (i *Incident) join(other *Incident) {
	i.Since, i.started = min(i.Since, other.Since), min(i.started, other.started)
	for m, ill := range other.members {
		if known := i.members[m]; known == nil || known.last < ill.last {
			i.members[m] = ill
		}
	}
}

// given is after how long an incident is given up whose services nobody calls any more.
const given = int64(15 * time.Minute)

// over tells whether nothing has been ill for some intervals.
func (i *Incident) over(now int64) bool {
	for m, ill := range i.members {
		newest := int64(0)
		for _, p := range m.app.In {
			if p.Rows != nil {
				newest = max(newest, p.Rows.At())
			}
		}
		if newest-ill.last < silent*ill.length && now-ill.last < max(given, silent*ill.length) {
			return false
		}
	}
	return true
}

// attribute splits what exceeds the normal since one interval before the incident began: what a service's callees that are ill do not
// explain is its own.
func (i *Incident) attribute(a *Attribution) {
	apps := i.apps()
	blamed := make(map[*observe.App]*Blamed, len(apps))
	for _, app := range apps {
		blamed[app] = &Blamed{App: app}
	}
	s := split{incident: i, blamed: blamed, now: a.store.Now}
	for _, app := range apps {
		for _, symptom := range symptoms {
			if i.members[member{app, symptom}] != nil {
				s.own(member{app, symptom})
			}
		}
	}
	for _, app := range apps {
		s.timeouts(app)
	}
	i.rank(a, apps, blamed)
}

func (i *Incident) apps() (apps []*observe.App) {
	for m := range i.members {
		apps = append(apps, m.app)
	}
	slices.SortFunc(apps, func(a, b *observe.App) int { return observe.CompareNames(a.Name, b.Name) })
	return slices.Compact(apps)
}

// from is when the interval began from which on an edge's excess counts: one before the incident, as a fault may begin within one.
func (i *Incident) from(p *observe.Pair) int64 { return i.Since - p.Rows.Length() }

// split is an incident's excess on its way down the graph.
type split struct {
	incident *Incident
	blamed   map[*observe.App]*Blamed
	now      int64
}

func excess(e *stats.Evidence, symptom observe.Family) float64 {
	if symptom == observe.Latency {
		return e.Seconds - e.Usual
	}
	return e.Failed - e.Expected
}

const (
	// leastHeld is what part of a caller's excess a callee must make up, and alike how close their excess per call must be, for the callee to
	// explain all of it: where calls wait for those that wait for the callee.
	leastHeld = 0.2
	alike     = 0.8
)

// own splits a member's excess. Who has no normal has no excess: its caller has changed.
func (s split) own(m member) {
	var total, calledBy, explained float64
	for _, p := range calls(m.app.In, s.now) {
		e, sum := p.Rows.Since(s.incident.from(p))
		total, calledBy = total+excess(&e, m.symptom), calledBy+sum.Timed
	}
	for _, p := range calls(m.app.Out, s.now) {
		if s.incident.members[member{p.Destination, m.symptom}] == nil || p.Destination == m.app {
			continue
		}
		e, sum := p.Rows.Since(s.incident.from(p))
		more := max(excess(&e, m.symptom), 0)
		explained += more
		if m.symptom == observe.Latency && more >= leastHeld*total && more*calledBy >= alike*total*sum.Timed {
			explained = max(explained, total)
		}
	}
	b := s.blamed[m.app]
	*b.Own.of(m.symptom) += max(total-explained, 0)
	*b.Explained.of(m.symptom) += max(min(explained, total), 0)
}

// hanging is how many times longer than usual calls take that their callers may give up.
const hanging = 2

// timeouts gives failures of a caller that has waited for a slow callee to who makes it slow.
func (s split) timeouts(app *observe.App) {
	b := s.blamed[app]
	for _, p := range calls(app.Out, s.now) {
		if b.Own.Failures <= 0 {
			return
		}
		if s.incident.members[member{p.Destination, observe.Latency}] == nil || p.Destination == app {
			continue
		}
		if e, sum := p.Rows.Since(s.incident.from(p)); e.Seconds >= hanging*e.Usual && e.Usual > 0 {
			given := min(b.Own.Failures, sum.Timed)
			b.Own.Failures -= given
			b.Explained.Failures += given
			s.slow(p.Destination, given, map[*observe.App]bool{app: true})
		}
	}
}

// slow gives failures that come of waiting to who makes a service slow: itself as far as its slowness is its own.
func (s split) slow(app *observe.App, failures float64, seen map[*observe.App]bool) {
	b := s.blamed[app]
	seen[app] = true
	share := 1.0
	if all := b.Own.Seconds + b.Explained.Seconds; all > 0 {
		share = b.Own.Seconds / all
	}
	var next []*observe.App
	for _, p := range calls(app.Out, s.now) {
		if s.incident.members[member{p.Destination, observe.Latency}] != nil && !seen[p.Destination] {
			next = append(next, p.Destination)
		}
	}
	if len(next) == 0 {
		share = 1
	}
	b.Own.Failures += failures * share
	for _, callee := range next {
		s.slow(callee, failures*(1-share)/float64(len(next)), seen)
	}
}

// rank orders those who are ill by their share of what is added, each symptom weighed by how much users feel of it.
func (i *Incident) rank(a *Attribution, apps []*observe.App, blamed map[*observe.App]*Blamed) {
	weights := i.weigh(a, apps)
	var sum Excess
	for _, b := range blamed {
		sum.Failures, sum.Seconds = sum.Failures+b.Own.Failures, sum.Seconds+b.Own.Seconds
	}
	i.Blamed = i.Blamed[:0]
	total := 0.0
	for _, app := range apps {
		b := *blamed[app]
		for _, symptom := range symptoms {
			if all := *sum.of(symptom); all > 0 {
				b.Score += *weights.of(symptom) * *b.Own.of(symptom) / all
			}
		}
		total += b.Score
		i.Blamed = append(i.Blamed, b)
	}
	for k := range i.Blamed {
		i.Blamed[k].Score /= max(total, 1e-9)
	}
	slices.SortStableFunc(i.Blamed, func(a, b Blamed) int { return cmp.Compare(b.Score, a.Score) })
	root := i.Blamed[0]
	i.Root, i.Symptom = root.App, observe.RequestErrors
	failing, slow := 0.0, 0.0
	if sum.Failures > 0 {
		failing = weights.Failures * root.Own.Failures / sum.Failures
	}
	if sum.Seconds > 0 {
		slow = weights.Seconds * root.Own.Seconds / sum.Seconds
	}
	// What hangs until its callers give up is slow, whatever they say.
	if i.members[member{root.App, observe.RequestErrors}] == nil || slow > failing && i.members[member{root.App, observe.Latency}] != nil {
		i.Symptom = observe.Latency
	}
}

// leastWeight is that of a symptom of which users feel nothing.
const leastWeight = 1e-3

// weigh tells how much users feel of each symptom.
func (i *Incident) weigh(a *Attribution, apps []*observe.App) (weights Excess) {
	var all stats.Evidence
	i.Users, i.Felt = false, false
	for _, p := range a.users(apps...) {
		e, _ := p.Rows.Since(i.from(p))
		all.Join(e)
		i.Users = true
		for _, symptom := range symptoms {
			if m := (member{p.Destination, symptom}); i.members[m] != nil {
				i.Felt = i.Felt || a.sure(m, &e)
			}
		}
	}
	return Excess{Failures: max(all.Failing(), leastWeight), Seconds: max(all.Slow(), leastWeight)}
}

// sure tells whether evidence is beyond chance.
func (a *Attribution) sure(m member, e *stats.Evidence) bool {
	rule := a.ruleOf(m)
	if rule == nil {
		return false
	}
	if m.symptom == observe.Latency {
		return e.Slow() >= stats.Deviations(rule.Chance)
	}
	return e.Failing() >= stats.Deviations(rule.Chance)
}
