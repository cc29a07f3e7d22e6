package scrape

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// collect runs a scraper until each of n results has come.
func collect(t *testing.T, config ScraperConfig, targets TargetProvider, n int) []Result {
	t.Helper()
	results := make(chan Result, n)
	s, err := NewScraper(config, targets, func(r Result) {
		select {
		case results <- r:
		default:
		}
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { s.Run(ctx) })
	var got []Result
	for range n {
		got = append(got, <-results)
	}
	cancel()
	run.Wait()
	config.Client.CloseIdleConnections()
	return got
}

func TestScraper(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Contains(t, r.Header.Get("Accept"), "application/openmetrics-text")
		w.Header().Set("Content-Type", "application/openmetrics-text;charset=utf-8;version=1.0.0")
		fmt.Fprint(w, "# TYPE istio_x counter\nistio_x_total 5\n# EOF\n")
	}))
	defer server.Close()
	target := Target{Name: "node-a", URL: server.URL + "/metrics"}
	results := collect(t, ScraperConfig{Interval: time.Hour, Timeout: time.Minute, Concurrency: 1, Client: server.Client()}, StaticTargets{target}, 1)
	require.NoError(t, results[0].Err)
	assert.Equal(t, target, results[0].Target)
	assert.Equal(t, map[string]float64{"upmap[]": 1, "istio_x_totalmap[]": 5}, samples(results[0].Metrics))
}

func TestScraperRemembersItsTargets(t *testing.T) {
	var count atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch count.Add(1) {
		case 1:
			fmt.Fprint(w, "# TYPE istio_x counter\nistio_x_total 5\n")
		case 2:
			http.Error(w, "not now", http.StatusServiceUnavailable)
		default:
			fmt.Fprint(w, "# TYPE istio_x counter\nistio_x_total 2\n")
		}
	}))
	defer server.Close()
	s, err := NewScraper(ScraperConfig{Interval: time.Hour, Timeout: time.Hour, Concurrency: 1, Client: server.Client()}, StaticTargets{}, nil)
	require.NoError(t, err)
	var results []Result
	s.sink = func(r Result) { results = append(results, r) }
	var m memory
	for range 4 {
		s.visit(t.Context(), Target{Name: "node-a", URL: server.URL}, &m, 0)
	}
	server.Client().CloseIdleConnections()
	require.Len(t, results, 4)
	require.NoError(t, results[0].Err)
	require.ErrorContains(t, results[1].Err, "answers 503")
	assert.Equal(t, map[string]float64{"upmap[]": 0}, samples(results[1].Metrics))
	require.NoError(t, results[2].Err)
	assert.True(t, results[2].Restarted)
	assert.False(t, results[3].Restarted)
	start := results[2].Metrics.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).StartTimestamp()
	assert.Equal(t, results[0].At.UnixNano(), start.AsTime().UnixNano(), "since the last scrape that succeeded")
}

func TestScraperSurvives(t *testing.T) {
	gzipped := func(body []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(body)
		_ = w.Close()
		return out.Bytes()
	}
	bomb := gzipped(bytes.Repeat([]byte("# a comment that says nothing\n"), 1<<17))
	mux := http.NewServeMux()
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html><body>It works!</body></html>")
	})
	mux.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/html", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		line := []byte("istio_x{a=\"" + strings.Repeat("x", 1000) + "\"} 1\n")
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/drip", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
				_, _ = w.Write([]byte("#"))
				w.(http.Flusher).Flush()
			}
		}
	})
	mux.HandleFunc("/silent", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/bomb", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(bomb)
	})
	mux.HandleFunc("/notgzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		fmt.Fprint(w, "istio_x 1\n")
	})
	mux.HandleFunc("/gzip", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(gzipped([]byte("istio_x 1\n")))
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, "istio_x 1\n")
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	want := map[string]string{
		"/html": "is no exposition", "/500": "answers 500", "/redirect": "answers 302", "/endless": "too large",
		"/bomb": "too large", "/notgzip": "gzip", "/gzip": "",
		"/short": "unexpected EOF", "": "answers 404",
	}
	require.Less(t, len(bomb), 64<<10, "small on the wire")
	var targets StaticTargets
	for path := range want {
		targets = append(targets, Target{Name: path, URL: server.URL + path})
	}
	targets = append(targets, Target{Name: "/nobody", URL: "http://127.0.0.1:1/metrics"})
	want["/nobody"] = "refused"

	results := collect(t, ScraperConfig{
		Interval: time.Hour, Timeout: time.Minute, Concurrency: len(targets), Client: server.Client(),
		Options: Options{MaxBytes: 1 << 20},
	}, targets, len(targets))
	results = append(results, collect(t, ScraperConfig{
		Interval: time.Hour, Timeout: 100 * time.Millisecond, Concurrency: 2, Client: server.Client(),
	}, StaticTargets{{Name: "/drip", URL: server.URL + "/drip"}, {Name: "/silent", URL: server.URL + "/silent"}}, 2)...)
	want["/drip"], want["/silent"] = "deadline exceeded", "deadline exceeded"
	for _, r := range results {
		path := r.Target.Name
		if want[path] == "" {
			require.NoError(t, r.Err, path)
			assert.Equal(t, map[string]float64{"upmap[]": 1, "istio_xmap[]": 1}, samples(r.Metrics))
			continue
		}
		require.ErrorContains(t, r.Err, want[path], path)
		assert.Equal(t, map[string]float64{"upmap[]": 0}, samples(r.Metrics), path)
		if path == "/endless" || path == "/bomb" {
			assert.ErrorIs(t, r.Err, ErrTooLarge)
		}
	}
}

func TestScraperSaysNothingOfWhatItBrokeOff(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	s, err := NewScraper(ScraperConfig{Interval: time.Hour, Timeout: time.Hour, Concurrency: 1, Client: server.Client()},
		StaticTargets{{URL: server.URL}}, func(r Result) { assert.Fail(t, "a result", "%v", r.Err) })
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	var run sync.WaitGroup
	run.Go(func() { s.Run(ctx) })
	<-asked
	cancel(errors.New("shutdown"))
	run.Wait()
}

func TestNewScraperValidates(t *testing.T) {
	good := ScraperConfig{Interval: 1, Timeout: 1, Concurrency: 1, Client: http.DefaultClient}
	for want, change := range map[string]func(*ScraperConfig){
		"scraper: interval": func(c *ScraperConfig) { c.Interval = 0 },
		"scraper: family":   func(c *ScraperConfig) { c.Options.Families = []string{""} },
	} {
		config := good
		change(&config)
		_, err := NewScraper(config, StaticTargets{}, nil)
		require.ErrorContains(t, err, want)
	}
}
