package jaegerapi

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/reply"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Bounds on one answer of the monitor: so many services and points.
const (
	maxServices = 50
	maxPoints   = 11_000
)

// Charts draws what happened on edges over time. history.Store is one.
type Charts interface {
	// Chart evaluates a chart's expression, and returns it as well.
	Chart(ctx context.Context, chart history.Chart) (promql string, results []history.Result, err error)
}

// family is an answer of Jaeger's monitor (jaeger.api_v2.metrics.MetricFamily): a gauge by service, and by operation if that was asked for.
type family struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	Help    string   `json:"help"`
	Metrics []metric `json:"metrics"`
}

type metric struct {
	Labels []label `json:"labels"`
	Points []point `json:"metricPoints"`
}

type label struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type point struct {
	Gauge struct {
		Value float64 `json:"doubleValue"`
	} `json:"gaugeValue"`
	Time time.Time `json:"timestamp"`
}

func metricsOf(answer func(ctx context.Context, m *monitor) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m, err := monitorOf(r.URL.Query())
		var body any
		if err == nil {
			body, err = answer(r.Context(), m)
		}
		if err != nil {
			refuse(w, err)
			return
		}
		reply.Send(w, http.StatusOK, body)
	})
}

// monitor is a question of Jaeger's monitor: the requests that services got (span kind server), or else those that they made (client).
type monitor struct {
	services            []string
	made                bool
	none                bool // The mesh's edges have no spans of the kinds that are asked for.
	byOperation         bool
	end                 time.Time // zero for the data's own
	lookback, step, per time.Duration
	quantile            string
}

// kindNames are the kinds of spans that a question may name.
var kindNames = []string{"unspecified", "internal", "server", "client", "producer", "consumer"}

// monitorOf reads a question. Times and durations are milliseconds.
func monitorOf(values url.Values) (*monitor, error) {
	m := &monitor{services: values["service"], quantile: values.Get("quantile")}
	if len(m.services) == 0 {
		return nil, reply.Bad("unable to parse param 'service': please provide at least one service name")
	}
	if len(m.services) > maxServices {
		return nil, reply.Bad("unable to parse param 'service': at most %d services at a time", maxServices)
	}
	if kinds, given := values["spanKind"]; given {
		for _, kind := range kinds {
			if !slices.Contains(kindNames, kind) {
				return nil, reply.Bad("unable to parse param 'spanKind': unsupported span kind: '%s'", kind)
			}
		}
		got := slices.Contains(kinds, "server")
		m.made = !got && slices.Contains(kinds, "client")
		m.none = !got && !m.made
	}
	var err error
	if text := values.Get("groupByOperation"); text != "" {
		if m.byOperation, err = strconv.ParseBool(text); err != nil {
			return nil, reply.Bad("unable to parse param 'groupByOperation': %q", text)
		}
	}
	for _, d := range []struct {
		name     string
		into     *time.Duration
		fallback time.Duration
	}{{"lookback", &m.lookback, time.Hour}, {"step", &m.step, 5 * time.Second}, {"ratePer", &m.per, 10 * time.Minute}} {
		*d.into = d.fallback
		if text := values.Get(d.name); text != "" {
			ms, err := strconv.ParseInt(text, 10, 64)
			if err != nil || ms <= 0 || ms > math.MaxInt64/int64(time.Millisecond) {
				return nil, reply.Bad("unable to parse param '%s': %q", d.name, text)
			}
			*d.into = time.Duration(ms) * time.Millisecond
		}
	}
	if m.lookback/m.step > maxPoints {
		return nil, reply.Bad("unable to parse param 'step': more than %d points", maxPoints)
	}
	if text := values.Get("endTs"); text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 0 || ms > math.MaxInt64/int64(time.Millisecond) {
			return nil, reply.Bad("unable to parse param 'endTs': %q", text)
		}
		m.end = time.UnixMilli(ms).UTC()
	}
	return m, nil
}

// minStep is the least time between two points that can be asked for, in milliseconds.
func minStep(*http.Request) (data any, total int, err error) { return 1, 0, nil }

func (m *monitor) family(name, help string) *family {
	if m.byOperation {
		name, help = strings.Replace(name, "service", "service_operation", 1), help+" & operation"
	}
	return &family{Name: name, Type: "GAUGE", Help: help, Metrics: []metric{}}
}

// operationless are the charts whose metrics know no route: connections.
var operationless = []string{"failures"}

