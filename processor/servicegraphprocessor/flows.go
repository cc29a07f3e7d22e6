package servicegraphprocessor

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/expo"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// side is the end of a connection that reports it.
type side uint8

const (
	bySource side = iota
	byDestination
)

// maxReasons bounds the failure reasons that are told apart in one flow series or on one edge.
const maxReasons = 64

// flowKey is a flow aggregate's attributes as they come (docs/data-model.md, section 1.1). As a map key it needs no
// string to be built. The node tells a pod that moved from what it was before.
type flowKey struct {
	node     string
	side     side
	overflow bool
	port     uint16

	sourcePod, sourceNamespace, sourceAddress, sourceCluster                     string
	destinationPod, destinationNamespace, destinationAddress, destinationCluster string
	service, security                                                            string
}

// flowPoint is a flow aggregate's attributes beside its key.
type flowPoint struct {
	flowKey
	reason    reconcile.Reason
	direction string
	valid     bool
}

// flowSeries is one flow aggregate: what one reporter says of one pair.
type flowSeries struct {
	pair     *pair
	key      *flowKey // for what is stored
	way      int
	closed   cumulative
	sent     cumulative
	received cumulative
	failed   []failedSeries
	duration expo.Cumulative
	seen     pcommon.Timestamp
}

type failedSeries struct {
	reason reconcile.Reason
	cumulative
}

// cumulative remembers the last point of a cumulative sum.
type cumulative struct {
	start, time pcommon.Timestamp
	value       uint64
	known       bool
}

// advance returns what came on top of the last point. The first point counts in full from its start; a point that
// starts later than the last one, or holds less, counts in full on top; one that is older is ignored. A point that
// starts at its own time holds what went before: somebody else follows the same counter from here on.
func (c *cumulative) advance(start, at pcommon.Timestamp, value uint64) uint64 {
	if c.known && (at < c.time || start < c.start) {
		return 0
	}
	delta := value
	if c.known && (start == c.start || start == at) && value >= c.value {
		delta = value - c.value
	}
	*c = cumulative{start: start, time: at, value: value, known: true}
	return delta
}

// maxCount bounds a single value so that sums of many cannot overflow.
const maxCount = 1 << 53

// pointValue reads a sum's value; false if it is no count.
func pointValue(p pmetric.NumberDataPoint) (uint64, bool) {
	if p.Flags().NoRecordedValue() {
		return 0, false
	}
	switch p.ValueType() {
	case pmetric.NumberDataPointValueTypeInt:
		if v := p.IntValue(); v >= 0 && v <= maxCount {
			return uint64(v), true
		}
	case pmetric.NumberDataPointValueTypeDouble:
		if v := p.DoubleValue(); v >= 0 && v <= maxCount {
			return uint64(math.Round(v)), true
		}
	}
	return 0, false
}

// readFlow reads a flow aggregate's attributes. The strings are the point's own.
func readFlow(attrs pcommon.Map) flowPoint {
	var p flowPoint
	attrs.Range(func(name string, value pcommon.Value) bool {
		switch name {
		case semconv.LabelReporter:
			switch value.Str() {
			case semconv.ReporterSource:
				p.side, p.valid = bySource, true
			case semconv.ReporterDestination:
				p.side, p.valid = byDestination, true
			}
		case semconv.LabelSourcePod:
			p.sourcePod = value.Str()
		case semconv.LabelSourceNamespace:
			p.sourceNamespace = value.Str()
		case semconv.LabelSourceAddress:
			p.sourceAddress = value.Str()
		case semconv.LabelSourceCluster:
			p.sourceCluster = value.Str()
		case semconv.LabelDestinationPod:
			p.destinationPod = value.Str()
		case semconv.LabelDestinationNamespace:
			p.destinationNamespace = value.Str()
		case semconv.LabelDestinationAddress:
			p.destinationAddress = value.Str()
		case semconv.LabelDestinationCluster:
			p.destinationCluster = value.Str()
		case semconv.LabelDestinationPort:
			if port := value.Int(); port > 0 && port <= math.MaxUint16 {
				p.port = uint16(port)
			}
		case semconv.LabelDestinationService:
			p.service = value.Str()
		case semconv.LabelSecurityPolicy:
			p.security = value.Str()
		case semconv.LabelErrorType:
			p.reason.Type = value.Str()
		case semconv.LabelPolicy:
			p.reason.Policy = value.Str()
		case semconv.LabelDirection:
			p.direction = value.Str()
		case semconv.LabelOverflow:
			p.overflow = value.Bool()
		}
		return true
	})
	return p
}

// flowTable follows the flow aggregates and reconciles those of each pair.
type flowTable struct {
	max    int
	series map[flowKey]*flowSeries
	pairs  map[pairKey]*pair
	// touched are the pairs with increments since the last flush; waiting those that hold something back.
	touched []*pair
	waiting []*pair
	counted []reconcile.Failed
}

func newFlowTable(cfg *Config) *flowTable {
	return &flowTable{max: cfg.MaxFlows, series: map[flowKey]*flowSeries{}, pairs: map[pairKey]*pair{}}
}

// isFlowMetric tells whether a metric is a flow aggregate.
func isFlowMetric(name string) bool {
	switch name {
	case semconv.MetricConnectionsClosed, semconv.MetricConnectionsFailed, semconv.MetricIO, semconv.MetricConnectionDuration:
		return true
	}
	return false
}

