package endpoints

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

const origin = int64(1_790_000_000_000)

var catalog = Name{"shop", "catalog"}

// clock is a data clock that tests move.
type clock struct{ now int64 }

func newCatalogue(change func(*Settings)) (*Catalogue, *clock) {
	at := &clock{origin}
	settings := Settings{
		MaxServices: 100, MaxTemplates: 100, MaxBytes: 1 << 24, Retention: (7 * 24 * time.Hour).Milliseconds(), Now: func() int64 { return at.now },
	}
	if change != nil {
		change(&settings)
	}
	return New(settings), at
}

func get(path string, at int64) *Request {
	return &Request{Time: at, Service: catalog, Caller: Name{"shop", "web"}, Method: "GET", Path: path, Code: 200, Seconds: 0.01}
}

func list(c *Catalogue, start, end int64) []Endpoint {
	found, _ := c.List(&Query{Start: start, End: end})
	return found
}

func TestEndpoints(t *testing.T) {
	c, _ := newCatalogue(nil)
	for i := range 100 {
		c.Add(get(fmt.Sprintf("/products/%d", i), origin+int64(i)*100))
	}
	failed := get("/products/7", origin+500)
	failed.Code, failed.Failed, failed.Caller = 503, true, Name{"shop", "cart"}
	c.Add(failed)
	post := get("/products", origin)
	post.Method, post.Seconds = "POST", 0
	c.Add(post)
	got := list(c, origin, origin+10_000)
	require.Len(t, got, 2)
	assert.Equal(t, "/products", got[0].Path)
	assert.EqualValues(t, 1, got[0].Durations.Zero)
	e := got[1]
	assert.Equal(t, "GET /products/{id}", e.Method+" "+e.Path)
	assert.EqualValues(t, 101, e.Total)
	assert.EqualValues(t, 1, e.Failed)
	assert.Equal(t, map[uint16]uint64{200: 100, 503: 1}, e.ByCode)
	assert.Equal(t, []Name{{"shop", "web"}, {"shop", "cart"}}, []Name{e.Callers[0].Name, e.Callers[1].Name})
	assert.EqualValues(t, 100, e.Callers[0].Total)
	assert.Equal(t, origin, e.First)
	assert.Equal(t, origin+9900, e.Last)
	assert.Equal(t, semconv.RequestSourceWaypointLog, e.Source)
	median := make([]float64, 1)
	e.Durations.Quantiles([]float64{0.5}, median)
	assert.InDelta(t, 0.01, median[0], 0.001)

	with, _ := c.List(&Query{Namespace: "shop", Service: "catalog", Start: origin, End: origin + 40_000, Points: 4})
	assert.Equal(t, []uint64{101, 0, 0, 0}, with[1].Steps)
	assert.Equal(t, []uint64{1, 0, 0, 0}, with[1].Callers[1].FailedSteps)
	for _, none := range []Query{{Namespace: "x"}, {Service: "x"}, {Start: origin + 10_000, End: origin + 20_000}} {
		found, _ := c.List(&none)
		assert.Empty(t, found)
	}
	silent, _ := c.List(&Query{Start: origin + 10_000, End: origin + 20_000, Silent: true})
	assert.Len(t, silent, 2)
}

func TestTemplatesThatMergeKeepTheirCounts(t *testing.T) {
	c, _ := newCatalogue(nil)
	for i := range 400 {
		c.Add(get("/users/"+word(i)+"/orders", origin+int64(i%50)*1000))
	}
	got := list(c, origin, origin+60_000)
	require.Len(t, got, 1)
	assert.Equal(t, "/users/{id}/orders", got[0].Path)
	assert.EqualValues(t, 400, got[0].Total)
	assert.EqualValues(t, 400, got[0].Durations.Count)
	assert.EqualValues(t, 400, got[0].Callers[0].Total)
}

func word(i int) string {
	const parts = "anbeliromateso"
	out := ""
	for range 5 {
		out += parts[i%7*2 : i%7*2+2]
		i /= 7
	}
	return out
}

