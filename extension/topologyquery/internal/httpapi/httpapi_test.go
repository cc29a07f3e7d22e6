package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/semconv"
)

// patience is how long a test waits for what is bound to come.
const patience = 30 * time.Second

// rejections counts requests that were turned away, by reason.
type rejections struct {
	mu     sync.Mutex
	counts map[string]int
}

func (r *rejections) add(_ context.Context, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[reason]++
}

func (r *rejections) of(reason string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[reason]
}

func testSettings(limits Limits) (*Settings, *rejections) {
	rejected := &rejections{counts: map[string]int{}}
	return &Settings{
		Limits:  limits,
		Dropped: func() []drops.Total { return nil },
		Hooks: Hooks{
			Observe:  func(context.Context, string, int, time.Duration) {},
			Rejected: rejected.add,
			Failed:   func(context.Context, error) {},
		},
	}, rejected
}

func request(target string) *http.Request { return httptest.NewRequest(http.MethodGet, target, nil) }

func ask(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestGateBoundsWhatIsAnsweredAndWhatWaits(t *testing.T) {
	g := newGate(1, 1)
	require.NoError(t, g.enter(t.Context()))
	waiting, stop := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- g.enter(waiting) }()
	require.Eventually(t, func() bool { return len(g.waiting) == 2 }, patience, time.Millisecond)
	require.ErrorIs(t, g.enter(t.Context()), errBusy)
	stop()
	require.ErrorIs(t, <-result, errBusy)
	g.leave()
	require.NoError(t, g.enter(t.Context()))
	g.leave()
}

func TestSlowAndFailingHandlers(t *testing.T) {
	settings, rejected := testSettings(Limits{Timeout: time.Millisecond, Concurrent: 1})
	s := newResponder(settings)
	made := func(h handler) *httptest.ResponseRecorder {
		return ask(recovered(settings.Failed, s.handle("/", s.gated(h))), request("/"))
	}
	assert.Equal(t, http.StatusGatewayTimeout, made(func(r *http.Request, _ *params) (*answer, error) {
		<-r.Context().Done()
		return nil, unavailable(r.Context().Err())
	}).Code)
	assert.Equal(t, http.StatusInternalServerError, made(func(*http.Request, *params) (*answer, error) { panic("unforeseen") }).Code)
	assert.Equal(t, http.StatusBadGateway, made(func(*http.Request, *params) (*answer, error) { return nil, unavailable(assert.AnError) }).Code)
	full := made(func(*http.Request, *params) (*answer, error) { return nil, unavailable(budget.ErrExceeded) })
	assert.Equal(t, http.StatusTooManyRequests, full.Code)
	assert.NotEmpty(t, full.Header().Get("Retry-After"))
	assert.Equal(t, 1, rejected.of(rejectedMemory))
	assert.Equal(t, http.StatusOK, made(func(*http.Request, *params) (*answer, error) { return jsonAnswer(1) }).Code, "a place is given back in any case")
}

// The server's own write timeout counts from the request on, and is over when the answer that says so is there.
func TestTimeoutArrivesAfterTheWriteTimeout(t *testing.T) {
	settings, _ := testSettings(Limits{Timeout: 20 * time.Millisecond, Concurrent: 1})
	s := newResponder(settings)
	server := httptest.NewUnstartedServer(s.handle("/", s.gated(func(r *http.Request, _ *params) (*answer, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})))
	server.Config.WriteTimeout = time.Millisecond
	server.Start()
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, http.StatusGatewayTimeout, response.StatusCode)
}

// slowReader is a client that reads nothing until it is told to, or until its deadline has passed.
type slowReader struct {
	http.ResponseWriter
	begun     chan struct{}
	proceed   chan error
	once      sync.Once
	deadlines int
	writes    int
}

func newSlowReader() *slowReader {
	return &slowReader{ResponseWriter: httptest.NewRecorder(), begun: make(chan struct{}), proceed: make(chan error, 1)}
}

func (s *slowReader) SetWriteDeadline(time.Time) error {
	s.deadlines++
	return nil
}

func (s *slowReader) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.begun) })
	s.writes++
	if err := <-s.proceed; err != nil {
		return 0, err
	}
	s.proceed <- nil
	return s.ResponseWriter.Write(b)
}