// applyFlows takes over the points of one flow aggregate. It allocates nothing for series that are known.
func (g *graph) applyFlows(node string, metric pmetric.Metric) {
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		if metric.Sum().AggregationTemporality() != pmetric.AggregationTemporalityCumulative {
			g.dropped("invalid_point", metric.Sum().DataPoints().Len())
			return
		}
		points := metric.Sum().DataPoints()
		name := metric.Name()
		for i := range points.Len() {
			g.applyFlowSum(node, name, points.At(i))
		}
	case pmetric.MetricTypeExponentialHistogram:
		if metric.ExponentialHistogram().AggregationTemporality() != pmetric.AggregationTemporalityCumulative {
			g.dropped("invalid_point", metric.ExponentialHistogram().DataPoints().Len())
			return
		}
		points := metric.ExponentialHistogram().DataPoints()
		for i := range points.Len() {
			g.applyFlowDuration(node, points.At(i))
		}
	default:
		g.dropped("invalid_point", 1)
	}
}

func (g *graph) applyFlowSum(node, name string, point pmetric.NumberDataPoint) {
	flow := readFlow(point.Attributes())
	flow.node = node
	value, ok := pointValue(point)
	if !ok || !flow.valid {
		g.dropped("invalid_point", 1)
		return
	}
	start, at := point.StartTimestamp(), point.Timestamp()
	series := g.flowSeries(&flow.flowKey, start, at)
	if series == nil {
		g.dropped("flow_limit", 1)
		return
	}
	p := series.pair
	pending := &p.ways[series.way].pending[flow.side]
	switch name {
	case semconv.MetricConnectionsClosed:
		delta := series.closed.advance(start, at, value)
		if delta == 0 {
			return
		}
		pending.closed += delta
	case semconv.MetricIO:
		switch flow.direction {
		case semconv.DirectionSent:
			delta := series.sent.advance(start, at, value)
			if delta == 0 {
				return
			}
			pending.sent += delta
		case semconv.DirectionReceived:
			delta := series.received.advance(start, at, value)
			if delta == 0 {
				return
			}
			pending.received += delta
		default:
			g.dropped("invalid_point", 1)
			return
		}
	case semconv.MetricConnectionsFailed:
		failed := series.failure(flow.reason)
		if failed == nil {
			g.dropped("flow_limit", 1)
			return
		}
		delta := failed.advance(start, at, value)
		if delta == 0 {
			return
		}
		p.fail(flow.side, failed.reason, series.way, delta)
	}
	if flow.side == bySource {
		p.sourceWay, p.hasSource = series.way, true
	}
	g.touchPair(p)
}

func (g *graph) applyFlowDuration(node string, point pmetric.ExponentialHistogramDataPoint) {
	flow := readFlow(point.Attributes())
	flow.node = node
	if !flow.valid || point.Flags().NoRecordedValue() {
		g.dropped("invalid_point", 1)
		return
	}
	series := g.flowSeries(&flow.flowKey, point.StartTimestamp(), point.Timestamp())
	if series == nil {
		g.dropped("flow_limit", 1)
		return
	}
	pending := &series.pair.ways[series.way].pending[flow.side]
	if series.duration.Advance(point, &pending.duration) > 0 {
		g.touchPair(series.pair)
	}
}

// flowSeries finds or creates the series of a flow aggregate; nil if the bound on series is reached.
func (g *graph) flowSeries(key *flowKey, start, at pcommon.Timestamp) *flowSeries {
	if series, ok := g.flows.series[*key]; ok {
		series.seen = max(series.seen, at)
		series.pair.seen = max(series.pair.seen, at)
		return series
	}
	if len(g.flows.series) >= g.flows.max {
		return nil
	}
	if key.overflow {
		g.overflowed("receiver")
	}
	owned := key.clone()
	p := g.pairOf(&owned, at)
	series := &flowSeries{pair: p, way: p.way(owned.service, owned.security, start), seen: at}
	if owned.side == bySource {
		p.ways[series.way].bySource = true
	}
	p.users++
	p.reporters[owned.side] = owned.node
	g.flows.series[owned] = series
	if g.saved != nil {
		series.key = &owned
		p.series = append(p.series, series)
	}
	return series
}

func (k *flowKey) clone() flowKey {
	return flowKey{
		node: naming.Intern(k.node), side: k.side, overflow: k.overflow, port: k.port,
		sourcePod: naming.Intern(k.sourcePod), sourceNamespace: naming.Intern(k.sourceNamespace),
		sourceAddress: naming.Intern(k.sourceAddress), sourceCluster: naming.Intern(k.sourceCluster),
		destinationPod: naming.Intern(k.destinationPod), destinationNamespace: naming.Intern(k.destinationNamespace),
		destinationAddress: naming.Intern(k.destinationAddress), destinationCluster: naming.Intern(k.destinationCluster),
		service: naming.Intern(k.service), security: naming.Intern(k.security),
	}
}

// failure finds or creates the series of a reason; nil if the bound on reasons is reached.
func (s *flowSeries) failure(reason reconcile.Reason) *failedSeries {
	for i := range s.failed {
		if s.failed[i].reason == reason {
			return &s.failed[i]
		}
	}
	if len(s.failed) >= maxReasons {
		return nil
	}
	s.failed = append(s.failed, failedSeries{reason: reconcile.Reason{Type: naming.Intern(reason.Type), Policy: naming.Intern(reason.Policy)}})
	return &s.failed[len(s.failed)-1]
}

func (g *graph) touchPair(p *pair) {
	g.saved.pair(p)
	if !p.touched {
		p.touched = true
		g.flows.touched = append(g.flows.touched, p)
	}
}