func TestOldCountsAreCoarse(t *testing.T) {
	c, at := newCatalogue(func(s *Settings) { s.Retention = (48 * time.Hour).Milliseconds() })
	const day = 24 * 3600_000
	for step := int64(0); step < 3*day; step += 30_000 {
		at.now = origin + step
		c.Add(get("/a", at.now))
	}
	now := at.now
	c.sweep(now)
	e := list(c, 0, now+1)[0]
	assert.InDelta(t, 2*day/30_000, float64(e.Total), 3600_000/30_000, "two days are kept")
	// The times of the last minutes are fine.
	assert.EqualValues(t, 2, list(c, now-now%10_000-50_000, now-now%10_000+10_000)[0].Total)
	slots := 0
	for _, s := range c.services.All() {
		s.all(func(_ *node, e *endpoint) { slots += len(e.counts[WaypointLog].slots) })
	}
	assert.Less(t, slots, 40+300+30)
}

func TestBounds(t *testing.T) {
	c, at := newCatalogue(func(s *Settings) { s.MaxServices, s.MaxTemplates, s.MaxBytes = 3, 20, 100_000 })
	counted := uint64(0)
	for i := range 20_000 {
		at.now = origin + int64(i)*1000
		r := get("/"+word(i)+"/"+word(i*7), at.now)
		r.Service.Name, r.Caller.Name, r.Method = fmt.Sprint("s", i%5), fmt.Sprint("c", i), fmt.Sprint("M", i%40)
		c.Add(r)
	}
	assert.EqualValues(t, 20_000*2/5, c.Dropped())
	assert.LessOrEqual(t, c.bytes, int64(200_000))
	found, since := c.List(&Query{End: at.now + 1})
	for i := range found {
		counted += found[i].Total
	}
	assert.LessOrEqual(t, len(found), 3*21*(maxMethods+1))
	assert.Positive(t, since)
	assert.Positive(t, counted)
	for _, impossible := range []int64{at.now + ahead + 1, at.now - c.Retention} {
		before := c.Dropped()
		c.Add(get("/", impossible))
		assert.Equal(t, before+1, c.Dropped())
	}
}

func TestWhoCounts(t *testing.T) {
	for name, c := range map[string]struct {
		counts map[Source]int
		total  uint64
		source string
	}{
		"a waypoint's log and spans tell the same":         {map[Source]int{WaypointLog: 5, Spans: 5}, 5, semconv.RequestSourceWaypointLog},
		"a gateway's failures and a waypoint's log add up": {map[Source]int{WaypointLog: 5, GatewayLog: 2, Spans: 9}, 7, semconv.RequestSourceWaypointLog},
		"spans tell more than a gateway":                   {map[Source]int{GatewayLog: 2, Spans: 9}, 9, semconv.RequestSourceSpans},
		"spans alone":                                      {map[Source]int{Spans: 3}, 3, semconv.RequestSourceSpans},
	} {
		t.Run(name, func(t *testing.T) {
			all, _ := newCatalogue(nil)
			for source, n := range c.counts {
				for range n {
					r := get("/a", origin)
					r.Source = source
					all.Add(r)
				}
			}
			got := list(all, origin, origin+1)
			require.Len(t, got, 1)
			assert.Equal(t, c.total, got[0].Total)
			assert.Equal(t, c.source, got[0].Source)
		})
	}
}

