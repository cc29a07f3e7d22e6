package httpapi

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Bounds of one chart.
const (
	maxLines   = 50
	maxPoints  = 2000
	maxBuckets = 256
	// someSteps is the number of points where no step is asked for.
	someSteps = 120
)

type seriesBody struct {
	Metric string     `json:"metric"`
	Unit   string     `json:"unit"`
	PromQL string     `json:"promql"`
	Start  time.Time  `json:"start"`
	End    time.Time  `json:"end"`
	Step   float64    `json:"step"`
	Series []lineBody `json:"series"`
	// Truncated is the number of lines that were left out.
	Truncated int `json:"truncated,omitempty"`
}

type lineBody struct {
	Labels map[string]string `json:"labels"`
	// Points are pairs of unix seconds and a value, null where there is none.
	Points [][2]any `json:"points,omitempty"`
	// Heat are columns of a heat map.
	Heat []columnBody `json:"heat,omitempty"`
}

type columnBody struct {
	Time float64 `json:"time"`
	// Buckets are [lower, upper, count].
	Buckets [][3]float64 `json:"buckets"`
}

// groupable are the labels by which a chart may be split.
var groupable = []string{
	semconv.LabelSourceWorkload, semconv.LabelSourceNamespace, semconv.LabelSourceCanonicalService,
	semconv.LabelDestinationWorkload, semconv.LabelDestinationNamespace, semconv.LabelDestinationCanonicalService,
	semconv.LabelDestinationService, semconv.LabelDestinationPod, semconv.LabelErrorType, semconv.LabelPolicy,
	semconv.LabelHTTPRoute, semconv.LabelRequestProtocol, semconv.LabelSecurityPolicy,
}

// pastCharts evaluates charts. history.Store is one.
type pastCharts interface {
	// Chart evaluates a chart's expression, and returns it as well.
	Chart(ctx context.Context, chart history.Chart) (promql string, results []history.Result, err error)
}

type seriesRoutes struct {
	past   pastCharts
	ranges *ranges
}

func (s *seriesRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/series": s.get}
}

func (s *seriesRoutes) get(r *http.Request, p *params) (*answer, error) {
	w := s.ranges.window(p)
	chart := history.Chart{
		Metric: p.oneOf("metric", "", history.ChartMetrics()...),
		Labels: chartLabels(p),
	}
	if chart.Metric == "" {
		p.fail("metric", "is missing; it is one of "+strings.Join(history.ChartMetrics(), ", "))
	}
	for label := range strings.SplitSeq(p.text("by"), ",") {
		switch label = strings.TrimSpace(label); {
		case label == "":
		case slices.Contains(groupable, label):
			chart.By = append(chart.By, label)
		default:
			p.fail("by", "must be some of "+strings.Join(groupable, ", "))
		}
	}
	chart.Step = p.step(w)
	if p.err != nil {
		return nil, p.err
	}
	// The steps end at the range's end, so that the last point is the newest.
	chart.End = time.UnixMilli(w.end)
	steps := (w.end - w.start) / chart.Step.Milliseconds()
	chart.Start = chart.End.Add(-time.Duration(max(steps-1, 0)) * chart.Step)
	promql, results, err := s.past.Chart(r.Context(), chart)
	if err != nil {
		return nil, unavailable(err)
	}
	body := seriesBody{
		Metric: chart.Metric, Unit: history.ChartUnit(chart.Metric), PromQL: promql,
		Start: time.UnixMilli(w.start).UTC(), End: chart.End.UTC(), Step: chart.Step.Seconds(), Series: []lineBody{},
	}
	for _, result := range results {
		if len(body.Series) == maxLines {
			body.Truncated = len(results) - maxLines
			break
		}
		body.Series = append(body.Series, line(result))
	}
	return jsonAnswer(body)
}

func line(result history.Result) lineBody {
	l := lineBody{Labels: result.Labels.Map()}
	for _, point := range result.Points {
		at := float64(point.Time) / 1000
		if point.Histogram != nil {
			l.Heat = append(l.Heat, columnBody{at, columnBuckets(point.Histogram)})
			continue
		}
		if math.IsNaN(point.Value) || math.IsInf(point.Value, 0) {
			l.Points = append(l.Points, [2]any{at, nil})
			continue
		}
		l.Points = append(l.Points, [2]any{at, point.Value})
	}
	return l
}

func columnBuckets(h *exphist.Histogram) [][3]float64 {
	out := [][3]float64{}
	if h.Zero > 0 {
		out = append(out, [3]float64{0, 0, float64(h.Zero)})
	}
	for i, n := range h.Counts {
		if n > 0 && len(out) < maxBuckets {
			index := h.Offset + int32(i)
			out = append(out, [3]float64{exphist.Upper(h.Scale, index-1), exphist.Upper(h.Scale, index), float64(n)})
		}
	}
	return out
}

// chartLabels reads the selectors of a chart. Workloads are namespace/name.
func chartLabels(p *params) []string {
	var labels []string
	add := func(label, value string) {
		if value != "" {
			labels = append(labels, label, value)
		}
	}
	workload := func(name, namespaceLabel, nameLabel string) {
		value := p.text(name)
		if value == "" {
			return
		}
		namespace, owner, ok := strings.Cut(value, "/")
		if !ok {
			// A party outside the mesh has its address only.
			namespace, owner = "", value
		}
		labels = append(labels, namespaceLabel, namespace, nameLabel, owner)
	}
	workload("source", semconv.LabelSourceNamespace, semconv.LabelSourceWorkload)
	workload("destination", semconv.LabelDestinationNamespace, semconv.LabelDestinationWorkload)
	add(semconv.LabelSourceNamespace, p.text("source_namespace"))
	add(semconv.LabelDestinationNamespace, p.text("destination_namespace"))
	add(semconv.LabelSourceCanonicalService, p.text("source_app"))
	add(semconv.LabelDestinationCanonicalService, p.text("destination_app"))
	add(semconv.LabelDestinationService, p.text("service"))
	add(semconv.LabelDestinationPort, p.text("port"))
	add(semconv.LabelDestinationPod, p.text("pod"))
	add(semconv.LabelHTTPRoute, p.text("route"))
	add(semconv.LabelErrorType, p.text("reason"))
	add(semconv.LabelPolicy, p.text("policy"))
	return labels
}

// step reads the time between two points, in seconds or as a duration.
func (p *params) step(w window) time.Duration {
	span := time.Duration(w.end-w.start) * time.Millisecond
	step := max((span / someSteps).Round(time.Second), time.Second)
	if value := p.text("step"); value != "" {
		if parsed, err := time.ParseDuration(value); err == nil {
			step = parsed
		} else if parsed, err := time.ParseDuration(value + "s"); err == nil {
			step = parsed
		} else {
			p.fail("step", "must be seconds, or a duration such as 15s")
		}
	}
	switch {
	case step < time.Second:
		p.fail("step", "must be at least a second")
	case span/step > maxPoints:
		p.fail("step", "gives more than 2000 points")
	}
	return max(step, time.Second)
}
