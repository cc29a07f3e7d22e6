package outagedetector

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
)

// begin is where the tests' data time begins.
var begin = time.Date(2026, 3, 2, 2, 50, 0, 0, time.UTC)

// world is a mesh that a test lets live: it says what docs/data-model.md lets the receiver and the service graph say.
type world struct {
	t        testing.TB
	now      time.Time
	interval time.Duration
	nodes    map[string]*worldNode
	edges    []*worldEdge
	byName   map[[2]outage.Name]*worldEdge
	pods     map[string]*worldPod
	logs     plog.Logs
	// arrange, if set, is what a batch is cut into before it is sent.
	arrange func(pmetric.Metrics) []pmetric.Metrics
	proxies proxies

	metrics    processor.Metrics
	logsIn     processor.Logs
	outMetrics *consumertest.MetricsSink
	outLogs    *consumertest.LogsSink
}

type worldNode struct {
	sources map[string]bool
	seen    time.Time // of the access log's newest record
	mute    bool      // no heartbeat at all
	scrape  bool      // up, as a scrape's own result
	problem string    // of the access log
}

type worldPod struct {
	namespace, app, name, node string
	closed, requests, errors   uint64
	failed                     map[string]uint64
}

type worldEdge struct {
	key                      edge.Key
	opened, closed           uint64
	unanswered               uint64
	sent                     uint64
	active                   int64
	hasActive                bool
	failed                   map[[2]string]uint64
	requests, requestsFailed uint64
	lasted                   uint64 // connections of which it is known for how many seconds they were open
	seconds                  float64
	lives                    map[int32]uint64 // these by index, as durations are
	durations                map[int32]uint64 // by index of an exponential histogram of scale 2
	changed                  bool
	overflow                 bool // what exceeds a bound of the graph
	w                        *world
}

func newWorld(t testing.TB, configure func(*Config)) *world {
	w := &world{
		t: t, now: begin, interval: 5 * time.Second, nodes: map[string]*worldNode{}, pods: map[string]*worldPod{}, logs: plog.NewLogs(),
		byName: map[[2]outage.Name]*worldEdge{},
	}
	cfg := createDefaultConfig().(*Config)
	if configure != nil {
		configure(cfg)
	}
	require.NoError(t, cfg.Validate())
	w.start(cfg, componenttest.NewNopHost())
	return w
}

func (w *world) start(cfg *Config, host component.Host) {
	factory := NewFactory()
	set := processortest.NewNopSettings(metadata.Type)
	w.outMetrics, w.outLogs = new(consumertest.MetricsSink), new(consumertest.LogsSink)
	var err error
	w.metrics, err = factory.CreateMetrics(context.Background(), set, cfg, w.outMetrics)
	require.NoError(w.t, err)
	w.logsIn, err = factory.CreateLogs(context.Background(), set, cfg, w.outLogs)
	require.NoError(w.t, err)
	require.NoError(w.t, w.metrics.Start(context.Background(), host))
	require.NoError(w.t, w.logsIn.Start(context.Background(), host))
	w.t.Cleanup(w.stop)
}

func (w *world) stop() {
	if w.metrics != nil {
		require.NoError(w.t, w.metrics.Shutdown(context.Background()))
		require.NoError(w.t, w.logsIn.Shutdown(context.Background()))
		w.metrics = nil
	}
}

func name(text string) outage.Name {
	namespace, app, _ := strings.Cut(text, "/")
	return outage.Name{Namespace: namespace, Name: app}
}

func (w *world) node(names ...string) {
	for _, n := range names {
		w.nodes[n] = &worldNode{sources: map[string]bool{semconv.SourceAccessLog: true, semconv.SourceMetrics: true}, scrape: true}
	}
}

// pod adds a serving pod of "namespace/app" and tells of it by an entity event.
func (w *world) pod(app, pod, node string) *worldPod {
	n := name(app)
	p := &worldPod{namespace: n.Namespace, app: n.Name, name: pod, node: node, failed: map[string]uint64{}}
	w.pods[pod] = p
	w.entity(w.workload(p), false)
	return p
}