func TestCatalogueSurvivesARestart(t *testing.T) {
	directory := t.TempDir()
	c, at := newCatalogue(nil)
	require.NoError(t, c.Open(t.Context(), directory))
	for i := range 600 {
		at.now = origin + int64(i)*1000
		c.Add(get("/users/"+word(i)+"/orders", at.now))
		r := get(fmt.Sprintf("/products/%d", i), at.now)
		r.Source, r.Route, r.Caller = Spans, "/products/{product}", Name{}
		c.Add(r)
		if i%100 == 0 {
			require.NoError(t, c.Save(t.Context(), true))
		}
	}
	require.NoError(t, c.Save(t.Context(), false), "too soon")
	require.NoError(t, c.Save(t.Context(), true))
	again, _ := newCatalogue(nil)
	require.NoError(t, again.Open(t.Context(), directory))
	all := &Query{End: at.now + 1, Silent: true}
	want, _ := c.List(all)
	got, _ := again.List(all)
	assert.Equal(t, want, got)
	assert.Equal(t, c.bytes > 0, again.bytes > 0)
	again.Add(get("/users/somebody/orders", at.now))
	assert.Len(t, list(again, 0, at.now+1), 1, "what was learnt is known")

	require.NoError(t, os.WriteFile(filepath.Join(directory, "journal%2F0"), []byte("garbage"), 0o600))
	entries, err := os.ReadDir(directory)
	require.NoError(t, err)
	for _, entry := range entries {
		require.NoError(t, os.WriteFile(filepath.Join(directory, entry.Name()), []byte("garbage of no use"), 0o600))
	}
	broken, _ := newCatalogue(nil)
	require.ErrorIs(t, broken.Open(t.Context(), directory), journal.ErrDamaged)
	broken.Add(get("/a", origin))
	require.NoError(t, broken.Save(t.Context(), true))
	mended, _ := newCatalogue(nil)
	require.NoError(t, mended.Open(t.Context(), directory))
	assert.Len(t, list(mended, origin, origin+1), 1)
}

type fakeMesh struct{}

func (fakeMesh) Hostname(host string) *mesh.Service {
	if host == "catalog.shop.svc.cluster.local" {
		return &mesh.Service{Namespace: "shop", Name: "catalog", Hostname: host}
	}
	return nil
}

func (fakeMesh) Pod(namespace, name string) *mesh.Workload {
	if namespace == "shop" && name == "catalog-1" {
		return &mesh.Workload{Namespace: "shop", Name: name, Services: map[string][]mesh.Port{"shop/catalog.shop.svc.cluster.local": nil}}
	}
	return nil
}

func (fakeMesh) Address(addr netip.Addr) *mesh.Workload {
	if addr == netip.MustParseAddr("10.0.0.1") {
		return &mesh.Workload{Namespace: "shop", Name: "web-1", Naming: mesh.Naming{WorkloadName: "web"}}
	}
	return nil
}

func TestFromRecord(t *testing.T) {
	whole := map[string]any{
		semconv.LabelDestinationService: "catalog.shop.svc.cluster.local", semconv.LabelDestinationWorkload: "catalog-v1",
		semconv.LabelDestinationNamespace: "shop", semconv.LabelDestinationCanonicalService: "catalog",
		semconv.LabelSourceWorkload: "web", semconv.LabelSourceNamespace: "shop", semconv.AttrRequestMethod: "GET", semconv.AttrURLPath: "/a",
		semconv.AttrResponseStatusCode: int64(200), semconv.AttrRequestDuration: int64(250e6),
	}
	with := func(changes map[string]any) map[string]any {
		out := map[string]any{}
		for name, v := range whole {
			out[name] = v
		}
		for name, v := range changes {
			if out[name] = v; v == nil {
				delete(out, name)
			}
		}
		return out
	}
	read := func(attributes map[string]any) (Request, bool) {
		record := plog.NewLogRecord()
		record.SetTimestamp(pcommon.Timestamp(origin * 1e6))
		require.NoError(t, record.Attributes().FromRaw(attributes))
		return FromRecord(fakeMesh{}, pcommon.NewMap(), record)
	}
	r, ok := read(whole)
	require.True(t, ok)
	assert.Equal(t, Request{Time: origin, Service: catalog, Caller: Name{"shop", "web"}, Method: "GET", Path: "/a", Code: 200, Seconds: 0.25}, r)
	for name, c := range map[string]struct {
		change map[string]any
		want   Name
	}{
		"Kubernetes' name":    {map[string]any{semconv.LabelDestinationService: "other.infra.svc.cluster.local"}, Name{"infra", "other"}},
		"outside":             {map[string]any{semconv.LabelDestinationService: "api.example.com"}, Name{"", "api.example.com"}},
		"the workload itself": {map[string]any{semconv.LabelDestinationService: nil}, catalog},
	} {
		r, ok := read(with(c.change))
		require.True(t, ok, name)
		assert.Equal(t, c.want, r.Service, name)
	}
	for _, code := range []int64{0, 101} {
		r, _ := read(with(map[string]any{semconv.AttrResponseStatusCode: code}))
		assert.Negative(t, r.Seconds, code)
	}
	for name, none := range map[string]map[string]any{
		"told elsewhere": {semconv.AttrRepeated: true},
		"routed nowhere": {semconv.LabelDestinationService: nil, semconv.LabelDestinationWorkload: nil},
		"no HTTP":        {semconv.AttrRequestMethod: nil, semconv.AttrURLPath: nil},
	} {
		_, ok := read(with(none))
		assert.False(t, ok, name)
	}
}

