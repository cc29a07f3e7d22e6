package flows

import (
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// side is the end of a connection that reports it.
type side uint8

const (
	bySource side = iota
	byDestination
)

// quantity is what is counted beside failures.
type quantity int

const (
	closed quantity = iota
	sent
	received
	unanswered
	sums      // the quantities before this one are told by sums
	durations = sums
	none      = quantity(-1)
)

// quantityOf is what a flow aggregate's sum counts.
func quantityOf(name, direction string) quantity {
	switch {
	case name == semconv.MetricConnectionsClosed:
		return closed
	case name == semconv.MetricConnectionsUnanswered:
		return unanswered
	case name == semconv.MetricIO && direction == semconv.DirectionSent:
		return sent
	case name == semconv.MetricIO && direction == semconv.DirectionReceived:
		return received
	}
	return none
}

// flowKey is a flow aggregate's attributes as they come (docs/data-model.md, section 1.1). As a map key it needs no
// string to be built. The node tells a pod that moved from what it was before.
type flowKey struct {
	node     string
	side     side
	overflow bool
	port     uint16

	sourcePod, sourceNamespace, sourceAddress, sourceCluster                     string
	destinationPod, destinationNamespace, destinationAddress, destinationCluster string
	service, security, principal                                                 string
}

// flowPoint is a flow aggregate's attributes beside its key.
type flowPoint struct {
	flowKey
	reason    reconcile.Reason
	direction string
	valid     bool
}

func (k *flowKey) clone() flowKey {
	return flowKey{
		node: naming.Intern(k.node), side: k.side, overflow: k.overflow, port: k.port,
		sourcePod: naming.Intern(k.sourcePod), sourceNamespace: naming.Intern(k.sourceNamespace),
		sourceAddress: naming.Intern(k.sourceAddress), sourceCluster: naming.Intern(k.sourceCluster),
		destinationPod: naming.Intern(k.destinationPod), destinationNamespace: naming.Intern(k.destinationNamespace),
		destinationAddress: naming.Intern(k.destinationAddress), destinationCluster: naming.Intern(k.destinationCluster),
		service: naming.Intern(k.service), security: naming.Intern(k.security), principal: naming.Intern(k.principal),
	}
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
		case semconv.LabelSourcePrincipal:
			p.principal = value.Str()
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

// isFlowMetric tells whether a metric is a flow aggregate.
func isFlowMetric(name string) bool {
	switch name {
	case semconv.MetricConnectionsClosed, semconv.MetricConnectionsFailed, semconv.MetricConnectionsUnanswered, semconv.MetricIO, semconv.MetricConnectionDuration:
		return true
	}
	return false
}

func isCumulative(metric pmetric.Metric) bool {
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		return metric.Sum().AggregationTemporality() == pmetric.AggregationTemporalityCumulative
	case pmetric.MetricTypeExponentialHistogram:
		return metric.ExponentialHistogram().AggregationTemporality() == pmetric.AggregationTemporalityCumulative
	}
	return false
}
