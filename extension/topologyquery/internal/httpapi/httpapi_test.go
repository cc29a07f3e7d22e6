package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/outage"
)

func TestGateBoundsWhatIsAnsweredAndWhatWaits(t *testing.T) {
	g := newGate(1, 1)
	require.NoError(t, g.enter(t.Context()))
	waiting, stop := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- g.enter(waiting) }()
	require.Eventually(t, func() bool { return len(g.waiting) == 2 }, time.Second, time.Millisecond)
	require.ErrorIs(t, g.enter(t.Context()), errBusy)
	stop()
	require.ErrorIs(t, <-result, errBusy)
	g.leave()
	require.NoError(t, g.enter(t.Context()))
	g.leave()
}

func testServer() *Server {
	return New(&stores.Stores{Sources: sources.New()}, Settings{
		Limits:   Limits{MaxRange: 24 * time.Hour, Timeout: 20 * time.Millisecond, Concurrent: 1},
		Observe:  func(context.Context, string, int, time.Duration) {},
		Rejected: func(context.Context) {},
		Failed:   func(context.Context, error) {},
	})
}

func TestSlowAndFailingHandlers(t *testing.T) {
	s := testServer()
	ask := func(h handler) int {
		w := httptest.NewRecorder()
		s.recovered(s.handle("/", h)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return w.Code
	}
	assert.Equal(t, http.StatusGatewayTimeout, ask(func(r *http.Request, _ *params) (*answer, error) {
		<-r.Context().Done()
		return nil, unavailable(r.Context().Err())
	}))
	assert.Equal(t, http.StatusInternalServerError, ask(func(*http.Request, *params) (*answer, error) { panic("unforeseen") }))
	assert.Equal(t, http.StatusBadGateway, ask(func(*http.Request, *params) (*answer, error) { return nil, unavailable(assert.AnError) }))
	assert.Equal(t, http.StatusOK, ask(func(*http.Request, *params) (*answer, error) { return jsonAnswer(1) }), "a place is given back in any case")
}

func TestPagesOfOutages(t *testing.T) {
	s := testServer()
	s.Outages = outages.New(10, func(*outage.Outage, string, int64) {})
	origin := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	for id, second := range map[string]int{"a": 3, "b": 2, "c": 2, "d": 2, "e": 1} {
		s.Outages.Put(&outage.Outage{ID: id, State: "open", StartedAt: origin.Add(time.Duration(second) * time.Second)}, "opened", origin.UnixMilli())
	}
	var found []string
	for cursor := ""; ; {
		got, err := s.listOutages(nil, &params{values: url.Values{"limit": {"2"}, "cursor": {cursor}}})
		require.NoError(t, err)
		var part struct {
			Outages []outage.Outage `json:"outages"`
			Next    string          `json:"next_cursor"`
		}
		require.NoError(t, json.Unmarshal(got.body, &part))
		for _, o := range part.Outages {
			found = append(found, o.ID)
		}
		if cursor = part.Next; cursor == "" {
			break
		}
	}
	assert.Equal(t, []string{"a", "b", "c", "d", "e"}, found)
	_, err := s.listOutages(nil, &params{values: url.Values{"cursor": {"bm9uZQ"}}})
	require.Error(t, err)
}

func TestTimes(t *testing.T) {
	want := time.Date(2026, 9, 1, 10, 0, 0, 500e6, time.UTC)
	for _, text := range []string{"2026-09-01T10:00:00.5Z", "2026-09-01T12:00:00.5+02:00", "2026-09-01T12:00:00.5 02:00", "1788256800.5"} {
		p := &params{values: url.Values{"start": {text}}}
		assert.True(t, want.Equal(p.time("start")), "%s: %s", text, p.time("start"))
		require.NoError(t, p.err)
	}
	for _, text := range []string{"yesterday", "-5", "1e300", "NaN", "Inf", "2026-09-01", "0000-01-01T00:00:00Z"} {
		p := &params{values: url.Values{"start": {text}}}
		p.time("start")
		require.Error(t, p.err, text)
	}
}

func TestWindowWithoutData(t *testing.T) {
	s := testServer()
	s.now = func() time.Time { return time.UnixMilli(10_000_000) }
	p := &params{values: url.Values{}}
	assert.Equal(t, window{10_000_000 - 300_000, 10_000_000}, s.window(p))
	s.Sources.Advance(5_000_000)
	s.Sources.Advance(8_000_000)
	assert.Equal(t, window{8_000_000 - 300_000, 8_000_000}, s.window(p), "by the data's clock")
	s.Sources.SetReplay("done", 8_000_000)
	assert.Equal(t, window{5_000_000 - 60_000, 8_000_000}, s.window(p), "the whole recording")
	p = &params{values: url.Values{"start": {"0"}, "end": {"100000000"}}}
	s.window(p)
	require.Error(t, p.err, "longer than allowed")
}

func TestPathsOfTheUI(t *testing.T) {
	u := &ui{files: fstest.MapFS{"index.html": {Data: []byte("page")}, "assets/a-1.js": {Data: []byte("script")}, ".hidden": {Data: []byte("x")}}}
	for path, want := range map[string]int{
		"/": 200, "/index.html": 200, "/outages/x": 200, "/nodes/ip-10-0-0-1.ec2.internal": 200, "/assets/a-1.js": 200, "/assets/b.js": 404, "/.hidden": 404, "/assets": 200, "/a.b": 404,
	} {
		w := httptest.NewRecorder()
		u.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		assert.Equal(t, want, w.Code, path)
	}
}
