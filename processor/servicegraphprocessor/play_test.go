package servicegraphprocessor

import (
	"cmp"
	"context"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
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
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
)

// pipelines are the three processors of one component with what comes out of them.
type pipelines struct {
	t       testing.TB
	cfg     *Config
	host    component.Host
	metrics processor.Metrics
	logs    processor.Logs
	traces  processor.Traces

	outMetrics *doneSink
	outLogs    *consumertest.LogsSink
	outTraces  *consumertest.TracesSink
}

func newPipelines(tb testing.TB, configure func(*Config)) *pipelines {
	tb.Helper()
	cfg := createDefaultConfig().(*Config)
	if configure != nil {
		configure(cfg)
	}
	require.NoError(tb, cfg.Validate())
	p := &pipelines{
		t: tb, cfg: cfg, host: componenttest.NewNopHost(),
		outMetrics: &doneSink{done: make(chan struct{})}, outLogs: new(consumertest.LogsSink), outTraces: new(consumertest.TracesSink),
	}
	p.start()
	tb.Cleanup(p.stop)
	return p
}

// start makes and starts the processors, as a new process does.
func (p *pipelines) start() {
	factory := NewFactory()
	set := processortest.NewNopSettings(metadata.Type)
	var err error
	p.metrics, err = factory.CreateMetrics(context.Background(), set, p.cfg, p.outMetrics)
	require.NoError(p.t, err)
	p.logs, err = factory.CreateLogs(context.Background(), set, p.cfg, p.outLogs)
	require.NoError(p.t, err)
	p.traces, err = factory.CreateTraces(context.Background(), set, p.cfg, p.outTraces)
	require.NoError(p.t, err)
	p.graph().ticking.ticker = func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} }
	require.NoError(p.t, p.metrics.Start(context.Background(), p.host))
	require.NoError(p.t, p.logs.Start(context.Background(), p.host))
	require.NoError(p.t, p.traces.Start(context.Background(), p.host))
}

// graph is what the processors share.
func (p *pipelines) graph() *graph { return p.metrics.(*metricsProcessor).Component() }

func (p *pipelines) stop() {
	require.NoError(p.t, p.traces.Shutdown(context.Background()))
	require.NoError(p.t, p.metrics.Shutdown(context.Background()))
	require.NoError(p.t, p.logs.Shutdown(context.Background()))
}

func (p *pipelines) consume(metrics pmetric.Metrics) {
	require.NoError(p.t, p.metrics.ConsumeMetrics(context.Background(), metrics))
}

func (p *pipelines) learn(at time.Time, entities ...mesh.Entity) {
	require.NoError(p.t, p.logs.ConsumeLogs(context.Background(), entityEvents(p.t, at, false, entities...)))
}

func (p *pipelines) spans(traces ptrace.Traces) {
	require.NoError(p.t, p.traces.ConsumeTraces(context.Background(), traces))
}

func entityEvents(tb testing.TB, at time.Time, deleted bool, entities ...mesh.Entity) plog.Logs {
	tb.Helper()
	logs := plog.NewLogs()
	scope := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty()
	mesh.MarkEntityScope(scope.Scope())
	for _, entity := range entities {
		event := mesh.Event{Time: pcommon.NewTimestampFromTime(at), Entity: entity, Deleted: deleted}
		require.NoError(tb, event.AppendTo(scope.LogRecords()))
	}
	return logs
}

func put(attrs pcommon.Map, name, value string) {
	if value != "" {
		attrs.PutStr(name, value)
	}
}

// flowRow is one flow aggregate of a test.
type flowRow struct {
	node, reporter       string
	srcPod, srcNS, srcIP string
	dstPod, dstNS, dstIP string
	port                 uint16
	service, security    string
	principal            string
}

type flowValues struct {
	start                  pcommon.Timestamp
	closed, sent, received uint64
	failed                 map[[2]string]uint64
	duration               exphist.Histogram
}

func (r flowRow) put(attrs pcommon.Map) {
	attrs.PutStr(semconv.LabelReporter, r.reporter)
	for name, value := range map[string]string{
		semconv.LabelSourcePod: r.srcPod, semconv.LabelSourceNamespace: r.srcNS, semconv.LabelSourceAddress: r.srcIP,
		semconv.LabelDestinationPod: r.dstPod, semconv.LabelDestinationNamespace: r.dstNS, semconv.LabelDestinationAddress: r.dstIP,
		semconv.LabelSourcePrincipal: r.principal, semconv.LabelDestinationService: r.service, semconv.LabelSecurityPolicy: r.security,
	} {
		put(attrs, name, value)
	}
	if r.port != 0 {
		attrs.PutInt(semconv.LabelDestinationPort, int64(r.port))
	}
}

// batch builds receiver metrics.
type batch struct {
	metrics pmetric.Metrics
	at      pcommon.Timestamp
	nodes   map[string]pmetric.ScopeMetrics
}