func TestSlowReadersKeepNobodyWaiting(t *testing.T) {
	settings, rejected := testSettings(Limits{Timeout: patience, Concurrent: 1})
	settings.Memory = budget.New(1 << 20)
	s := newResponder(settings)
	large := strings.Repeat("x", 3*writeChunk)
	h := s.handle("/", s.gated(func(*http.Request, *params) (*answer, error) { return jsonAnswer(large) }))
	slow, done := newSlowReader(), make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(slow, request("/"))
	}()
	<-slow.begun
	assert.Equal(t, http.StatusOK, ask(h, request("/")).Code, "the only place is free while the body is sent")
	assert.GreaterOrEqual(t, settings.Memory.Used(), int64(len(large)), "what is being sent is counted")
	slow.proceed <- nil
	<-done
	assert.Equal(t, slow.writes, slow.deadlines, "each part has a time of its own")
	assert.Greater(t, slow.writes, 3)
	assert.Zero(t, settings.Memory.Used())

	late := newSlowReader()
	late.proceed <- os.ErrDeadlineExceeded
	h.ServeHTTP(late, request("/"))
	assert.Equal(t, 1, late.writes, "a client that does not read is cut off")
	assert.Equal(t, 1, rejected.of(rejectedSlow))
	assert.Zero(t, settings.Memory.Used())
}

// slowMesh holds up whoever asks for the workloads until it is told to go on.
type slowMesh struct {
	*inventory.Inventory
	asked, proceed chan struct{}
}

func (s *slowMesh) ByName() map[inventory.Name]*inventory.Workload {
	s.asked <- struct{}{}
	<-s.proceed
	return s.Inventory.ByName()
}

func testGraphs(settings *Settings) *graphs {
	all := &stores.Stores{
		Live: live.New(live.Settings{Window: 900_000, Resolution: 1000, MaxEdges: 100}), Sources: sources.New(),
		Inventory: inventory.New(10), Outages: outages.New(10, nil),
	}
	all.Sources.Advance(1_790_000_000_000)
	all.Live.Update(func(w live.Writer) {
		w.Edge(edge.Key{Source: edge.Party{Workload: "a", Namespace: "n"}, Destination: edge.Party{Workload: "b", Namespace: "n"}})
		w.SetCoverage(1)
	})
	r := &ranges{data: all.Sources, wall: time.Now, most: 24 * time.Hour}
	return newGraphs(all, settings, r, newGate(settings.Limits.Concurrent, settings.Limits.Queue))
}

func TestAThousandRequestsForAGraphCostOneComputation(t *testing.T) {
	settings, rejected := testSettings(Limits{Timeout: patience, Concurrent: 1})
	settings.Memory = budget.New(1 << 20)
	g := testGraphs(settings)
	mesh := &slowMesh{inventory.New(10), make(chan struct{}), make(chan struct{})}
	g.mesh = mesh
	const viewers = 1000
	codes := make(chan int, viewers)
	h := newResponder(settings).handle("/", g.get)
	for range viewers {
		go func() { codes <- ask(h, request("/?end=1790000000&start=1789999999")).Code }()
	}
	<-mesh.asked
	assert.Positive(t, settings.Memory.Used())
	close(mesh.proceed)
	for range viewers {
		assert.Equal(t, http.StatusOK, <-codes)
	}
	assert.Empty(t, mesh.asked)
	assert.Zero(t, rejected.of(rejectedBusy), "only the one that computes needs a place")

	settings.Memory.Charge(1 << 20)
	full := ask(h, request("/?end=1790000001&start=1789999999"))
	assert.Equal(t, http.StatusTooManyRequests, full.Code, full.Body)
	settings.Memory.Release(1 << 20)
	g.mesh = mesh.Inventory
	assert.Equal(t, http.StatusOK, ask(h, request("/?end=1790000001&start=1789999999")).Code)
}

