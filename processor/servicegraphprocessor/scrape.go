package servicegraphprocessor

import (
	"hash/maphash"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// Labels of Istio's standard metrics beside those in semconv.
const (
	labelResponseFlags = "response_flags"
	labelResponseCode  = "response_code"
	labelGRPCStatus    = "grpc_response_status"
	istioUnknown       = "unknown"
)

// counter is what one of ztunnel's istio_tcp_* series counts.
type counter uint8

const (
	counterNone counter = iota
	counterOpened
	counterClosed
	counterFailed
	counterSent
	counterReceived
)

// counterOf tells what a metric counts. Sent and received are the server's there (istio/istio#32399): what is received
// is what the client sent.
func counterOf(name string) counter {
	switch strings.TrimSuffix(name, "_total") {
	case "istio_tcp_connections_opened":
		return counterOpened
	case "istio_tcp_connections_closed":
		return counterClosed
	case "istio_tcp_connections_failed":
		return counterFailed
	case "istio_tcp_received_bytes":
		return counterSent
	case "istio_tcp_sent_bytes":
		return counterReceived
	}
	return counterNone
}

// flagReason is why a connection failed as response_flags tell it.
func flagReason(flags string) reconcile.Reason {
	switch flags {
	case "DENY", "NETWORK_POLICY":
		return reconcile.Reason{Type: semconv.ErrorTypePolicyDenied}
	case "CONNECT":
		return reconcile.Reason{Type: semconv.ErrorTypeConnectFailed}
	case "TLS_FAILURE", "H2_HANDSHAKE_FAILURE":
		return reconcile.Reason{Type: semconv.ErrorTypeTLSFailure}
	case "IDENTITY_ERROR", "CERT_REVOKED":
		return reconcile.Reason{Type: semconv.ErrorTypeIdentityError}
	}
	return reconcile.Reason{Type: semconv.ErrorTypeOther}
}

// scrapedFlow identifies an edge as ztunnels' own counters do, which know no port.
type scrapedFlow struct {
	source, destination edge.Party
	service             string
	mutualTLS           bool
}

// scrapeTable follows the istio_* series of scraped targets.
type scrapeTable struct {
	max      int
	seed     maphash.Seed
	targets  map[string]*scrapeTarget
	groups   map[scrapedFlow]*scrapeGroup
	series   int
	touched  []*scrapeGroup
	waiting  []*scrapeGroup
	reported []reconcile.Failed
}

// scrapeTarget is one exposition.
type scrapeTarget struct {
	node      string
	series    map[uint64]*scrapeSeries
	waypoints map[uint64]*waypointSeries
	first     pcommon.Timestamp
	scraped   pcommon.Timestamp
	restarted bool
	down      bool
}

// scrapeSeries is one istio_tcp_* series.
type scrapeSeries struct {
	group   *scrapeGroup
	counter counter
	side    side
	reason  reconcile.Reason
	start   pcommon.Timestamp
	value   uint64
	// baseline is the part of value from before the target was first seen.
	baseline uint64
	seen     pcommon.Timestamp
}

func newScrapeTable(cfg *Config) *scrapeTable {
	return &scrapeTable{
		max:     cfg.MaxFlows,
		seed:    maphash.MakeSeed(),
		targets: map[string]*scrapeTarget{},
		groups:  map[scrapedFlow]*scrapeGroup{},
	}
}

func (t *scrapeTable) target(source *metricSource) *scrapeTarget {
	id := source.instance
	if id == "" {
		id = source.node
	}
	if target, ok := t.targets[id]; ok {
		return target
	}
	if len(t.targets) >= maxNodes {
		return nil
	}
	target := &scrapeTarget{node: naming.Intern(source.node), series: map[uint64]*scrapeSeries{}, waypoints: map[uint64]*waypointSeries{}}
	t.targets[naming.Intern(id)] = target
	return target
}

// applyScraped takes over one metric as a scrape gives it.
func (g *graph) applyScraped(source *metricSource, metric pmetric.Metric) {
	name := metric.Name()
	switch {
	case name == semconv.MetricUp:
		g.applyUp(source, metric)
	case strings.HasPrefix(name, "istio_tcp_"):
		if c := counterOf(name); c != counterNone && metric.Type() == pmetric.MetricTypeSum {
			points := metric.Sum().DataPoints()
			for i := range points.Len() {
				g.applyScrapedPoint(source, c, points.At(i))
			}
		}
	case strings.HasPrefix(name, "istio_request"):
		g.applyWaypointMetric(source, metric)
	}
}

func (g *graph) applyUp(source *metricSource, metric pmetric.Metric) {
	if metric.Type() != pmetric.MetricTypeGauge || metric.Gauge().DataPoints().Len() == 0 {
		return
	}
	point := metric.Gauge().DataPoints().At(metric.Gauge().DataPoints().Len() - 1)
	up, _ := pointValue(point)
	target := g.scrapes.target(source)
	if target == nil {
		return
	}
	if up != 0 {
		// A scrape that holds none of the series yet is the first one all the same: what it lacks began later.
		target.begin(point.Timestamp())
	}
	if target.down == (up == 0) {
		return
	}
	target.down = up == 0
	for _, s := range target.series {
		if s.counter == counterOpened {
			s.group.serve(s.side, !target.down)
			g.scrapes.touch(s.group)
		}
	}
}

// hash identifies a series within its target by all its labels, in whatever order they come.
func (t *scrapeTable) hash(c counter, attrs pcommon.Map) uint64 {
	sum := uint64(c)
	for name, value := range attrs.All() {
		sum += maphash.String(t.seed, name) * (maphash.String(t.seed, value.Str()) | 1)
	}
	return sum
}

func (g *graph) applyScrapedPoint(source *metricSource, c counter, point pmetric.NumberDataPoint) {
	target := g.scrapes.target(source)
	if target == nil {
		g.dropped("flow_limit", 1)
		return
	}
	at := point.Timestamp()
	target.begin(at)
	id := g.scrapes.hash(c, point.Attributes())
	s, known := target.series[id]
	if point.Flags().NoRecordedValue() {
		if known {
			g.forgetSeries(target, id, s)
		}
		return
	}
	value, ok := pointValue(point)
	if !ok {
		g.dropped("invalid_point", 1)
		return
	}
	if !known {
		if s = g.newScrapeSeries(c, point); s == nil {
			return
		}
		target.series[id] = s
		if c == counterOpened {
			s.group.serve(s.side, !target.down)
		}
	} else if at < s.seen {
		return
	}
	last := s.value
	delta := s.advance(target, point.StartTimestamp(), at, value, known)
	if delta > 0 {
		s.group.report(s, delta)
	}
	if !known && delta == 0 && value > 0 && !s.group.logged.known {
		s.group.logged.known = true
		for _, e := range g.edges.byFlow[s.group.flow] {
			s.group.logged.closed += e.closed
		}
	}
	if !known || delta > 0 || value != last {
		g.scrapes.touch(s.group)
	}
}

// begin notes the time of a target's scrape.
func (t *scrapeTarget) begin(at pcommon.Timestamp) {
	if t.first == 0 {
		t.first = at
	}
	t.scraped = max(t.scraped, at)
}

// advance takes over a series's value and returns how much it counts: what a series already had when its target was
// first seen is a baseline; one that appears later, or begins anew, counts in full. One that starts at its very time has
// not begun anew: somebody else scrapes the target from here on, such as an agent that was restarted.
func (s *scrapeSeries) advance(target *scrapeTarget, start, at pcommon.Timestamp, value uint64, known bool) uint64 {
	var delta uint64
	switch {
	case !known:
		// A series that appears without a start of its own, or with one from before the target was first seen,
		// says nothing about when its value came to be.
		if start >= target.first && start < at && start != 0 {
			delta = value
		}
		s.group.current[s.side].add(s.counter, int64(value))
		if delta == 0 {
			s.group.before[s.side].add(s.counter, int64(value))
			s.baseline = value
		}
		s.group.carried[s.side].add(s.counter, int64(value-s.baseline))
	case value < s.value || start > s.start && start < at:
		target.restarted = true
		delta = value
		s.group.current[s.side].add(s.counter, int64(value)-int64(s.value))
		s.lose()
		s.group.fresh[s.side].add(s.counter, int64(value))
	default:
		delta = value - s.value
		s.group.current[s.side].add(s.counter, int64(delta))
		s.group.carried[s.side].add(s.counter, int64(delta))
	}
	s.start, s.value, s.seen = start, value, at
	return delta
}

// lose notes that the process that counted is gone, and with it the connections that it held open.
func (s *scrapeSeries) lose() {
	gone := int64(s.value - s.baseline)
	s.group.carried[s.side].add(s.counter, -gone)
	s.group.lost[s.side].add(s.counter, gone)
	s.baseline = 0
}

// newScrapeSeries creates the series of a point; nil if its parties are not told or the bound on series is reached.
func (g *graph) newScrapeSeries(c counter, point pmetric.NumberDataPoint) *scrapeSeries {
	labels := readLabels(point.Attributes())
	s := &scrapeSeries{counter: c, side: bySource, reason: flagReason(labels.flags)}
	switch labels.reporter {
	case semconv.ReporterSource:
	case semconv.ReporterDestination:
		s.side = byDestination
	default:
		return nil
	}
	if !told(labels.source.Workload) || !told(labels.destination.Workload) {
		return nil
	}
	if g.scrapes.series >= g.scrapes.max {
		g.dropped("flow_limit", 1)
		return nil
	}
	g.scrapes.series++
	s.group = g.scrapes.group(labels.flow(), point.StartTimestamp(), point.Timestamp())
	s.group.users++
	return s
}

func told(workload string) bool { return workload != "" && workload != istioUnknown }

// istioLabels are the labels of Istio's standard metrics that matter here.
type istioLabels struct {
	reporter, flags, code, grpcStatus, protocol string
	source, destination                         edge.Party
	service, security                           string
}

func (l *istioLabels) flow() scrapedFlow {
	return scrapedFlow{
		source:      ownParty(l.source),
		destination: ownParty(l.destination),
		service:     naming.Intern(l.service),
		mutualTLS:   l.security == semconv.SecurityMutualTLS,
	}
}

func ownParty(p edge.Party) edge.Party {
	return edge.Party{
		Workload: naming.Intern(p.Workload), Namespace: naming.Intern(p.Namespace),
		App: naming.Intern(p.App), Version: naming.Intern(p.Version), Cluster: naming.Intern(p.Cluster),
	}
}

func readLabels(attrs pcommon.Map) istioLabels {
	var l istioLabels
	known := func(value pcommon.Value) string {
		if s := value.Str(); s != istioUnknown {
			return s
		}
		return ""
	}
	for name, value := range attrs.All() {
		switch name {
		case semconv.LabelReporter:
			l.reporter = value.Str()
		case labelResponseFlags:
			l.flags = value.Str()
		case labelResponseCode:
			l.code = value.Str()
		case labelGRPCStatus:
			l.grpcStatus = value.Str()
		case semconv.LabelRequestProtocol:
			l.protocol = value.Str()
		case semconv.LabelSourceWorkload:
			l.source.Workload = value.Str()
		case semconv.LabelSourceNamespace:
			l.source.Namespace = known(value)
		case semconv.LabelSourceCanonicalService:
			l.source.App = known(value)
		case semconv.LabelSourceCanonicalRevision:
			l.source.Version = known(value)
		case semconv.LabelSourceCluster:
			l.source.Cluster = known(value)
		case semconv.LabelDestinationWorkload:
			l.destination.Workload = value.Str()
		case semconv.LabelDestinationNamespace:
			l.destination.Namespace = known(value)
		case semconv.LabelDestinationCanonicalService:
			l.destination.App = known(value)
		case semconv.LabelDestinationCanonicalRevision:
			l.destination.Version = known(value)
		case semconv.LabelDestinationCluster:
			l.destination.Cluster = known(value)
		case semconv.LabelDestinationService:
			l.service = known(value)
		case semconv.LabelSecurityPolicy:
			l.security = value.Str()
		}
	}
	return l
}

// endScrape closes a resource's batch: after a restart the open connections are gone, and with them the series that
// did not come back.
func (g *graph) endScrape(source *metricSource) {
	id := source.instance
	if id == "" {
		id = source.node
	}
	target, ok := g.scrapes.targets[id]
	if !ok || !target.restarted {
		return
	}
	target.restarted = false
	for id, s := range target.series {
		if s.seen < target.scraped {
			g.forgetSeries(target, id, s)
		}
	}
}

func (g *graph) forgetSeries(target *scrapeTarget, id uint64, s *scrapeSeries) {
	s.group.current[s.side].add(s.counter, -int64(s.value))
	s.lose()
	if s.counter == counterOpened && !target.down {
		s.group.serve(s.side, false)
	}
	s.group.users--
	g.scrapes.touch(s.group)
	delete(target.series, id)
	g.scrapes.series--
}

// sweepScrapes forgets series and targets that are silent for long.
func (g *graph) sweepScrapes(now pcommon.Timestamp, expiry time.Duration) {
	for id, target := range g.scrapes.targets {
		for hash, s := range target.series {
			if since(s.seen, now, expiry) {
				g.forgetSeries(target, hash, s)
			}
		}
		g.sweepWaypoint(target, now, expiry)
		if len(target.series) == 0 && len(target.waypoints) == 0 && since(target.scraped, now, expiry) {
			delete(g.scrapes.targets, id)
		}
	}
	for flow, group := range g.scrapes.groups {
		if group.users == 0 && !group.touched && !group.waits {
			g.releaseGroup(group)
			delete(g.scrapes.groups, flow)
		}
	}
}