func newBatch(at time.Time) *batch {
	return &batch{metrics: pmetric.NewMetrics(), at: pcommon.NewTimestampFromTime(at), nodes: map[string]pmetric.ScopeMetrics{}}
}

func (b *batch) scope(node string) pmetric.ScopeMetrics {
	if s, ok := b.nodes[node]; ok {
		return s
	}
	r := b.metrics.ResourceMetrics().AppendEmpty()
	r.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
	r.Resource().Attributes().PutStr(semconv.AttrNodeName, node)
	r.Resource().Attributes().PutStr(semconv.AttrServiceInstanceID, node)
	s := r.ScopeMetrics().AppendEmpty()
	s.Scope().SetName(semconv.ScopeReceiver)
	b.nodes[node] = s
	return s
}

func (b *batch) sum(node, name string) pmetric.NumberDataPointSlice {
	s := b.scope(node)
	for _, m := range s.Metrics().All() {
		if m.Name() == name {
			return m.Sum().DataPoints()
		}
	}
	m := s.Metrics().AppendEmpty()
	m.SetName(name)
	sum := m.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return sum.DataPoints()
}

func (b *batch) flow(r flowRow, v *flowValues) {
	point := func(name string, value uint64) pcommon.Map {
		p := b.sum(r.node, name).AppendEmpty()
		p.SetStartTimestamp(v.start)
		p.SetTimestamp(b.at)
		p.SetIntValue(int64(value))
		r.put(p.Attributes())
		return p.Attributes()
	}
	point(semconv.MetricConnectionsClosed, v.closed)
	point(semconv.MetricIO, v.sent).PutStr(semconv.LabelDirection, semconv.DirectionSent)
	point(semconv.MetricIO, v.received).PutStr(semconv.LabelDirection, semconv.DirectionReceived)
	for reason, n := range v.failed {
		attrs := point(semconv.MetricConnectionsFailed, n)
		attrs.PutStr(semconv.LabelErrorType, reason[0])
		put(attrs, semconv.LabelPolicy, reason[1])
	}
	if v.duration.Count > 0 {
		s := b.scope(r.node)
		m := s.Metrics().AppendEmpty()
		m.SetName(semconv.MetricConnectionDuration)
		h := m.SetEmptyExponentialHistogram()
		h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		p := h.DataPoints().AppendEmpty()
		v.duration.CopyTo(p)
		p.SetStartTimestamp(v.start)
		p.SetTimestamp(b.at)
		r.put(p.Attributes())
	}
}

func (b *batch) gauge(node, name string, at pcommon.Timestamp, value int64, attrs map[string]string) {
	m := b.scope(node).Metrics().AppendEmpty()
	m.SetName(name)
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(at)
	p.SetIntValue(value)
	for name, value := range attrs {
		p.Attributes().PutStr(name, value)
	}
}

func (b *batch) heartbeat(nodes ...string) {
	for _, node := range nodes {
		b.gauge(node, semconv.MetricSourceUp, b.at, 1, map[string]string{semconv.LabelSource: semconv.SourceAccessLog})
	}
}

func (b *batch) done() {
	b.gauge("", semconv.MetricReplayPosition, b.at, b.at.AsTime().Unix(), map[string]string{semconv.LabelState: semconv.ReplayDone})
}