func TestTheFirstClientOfAGraphMayLeave(t *testing.T) {
	settings, _ := testSettings(Limits{Timeout: patience, Concurrent: 1})
	g := testGraphs(settings)
	mesh := &slowMesh{inventory.New(10), make(chan struct{}), make(chan struct{})}
	g.mesh = mesh
	ctx, leave := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	get := func(ctx context.Context) error {
		_, err := g.get(request("/").WithContext(ctx), &params{values: url.Values{}})
		return err
	}
	go func() { first <- get(ctx) }()
	<-mesh.asked
	go func() { second <- get(t.Context()) }()
	leave()
	close(mesh.proceed)
	require.NoError(t, <-second)
	require.NoError(t, <-first)
}

func TestCachedGraphsCountAsMemory(t *testing.T) {
	memory := budget.New(1 << 30)
	c := newGraphCache(memory)
	for i := range cachedGraphs + 5 {
		c.put(strings.Repeat("k", i), &answer{body: make([]byte, 100)})
	}
	assert.EqualValues(t, 100*cachedGraphs, memory.Used())
}

func TestPagesOfOutages(t *testing.T) {
	kept := outages.New(10, func(*outage.Outage, string, int64) {})
	s := &outageRoutes{outages: kept}
	origin := time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	for id, second := range map[string]int{"a": 3, "b": 2, "c": 2, "d": 2, "e": 1} {
		kept.Put(&outage.Outage{ID: id, State: "open", StartedAt: origin.Add(time.Duration(second) * time.Second)}, "opened", origin.UnixMilli())
	}
	var found []string
	for cursor := ""; ; {
		got, err := s.list(nil, &params{values: url.Values{"limit": {"2"}, "cursor": {cursor}}})
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
	_, err := s.list(nil, &params{values: url.Values{"cursor": {"bm9uZQ"}}})
	require.Error(t, err)
}

func TestTimes(t *testing.T) {
	want := time.Date(2026, 9, 1, 10, 0, 0, 500e6, time.UTC)
	for _, text := range []string{"2026-09-01T10:00:00.5Z", "2026-09-01T12:00:00.5+02:00", "2026-09-01T12:00:00.5 02:00", "1788256800.5", "1788256800500"} {
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

func TestTimesThatJSONCannotSay(t *testing.T) {
	for _, ms := range []int64{0, -1, -1 << 63, 1<<63 - 1, lastMilli + 1} {
		assert.Nil(t, timeOf(ms))
	}
	assert.Equal(t, 9999, timeOf(lastMilli).Year())
	settings, _ := testSettings(Limits{})
	for _, position := range []int64{-1 << 63, 1<<63 - 1} {
		tracker := sources.New()
		tracker.SetReplay(sources.Replay{State: "running", Position: position})
		s := &statusRoutes{settings: settings, live: live.New(live.Settings{}), sources: tracker, records: &records.Store{}, ranges: &ranges{data: tracker, wall: time.Now}}
		_, err := s.status(nil, nil)
		require.NoError(t, err)
	}
}

func TestWindowWithoutData(t *testing.T) {
	tracker := sources.New()
	s := &ranges{data: tracker, wall: func() time.Time { return time.UnixMilli(10_000_000) }, most: 24 * time.Hour}
	p := &params{values: url.Values{}}
	assert.Equal(t, window{10_000_000 - 300_000, 10_000_000}, s.window(p))
	tracker.Advance(5_000_000)
	tracker.Advance(8_000_000)
	assert.Equal(t, window{8_000_000 - 300_000, 8_000_000}, s.window(p), "by the data's clock")
	tracker.SetReplay(sources.Replay{State: "done", Position: 8_000_000})
	assert.Equal(t, window{5_000_000 - 60_000, 8_000_000}, s.window(p), "the whole recording")
	p = &params{values: url.Values{"start": {"0"}, "end": {"100000000"}}}
	s.window(p)
	require.Error(t, p.err, "longer than allowed")
}

func TestStatusSaysWhyAReplayFailed(t *testing.T) {
	settings, _ := testSettings(Limits{})
	tracker := sources.New()
	tracker.SetReplay(sources.Replay{State: semconv.ReplayFailed, Position: 8_000_000, Reason: "recording /r: there is no such folder"})
	s := &statusRoutes{settings: settings, live: live.New(live.Settings{}), sources: tracker, records: &records.Store{}, ranges: &ranges{data: tracker, wall: time.Now}}
	answer, err := s.status(nil, nil)
	require.NoError(t, err)
	assert.Contains(t, string(answer.body), `"replay":{"state":"failed","position":"1970-01-01T02:13:20Z","reason":"recording /r: there is no such folder"}`)
}

func TestStatusListsClocksThatAreWrong(t *testing.T) {
	settings, _ := testSettings(Limits{})
	now := time.UnixMilli(1_790_000_000_000)
	tracker := sources.New()
	tracker.Wall = func() time.Time { return now }
	tracker.Heartbeat("b", datatime.Beat{Node: "b", Time: pcommon.NewTimestampFromTime(now.Add(10 * time.Minute))})
	s := &statusRoutes{settings: settings, live: live.New(live.Settings{}), sources: tracker, records: &records.Store{}, ranges: &ranges{data: tracker, wall: time.Now}}
	answer, err := s.status(nil, nil)
	require.NoError(t, err)
	assert.Contains(t, string(answer.body), `"clock_problems":[{"node":"b","kind":"clock_ahead","offset_seconds":600,"text":"The clock of node b is 10m0s ahead`)
}

func TestAllowedHosts(t *testing.T) {
	settings, rejected := testSettings(Limits{})
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	h := allowHosts([]string{"localhost", ".localhost", "mesh.example", ".svc"}, settings.Rejected, ok)
	for host, want := range map[string]int{
		"localhost": 200, "localhost:16680": 200, "LOCALHOST.": 200, "a.localhost:1": 200, "127.0.0.1:16680": 200, "[::1]:16680": 200, "[::1]": 200,
		"10.1.2.3": 200, "mesh.example": 200, "nephilia.mesh.svc:80": 200,
		"evil.example": 421, "evil.example:16680": 421, "localhost.evil.example": 421, "evilmesh.example": 421, "127.0.0.1.evil.example": 421, "": 421,
	} {
		r := request("/")
		r.Host = host
		assert.Equal(t, want, ask(h, r).Code, host)
	}
	assert.Equal(t, 6, rejected.of(rejectedHost))
	r := request("/")
	r.Host = "evil.example"
	assert.Equal(t, http.StatusOK, ask(allowHosts(nil, nil, ok), r).Code)
}

func TestPathsOfTheUI(t *testing.T) {
	u := compressed(&ui{files: fstest.MapFS{"index.html": {Data: []byte("page")}, "assets/a-1.js": {Data: []byte("script")}, ".hidden": {Data: []byte("x")}}})
	for path, want := range map[string][2]int{
		// for a browser, and for a program
		"/": {200, 200}, "/index.html": {200, 200}, "/assets/a-1.js": {200, 200},
		"/outages/x": {200, 404}, "/graph": {200, 404}, "/nodes/ip-10-0-0-1.ec2.internal": {200, 404},
		"/metrics": {404, 404}, "/mcp": {404, 404}, "/healthz": {404, 404}, "/kiali/api/status": {404, 404},
		"/assets/b.js": {404, 404}, "/.hidden": {404, 404}, "/assets": {404, 404}, "/a.b": {404, 404},
	} {
		r := request(path)
		assert.Equal(t, want[1], ask(u, r).Code, path)
		r.Header.Set("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
		page := ask(u, r)
		assert.Equal(t, want[0], page.Code, path)
		if want[0] == http.StatusNotFound && !strings.HasPrefix(path, "/assets/") {
			assert.Equal(t, "page", page.Body.String(), "the UI says what is not there")
		}
	}
}

func TestPagesAreThoseOfTheUI(t *testing.T) {
	routes, err := os.ReadFile("../../../../ui/src/app/routes.tsx")
	require.NoError(t, err)
	var found []string
	for _, match := range regexp.MustCompile(`(?m)^  '?([a-z-]+)'?: lazy`).FindAllSubmatch(routes, -1) {
		found = append(found, string(match[1]))
	}
	assert.ElementsMatch(t, found, pages)
}

func TestErrorsOfStoresKeepTheirCause(t *testing.T) {
	assert.ErrorIs(t, unavailable(context.DeadlineExceeded), context.DeadlineExceeded)
}