func (w *world) workload(p *worldPod) *mesh.Workload {
	return &mesh.Workload{
		UID: "Kubernetes//Pod/" + p.namespace + "/" + p.name, Name: p.name, Namespace: p.namespace, Node: p.node, Naming: mesh.Naming{WorkloadName: p.app + "-v1", CanonicalName: p.app, CanonicalRevision: "v1"},
		TunnelProtocol: "HBONE", Healthy: true, Identity: mesh.Identity{ServiceAccount: p.app},
	}
}

func (w *world) entity(e mesh.Entity, deleted bool) {
	scope := w.logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	mesh.MarkEntityScope(scope.Scope())
	event := mesh.Event{Time: pcommon.NewTimestampFromTime(w.now), Entity: e, Deleted: deleted}
	require.NoError(w.t, event.AppendTo(scope.LogRecords()))
}

// message is a line of a ztunnel's own.
func (w *world) message(node, scope, text string, severity plog.SeverityNumber) {
	resource := w.logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr(semconv.AttrNodeName, node)
	record := resource.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName(semconv.EventZtunnelLog)
	record.SetTimestamp(pcommon.NewTimestampFromTime(w.now.Add(w.interval / 2)))
	record.SetSeverityNumber(severity)
	record.Body().SetStr(text)
	record.Attributes().PutStr(semconv.AttrScope, scope)
}

// flow is a failed flow record.
func (w *world) flow(node, sourcePod, destinationPod, direction, errorType, policy, text string) {
	resource := w.logs.ResourceLogs().AppendEmpty()
	resource.Resource().Attributes().PutStr(semconv.AttrNodeName, node)
	record := resource.ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName(semconv.EventAccess)
	record.SetTimestamp(pcommon.NewTimestampFromTime(w.now.Add(w.interval / 2)))
	record.Body().SetStr("connection complete")
	attrs := record.Attributes()
	attrs.PutStr(semconv.AttrDirection, direction)
	attrs.PutStr(semconv.AttrSourcePod, sourcePod)
	attrs.PutStr(semconv.AttrSourceNamespace, w.pods[sourcePod].namespace)
	attrs.PutStr(semconv.AttrDestinationPod, destinationPod)
	attrs.PutStr(semconv.AttrDestinationNamespace, w.pods[destinationPod].namespace)
	attrs.PutStr(semconv.AttrDestinationHBONE, "10.0.0.1:8080")
	attrs.PutStr(semconv.AttrErrorType, errorType)
	attrs.PutStr(semconv.AttrErrorMessage, text)
	if policy != "" {
		attrs.PutStr(semconv.AttrPolicy, policy)
	}
}

// edge returns the edge between "namespace/app" and "namespace/app".
func (w *world) edge(source, destination string) *worldEdge {
	src, dst := name(source), name(destination)
	if e, ok := w.byName[[2]outage.Name{src, dst}]; ok {
		return e
	}
	e := &worldEdge{w: w, failed: map[[2]string]uint64{}, durations: map[int32]uint64{}, lives: map[int32]uint64{}, key: edge.Key{
		Source:      edge.Party{Workload: src.Name + "-v1", Namespace: src.Namespace, App: src.Name, Version: "v1"},
		Destination: edge.Party{Workload: dst.Name + "-v1", Namespace: dst.Namespace, App: dst.Name, Version: "v1"},
		Service:     dst.Name + "." + dst.Namespace + ".svc.cluster.local", Port: 8080, Protocol: semconv.ProtocolHTTP,
		Security: semconv.SecurityMutualTLS,
	}}
	w.edges = append(w.edges, e)
	w.byName[[2]outage.Name{src, dst}] = e
	return e
}