// lines are a chart's values by operation and time, for one service.
type lines map[string]map[int64]float64 // bounded by the routes and points of a chart

func (a *API) lines(ctx context.Context, m *monitor, service, chart string, quantile float64) (lines, error) {
	label := semconv.LabelDestinationCanonicalService
	if m.made {
		label = semconv.LabelSourceCanonicalService
	}
	end := m.end
	if end.IsZero() {
		end = a.Now()
	}
	c := history.Chart{
		Metric: chart, Labels: []string{label, service}, Start: end.Add(-m.lookback), End: end, Step: m.step, Per: m.per, Quantile: quantile,
	}
	if m.byOperation && !slices.Contains(operationless, chart) {
		c.By = []string{semconv.LabelHTTPRoute}
	}
	_, results, err := a.Charts.Chart(ctx, c)
	out := lines{}
	for _, result := range results {
		values := map[int64]float64{} // bounded by maxPoints
		for _, p := range result.Points {
			if !math.IsNaN(p.Value) {
				values[p.Time] = p.Value
			}
		}
		out[result.Labels.Get(semconv.LabelHTTPRoute)] = values
	}
	return out, err
}

// sum adds up charts. What fails before a request is seen, such as a denied connection, is one that failed.
func (a *API) sum(ctx context.Context, m *monitor, service string, charts ...string) (lines, error) {
	total := lines{}
	for _, chart := range charts {
		some, err := a.lines(ctx, m, service, chart, 0)
		if err != nil {
			return nil, err
		}
		for operation, values := range some {
			if total[operation] == nil {
				total[operation] = map[int64]float64{} // bounded by maxPoints
			}
			for at, value := range values {
				total[operation][at] += value
			}
		}
	}
	return total, nil
}

func (f *family) add(m *monitor, service string, all lines) {
	for _, operation := range slices.Sorted(maps.Keys(all)) {
		one := metric{Labels: []label{{"service_name", service}}}
		if m.byOperation {
			one.Labels = append(one.Labels, label{"operation", cmp.Or(operation, "unknown")})
		}
		for _, at := range slices.Sorted(maps.Keys(all[operation])) {
			p := point{Time: time.UnixMilli(at).UTC()}
			p.Gauge.Value = all[operation][at]
			one.Points = append(one.Points, p)
		}
		if len(one.Points) > 0 {
			f.Metrics = append(f.Metrics, one)
		}
	}
}

// each adds what happened to each service to a family.
func (m *monitor) each(f *family, of func(service string) (lines, error)) (any, error) {
	if m.none {
		return f, nil
	}
	for _, service := range m.services {
		all, err := of(service)
		if err != nil {
			return nil, fmt.Errorf("charting %s: %w", service, err)
		}
		f.add(m, service, all)
	}
	return f, nil
}

func (a *API) calls(ctx context.Context, m *monitor) (any, error) {
	return m.each(m.family("service_call_rate", "calls/sec, grouped by service"), func(service string) (lines, error) {
		return a.sum(ctx, m, service, "requests", "failures")
	})
}

func (a *API) errors(ctx context.Context, m *monitor) (any, error) {
	help := "error rate, computed as a fraction of errors/sec over calls/sec, grouped by service"
	return m.each(m.family("service_error_rate", help), func(service string) (lines, error) {
		calls, err := a.sum(ctx, m, service, "requests", "failures")
		if err != nil {
			return nil, err
		}
		failed, err := a.sum(ctx, m, service, "errors", "failures")
		for operation, values := range calls {
			for at, n := range values {
				if n == 0 {
					// Of none, no share failed.
					delete(values, at)
					continue
				}
				values[at] = min(failed[operation][at]/n, 1)
			}
		}
		return calls, err
	})
}

func (a *API) latencies(ctx context.Context, m *monitor) (any, error) {
	quantile, err := strconv.ParseFloat(m.quantile, 64)
	if err != nil || !(quantile > 0 && quantile <= 1) {
		return nil, reply.Bad("unable to parse param 'quantile': %q", m.quantile)
	}
	return m.each(m.family("service_latencies", fmt.Sprintf("%.2fth quantile latency, grouped by service", quantile)), func(service string) (lines, error) {
		all, err := a.lines(ctx, m, service, "p50", quantile)
		for _, values := range all {
			for at := range values {
				values[at] *= 1000 // Jaeger's unit is the millisecond.
			}
		}
		return all, err
	})
}
