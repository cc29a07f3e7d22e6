// Package historytest is a server that speaks as much of Prometheus's HTTP API as the history asks for.
package historytest

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/internal/exphist"
)

// NewServer returns a server that answers with an engine, in Prometheus's JSON; it is closed with the test.
func NewServer(t testing.TB, engine history.Engine) *httptest.Server {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, results []history.Result, instant bool, err error) {
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(map[string]any{"status": "error", "errorType": "execution", "error": err.Error()})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data(results, instant)})
	}
	mux.HandleFunc("POST /api/v1/query", func(w http.ResponseWriter, r *http.Request) {
		results, err := engine.Instant(r.Context(), r.FormValue("query"), parse(r.FormValue("time")))
		answer(w, results, true, err)
	})
	mux.HandleFunc("POST /api/v1/query_range", func(w http.ResponseWriter, r *http.Request) {
		step, _ := strconv.ParseFloat(r.FormValue("step"), 64)
		results, err := engine.Range(r.Context(), r.FormValue("query"), parse(r.FormValue("start")), parse(r.FormValue("end")), time.Duration(step*1e9))
		answer(w, results, false, err)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func parse(s string) time.Time {
	seconds, _ := strconv.ParseFloat(s, 64)
	return time.UnixMilli(int64(math.Round(seconds * 1000)))
}

func data(results []history.Result, instant bool) map[string]any {
	kind := "vector"
	for _, r := range results {
		if len(r.Points) != 1 {
			kind = "matrix"
		}
	}
	if !instant {
		kind = "matrix"
	}
	series := []any{}
	for _, r := range results {
		one := map[string]any{"metric": metric(r.Labels)}
		var values, histograms []any
		for _, p := range r.Points {
			if p.Histogram != nil {
				histograms = append(histograms, []any{float64(p.Time) / 1000, buckets(p.Histogram)})
			} else {
				values = append(values, []any{float64(p.Time) / 1000, strconv.FormatFloat(p.Value, 'f', -1, 64)})
			}
		}
		switch {
		case kind == "matrix" && values != nil:
			one["values"] = values
		case kind == "matrix":
			one["histograms"] = histograms
		case values != nil:
			one["value"] = values[0]
		default:
			one["histogram"] = histograms[0]
		}
		series = append(series, one)
	}
	return map[string]any{"resultType": kind, "result": series}
}

func metric(l labels.Labels) map[string]string { return l.Map() }

func buckets(h *exphist.Histogram) map[string]any {
	list := []any{}
	if h.Zero > 0 {
		list = append(list, []any{3, "-1e-128", "1e-128", fmt.Sprint(h.Zero)})
	}
	for i, n := range h.Counts {
		if n == 0 {
			continue
		}
		index := h.Offset + int32(i)
		list = append(list, []any{
			0, strconv.FormatFloat(exphist.Upper(h.Scale, index-1), 'f', -1, 64),
			strconv.FormatFloat(exphist.Upper(h.Scale, index), 'f', -1, 64), fmt.Sprint(n),
		})
	}
	out := map[string]any{"count": fmt.Sprint(h.Count), "sum": strconv.FormatFloat(h.Sum, 'f', -1, 64)}
	if len(list) > 0 {
		out["buckets"] = list
	}
	return out
}