func TestFromSpan(t *testing.T) {
	span := func(kind ptrace.SpanKind, attributes map[string]any) (Request, bool) {
		resource, s := pcommon.NewMap(), ptrace.NewSpan()
		resource.PutStr(semconv.AttrNamespaceName, "shop")
		resource.PutStr(semconv.AttrPodName, "catalog-1")
		s.SetKind(kind)
		s.SetStartTimestamp(pcommon.Timestamp(origin*1e6 - 5e8))
		s.SetEndTimestamp(pcommon.Timestamp(origin * 1e6))
		require.NoError(t, s.Attributes().FromRaw(attributes))
		return FromSpan(fakeMesh{}, resource, s)
	}
	for name, attributes := range map[string]map[string]any{
		"today's":   {"http.request.method": "GET", "url.path": "/owners/7", "http.route": "/owners/{id}", "http.response.status_code": int64(503), "client.address": "10.0.0.1"},
		"of before": {"http.method": "GET", "http.target": "/owners/7?a=b", "http.route": "/owners/{id}", "http.status_code": "503", "net.sock.peer.addr": "10.0.0.1"},
		"URL":       {"http.method": "GET", "http.url": "http://catalog/owners/7#x", "http.route": "/owners/{id}", "http.status_code": int64(503), "network.peer.address": "10.0.0.1"},
	} {
		r, ok := span(ptrace.SpanKindServer, attributes)
		require.True(t, ok, name)
		assert.Equal(t, Request{
			Time: origin, Service: catalog, Caller: Name{"shop", "web"}, Source: Spans, Method: "GET", Path: "/owners/7", Route: "/owners/{id}",
			Code: 503, Failed: true, Seconds: 0.5,
		}, r, name)
	}
	r, ok := span(ptrace.SpanKindServer, map[string]any{"rpc.service": "shop.Cart", "rpc.method": "Add", "rpc.grpc.status_code": int64(14)})
	require.True(t, ok)
	assert.Equal(t, "POST /shop.Cart/Add", r.Method+" "+r.Path)
	assert.True(t, r.Failed)
	for name, c := range map[string]struct {
		kind       ptrace.SpanKind
		attributes map[string]any
	}{
		"a client's":  {ptrace.SpanKindClient, map[string]any{"http.request.method": "GET", "url.path": "/"}},
		"a proxy's":   {ptrace.SpanKindServer, map[string]any{"http.method": "GET", "http.url": "/", "node_id": "waypoint~10.0.0.9"}},
		"a ztunnel's": {ptrace.SpanKindServer, map[string]any{semconv.AttrDirection: "inbound"}},
		"no request":  {ptrace.SpanKindServer, map[string]any{"messaging.system": "kafka"}},
		"no path":     {ptrace.SpanKindServer, map[string]any{"http.request.method": "GET"}},
	} {
		_, ok := span(c.kind, c.attributes)
		assert.False(t, ok, name)
	}
}

