package observe

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// Edges are the apps of a mesh and the edges between them, bounded by Limits.Edges, and which of them are to be judged.
type Edges struct {
	Apps map[outage.Name]*App
	// Faulty are the edges with something wrong, which are judged at every boundary.
	Faulty map[*Pair]struct{}

	pairs map[pairKey]*Pair
	// dirty are the edges that changed since they were last taken.
	dirty []*Pair
	// quiet are the edges that are due to be asked whether they fell silent.
	quiet silenceQueue
	// externals is how many of the apps are addresses outside the mesh.
	externals int

	clock     *Clock
	catalogue *rules.Catalogue
	limits    Limits
	slos      []SLO
}

type pairKey struct{ source, destination outage.Name }

func newEdges(clock *Clock, catalogue *rules.Catalogue, limits Limits, slos []SLO) *Edges {
	return &Edges{
		Apps: map[outage.Name]*App{}, Faulty: map[*Pair]struct{}{}, pairs: map[pairKey]*Pair{},
		clock: clock, catalogue: catalogue, limits: limits, slos: slos,
	}
}

// Len is the number of edges that are kept.
func (s *Edges) Len() int { return len(s.pairs) }

// Find returns an edge by its names, nil if it is unknown.
func (s *Edges) Find(source, destination outage.Name) *Pair {
	return s.pairs[pairKey{source, destination}]
}

func (s *Edges) app(name outage.Name) *App {
	a, ok := s.Apps[name]
	if !ok {
		a = &App{Name: outage.Name{Namespace: strings.Clone(name.Namespace), Name: strings.Clone(name.Name)}}
		for i := range s.slos {
			if s.slos[i].matches(a.Name) {
				a.Budgets = append(a.Budgets, newBudget(&s.slos[i]))
			}
		}
		s.Apps[a.Name] = a
	}
	return a
}

// otherExternal is what the addresses outside the mesh go by that are not told apart.
const otherExternal = "external"

// external is what an address outside the mesh is called. It is an app of its own while there are not too many.
func (s *Edges) external(name outage.Name) outage.Name {
	if _, known := s.Apps[name]; known {
		return name
	}
	if s.externals >= s.limits.External {
		s.clock.drops.External++
		return outage.Name{Name: otherExternal}
	}
	s.externals++
	s.app(name).external = true
	return name
}

// pair returns an edge, a new one if need be; nil once the limit is reached.
func (s *Edges) pair(source, destination outage.Name, t int64, length time.Duration) *Pair {
	if p, ok := s.pairs[pairKey{source, destination}]; ok {
		return p
	}
	if len(s.pairs) >= s.limits.Edges {
		s.clock.drops.Edges++
		return nil
	}
	src, dst := s.app(source), s.app(destination)
	p := &Pair{
		Source: src, Destination: dst, Activity: Activity{FirstSeen: t},
		Rules: s.catalogue.For(src.Name.Namespace, src.Name.Name, dst.Name.Namespace, dst.Name.Name),
	}
	p.Win.reset(length, t)
	src.Out = append(src.Out, p)
	dst.In = append(dst.In, p)
	s.pairs[pairKey{src.Name, dst.Name}] = p
	return p
}

func (s *Edges) touch(p *Pair) {
	if !p.queue.dirty {
		p.queue.dirty = true
		s.dirty = append(s.dirty, p)
	}
}

// TakeDirty hands out the edges that changed or have something wrong, and forgets that they changed.
func (s *Edges) TakeDirty(buffer []*Pair) []*Pair {
	buffer = append(buffer[:0], s.dirty...)
	s.dirty = s.dirty[:0]
	for p := range s.Faulty {
		if !p.queue.dirty {
			buffer = append(buffer, p)
		}
	}
	for _, p := range buffer {
		p.queue.dirty = false
	}
	return buffer
}

// Watch keeps an edge in the set that is judged at every boundary for as long as something is wrong with it.
func (s *Edges) Watch(p *Pair) {
	switch wrong := p.Wrong(); {
	case wrong && !p.queue.judged:
		p.queue.judged = true
		s.Faulty[p] = struct{}{}
	case !wrong && p.queue.judged:
		p.queue.judged = false
		delete(s.Faulty, p)
	}
}

// AwaitSilence asks to be handed the edge again by Silent at a time; an edge waits for one time only.
func (s *Edges) AwaitSilence(p *Pair, due int64) {
	if !p.queue.silent {
		p.queue.silent = true
		s.quiet.push(silenceEntry{due, p})
	}
}

// Silent hands out the edges that are due by now.
func (s *Edges) Silent(buffer []*Pair) []*Pair {
	buffer = buffer[:0]
	for len(s.quiet) > 0 && s.quiet[0].due <= s.clock.Now {
		p := s.quiet.pop().p
		p.queue.silent = false
		if p.told.series > 0 {
			buffer = append(buffer, p)
		}
	}
	return buffer
}