var (
	sampleLine = regexp.MustCompile(`^(\w+)\{(.*)\} (\S+)$`)
	labelPair  = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// scrape adds a recorded scrape as the receiver gives it; starts is the tracker of that target.
func (b *batch) scrape(s recordedScrape, starts map[string]scrapeStart) {
	at := pcommon.NewTimestampFromTime(s.time)
	up := int64(0)
	if s.ok {
		up = 1
	}
	b.gauge(s.node, semconv.MetricUp, at, up, nil)
	if !s.ok {
		return
	}
	last := starts["\x00"+s.node].at
	first := last == 0
	type sample struct {
		id, name, labels string
		value            float64
	}
	var samples []sample
	restarted := false
	seen := map[string]bool{}
	for _, line := range s.body {
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || !strings.HasPrefix(m[1], "istio_tcp_") || m[1] == "istio_tcp_sockets_open" {
			continue
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			continue
		}
		id := s.node + m[1] + m[2]
		seen[id] = true
		samples = append(samples, sample{id, m[1], m[2], value})
		if old, ok := starts[id]; ok && value < old.value {
			restarted = true
		}
	}
	for id := range starts {
		if strings.HasPrefix(id, s.node) && !seen[id] {
			restarted = true
			delete(starts, id)
		}
	}
	for _, sample := range samples {
		old, known := starts[sample.id]
		start := old.start
		switch {
		case first:
			start = at
		case restarted || !known:
			start = last
		}
		starts[sample.id] = scrapeStart{start: start, value: sample.value}
		p := b.sum(s.node, sample.name).AppendEmpty()
		p.SetStartTimestamp(start)
		p.SetTimestamp(at)
		p.SetDoubleValue(sample.value)
		for _, pair := range labelPair.FindAllStringSubmatch(sample.labels, -1) {
			p.Attributes().PutStr(pair[1], pair[2])
		}
	}
	starts["\x00"+s.node] = scrapeStart{at: at}
}

type scrapeStart struct {
	start, at pcommon.Timestamp
	value     float64
}

// playOptions say what of a recording is played and how.
type playOptions struct {
	scrapes, spans bool
	step           time.Duration
	shuffle        *rand.Rand // splits and orders batches at random
	// consume takes each batch instead of the processors, entities are what the mesh's state says.
	consume func(b pmetric.Metrics, entities []mesh.Entity)
	drop    func(*recordedConnection) bool
}

// play feeds a recording to the processors as the receiver would.
func (p *pipelines) play(r *recording, o playOptions) {
	if o.step == 0 {
		o.step = time.Second
	}
	begin := r.connections[0].time.Truncate(o.step)
	end := r.connections[len(r.connections)-1].time.Add(o.step)
	var entities []mesh.Entity
	for _, w := range r.mesh.workloads {
		entities = append(entities, w)
	}
	for _, s := range r.mesh.services {
		entities = append(entities, s)
	}
	slices.SortFunc(entities, func(a, b mesh.Entity) int { return cmp.Compare(a.Key(), b.Key()) })
	p.learn(begin, entities...)
	consume := p.consume
	if o.consume != nil {
		consume = func(b pmetric.Metrics) { o.consume(b, entities) }
	}

	nodes := map[string]bool{}
	for i := range r.connections {
		nodes[r.connections[i].node] = true
	}
	names := make([]string, 0, len(nodes))
	for node := range nodes {
		names = append(names, node)
	}
	slices.Sort(names)
	values := map[flowRow]*flowValues{}
	starts := map[string]scrapeStart{}
	next, nextScrape, nextTrace := 0, 0, 0
	for boundary := begin.Add(o.step); !boundary.After(end); boundary = boundary.Add(o.step) {
		for o.spans && nextTrace < len(r.traces) && (lastEnd(r.traces[nextTrace]).Before(boundary) || !boundary.Before(end)) {
			traces := ptrace.NewTraces()
			r.traces[nextTrace].CopyTo(traces)
			p.spans(traces)
			nextTrace++
		}
		changed := map[flowRow]bool{}
		var order []flowRow
		for ; next < len(r.connections) && r.connections[next].time.Before(boundary); next++ {
			c := &r.connections[next]
			if o.drop != nil && o.drop(c) {
				continue
			}
			row := rowOf(c)
			v, ok := values[row]
			if !ok {
				v = &flowValues{start: pcommon.NewTimestampFromTime(boundary.Add(-o.step)), failed: map[[2]string]uint64{}}
				values[row] = v
			}
			v.closed++
			v.sent += c.clientSent
			v.received += c.clientReceived
			v.duration.Add(exphist.Default, c.duration.Seconds(), 1)
			if errorType, policy := recordedReason(c.err); errorType != "" {
				v.failed[[2]string{errorType, policy}]++
			}
			if !changed[row] {
				changed[row] = true
				order = append(order, row)
			}
		}
		last := boundary.Add(o.step).After(end)
		if last {
			// A receiver repeats what does not change once a minute.
			order = order[:0]
			for row := range values {
				order = append(order, row)
			}
		}
		if o.shuffle != nil {
			o.shuffle.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		b := newBatch(boundary)
		for _, row := range order {
			b.flow(row, values[row])
			if o.shuffle != nil && o.shuffle.IntN(3) == 0 {
				consume(b.metrics)
				b = newBatch(boundary)
			}
		}
		for ; o.scrapes && nextScrape < len(r.scrapes) && r.scrapes[nextScrape].time.Before(boundary); nextScrape++ {
			b.scrape(r.scrapes[nextScrape], starts)
		}
		b.heartbeat(names...)
		if last {
			b.done()
		}
		consume(b.metrics)
	}
}

func lastEnd(traces ptrace.Traces) time.Time {
	var last pcommon.Timestamp
	for _, r := range traces.ResourceSpans().All() {
		for _, s := range r.ScopeSpans().All() {
			for _, span := range s.Spans().All() {
				last = max(last, span.EndTimestamp())
			}
		}
	}
	return last.AsTime()
}

func rowOf(c *recordedConnection) flowRow {
	row := flowRow{
		node: c.node, reporter: semconv.ReporterDestination, security: semconv.SecurityNone,
		srcPod: c.srcPod, srcNS: c.srcNS, srcIP: c.src.Addr().String(),
		dstPod: c.dstPod, dstNS: c.dstNS, dstIP: c.destination().String(),
		port: c.port(), service: c.service,
	}
	if c.outbound {
		row.reporter = semconv.ReporterSource
	}
	if c.mutualTLS {
		row.security = semconv.SecurityMutualTLS
	}
	return row
}