func TestCallersOfSpans(t *testing.T) {
	batch := func(spans ...func(ptrace.Span, pcommon.Map)) ptrace.Traces {
		td := ptrace.NewTraces()
		for _, fill := range spans {
			rs := td.ResourceSpans().AppendEmpty()
			span := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
			span.SetTraceID([16]byte{1})
			span.SetEndTimestamp(pcommon.Timestamp(origin * 1e6))
			fill(span, rs.Resource().Attributes())
		}
		return td
	}
	client := func(span ptrace.Span, resource pcommon.Map) {
		span.SetKind(ptrace.SpanKindClient)
		span.SetSpanID([8]byte{1})
		resource.PutStr(semconv.AttrServiceName, "web")
		resource.PutStr(semconv.AttrServiceNamespace, "shop")
	}
	proxy := func(span ptrace.Span, _ pcommon.Map) {
		span.SetKind(ptrace.SpanKindServer)
		span.SetSpanID([8]byte{2})
		span.SetParentSpanID([8]byte{1})
		span.Attributes().PutStr("node_id", "waypoint~10.0.0.9")
	}
	server := func(parent byte) func(ptrace.Span, pcommon.Map) {
		return func(span ptrace.Span, resource pcommon.Map) {
			span.SetKind(ptrace.SpanKindServer)
			span.SetSpanID([8]byte{3})
			span.SetParentSpanID([8]byte{parent})
			span.Attributes().PutStr("http.request.method", "GET")
			span.Attributes().PutStr("url.path", "/a")
			span.Attributes().PutInt("http.response.status_code", 500)
			resource.PutStr(semconv.AttrNamespaceName, "shop")
			resource.PutStr(semconv.AttrPodName, "catalog-1")
		}
	}
	for name, order := range map[string][]ptrace.Traces{
		"together":                  {batch(client, server(1))},
		"the client first":          {batch(client), batch(server(1))},
		"the client last":           {batch(server(1)), batch(client)},
		"a proxy between":           {batch(client, proxy, server(2))},
		"a proxy between, the last": {batch(server(2)), batch(client), batch(proxy)},
		"a proxy, then the client":  {batch(server(2)), batch(proxy), batch(client)},
	} {
		c, _ := newCatalogue(nil)
		j := NewJoiner(c, fakeMesh{})
		for _, td := range order {
			j.Add(td)
		}
		got := list(c, origin, origin+1)
		require.Len(t, got, 1, name)
		assert.EqualValues(t, 1, got[0].Failed, name)
		require.Len(t, got[0].Callers, 1, name)
		assert.Equal(t, Name{"shop", "web"}, got[0].Callers[0].Name, name)
		assert.EqualValues(t, 1, got[0].Callers[0].Failed, name)
	}
	c, at := newCatalogue(nil)
	j := NewJoiner(c, fakeMesh{})
	j.Add(batch(server(1)))
	at.now += 3600_000
	j.Add(batch(client))
	assert.Equal(t, otherCaller, list(c, origin, origin+1)[0].Callers[0].Name, "too late")
}

func TestWarmCataloguesDoNotAllocate(t *testing.T) {
	c, _ := newCatalogue(nil)
	r := get("/products/4711", origin)
	c.Add(r)
	assert.Zero(t, testing.AllocsPerRun(100, func() { c.Add(r) }))
}

// BenchmarkMemory has 1,000 services with 50 endpoints and two callers each, each asked once in 10 seconds, for 10 minutes.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		c, at := newCatalogue(func(s *Settings) { s.MaxServices, s.MaxBytes = 1000, 128<<20 })
		before := heap()
		for step := range int64(60) {
			at.now = origin + step*10_000
			for i := range 50_000 {
				r := get("/"+word(i%50)+"/4711", at.now)
				r.Service.Name, r.Caller.Name = word(i/50), word(int(step%2))
				c.Add(r)
			}
		}
		b.ReportMetric(float64(c.bytes)/(1<<20), "MiB-estimated")
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB-heap")
		found, since := c.List(&Query{End: at.now + 1})
		b.ReportMetric(float64(len(found)), "endpoints")
		b.ReportMetric(float64(max(since-origin, 0))/1000, "s-forgotten")
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkAdd(b *testing.B) {
	c, _ := newCatalogue(nil)
	r := get("/products/4711/reviews", origin)
	b.ReportAllocs()
	for b.Loop() {
		c.Add(r)
	}
}
