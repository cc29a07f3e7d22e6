// Package scraped shows what ztunnels' own counters tell of edges: connections that are open, of which the access log is silent,
// and everything where there is no access log.
package scraped

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
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
	MaxSeries int
	// ResolveHold is how long a service's port waits for the mesh state that tells it.
	ResolveHold time.Duration
	Expiry      time.Duration
	Reconcile   reconcile.Limits
}

// Flows tells whether the access log tells of any connection.
type Flows interface{ Empty() bool }

// Table follows ztunnels' istio_tcp_* series.
type Table struct {
	cfg       Config
	names     *naming.Directory
	edges     *edges.Table
	flows     Flows
	telemetry *telemetry.Telemetry

	targets  *exposition.Targets[series]
	groups   map[edges.Flow]*group  // bounded by the series
	told     map[ends][]*group      // those that sources tell of; bounded by the groups
	primary  map[*edges.Edge]*group // bounded by the groups
	touched  []*group
	waiting  []*group
	reported []reconcile.Failed
}

// series is one istio_tcp_* series.
type series struct {
	group   *group
	counter counter
	side    side
	reason  reconcile.Reason
	// flagged tells that response_flags say why the connections failed.
	flagged bool
	cumulative.Counter[uint64]
	// baseline is the part of the value from before the target was first seen.
	baseline uint64
}

type target = exposition.Target[series]

// NewTable returns an empty table that shows on the edges of a store.
func NewTable(cfg Config, names *naming.Directory, store *edges.Store, flows Flows, t *telemetry.Telemetry) *Table {
	cfg.Reconcile.Skew = max(cfg.Reconcile.Skew, scrapeSkew)
	return &Table{
		cfg: cfg, names: names, edges: store.Edges, flows: flows, telemetry: t,
		targets: exposition.NewTargets[series](cfg.MaxSeries),
		groups:  map[edges.Flow]*group{},
		told:    map[ends][]*group{},
		primary: map[*edges.Edge]*group{},
	}
}

// Apply takes over one metric as a scrape gives it.
func (t *Table) Apply(source *exposition.Source, metric pmetric.Metric, arrival moment.Arrival) {
	name := metric.Name()
	if name == semconv.MetricUp {
		t.applyUp(source, metric, arrival)
		return
	}
	if !strings.HasPrefix(name, "istio_tcp_") || metric.Type() != pmetric.MetricTypeSum {
		return
	}
	c := counterOf(name)
	if c == counterNone {
		return
	}
	points := metric.Sum().DataPoints()
	to := t.targets.Of(source)
	if to == nil {
		t.telemetry.Dropped(telemetry.DroppedFlowLimit, points.Len())
		return
	}
	for i := range points.Len() {
		t.applyPoint(to, c, points.At(i), arrival)
	}
}

func (t *Table) applyUp(source *exposition.Source, metric pmetric.Metric, arrival moment.Arrival) {
	up, at, ok := exposition.Up(metric)
	if !ok {
		return
	}
	to := t.targets.Of(source)
	if to == nil {
		return
	}
	if up {
		to.Scrape(arrival.End(at))
	}
	if to.Down == !up {
		return
	}
	to.Down = !up
	for _, s := range to.Series {
		if s.counter == counterOpened {
			s.group.standing.serve(s.side, up)
			t.touch(s.group)
		}
	}
}

func (t *Table) applyPoint(to *target, c counter, point pmetric.NumberDataPoint, arrival moment.Arrival) {
	at := arrival.End(point.Timestamp())
	to.Scrape(at)
	id := t.targets.Hash(uint64(c), point.Attributes())
	s, known := to.Series[id]
	if point.Flags().NoRecordedValue() {
		if known {
			t.forget(to, id, s)
		}
		return
	}
	value, ok := exposition.Value(point)
	if !ok {
		t.telemetry.Dropped(telemetry.DroppedPoint, 1)
		return
	}
	if !known {
		if s = t.newSeries(c, point, at); s == nil {
			return
		}
		t.targets.Add(to, id, s)
		if c == counterOpened {
			s.group.standing.serve(s.side, !to.Down)
		}
	}
	delta, change := s.follow(to, point.StartTimestamp(), at, value)
	if change == cumulative.Late {
		t.telemetry.Dropped(telemetry.DroppedLate, 1)
		return
	}
	if teller := t.teller(s.group); delta > 0 && teller != nil {
		teller.report(s, delta)
		t.touch(teller)
	}
	if change == cumulative.First && delta == 0 && value > 0 && !s.group.logged.known {
		s.group.logged.known = true
		for _, e := range t.edges.Family(s.group.flow).Edges() {
			s.group.logged.closed += e.Logged.Closed
		}
	}
	if change != cumulative.Unchanged {
		t.touch(s.group)
	}
}

