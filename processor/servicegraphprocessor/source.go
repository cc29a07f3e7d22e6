package servicegraphprocessor

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// metricSource is who sent a resource's metrics.
type metricSource struct {
	service, instance, node, waypoint string
}

func sourceOf(resource pcommon.Resource) metricSource {
	var s metricSource
	resource.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case semconv.AttrServiceName:
			s.service = value.Str()
		case semconv.AttrServiceInstanceID:
			s.instance = value.Str()
		case semconv.AttrNodeName:
			s.node = value.Str()
		case semconv.AttrWaypoint:
			s.waypoint = value.Str()
		}
		return true
	})
	return s
}

// replayDone tells whether a batch holds the marker of a replay's end.
func replayDone(metrics pmetric.Metrics) bool {
	for _, resource := range metrics.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			for _, metric := range scope.Metrics().All() {
				if isDone(metric) {
					return true
				}
			}
		}
	}
	return false
}

func isDone(metric pmetric.Metric) bool {
	if metric.Name() != semconv.MetricReplayPosition || metric.Type() != pmetric.MetricTypeGauge {
		return false
	}
	for _, point := range metric.Gauge().DataPoints().All() {
		if state, ok := point.Attributes().Get(semconv.LabelState); ok && semconv.ReplayEnded(state.Str()) {
			return true
		}
	}
	return false
}

// extractMarker moves the marker of a replay's end into a batch of its own.
func extractMarker(metrics pmetric.Metrics) pmetric.Metrics {
	marker := pmetric.NewMetrics()
	metrics.ResourceMetrics().RemoveIf(func(resource pmetric.ResourceMetrics) bool {
		resource.ScopeMetrics().RemoveIf(func(scope pmetric.ScopeMetrics) bool {
			scope.Metrics().RemoveIf(func(metric pmetric.Metric) bool {
				if !isDone(metric) {
					return false
				}
				r := marker.ResourceMetrics().AppendEmpty()
				resource.Resource().CopyTo(r.Resource())
				s := r.ScopeMetrics().AppendEmpty()
				scope.Scope().CopyTo(s.Scope())
				metric.CopyTo(s.Metrics().AppendEmpty())
				return true
			})
			return scope.Metrics().Len() == 0
		})
		return resource.ScopeMetrics().Len() == 0
	})
	return marker
}
