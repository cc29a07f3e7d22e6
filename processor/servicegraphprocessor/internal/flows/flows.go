// Package flows counts each connection once although its two ends' ztunnels report it independently, and adds it to the edge
// that it belongs to.
package flows

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/exposition"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// Config bounds what is followed and says what is waited for.
type Config struct {
	MaxFlows int
	// ResolveHold is how long traffic of a pod waits for the mesh state that names it.
	ResolveHold time.Duration
	// Expiry is the life of a series of which its node told nothing new.
	Expiry    time.Duration
	Reconcile reconcile.Limits
}

// Clock knows the time before which a node has said all it has to say.
type Clock interface {
	Settled(node string) pcommon.Timestamp
}

// series is one flow aggregate: what one reporter says of one pair.
type series struct {
	pair     *pair
	key      *flowKey // only where it is recorded
	route    int
	loose    bool // an end may turn out to be another one
	counts   [sums]cumulative.Counter[uint64]
	failed   []failedSeries
	duration exphist.Cumulative
	seen     pcommon.Timestamp
}

type failedSeries struct {
	reason reconcile.Reason
	cumulative.Counter[uint64]
}

// Table follows the flow aggregates and reconciles those of each pair.
type Table struct {
	cfg       Config
	names     *naming.Directory
	store     *edges.Store
	clock     Clock
	telemetry *telemetry.Telemetry
	resolver  resolver

	series map[flowKey]*series // bounded by MaxFlows
	pairs  map[pairKey]*pair   // bounded by the series
	// touched are the pairs with increments since they were last settled; waiting those that hold something back.
	touched []*pair
	waiting []*pair
	counted []reconcile.Failed

	// changed and gone are the pairs to be recorded, if any are.
	journaled bool
	changed   []*pair
	gone      []uint64
	last      uint64 // the newest pair's id
}

// NewTable returns an empty table that adds to the edges of a store.
func NewTable(cfg Config, names *naming.Directory, store *edges.Store, clock Clock, t *telemetry.Telemetry) *Table {
	return &Table{
		cfg: cfg, names: names, store: store, clock: clock, telemetry: t,
		resolver: resolver{hold: cfg.ResolveHold, names: names, store: store, telemetry: t},
		series:   map[flowKey]*series{}, pairs: map[pairKey]*pair{},
	}
}

// Len is the number of series.
func (t *Table) Len() int { return len(t.series) }

// Waiting is the number of pairs that hold something back.
func (t *Table) Waiting() int { return len(t.waiting) }

// Empty tells whether no flow is followed.
func (t *Table) Empty() bool { return len(t.pairs) == 0 }

// Apply takes over a node's metric if that is a flow aggregate, and tells whether it is. It allocates nothing for series that
// are known.
func (t *Table) Apply(node string, metric pmetric.Metric, arrival moment.Arrival) bool {
	name := metric.Name()
	switch {
	case !isFlowMetric(name):
		return false
	case !isCumulative(metric):
		t.telemetry.Dropped(telemetry.DroppedPoint, 1)
	case metric.Type() == pmetric.MetricTypeSum:
		points := metric.Sum().DataPoints()
		for i := range points.Len() {
			t.applySum(node, name, points.At(i), arrival)
		}
	default:
		points := metric.ExponentialHistogram().DataPoints()
		for i := range points.Len() {
			t.applyDuration(node, points.At(i), arrival)
		}
	}
	return true
}

func (t *Table) applySum(node, name string, point pmetric.NumberDataPoint, arrival moment.Arrival) {
	flow := readFlow(point.Attributes())
	flow.node = node
	value, ok := exposition.Value(point)
	if !ok || !flow.valid {
		t.telemetry.Dropped(telemetry.DroppedPoint, 1)
		return
	}
	start, at := point.StartTimestamp(), arrival.End(point.Timestamp())
	s := t.find(&flow.flowKey, min(start, at), at, arrival.Now)
	if s == nil {
		t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
		return
	}
	q := quantityOf(name, flow.direction)
	var counter *cumulative.Counter[uint64]
	var failed *failedSeries
	switch {
	case q != none:
		counter = &s.counts[q]
	case name != semconv.MetricConnectionsFailed:
		t.telemetry.Dropped(telemetry.DroppedPoint, 1)
		return
	default:
		if failed = s.failure(flow.reason); failed == nil {
			t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
			return
		}
		counter = &failed.Counter
	}
	if counter.GoesBack(start, at, value) {
		// The receiver was killed before it could store what it had told.
		return
	}
	delta, change := counter.Advance(start, at, value)
	switch {
	case change == cumulative.Late:
		t.telemetry.Dropped(telemetry.DroppedLate, 1)
		return
	case delta == 0:
		return
	case failed != nil:
		s.pair.fail(flow.side, failed.reason, s.route, delta)
	default:
		s.pair.routes[s.route].pending[flow.side].counts[q] += delta
	}
	if flow.side == bySource {
		s.pair.sourceRoute, s.pair.hasSource = s.route, true
	}
	t.touch(s.pair)
}