// ok are n connections that went well, to the pods in turn.
func (e *worldEdge) ok(n uint64, pods ...*worldPod) *worldEdge {
	e.opened, e.closed, e.sent, e.changed = e.opened+n, e.closed+n, e.sent+100*n, true
	e.serve(n, pods, func(p *worldPod, n uint64) { p.closed += n })
	return e
}

// last are n connections that went well after so long.
func (e *worldEdge) last(n uint64, each time.Duration, pods ...*worldPod) *worldEdge {
	e.lasted, e.seconds = e.lasted+n, e.seconds+float64(n)*each.Seconds()
	e.lives[exponentialIndex(each)] += n
	return e.ok(n, pods...)
}

// ignore are n connections that carried bytes to the server and none back.
func (e *worldEdge) ignore(n uint64, pods ...*worldPod) *worldEdge {
	e.unanswered += n
	return e.ok(n, pods...)
}

// fail are n connections that failed.
func (e *worldEdge) fail(n uint64, errorType, policy string, pods ...*worldPod) *worldEdge {
	e.opened, e.closed, e.changed = e.opened+n, e.closed+n, true
	e.failed[[2]string{errorType, policy}] += n
	e.serve(n, pods, func(p *worldPod, n uint64) {
		p.closed += n
		p.failed[errorType] += n
	})
	return e
}

// answer are n requests of which some fail, each taking so long.
func (e *worldEdge) answer(n, failed uint64, took time.Duration, pods ...*worldPod) *worldEdge {
	e.requests, e.requestsFailed, e.changed = e.requests+n, e.requestsFailed+failed, true
	e.durations[exponentialIndex(took)] += n
	e.serve(n, pods, func(p *worldPod, n uint64) { p.requests += n })
	e.serve(failed, pods, func(p *worldPod, n uint64) { p.errors += n })
	return e
}

// open are n connections that are opened and do not end.
func (e *worldEdge) open(n uint64) *worldEdge {
	e.opened, e.active, e.hasActive, e.changed = e.opened+n, e.active+int64(n), true, true
	return e
}

func (e *worldEdge) serve(n uint64, pods []*worldPod, count func(*worldPod, uint64)) {
	for i, p := range pods {
		share := n / uint64(len(pods))
		if uint64(i) < n%uint64(len(pods)) {
			share++
		}
		count(p, share)
	}
}

func exponentialIndex(took time.Duration) int32 {
	index := int32(0)
	for bound := 1e-6; bound*1.189207115002721 < took.Seconds(); bound *= 1.189207115002721 {
		index++
	}
	return index
}

// tick lets the interval pass in which what was told happened: it sends logs, heartbeats and edges.
func (w *world) tick() {
	w.now = w.now.Add(w.interval)
	if w.logs.LogRecordCount() > 0 {
		require.NoError(w.t, w.logsIn.ConsumeLogs(context.Background(), w.logs))
		w.logs = plog.NewLogs()
	}
	md := pmetric.NewMetrics()
	w.heartbeats(md)
	w.proxies.append(w, md)
	w.edgePoints(md)
	batches := []pmetric.Metrics{md}
	if w.arrange != nil {
		batches = w.arrange(md)
	}
	for _, batch := range batches {
		require.NoError(w.t, w.metrics.ConsumeMetrics(context.Background(), batch))
	}
}

// run lets time pass; live tells what happens in each interval.
func (w *world) run(d time.Duration, live func()) {
	for until := w.now.Add(d); w.now.Before(until); {
		for _, n := range w.nodes {
			if n.sources[semconv.SourceMetrics] {
				n.seen = w.now.Add(w.interval / 2)
			}
		}
		if live != nil {
			live()
		}
		w.tick()
	}
}

func (w *world) stamp() pcommon.Timestamp { return pcommon.NewTimestampFromTime(w.now) }