// count takes over n events of an edge.
func (s *Edges) count(p *Pair, t int64, lane Lane, n uint64) {
	if n == 0 {
		return
	}
	if lane == Opened || lane == Closed || lane == Requests {
		s.pace(p, t, n)
	}
	if !p.Win.Add(t, lane, n) {
		s.clock.drops.Late++
		return
	}
	if lane != Closed || p.Win.Ever(Opened) == 0 {
		s.active(p, t)
	}
	s.touch(p)
	switch lane {
	case Requests:
		p.row(t, stats.Interval{Calls: float64(n)})
	case RequestsFailed:
		p.row(t, stats.Interval{Failed: float64(n)})
	}
	if totalOf[lane] != 0 {
		p.runs.counted(lane, t-min(s.clock.Interval, p.Win.length), t)
	}
	if p.Behind {
		// An objective is the clients', whose connections are counted where they call.
		return
	}
	for _, b := range p.Destination.Budgets {
		b.add(t, lane, n)
	}
}

// active takes over a sign of life.
func (s *Edges) active(p *Pair, t int64) {
	if !p.Win.Add(t, Active, 1) {
		s.clock.drops.Late++
		return
	}
	p.alive(t)
	s.touch(p)
}

// pace sizes the slots of an edge that the service graph reports by the cadence of what tells of it. What came before is
// forgotten, which is why an edge with something wrong keeps its slots.
func (s *Edges) pace(p *Pair, t int64, n uint64) {
	if !p.told.native {
		return
	}
	p.told.cadence.note(t, n)
	length := max(p.told.cadence.interval(p.Win.Ever(Opened)+p.Win.Ever(Closed) == 0), s.clock.slotLength())
	if length < 2*p.Win.Length() && 2*length > p.Win.Length() || p.Wrong() {
		return
	}
	p.reset(length, t)
}

// pastDurations is how many durations are remembered at full weight as an edge's usual ones.
const pastDurations = 20000

// durations takes over how long requests of a route took.
func (s *Edges) durations(p *Pair, r *routeSeries, told durations, start pcommon.Timestamp, t int64, delta bool) {
	if r.timing == nil {
		r.timing = &timing{}
	}
	if !r.timing.increment(&told, start, pcommon.Timestamp(t), delta, s.clock.fromZero(start, t)) {
		return
	}
	p.told.timed = true
	failing := 2*p.Win.Slot(t, RequestsFailed) > p.Win.Slot(t, Requests)
	all := s.slow(p, r.timing, &told, p.Rules.Get(rules.SlowRequests), t, failing)
	for _, budget := range p.Destination.Budgets {
		budget.addDurations(t, &told.buckets, all)
	}
	if all > 0 {
		p.row(t, stats.Interval{Timed: float64(all), Seconds: told.took()})
	}
}

// lived takes over how long connections lasted of an edge of which nothing else is known: of short ones that is how long they were waited for.
func (s *Edges) lived(p *Pair, lives *timing, told durations, start pcommon.Timestamp, t int64, delta bool) {
	if lives.increment(&told, start, pcommon.Timestamp(t), delta, s.clock.fromZero(start, t)) {
		failing := p.Faults[Connections].On || p.Faults[NoAnswer].On || 2*p.Win.Slot(t, Failed) > p.Win.Slot(t, Closed)
		s.slow(p, lives, &told, p.Rules.Get(rules.SlowConnections), t, failing)
	}
}

// slow counts the durations that are longer than the usual ones, which it learns, and returns how many there are in all.
func (s *Edges) slow(p *Pair, usual *timing, told *durations, rule *rules.Rule, t int64, failing bool) (all uint64) {
	limit := usual.slowAbove(rule)
	var slow uint64
	for bucket, n := range &told.buckets {
		if n == 0 {
			continue
		}
		all += uint64(n)
		if limit > 0 && bucket > limit {
			slow += uint64(n)
		}
	}
	if limit > 0 {
		s.count(p, t, Timed, all)
		s.count(p, t, Slow, slow)
	}
	// While an edge is slow, or most of what it carries fails, its durations are not what is usual.
	if p.Faults[Latency].On || failing || all > 0 && slow*2 >= all {
		return all
	}
	if usual.Usual.Total() > pastDurations {
		usual.Usual.Scale(0.5)
	}
	for bucket, n := range &told.buckets {
		if n > 0 {
			usual.Usual.Add(bucket, float32(n))
		}
	}
	return all
}

func (s *Edges) sweep() {
	for key, p := range s.pairs {
		if !p.forgotten(s.clock.Now) {
			continue
		}
		delete(s.pairs, key)
		same := func(other *Pair) bool { return other == p }
		p.Source.Out = slices.DeleteFunc(p.Source.Out, same)
		p.Destination.In = slices.DeleteFunc(p.Destination.In, same)
	}
	for name, a := range s.Apps {
		if len(a.In) == 0 && len(a.Out) == 0 && len(a.Endpoints) == 0 {
			delete(s.Apps, name)
			if a.external {
				s.externals--
			}
		}
	}
}

// CompareNames orders names by namespace and name.
func CompareNames(a, b outage.Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