func (t *Table) applyDuration(node string, point pmetric.ExponentialHistogramDataPoint, arrival moment.Arrival) {
	flow := readFlow(point.Attributes())
	flow.node = node
	if !flow.valid || point.Flags().NoRecordedValue() {
		t.telemetry.Dropped(telemetry.DroppedPoint, 1)
		return
	}
	at := arrival.End(point.Timestamp())
	point.SetTimestamp(at)
	s := t.find(&flow.flowKey, min(point.StartTimestamp(), at), at, arrival.Now)
	if s == nil {
		t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
		return
	}
	if s.duration.GoesBack(point.StartTimestamp(), at, point.Count()) {
		return
	}
	pending := &s.pair.routes[s.route].pending[flow.side]
	n, change := s.duration.Advance(exphist.Default, point, &pending.duration)
	switch {
	case change == cumulative.Late:
		t.telemetry.Dropped(telemetry.DroppedLate, 1)
	case change == cumulative.Invalid:
		t.telemetry.Dropped(telemetry.DroppedPoint, 1)
	case n > 0:
		t.touch(s.pair)
	}
}

// find finds or creates the series of a flow aggregate; nil if the bound on series is reached.
func (t *Table) find(key *flowKey, start, at, now pcommon.Timestamp) *series {
	if s, ok := t.series[*key]; ok {
		s.seen = max(s.seen, at)
		if id, moved := t.resolver.moved(s, key); moved {
			last, owned := s.pair, key.clone()
			t.leave(s)
			t.pairOf(&owned, id, s.seen, now).join(s, &owned, last.seen)
			if len(last.series) == 0 && !last.who.resolved {
				s.pair.take(last, key.side)
			}
			t.touch(s.pair)
		}
		s.pair.seen = max(s.pair.seen, at)
		return s
	}
	if len(t.series) >= t.cfg.MaxFlows {
		return nil
	}
	if key.overflow {
		t.telemetry.Overflowed(telemetry.BoundReceiver)
	}
	owned := key.clone()
	s := &series{seen: at}
	id, loose := t.resolver.identify(&owned, at)
	s.loose = loose
	t.pairOf(&owned, id, at, now).join(s, &owned, start)
	t.series[owned] = s
	if t.journaled {
		s.key = &owned
	}
	return s
}

// leave takes a series from its pair.
func (t *Table) leave(s *series) {
	p := s.pair
	p.series = slices.DeleteFunc(p.series, func(other *series) bool { return other == s })
	if len(p.series) > 0 {
		t.save(p)
	} else if !p.waits && !p.touched {
		t.forget(p)
	}
}

// failure finds or creates the series of a reason; nil if the bound on reasons is reached.
func (s *series) failure(reason reconcile.Reason) *failedSeries {
	for i := range s.failed {
		if s.failed[i].reason == reason {
			return &s.failed[i]
		}
	}
	if len(s.failed) >= edges.MaxReasons {
		return nil
	}
	s.failed = append(s.failed, failedSeries{reason: reconcile.Reason{Type: naming.Intern(reason.Type), Policy: naming.Intern(reason.Policy)}})
	return &s.failed[len(s.failed)-1]
}

func (t *Table) touch(p *pair) {
	t.save(p)
	if !p.touched {
		p.touched = true
		t.touched = append(t.touched, p)
	}
}

// Sweep forgets series of which nothing was told for long, by the time of the node that told them: who is cut off comes back
// with the same series. Their edges may then expire.
func (t *Table) Sweep(now pcommon.Timestamp) {
	for key, s := range t.series {
		if !moment.Since(s.seen, now, t.cfg.Expiry) || !moment.Since(s.seen, min(now, t.clock.Settled(key.node)), t.cfg.Expiry) {
			continue
		}
		delete(t.series, key)
		t.leave(s)
	}
}

// Rewind takes note that the graph's clock went back to a time: no point was of a later one.
func (t *Table) Rewind(now pcommon.Timestamp) {
	for _, s := range t.series {
		s.seen = min(s.seen, now)
		s.duration.Time = min(s.duration.Time, now)
		for q := range s.counts {
			s.counts[q].Time = min(s.counts[q].Time, now)
		}
		for i := range s.failed {
			s.failed[i].Time = min(s.failed[i].Time, now)
		}
	}
	for _, p := range t.pairs {
		p.first, p.seen = min(p.first, now), min(p.seen, now)
		l := &p.leads
		for q := range l.counts {
			l.counts[q].Rewind(now)
		}
		l.failures.Rewind(now)
		t.save(p)
	}
}

// forget drops a pair that no series tells of.
func (t *Table) forget(p *pair) {
	for i := range p.routes {
		t.store.Edges.Clear(&p.routes[i].target)
	}
	delete(t.pairs, p.key)
	if p.id != 0 {
		t.gone = append(t.gone, p.id)
	}
}