// follow takes over a series's value and returns how much it counts: what a series already had when its target was
// first seen is a baseline; one that appears later, or begins anew, counts in full.
func (s *series) follow(to *target, start, at pcommon.Timestamp, value uint64) (uint64, cumulative.Change) {
	if !s.Known && (start == 0 || start < to.First || start >= at) {
		// A series that appears without a start of its own, or with one from before the target was first seen,
		// says nothing about when its value came to be.
		s.First = cumulative.Baseline
	}
	last := s.Value
	g := s.group
	delta, change := s.Advance(start, at, value)
	switch change {
	case cumulative.First:
		if delta == 0 {
			g.standing.before[s.side].add(s.counter, int64(value))
			s.baseline = value
		}
		g.open.carried[s.side].add(s.counter, int64(value-s.baseline))
	case cumulative.Reset:
		to.Restarted = true
		s.lose(last)
		g.open.fresh[s.side].add(s.counter, int64(value))
	case cumulative.Late:
		return 0, change
	default:
		g.open.carried[s.side].add(s.counter, int64(delta))
	}
	g.standing.current[s.side].add(s.counter, int64(value)-int64(last))
	return delta, change
}

// lose notes that the process that had counted so much is gone, and with it the connections that it held open.
func (s *series) lose(value uint64) {
	gone := int64(value - s.baseline)
	s.group.open.carried[s.side].add(s.counter, -gone)
	s.group.open.lost[s.side].add(s.counter, gone)
	s.baseline = 0
}

// newSeries creates the series of a point; nil if its parties are not told or the bound on series is reached.
func (t *Table) newSeries(c counter, point pmetric.NumberDataPoint, at pcommon.Timestamp) *series {
	labels := exposition.ReadLabels(point.Attributes())
	s := &series{counter: c, side: bySource, reason: flagReason(labels.Flags), flagged: exposition.Told(labels.Flags) && labels.Flags != "-"}
	switch labels.Reporter {
	case semconv.ReporterSource:
	case semconv.ReporterDestination:
		s.side = byDestination
	default:
		return nil
	}
	if !exposition.Told(labels.Source.Workload) || !exposition.Told(labels.Destination.Workload) {
		return nil
	}
	if t.targets.Full() {
		t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
		return nil
	}
	s.group = t.groupOf(labels.Flow(), point.StartTimestamp(), at)
	t.tell(s.group, s.side, 1)
	return s
}

// EndScrape closes a resource's batch: after a restart the open connections are gone, and with them the series that
// did not come back.
func (t *Table) EndScrape(source *exposition.Source) {
	to := t.targets.Known(source)
	if to == nil || !to.Restarted {
		return
	}
	to.Restarted = false
	for id, s := range to.Series {
		if s.Time < to.Scraped {
			t.forget(to, id, s)
		}
	}
}

func (t *Table) forget(to *target, id uint64, s *series) {
	s.group.standing.current[s.side].add(s.counter, -int64(s.Value))
	s.lose(s.Value)
	if s.counter == counterOpened && !to.Down {
		s.group.standing.serve(s.side, false)
	}
	t.tell(s.group, s.side, -1)
	t.touch(s.group)
	t.targets.Remove(to, id)
}

// Rewind takes note that the graph's clock went back to a time: no scrape was later.
func (t *Table) Rewind(now pcommon.Timestamp) {
	t.targets.Rewind(now, func(s *series) { s.Time = min(s.Time, now) })
	for _, g := range t.groups {
		g.first, g.totals.recentAt = min(g.first, now), min(g.totals.recentAt, now)
		l := &g.leads
		for c := range l.plain {
			l.plain[c].Rewind(now)
		}
		l.failures.Rewind(now)
	}
}

// Sweep forgets series and targets that are silent for long.
func (t *Table) Sweep(now pcommon.Timestamp) {
	t.targets.Sweep(now, t.cfg.Expiry, func(to *target, id uint64, s *series) {
		if moment.Since(s.Time, now, t.cfg.Expiry) {
			t.forget(to, id, s)
		}
	})
	for _, g := range t.groups {
		if g.standing.series == [2]int{} && !g.touched && !g.waits {
			t.forgetGroup(g)
		}
	}
}
