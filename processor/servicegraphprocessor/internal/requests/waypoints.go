package requests

import (
	"maps"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/exposition"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

const (
	// maxBuckets bounds the buckets of a histogram that is read.
	maxBuckets = 1000
	maxCount   = 1 << 53
)

// What a series counts.
const (
	kindRequests uint64 = iota + 1<<32
	kindDurations
)

// WaypointsConfig bounds what is followed and says what is waited for.
type WaypointsConfig struct {
	MaxSeries int
	// Wait is how long a waypoint's count waits for the spans of the same requests, which know their routes.
	Wait      time.Duration
	Expiry    time.Duration
	Reconcile reconcile.Limits
}

// Waypoints follow the istio_requests_total and istio_request_duration_milliseconds of waypoints, and compare what those tell
// of an edge with what spans tell: both may know all requests, or either only some.
type Waypoints struct {
	cfg       WaypointsConfig
	names     *naming.Directory
	store     *edges.Store
	logs      Logs
	telemetry *telemetry.Telemetry
	targets   *exposition.Targets[waypointSeries]
	edges     map[*edges.Edge]*waypointEdge // bounded by the series
	pending   []*waypointEdge
	// scraped is when a waypoint was last scraped; bounded by the targets.
	scraped map[string]pcommon.Timestamp
}

// waypointSeries is one series of a waypoint.
type waypointSeries struct {
	edge     *waypointEdge
	failed   bool
	response responses.Response
	total    cumulative.Counter[uint64]
	buckets  []uint64
	sum      float64
	weight   naming.WeightKey
}

type waypointTarget = exposition.Target[waypointSeries]

// waypointEdge is what waypoints tell of an edge.
type waypointEdge struct {
	edge                     *edges.Edge
	series                   int
	total, failed, durations reconcile.Lead
	codes                    responses.Leads
	// held are increments that wait for the spans of the same requests.
	held    []waypointIncrement
	pending bool
	spans   bool // application spans were seen on the edge
}

type waypointIncrement struct {
	at            pcommon.Timestamp
	total, failed uint64
	duration      exphist.Histogram
	responses     responses.Counts
}

// Logs are what the logs of waypoints and gateways tell.
type Logs interface {
	// Tells tells whether a log tells of an edge, so that what others tell waits for it.
	Tells(e *edges.Edge) bool
	// Hears tells whether a waypoint's log is read. Claim takes a request to a party that it told of any client; false if there is none left.
	Hears(waypoint string) bool
	Claim(to edge.Party, waypoint string, code uint16, now pcommon.Timestamp) bool
	// Beyond tells how much of what others tell of an edge no log has told, and counts that by what answered it.
	Beyond(e *edges.Edge, now pcommon.Timestamp, total, failed, durations uint64, of responses.Counts) (uint64, uint64, uint64)
}

// scrapesApart is how long what a waypoint counts may ordinarily wait for the next scrape.
const scrapesApart = time.Minute

// NewWaypoints returns a table that adds to the edges of a store what logs do not tell.
func NewWaypoints(cfg WaypointsConfig, names *naming.Directory, store *edges.Store, logs Logs, t *telemetry.Telemetry) *Waypoints {
	cfg.Reconcile.Skew = max(cfg.Reconcile.Skew, cfg.Wait+scrapesApart)
	return &Waypoints{
		cfg: cfg, names: names, store: store, logs: logs, telemetry: t,
		targets: exposition.NewTargets[waypointSeries](cfg.MaxSeries),
		edges:   map[*edges.Edge]*waypointEdge{},
		scraped: map[string]pcommon.Timestamp{},
	}
}

// Apply takes over one metric as a scrape gives it.
func (t *Waypoints) Apply(source *exposition.Source, metric pmetric.Metric, arrival moment.Arrival) {
	if up, at, ok := exposition.Up(metric); ok {
		if to := t.targets.Of(source); up && to != nil {
			to.Scrape(arrival.End(at))
		}
		return
	}
	switch strings.TrimSuffix(metric.Name(), "_total") {
	case "istio_requests":
		if metric.Type() != pmetric.MetricTypeSum {
			return
		}
		points := metric.Sum().DataPoints()
		for i := range points.Len() {
			t.applyRequests(source, points.At(i), arrival)
		}
	case "istio_request_duration_milliseconds":
		if metric.Type() != pmetric.MetricTypeHistogram {
			return
		}
		points := metric.Histogram().DataPoints()
		for i := range points.Len() {
			t.applyDurations(source, points.At(i), arrival)
		}
	}
}

func (t *Waypoints) applyRequests(source *exposition.Source, point pmetric.NumberDataPoint, arrival moment.Arrival) {
	value, ok := exposition.Value(point)
	if !ok {
		return
	}
	start, at := point.StartTimestamp(), arrival.End(point.Timestamp())
	s := t.find(source, kindRequests, point.Attributes(), start, at)
	if s == nil {
		return
	}
	n, change := s.total.Advance(start, at, value)
	if change == cumulative.Late {
		t.telemetry.Dropped(telemetry.DroppedLate, 1)
	}
	if n == 0 {
		return
	}
	t.names.Weights.Add(s.weight, n, arrival.Now)
	held := t.hold(s.edge, arrival.Now)
	held.total += n
	held.responses.Add(s.response, n)
	if s.failed {
		held.failed += n
	}
}

func (t *Waypoints) applyDurations(source *exposition.Source, point pmetric.HistogramDataPoint, arrival moment.Arrival) {
	if point.Flags().NoRecordedValue() || point.Count() > maxCount {
		return
	}
	start, at := point.StartTimestamp(), arrival.End(point.Timestamp())
	s := t.find(source, kindDurations, point.Attributes(), start, at)
	if s == nil {
		return
	}
	counts, bounds := point.BucketCounts(), point.ExplicitBounds()
	if counts.Len() != bounds.Len()+1 || counts.Len() > maxBuckets {
		t.telemetry.Dropped(telemetry.DroppedPoint, 1)
		return
	}
	n, change := s.total.Advance(start, at, point.Count())
	switch {
	case change == cumulative.Late:
		t.telemetry.Dropped(telemetry.DroppedLate, 1)
		return
	case change == cumulative.First, change == cumulative.Reset, len(s.buckets) != counts.Len():
		s.sum = 0
		s.buckets = append(s.buckets[:0], make([]uint64, counts.Len())...)
	}
	if n > 0 {
		h := &t.hold(s.edge, arrival.Now).duration
		before := h.Sum
		for i := range counts.Len() {
			if c := counts.At(i); c > s.buckets[i] && c <= maxCount {
				h.Add(exphist.Default, exposition.Middle(bounds, i)/1000, c-s.buckets[i])
			}
		}
		if sum := point.Sum() - s.sum; sum >= 0 && !math.IsInf(sum, 0) {
			h.Sum = before + sum/1000
		}
	}
	s.sum = point.Sum()
	for i := range counts.Len() {
		s.buckets[i] = counts.At(i)
	}
}

// find finds or creates a series; nil if it is not a waypoint's or a bound is reached. What a series had when its target was
// first seen is a baseline.
func (t *Waypoints) find(source *exposition.Source, kind uint64, attrs pcommon.Map, start, at pcommon.Timestamp) *waypointSeries {
	target := t.targets.Of(source)
	if target == nil {
		t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
		return nil
	}
	target.Scrape(at)
	id := t.targets.Hash(kind, attrs)
	if s, ok := target.Series[id]; ok {
		t.scraped[s.edge.edge.Key.Waypoint] = at
		return s
	}
	labels := exposition.ReadLabels(attrs)
	// A gateway or sidecar that reports as source sees the same requests as the server's side.
	if labels.Reporter != semconv.ReporterWaypoint && labels.Reporter != semconv.ReporterDestination {
		return nil
	}
	if !exposition.Told(labels.Destination.Workload) {
		// The waypoint answered itself, before it had chosen a pod.
		service := t.names.Service(labels.Service)
		if service == nil {
			return nil
		}
		port, _ := t.names.OnlyPort(labels.Service)
		labels.Destination, _ = t.names.ServiceParty(service, port)
	}
	// Any pod can be labelled as a waypoint.
	if !t.names.SpeaksFor(source.Waypoint, labels.Service, labels.Destination) {
		t.telemetry.Dropped(telemetry.DroppedForeign, 1)
		return nil
	}
	if t.targets.Full() {
		t.telemetry.Dropped(telemetry.DroppedFlowLimit, 1)
		return nil
	}
	s := &waypointSeries{failed: labels.Failed(), response: labels.Response()}
	unstated := start == 0 || start >= at
	if unstated || start < target.First && !t.allNew(start, at) {
		s.total.First = cumulative.Baseline
	}
	if unstated {
		start = max(t.store.Emitted(), 1)
	}
	flow := labels.Flow()
	if !exposition.Told(flow.Source.Workload) {
		flow.Source = edge.Party{Workload: naming.Unknown}
	}
	s.weight = naming.WeightKey{Source: flow.Source, Service: flow.Service, Destination: flow.Destination}
	s.edge = t.edgeOf(source, &labels, flow, start, at)
	s.edge.series++
	t.targets.Add(target, id, s)
	return s
}

// maxAge is how long a waypoint may have run before it was first scraped for all that it counted to be new.
const maxAge = time.Minute

// allNew tells whether all that a waypoint counted since its start is of the time that the graph covers, and so late that others who told it are
// remembered.
func (t *Waypoints) allNew(start, at pcommon.Timestamp) bool {
	begun := naming.Begun(t.names)
	return begun > 0 && start >= begun && !moment.Since(start, at, maxAge)
}

// edgeOf finds or creates the edge of a series.
func (t *Waypoints) edgeOf(source *exposition.Source, labels *exposition.Labels, flow edges.Flow, start, at pcommon.Timestamp) *waypointEdge {
	key := edge.Key{Source: flow.Source, Destination: flow.Destination, Service: flow.Service, Security: semconv.SecurityMutualTLS}
	if labels.Security != "" && labels.Security != semconv.SecurityMutualTLS {
		key.Security = semconv.SecurityNone
	}
	key.Port, _ = t.names.OnlyPort(flow.Service)
	if labels.Reporter == semconv.ReporterWaypoint {
		key.Waypoint = t.names.WaypointOf(flow.Service, naming.Intern(source.Waypoint))
	}
	protocol := t.names.Protocol(key.Service, key.Port)
	if protocol == "" {
		protocol = semconv.ProtocolHTTP
		if strings.HasPrefix(labels.Protocol, "grpc") {
			protocol = semconv.ProtocolGRPC
		}
	}
	e := t.store.Edges.Find(key, protocol, start)
	w, known := t.edges[e]
	if !known {
		w = &waypointEdge{edge: e, spans: e.HasRoutes()}
		if told, failed := e.Responses().By(semconv.RequestSourceSpans); t.allNew(start, at) {
			w.total.Apply(at, told, 0, t.cfg.Reconcile)
			w.durations.Apply(at, told, 0, t.cfg.Reconcile)
			w.failed.Apply(at, failed, 0, t.cfg.Reconcile)
			for _, of := range e.Responses() {
				if of.Source == semconv.RequestSourceSpans {
					w.codes.Spans(at, of.Code, of.N, t.cfg.Reconcile)
				}
			}
		}
		t.edges[e] = w
		t.store.Edges.Use(e)
	}
	return w
}

// scrapedLately is how long after its last scrape a waypoint is believed to tell its requests.
const scrapedLately = 3 * time.Minute

// tells tells whether a waypoint told a request, or will tell it with its next scrape.
func (t *Waypoints) tells(r *request, now pcommon.Timestamp) bool {
	at, ok := t.scraped[r.key.Waypoint]
	return ok && !moment.Since(at, now, scrapedLately) || t.logs.Claim(r.key.Destination, r.key.Waypoint, r.answer.Status, now)
}

// hold returns where a waypoint's increments of an edge gather until the next flush.
func (t *Waypoints) hold(w *waypointEdge, now pcommon.Timestamp) *waypointIncrement {
	if !w.pending {
		w.pending = true
		t.pending = append(t.pending, w)
	}
	if n := len(w.held); n > 0 && w.held[n-1].at == now {
		return &w.held[n-1]
	}
	w.held = append(w.held, waypointIncrement{at: now})
	return &w.held[len(w.held)-1]
}

// Settle counts the requests that waypoints told, beyond those that spans told.
func (t *Waypoints) Settle(m moment.Moment) {
	left := t.pending[:0]
	for _, w := range t.pending {
		due, told := 0, t.logs.Tells(w.edge)
		for due < len(w.held) {
			waited := m.Past(w.held[due].at, t.cfg.Wait)
			if !waited && !m.Final && (told || w.spans) {
				break
			}
			if waited || !told { // at the end the log will tell it, if anybody reads on
				t.count(w, &w.held[due], m.Now)
			}
			due++
		}
		w.held = append(w.held[:0], w.held[due:]...)
		if w.pending = len(w.held) > 0; w.pending {
			left = append(left, w)
		} else if w.series == 0 {
			t.forget(w)
		}
	}
	clear(t.pending[len(left):])
	t.pending = left
}

func (t *Waypoints) count(w *waypointEdge, inc *waypointIncrement, now pcommon.Timestamp) {
	_, total := w.total.Apply(now, 0, inc.total, t.cfg.Reconcile)
	_, failed := w.failed.Apply(now, 0, inc.failed, t.cfg.Reconcile)
	_, durations := w.durations.Apply(now, 0, inc.duration.Count, t.cfg.Reconcile)
	beyond := w.codes.Waypoint(now, inc.responses, total, t.cfg.Reconcile)
	total, failed, durations = t.logs.Beyond(w.edge, now, total, failed, durations, beyond)
	if total == 0 && failed == 0 && durations == 0 {
		return
	}
	e := w.edge
	inc.duration.DropLowest(inc.duration.Count - durations)
	t.store.Edges.AddRequests(e, "", total, failed, e.Start(), now).Merge(exphist.Default, &inc.duration)
	services := t.store.Services
	if s := services.Find(edges.ServiceKeyOf(e.Key.Source, e.Key.Destination), e.Start()); s != nil {
		services.Add(s, total, failed, now)
		inc.duration.Each(func(value float64, n uint64) { services.ObserveServer(s, value, n) })
	}
}

// bySpan tells how much of a request that a span tells of an edge is not counted from a waypoint's metrics already, and by which code.
func (t *Waypoints) bySpan(e *edges.Edge, now pcommon.Timestamp, failed bool, code uint16) (total, failures, durations uint64, as uint16) {
	w, told := t.edges[e]
	if !told {
		if failed {
			failures = 1
		}
		return 1, failures, 1, code
	}
	w.spans = true
	total, _ = w.total.Apply(now, 1, 0, t.cfg.Reconcile)
	durations, _ = w.durations.Apply(now, 1, 0, t.cfg.Reconcile)
	if failed {
		failures, _ = w.failed.Apply(now, 1, 0, t.cfg.Reconcile)
	}
	if code != 0 {
		code = w.codes.Span(now, code, total > 0, t.cfg.Reconcile)
	}
	return total, failures, durations, code
}

// Rewind takes note that the graph's clock went back to a time: no scrape was later.
func (t *Waypoints) Rewind(now pcommon.Timestamp) {
	t.targets.Rewind(now, func(s *waypointSeries) { s.total.Time = min(s.total.Time, now) })
	for name, at := range t.scraped {
		t.scraped[name] = min(at, now)
	}
	for _, w := range t.edges {
		for _, lead := range [...]*reconcile.Lead{&w.total, &w.failed, &w.durations} {
			lead.Rewind(now)
		}
		w.codes.Rewind(now)
		for i := range w.held {
			w.held[i].at = min(w.held[i].at, now)
		}
	}
}

// Sweep forgets series and targets that are silent for long.
func (t *Waypoints) Sweep(now pcommon.Timestamp) {
	maps.DeleteFunc(t.scraped, func(_ string, at pcommon.Timestamp) bool { return moment.Since(at, now, t.cfg.Expiry) })
	t.targets.Sweep(now, t.cfg.Expiry, func(target *waypointTarget, id uint64, s *waypointSeries) {
		if !moment.Since(s.total.Time, now, t.cfg.Expiry) {
			return
		}
		t.targets.Remove(target, id)
		if s.edge.series--; s.edge.series == 0 && !s.edge.pending {
			t.forget(s.edge)
		}
	})
}

func (t *Waypoints) forget(w *waypointEdge) {
	delete(t.edges, w.edge)
	t.store.Edges.Release(w.edge)
}