func (w *world) heartbeats(md pmetric.Metrics) {
	for _, node := range slices.Sorted(maps.Keys(w.nodes)) {
		n := w.nodes[node]
		if n.mute {
			continue
		}
		resource := md.ResourceMetrics().AppendEmpty()
		resource.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
		if node != "" {
			resource.Resource().Attributes().PutStr(semconv.AttrNodeName, node)
		}
		scope := resource.ScopeMetrics().AppendEmpty()
		up := scope.Metrics().AppendEmpty()
		up.SetName(semconv.MetricSourceUp)
		points := up.SetEmptyGauge().DataPoints()
		for _, source := range slices.Sorted(maps.Keys(n.sources)) {
			p := points.AppendEmpty()
			p.SetTimestamp(w.stamp())
			p.Attributes().PutStr(semconv.LabelSource, source)
			if n.sources[source] {
				p.SetIntValue(1)
			}
		}
		if n.problem != "" {
			m := scope.Metrics().AppendEmpty()
			m.SetName(semconv.MetricSourceProblem)
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(w.stamp())
			p.SetIntValue(1)
			p.Attributes().PutStr(semconv.LabelSource, semconv.SourceAccessLog)
			p.Attributes().PutStr(semconv.LabelProblem, n.problem)
		}
		if node == "" {
			continue
		}
		if n.scrape {
			m := scope.Metrics().AppendEmpty()
			m.SetName(semconv.MetricUp)
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(w.stamp() - 1)
			if n.sources[semconv.SourceMetrics] {
				p.SetIntValue(1)
			}
		}
		if !n.seen.IsZero() {
			m := scope.Metrics().AppendEmpty()
			m.SetName(semconv.MetricSourceLastSeen)
			p := m.SetEmptyGauge().DataPoints().AppendEmpty()
			p.SetTimestamp(w.stamp())
			p.SetDoubleValue(float64(n.seen.UnixNano()) / 1e9)
			p.Attributes().PutStr(semconv.LabelSource, semconv.SourceAccessLog)
		}
	}
}

func (w *world) edgePoints(md pmetric.Metrics) {
	scope := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	scope.Scope().SetName(semconv.ScopeServiceGraph)
	sums := map[string]pmetric.NumberDataPointSlice{}
	point := func(metric string, value uint64) pcommon.Map {
		points, ok := sums[metric]
		if !ok {
			m := scope.Metrics().AppendEmpty()
			m.SetName(metric)
			sum := m.SetEmptySum()
			sum.SetIsMonotonic(true)
			sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			points = sum.DataPoints()
			sums[metric] = points
		}
		p := points.AppendEmpty()
		p.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
		p.SetTimestamp(w.stamp())
		p.SetIntValue(int64(value))
		return p.Attributes()
	}
	for _, e := range w.edges {
		if e.changed {
			e.changed = false
			e.points(point, scope)
		}
	}
	for _, pod := range slices.Sorted(maps.Keys(w.pods)) {
		p := w.pods[pod]
		attributes := func(attrs pcommon.Map) pcommon.Map {
			attrs.PutStr(semconv.LabelDestinationPod, p.name)
			attrs.PutStr(semconv.LabelDestinationNamespace, p.namespace)
			attrs.PutStr(semconv.LabelDestinationCanonicalService, p.app)
			attrs.PutStr(semconv.LabelNode, p.node)
			return attrs
		}
		attributes(point(semconv.MetricEndpointClosed, p.closed))
		for _, reason := range slices.Sorted(maps.Keys(p.failed)) {
			attributes(point(semconv.MetricEndpointFailed, p.failed[reason])).PutStr(semconv.LabelErrorType, reason)
		}
		if p.requests > 0 {
			attributes(point(semconv.MetricEndpointRequests, p.requests))
			attributes(point(semconv.MetricEndpointRequestsFailed, p.errors))
		}
	}
}

