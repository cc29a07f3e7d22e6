package poll

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type visit struct {
	target string
	memory int
	missed int
}

// recorder notes visits, which wait until they are let go.
type recorder struct {
	targets []string
	started chan visit
	release chan struct{}
}

func newLoop(concurrency int, targets ...string) (*Loop[string, int], *recorder) {
	r := &recorder{targets: targets, started: make(chan visit, 100), release: make(chan struct{}, 100)}
	return &Loop[string, int]{
		Interval: time.Hour, Timeout: time.Hour, Concurrency: concurrency,
		Targets: func() []string { return r.targets },
		Key:     func(target string) string { return target },
		Visit: func(ctx context.Context, target string, memory *int, missed int) {
			*memory++
			r.started <- visit{target, *memory, missed}
			select {
			case <-r.release:
			case <-ctx.Done():
			}
		},
	}, r
}

func (r *recorder) letGo(n int) {
	for range n {
		r.release <- struct{}{}
	}
}

func (r *recorder) next(n int) []visit {
	visits := make([]visit, n)
	for i := range visits {
		visits[i] = <-r.started
	}
	return visits
}

func TestTickVisitsEveryTargetOnce(t *testing.T) {
	l, r := newLoop(10, "a", "b", "a")
	r.letGo(2)
	l.tick(t.Context())
	l.visits.Wait()
	assert.ElementsMatch(t, []visit{{"a", 1, 0}, {"b", 1, 0}}, r.next(2))

	r.targets = []string{"b", "c"}
	r.letGo(2)
	l.tick(t.Context())
	l.visits.Wait()
	assert.ElementsMatch(t, []visit{{"b", 2, 0}, {"c", 1, 0}}, r.next(2))
	assert.Len(t, l.known, 2, "who is no longer listed is forgotten")

	r.targets = []string{"a"}
	r.letGo(1)
	l.tick(t.Context())
	l.visits.Wait()
	assert.Equal(t, []visit{{"a", 1, 0}}, r.next(1))
	assert.Empty(t, r.started)
}

func TestTickDoesNotVisitTwiceAtOnce(t *testing.T) {
	l, r := newLoop(10, "a")
	l.tick(t.Context())
	r.next(1)
	l.tick(t.Context())
	l.tick(t.Context())
	r.letGo(1)
	l.visits.Wait()
	assert.Empty(t, r.started)
	r.letGo(1)
	l.tick(t.Context())
	l.visits.Wait()
	assert.Equal(t, []visit{{"a", 2, 2}}, r.next(1), "missed ticks are told")
}

func TestConcurrencyIsBounded(t *testing.T) {
	l, r := newLoop(2, "a", "b", "c", "d", "e")
	l.tick(t.Context())
	r.next(2)
	assert.Empty(t, r.started)
	for range 3 {
		r.letGo(1)
		r.next(1)
		assert.Empty(t, r.started)
	}
	r.letGo(2)
	l.visits.Wait()
}

func TestRunEndsWithItsVisits(t *testing.T) {
	l, r := newLoop(1, "a", "b")
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { l.Run(ctx) })
	r.next(1) // the first tick comes at once; the other target waits for its turn
	cancel()
	run.Wait()
	assert.Empty(t, r.started)
}

func TestRunTicksAgain(t *testing.T) {
	l, r := newLoop(1, "a")
	l.Interval, l.Timeout = time.Millisecond, time.Millisecond
	r.letGo(3)
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { l.Run(ctx) })
	visits := r.next(3)
	cancel()
	run.Wait()
	assert.Equal(t, 3, visits[2].memory)
}

func TestTicksAreAligned(t *testing.T) {
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339Nano, text)
		require.NoError(t, err)
		return parsed
	}
	assert.Equal(t, 3*time.Second, untilTick(at("2026-11-23T21:00:12Z"), 5*time.Second))
	assert.Equal(t, 5*time.Second, untilTick(at("2026-11-23T21:00:15Z"), 5*time.Second))
	assert.Equal(t, time.Nanosecond, untilTick(at("2026-11-23T21:00:14.999999999Z"), 5*time.Second))
}

func TestValidate(t *testing.T) {
	for want, l := range map[string]*Loop[string, int]{
		"interval must be":         {},
		"timeout must be":          {Interval: 1},
		"longer than the interval": {Interval: 1, Timeout: 2, Concurrency: 1},
		"concurrency must be":      {Interval: 1, Timeout: 1},
	} {
		require.ErrorContains(t, l.Validate(), want)
	}
	require.NoError(t, (&Loop[string, int]{Interval: 1, Timeout: 1, Concurrency: 1}).Validate())
}

func TestGet(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "text/plain", r.Header.Get("Accept"))
		assert.Equal(t, "nephilia", r.Header.Get("User-Agent"))
		_, _ = w.Write([]byte("good"))
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = w.Write([]byte(strings.Repeat("x", 1<<20)))
	})
	mux.HandleFunc("/empty", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/good", http.StatusFound) })
	server := httptest.NewServer(mux)
	defer server.Close()
	client := WithoutRedirects(server.Client())
	defer client.CloseIdleConnections()

	response, err := Get(t.Context(), client, server.URL+"/good", "text/plain")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())

	for path, want := range map[string]string{
		"/broken": "answers 500", "/empty": "answers 204", "/away": "answers 302", "/nowhere": "answers 404",
	} {
		_, err := Get(t.Context(), client, server.URL+path, "text/plain") //nolint:bodyclose // there is none
		require.ErrorContains(t, err, want)
	}
	_, err = Get(t.Context(), client, ":", "text/plain") //nolint:bodyclose // there is none
	require.Error(t, err)
	_, err = Get(t.Context(), client, "http://127.0.0.1:0", "text/plain") //nolint:bodyclose // there is none
	require.Error(t, err)
}
