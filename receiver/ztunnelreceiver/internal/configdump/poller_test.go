package configdump

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPoller(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/config_dump", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"config":{"localNode":"node-a"}}`) })
	mux.HandleFunc("/html", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") })
	mux.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/config_dump", http.StatusFound)
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"workloads":["`)
		for r.Context().Err() == nil {
			if _, err := w.Write([]byte(strings.Repeat("x", 1000))); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, "{")
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	want := map[string]string{
		"/config_dump": "", "/html": "not a JSON object", "/500": "answers 500", "/redirect": "answers 302",
		"/endless": "exceed the bound", "/short": "unexpected EOF",
	}
	var targets StaticTargets
	for path := range want {
		targets = append(targets, Target{URL: server.URL + path})
	}
	results := make(chan Result, len(targets))
	p, err := NewPoller(PollerConfig{
		Interval: time.Hour, Timeout: time.Minute, Concurrency: 2, Client: server.Client(), Options: Options{MaxBytes: 1 << 20},
	}, targets, func(r Result) { results <- r })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	for range targets {
		r := <-results
		path := strings.TrimPrefix(r.Target.URL, server.URL)
		if want[path] != "" {
			require.ErrorContains(t, r.Err, want[path], path)
			continue
		}
		require.NoError(t, r.Err)
		assert.Equal(t, "node-a", r.Dump.Ztunnel.Node)
		assert.Equal(t, r.At, r.Dump.Time)
	}
	cancel()
	run.Wait()
	server.Client().CloseIdleConnections()
}

func TestPollerSaysNothingOfWhatItBrokeOff(t *testing.T) {
	asked := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer server.Close()
	p, err := NewPoller(PollerConfig{Interval: time.Hour, Timeout: time.Hour, Concurrency: 1, Client: server.Client()},
		StaticTargets{{URL: server.URL}}, func(r Result) { assert.Fail(t, "a result", "%v", r.Err) })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	<-asked
	cancel()
	run.Wait()
}

func TestNewPollerValidates(t *testing.T) {
	_, err := NewPoller(PollerConfig{Client: http.DefaultClient}, StaticTargets{}, nil)
	require.ErrorContains(t, err, "config dump poller: interval")
}
