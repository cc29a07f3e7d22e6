package history

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Chart is a question for points over time.
type Chart struct {
	// Metric is one of ChartMetrics.
	Metric string
	// Labels are names and values that the edges must have.
	Labels []string
	// By are the labels that tell the chart's lines apart.
	By         []string
	Start, End time.Time
	Step       time.Duration
	// Per is the time over which a point's growth is taken, Step where it is 0.
	Per time.Duration
	// Quantile takes the place of the metric's own, unless it is 0.
	Quantile float64
}

// per is the time over which a point's growth is taken.
func (c *Chart) per() time.Duration { return cmp.Or(c.Per, c.Step) }

// chartKind is how a chart's metric is made.
type chartKind uint8

const (
	chartRate chartKind = iota
	chartGauge
	chartQuantile
	chartBuckets
)

type chartMetric struct {
	kind     chartKind
	name     string
	unit     string
	labels   []string
	quantile float64
}

// chartMetrics are the metrics of charts.
var chartMetrics = map[string]chartMetric{
	"connections":        {kind: chartRate, name: NameClosed, unit: "1/s"},
	"opened":             {kind: chartRate, name: NameOpened, unit: "1/s"},
	"failures":           {kind: chartRate, name: NameFailed, unit: "1/s"},
	"active":             {kind: chartGauge, name: NameActive, unit: "1"},
	"sent":               {kind: chartRate, name: NameIO, unit: "By/s", labels: []string{semconv.LabelDirection, semconv.DirectionSent}},
	"received":           {kind: chartRate, name: NameIO, unit: "By/s", labels: []string{semconv.LabelDirection, semconv.DirectionReceived}},
	"requests":           {kind: chartRate, name: NameRequests, unit: "1/s"},
	"errors":             {kind: chartRate, name: NameRequestsFailed, unit: "1/s"},
	"denied_requests":    {kind: chartRate, name: NameResponses, unit: "1/s", labels: []string{semconv.LabelErrorType, semconv.ErrorTypePolicyDenied}},
	"p50":                {kind: chartQuantile, name: NameRequestDuration, unit: "s", quantile: 0.5},
	"p90":                {kind: chartQuantile, name: NameRequestDuration, unit: "s", quantile: 0.9},
	"p95":                {kind: chartQuantile, name: NameRequestDuration, unit: "s", quantile: 0.95},
	"p99":                {kind: chartQuantile, name: NameRequestDuration, unit: "s", quantile: 0.99},
	"heatmap":            {kind: chartBuckets, name: NameRequestDuration, unit: "s"},
	"connection_p50":     {kind: chartQuantile, name: NameConnectionDuration, unit: "s", quantile: 0.5},
	"connection_p90":     {kind: chartQuantile, name: NameConnectionDuration, unit: "s", quantile: 0.9},
	"connection_p95":     {kind: chartQuantile, name: NameConnectionDuration, unit: "s", quantile: 0.95},
	"connection_p99":     {kind: chartQuantile, name: NameConnectionDuration, unit: "s", quantile: 0.99},
	"connection_heatmap": {kind: chartBuckets, name: NameConnectionDuration, unit: "s"},
	"endpoint_failures":  {kind: chartRate, name: NameEndpointFailed, unit: "1/s"},
	"endpoint_closed":    {kind: chartRate, name: NameEndpointClosed, unit: "1/s"},
	"endpoint_requests":  {kind: chartRate, name: NameEndpointRequests, unit: "1/s"},
	"endpoint_errors":    {kind: chartRate, name: NameEndpointRequestsFailed, unit: "1/s"},
}

// ChartMetrics are the names of the charts' metrics.
func ChartMetrics() []string {
	names := make([]string, 0, len(chartMetrics))
	for name := range chartMetrics {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ChartUnit is the unit (UCUM) of a chart's values.
func ChartUnit(metric string) string { return chartMetrics[metric].unit }

// promQL is the chart's expression. Growth is the difference of the newest values a step apart, per series, which sees
// series that begin or change seldom; rate() needs two samples in its range, and series that do not change have
// few.
func (q *querier) promQL(c Chart) string {
	m := chartMetrics[c.Metric]
	selector := q.pick(m.name, append(slices.Clone(m.labels), c.Labels...)...)
	newest := fmt.Sprintf("last_over_time(%s[%s])", selector, promDuration(q.lookback))
	sum := "sum"
	if len(c.By) > 0 {
		sum += " by (" + strings.Join(c.By, ", ") + ") "
	}
	grown := fmt.Sprintf("%s - (last_over_time(%s[%s] offset %s) or 0 * %s)",
		newest, selector, promDuration(q.lookback), promDuration(c.per().Milliseconds()), newest)
	switch m.kind {
	case chartGauge:
		return sum + "(" + newest + ")"
	case chartQuantile:
		return fmt.Sprintf("histogram_quantile(%s, %s(%s))", strconv.FormatFloat(cmp.Or(c.Quantile, m.quantile), 'f', -1, 64), sum, grown)
	case chartBuckets:
		return sum + "(" + grown + ")"
	}
	return fmt.Sprintf("%s(clamp_min(%s, 0)) / %s", sum, grown, strconv.FormatFloat(c.per().Seconds(), 'f', -1, 64))
}

func promDuration(ms int64) string {
	if ms%1000 == 0 {
		return strconv.FormatInt(ms/1000, 10) + "s"
	}
	return strconv.FormatInt(ms, 10) + "ms"
}

// Chart evaluates a chart and returns its expression as well.
func (s *Store) Chart(ctx context.Context, c Chart) (string, []Result, error) {
	q, err := s.q.of(ctx, c.Start.Add(-c.per()).UnixMilli()-s.q.lookback, c.End.UnixMilli())
	if err != nil {
		return "", nil, err
	}
	expression := q.promQL(c)
	results, err := q.engine.Range(ctx, expression, c.Start, c.End, c.Step)
	return expression, results, err
}
