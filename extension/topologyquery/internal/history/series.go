package history

import (
	"fmt"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// maxLabelValue bounds a label's value in bytes: names in telemetry are chosen by whoever runs a pod.
const maxLabelValue = 1024

// The names that Prometheus's own translation gives to the metrics of docs/data-model.md; contrib's prometheus and
// prometheusremotewrite exporters give the same, which TestNames holds.
const (
	NameOpened             = "mesh_edge_connections_opened_total"
	NameClosed             = "mesh_edge_connections_closed_total"
	NameFailed             = "mesh_edge_connections_failed_total"
	NameUnanswered         = "mesh_edge_connections_unanswered_total"
	NameActive             = "mesh_edge_connections_active"
	NameIO                 = "mesh_edge_io_bytes_total"
	NameConnectionDuration = "mesh_edge_connection_duration_seconds"
	NameRequests           = "mesh_edge_requests_total"
	NameRequestsFailed     = "mesh_edge_request_failed_total"
	NameRequestDuration    = "mesh_edge_request_duration_seconds"
	NameResponses          = "mesh_edge_responses_total"

	NameEndpointClosed         = "mesh_endpoint_connections_closed_total"
	NameEndpointFailed         = "mesh_endpoint_connections_failed_total"
	NameEndpointRequests       = "mesh_endpoint_requests_total"
	NameEndpointRequestsFailed = "mesh_endpoint_request_failed_total"

	NameDNSQueries   = "mesh_dns_queries_total"
	NameDNSForwarded = "mesh_dns_forwarded_total"
	NameDNSFailed    = "mesh_dns_failed_total"
	NameDNSDuration  = "mesh_dns_duration_seconds"
	NameDNSLookups   = "mesh_dns_lookups_total"

	NameSourceUp = "ztunnel_source_up"
)

// units are the data model's units, for producers that leave them out.
var units = map[string]string{
	semconv.MetricEdgeIO:                 "By",
	semconv.MetricEdgeConnectionDuration: "s",
	semconv.MetricEdgeRequestDuration:    "s",
}

// Namer gives series their Prometheus identity.
type Namer struct {
	metric otlptranslator.MetricNamer
	label  otlptranslator.LabelNamer
	// Catalog, unless nil, is told what the metrics are.
	Catalog *Catalog
}

// NewNamer returns a namer.
func NewNamer() *Namer {
	return &Namer{metric: otlptranslator.NewMetricNamer("", otlptranslator.UnderscoreEscapingWithSuffixes)}
}

// Labels returns the labels of a point of a metric.
func (n *Namer) Labels(resource pcommon.Map, metric pmetric.Metric, attrs pcommon.Map) (labels.Labels, error) {
	unit := metric.Unit()
	if known, ok := units[metric.Name()]; ok && unit == "" {
		unit = known
	}
	name, err := n.metric.Build(otlptranslator.Metric{Name: metric.Name(), Unit: unit, Type: metricType(metric)})
	if err != nil {
		return labels.EmptyLabels(), fmt.Errorf("naming metric %q: %w", metric.Name(), err)
	}
	if n.Catalog != nil {
		n.Catalog.note(name, unit, metric)
	}
	builder := labels.NewScratchBuilder(attrs.Len() + 4)
	builder.Add(model.MetricNameLabel, name)
	seen := map[string]struct{}{model.MetricNameLabel: {}}
	add := func(name, value string) {
		if _, ok := seen[name]; ok || value == "" {
			return
		}
		seen[name] = struct{}{}
		if len(value) > maxLabelValue {
			value = value[:maxLabelValue]
		}
		builder.Add(name, strings.ToValidUTF8(value, "\uFFFD"))
	}
	for name, value := range attrs.All() {
		label, err := n.label.Build(name)
		if err != nil {
			return labels.EmptyLabels(), fmt.Errorf("naming label %q of %q: %w", name, metric.Name(), err)
		}
		add(label, value.AsString())
	}
	for attribute, label := range resourceLabels {
		if value, ok := resource.Get(attribute); ok {
			add(label, value.AsString())
		}
	}
	builder.Sort()
	return builder.Labels(), nil
}

// resourceLabels are the resource attributes that tell producers apart.
var resourceLabels = map[string]string{
	semconv.AttrServiceName:       "job",
	semconv.AttrServiceInstanceID: "instance",
	semconv.AttrNodeName:          "k8s_node_name",
	semconv.AttrWaypoint:          "istio_waypoint",
}

func metricType(metric pmetric.Metric) otlptranslator.MetricType {
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		if metric.Sum().IsMonotonic() {
			return otlptranslator.MetricTypeMonotonicCounter
		}
		return otlptranslator.MetricTypeNonMonotonicCounter
	case pmetric.MetricTypeExponentialHistogram:
		return otlptranslator.MetricTypeExponentialHistogram
	case pmetric.MetricTypeHistogram:
		return otlptranslator.MetricTypeHistogram
	case pmetric.MetricTypeGauge:
		return otlptranslator.MetricTypeGauge
	}
	return otlptranslator.MetricTypeUnknown
}