func (e *worldEdge) points(point func(string, uint64) pcommon.Map, scope pmetric.ScopeMetrics) {
	if told := point; e.overflow {
		point = func(metric string, value uint64) pcommon.Map {
			attrs := told(metric, value)
			attrs.PutBool(semconv.LabelOverflow, true)
			return attrs
		}
	}
	if e.opened > 0 {
		e.key.PutAttributes(point(semconv.MetricEdgeOpened, e.opened))
		e.key.PutAttributes(point(semconv.MetricEdgeClosed, e.closed))
		attrs := point(semconv.MetricEdgeIO, e.sent)
		e.key.PutAttributes(attrs)
		attrs.PutStr(semconv.LabelDirection, semconv.DirectionSent)
	}
	for reason, n := range e.failed {
		attrs := point(semconv.MetricEdgeFailed, n)
		e.key.PutAttributes(attrs)
		attrs.PutStr(semconv.LabelErrorType, reason[0])
		if reason[1] != "" {
			attrs.PutStr(semconv.LabelPolicy, reason[1])
		}
	}
	if e.unanswered > 0 {
		e.key.PutAttributes(point(semconv.MetricEdgeUnanswered, e.unanswered))
	}
	if e.hasActive {
		m := scope.Metrics().AppendEmpty()
		m.SetName(semconv.MetricEdgeActive)
		sum := m.SetEmptySum()
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := sum.DataPoints().AppendEmpty()
		p.SetTimestamp(e.w.stamp())
		p.SetIntValue(e.active)
		e.key.PutAttributes(p.Attributes())
	}
	if e.lasted > 0 {
		m := scope.Metrics().AppendEmpty()
		m.SetName(semconv.MetricEdgeConnectionDuration)
		histogram := m.SetEmptyExponentialHistogram()
		histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := histogram.DataPoints().AppendEmpty()
		p.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
		p.SetTimestamp(e.w.stamp())
		p.SetCount(e.lasted)
		p.SetSum(e.seconds)
		putDurations(p, e.lives)
		e.key.PutAttributes(p.Attributes())
	}
	if e.requests == 0 {
		return
	}
	e.key.PutAttributes(point(semconv.MetricEdgeRequests, e.requests))
	e.key.PutAttributes(point(semconv.MetricEdgeRequestsFailed, e.requestsFailed))
	m := scope.Metrics().AppendEmpty()
	m.SetName(semconv.MetricEdgeRequestDuration)
	m.SetUnit("s")
	histogram := m.SetEmptyExponentialHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := histogram.DataPoints().AppendEmpty()
	p.SetStartTimestamp(pcommon.NewTimestampFromTime(begin))
	p.SetTimestamp(e.w.stamp())
	p.SetCount(e.requests)
	putDurations(p, e.durations)
	e.key.PutAttributes(p.Attributes())
}

func putDurations(p pmetric.ExponentialHistogramDataPoint, durations map[int32]uint64) {
	p.SetScale(2)
	// Index i of the test's scale counts from one microsecond, the point's from one second.
	const second = 80
	p.Positive().SetOffset(-second)
	counts := make([]uint64, 160)
	for index, n := range durations {
		counts[index] += n
	}
	p.Positive().BucketCounts().FromRaw(counts)
}

// told is an outage event as it was sent.
type told struct {
	Transition string
	Outage     *outage.Outage
}

func (w *world) events() []told {
	var all []told
	for _, logs := range w.outLogs.AllLogs() {
		for _, resource := range logs.ResourceLogs().All() {
			for _, scope := range resource.ScopeLogs().All() {
				for _, record := range scope.LogRecords().All() {
					if record.EventName() != semconv.EventOutage {
						continue
					}
					o, err := outage.FromBody(record.Body())
					require.NoError(w.t, err)
					transition, _ := record.Attributes().Get(semconv.AttrOutageTransition)
					all = append(all, told{transition.Str(), o})
				}
			}
		}
	}
	return all
}

// outages are all outages as they were told last, in the order in which they opened.
func (w *world) outages() []*outage.Outage {
	var all []*outage.Outage
	for _, e := range w.events() {
		i := slices.IndexFunc(all, func(o *outage.Outage) bool { return o.ID == e.Outage.ID })
		if i < 0 {
			all = append(all, e.Outage)
		} else {
			all[i] = e.Outage
		}
	}
	return all
}
