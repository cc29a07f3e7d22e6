package traces

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/records"
)

var origin = time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)

type testSpan struct {
	trace, span, parent byte
	service, name       string
	start, duration     time.Duration
	failed              bool
	attributes          map[string]any
}

func batch(spans ...testSpan) ptrace.Traces {
	td := ptrace.NewTraces()
	for _, s := range spans {
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", s.service)
		span := rs.ScopeSpans().AppendEmpty().Spans().AppendEmpty()
		span.SetTraceID(pcommon.TraceID{15: s.trace})
		span.SetSpanID(pcommon.SpanID{7: s.span})
		if s.parent != 0 {
			span.SetParentSpanID(pcommon.SpanID{7: s.parent})
		}
		span.SetName(s.name)
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(origin.Add(s.start)))
		span.SetEndTimestamp(pcommon.NewTimestampFromTime(origin.Add(s.start + s.duration)))
		if s.failed {
			span.Status().SetCode(ptrace.StatusCodeError)
		}
		_ = span.Attributes().FromRaw(s.attributes)
	}
	return td
}

var shop = []testSpan{
	{1, 1, 0, "frontend", "POST /checkout", 0, 100 * time.Millisecond, false, map[string]any{"http.route": "/checkout"}},
	{1, 2, 1, "checkout", "POST /orders", 10 * time.Millisecond, 50 * time.Millisecond, true, map[string]any{"http.response.status_code": 500}},
	{2, 3, 0, "frontend", "GET /product/{id}", time.Second, 5 * time.Millisecond, false, nil},
	{3, 4, 0, "cart", "outbound redis", 2 * time.Second, time.Millisecond, false, map[string]any{"ztunnel.direction": "outbound"}},
}

func ids(list []Summary) (out []string) {
	for _, s := range list {
		out = append(out, s.TraceID[30:])
	}
	return out
}

// newStore returns a store over records in a directory of the test.
func newStore(t *testing.T) (*Store, *records.Store) {
	t.Helper()
	kept, err := records.Open(records.Settings{
		Directory: t.TempDir(), MaxBytes: 1 << 30, Retention: time.Hour, Now: func() time.Time { return origin }, Logger: zap.NewNop(),
	}, Kind, SampleKind)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, kept.Close()) })
	return NewStore(kept.Table(KindName), kept.Table(SampleKind.Name), nil), kept
}

// TestSamplesOfAnOutage finds the traces of an outage after their spans have left.
func TestSamplesOfAnOutage(t *testing.T) {
	s, kept := newStore(t)
	s.Add(batch(shop...))
	require.NoError(t, kept.Flush())
	o := &outage.Outage{StartedAt: origin.Add(-time.Second), Edges: []outage.Edge{{Source: outage.Name{Namespace: "shop", Name: "checkout"}}}}
	o.TraceIDs = []string{fmt.Sprintf("%032x", 3), "no id"}
	require.NoError(t, s.KeepSamples(t.Context(), o, origin.Add(time.Minute), 0, 100))
	require.NoError(t, s.KeepSamples(t.Context(), o, origin.Add(time.Minute), 0, 100), "once")

	empty, err := records.Open(records.Settings{
		Directory: t.TempDir(), MaxBytes: 1 << 30, Retention: time.Hour, Now: func() time.Time { return origin }, Logger: zap.NewNop(),
	}, Kind)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, empty.Close()) })
	left := NewStore(empty.Table(KindName), kept.Table(SampleKind.Name), nil)
	list, err := left.Search(t.Context(), Query{Limit: 10})
	require.NoError(t, err)
	assert.Equal(t, []string{"03", "01"}, ids(list))
	for _, one := range list {
		want, err := s.Trace(t.Context(), one.TraceID)
		require.NoError(t, err)
		got, err := left.Trace(t.Context(), one.TraceID)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	none, err := left.Trace(t.Context(), fmt.Sprintf("%032x", 2))
	require.NoError(t, err)
	assert.Nil(t, none)
}

func TestSearch(t *testing.T) {
	s, kept := newStore(t)
	t.Run("in memory", func(t *testing.T) {
		s.Add(batch(shop...))
		testSearch(t, s)
	})
	t.Run("in files", func(t *testing.T) {
		require.NoError(t, kept.Flush())
		testSearch(t, s)
	})
}

func testSearch(t *testing.T, s *Store) {
	s.Add(batch(shop[:2]...)) // a span that comes again is the same span
	assert.EqualValues(t, 4, s.Spans())
	for name, test := range map[string]struct {
		query Query
		want  []string
	}{
		"all, newest first":     {Query{}, []string{"03", "02", "01"}},
		"limit":                 {Query{Limit: 2}, []string{"03", "02"}},
		"service":               {Query{Service: "frontend"}, []string{"02", "01"}},
		"operation":             {Query{Operation: "POST /orders"}, []string{"01"}},
		"route":                 {Query{Operation: "/checkout"}, []string{"01"}},
		"attribute":             {Query{Attributes: map[string]string{"http.response.status_code": "500"}}, []string{"01"}},
		"one span has it all":   {Query{Service: "frontend", Status: "error"}, nil},
		"status":                {Query{Status: "error"}, []string{"01"}},
		"slower than":           {Query{MinDuration: 60 * time.Millisecond}, []string{"01"}},
		"faster than":           {Query{MaxDuration: 2 * time.Millisecond}, []string{"03"}},
		"layer":                 {Query{Layer: LayerL4}, []string{"03"}},
		"after one":             {Query{After: origin.Add(time.Second), AfterID: fmt.Sprintf("%032x", 2)}, []string{"01"}},
		"as old as that one":    {Query{After: origin.Add(time.Second), AfterID: fmt.Sprintf("%032x", 1)}, []string{"02", "01"}},
		"range, end is outside": {Query{Start: origin, End: origin.Add(time.Second)}, []string{"01"}},
	} {
		t.Run(name, func(t *testing.T) {
			if test.query.Limit == 0 {
				test.query.Limit = 10
			}
			list, err := s.Search(t.Context(), test.query)
			require.NoError(t, err)
			assert.Equal(t, test.want, ids(list))
		})
	}
	list, err := s.Search(t.Context(), Query{Service: "checkout", Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, Summary{
		TraceID: fmt.Sprintf("%032x", 1), RootService: "frontend", RootOperation: "POST /checkout", Start: origin, DurationMS: 100,
		Spans: 2, Errors: 1, Services: []string{"checkout", "frontend"},
	}, list[0])
	services, err := s.Services(t.Context(), time.Time{}, time.Time{})
	require.NoError(t, err)
	assert.Equal(t, []Service{
		newService("cart", []Operation{{"outbound redis", "unspecified"}}),
		newService("checkout", []Operation{{"POST /orders", "unspecified"}}),
		newService("frontend", []Operation{{"GET /product/{id}", "unspecified"}, {"POST /checkout", "unspecified"}}),
	}, services)
}

// TestLateSpansJoin has a trace whose spans arrive in two parts, with others in between.
func TestLateSpansJoin(t *testing.T) {
	s, kept := newStore(t)
	s.Add(batch(shop[1]))
	require.NoError(t, kept.Flush())
	s.Add(batch(shop[2:]...))
	require.NoError(t, kept.Flush())
	s.Add(batch(shop[0]))
	trace, err := s.Trace(t.Context(), fmt.Sprintf("%032x", 1))
	require.NoError(t, err)
	require.Len(t, trace.Spans, 2)
	assert.Equal(t, "frontend", trace.Spans[0].Service)
	list, err := s.Search(t.Context(), Query{Service: "checkout", Limit: 1})
	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, "frontend", list[0].RootService)
	assert.Equal(t, 2, list[0].Spans)
}

func TestOrders(t *testing.T) {
	s, kept := newStore(t)
	for i := range byte(40) {
		one := testSpan{trace: i + 1, span: 1, service: "a", start: time.Duration(i) * time.Second, duration: time.Duration(i*7%40) * time.Millisecond, failed: i%10 == 0}
		s.Add(batch(one))
		if i == 20 {
			require.NoError(t, kept.Flush())
		}
	}
	s.Add(batch(testSpan{trace: 5, span: 2, parent: 1, service: "b", start: 4 * time.Second, failed: true}))
	for order, want := range map[Order][]string{
		OrderNewest:  {"28", "27", "26"},
		OrderSlowest: {"12", "23", "0c"},
		OrderSpans:   {"05", "28", "27"},
		OrderErrors:  {"1f", "15", "0b"},
	} {
		list, err := s.Search(t.Context(), Query{Order: order, Limit: 3})
		require.NoError(t, err)
		assert.Equal(t, want, ids(list), order)
		if order != OrderNewest {
			list, err = s.Search(t.Context(), Query{Order: order, Limit: 2, Offset: 1})
			require.NoError(t, err)
			assert.Equal(t, want[1:], ids(list), order)
		}
	}
}

// TestSlowestOfMany compares the traces of files by their digests alone.
func TestSlowestOfMany(t *testing.T) {
	s, kept := newStore(t)
	s.compared = 0
	durations := map[string]time.Duration{}
	for n := range 900 {
		td := ptrace.NewTraces()
		for i := range 2 {
			one := testSpan{span: byte(i + 1), service: fmt.Sprint("service-", n%7), start: time.Duration(n) * time.Second, duration: time.Duration(n*37%900+i) * time.Millisecond}
			batch(one).ResourceSpans().MoveAndAppendTo(td.ResourceSpans())
		}
		id := pcommon.TraceID{14: byte(n >> 8), 15: byte(n)}
		for _, rs := range td.ResourceSpans().All() {
			rs.ScopeSpans().At(0).Spans().At(0).SetTraceID(id)
		}
		durations[id.String()] = time.Duration(n*37%900+1) * time.Millisecond
		s.Add(td)
		if n == 300 || n == 600 {
			require.NoError(t, kept.Flush())
		}
	}
	check := func() {
		for _, q := range []Query{
			{Limit: 20},
			{Limit: 100, Offset: 150},
			{Limit: 20, Service: "service-3"},
			{Limit: 5, Start: origin.Add(310 * time.Second)},
			{Limit: 30, Start: origin.Add(100 * time.Second), End: origin.Add(250 * time.Second)},
		} {
			var want []time.Duration
			for n := range 900 {
				at := origin.Add(time.Duration(n) * time.Second)
				if (q.Service == "" || n%7 == 3) && !at.Before(q.Start) && (q.End.IsZero() || at.Before(q.End)) {
					want = append(want, time.Duration(n*37%900+1)*time.Millisecond)
				}
			}
			slices.Sort(want)
			slices.Reverse(want)
			q.Order = OrderSlowest
			list, err := s.Search(t.Context(), q)
			require.NoError(t, err)
			var got []time.Duration
			for _, one := range list {
				got = append(got, time.Duration(one.DurationMS*1e6))
				assert.Equal(t, durations[one.TraceID], got[len(got)-1])
				assert.Equal(t, 2, one.Spans)
			}
			assert.Equal(t, want[q.Offset:q.Offset+q.Limit], got)
		}
	}
	check()
	require.NoError(t, kept.Flush())
	check()
}

// TestAllFieldsReturn stores a span with all that one can have.
func TestAllFieldsReturn(t *testing.T) {
	s, kept := newStore(t)
	td := batch(testSpan{trace: 1, span: 2, parent: 1, service: "a", name: "GET /", duration: 1234567, failed: true, attributes: map[string]any{
		"http.route": "/", "empty": "", "number": 7, "odd\x00 name": "ü",
	}})
	td.ResourceSpans().At(0).Resource().Attributes().PutStr("k8s.pod.name", "pod")
	td.ResourceSpans().At(0).Resource().Attributes().PutStr("k8s.node.name", "node")
	td.ResourceSpans().At(0).Resource().Attributes().PutStr("service.namespace", "ns")
	span := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
	span.SetKind(ptrace.SpanKindServer)
	span.Status().SetMessage("why")
	event := span.Events().AppendEmpty()
	event.SetName("exception")
	event.SetTimestamp(pcommon.NewTimestampFromTime(origin))
	event.Attributes().PutStr("exception.message", "no")
	var want []*Span
	convert(td, nil, func(s *Span) { want = append(want, s) })
	s.Add(td)
	for range 2 {
		trace, err := s.Trace(t.Context(), fmt.Sprintf("%032x", 1))
		require.NoError(t, err)
		assert.Equal(t, want, trace.Spans)
		list, err := s.Search(t.Context(), Query{Attributes: map[string]string{"empty": "", "number": "7"}, Limit: 5})
		require.NoError(t, err)
		assert.Len(t, list, 1)
		require.NoError(t, kept.Flush())
	}
}

func TestCounts(t *testing.T) {
	s, _ := newStore(t)
	s.Add(batch(shop...))
	counts, err := s.Count(t.Context(), Query{Start: origin, End: origin.Add(4 * time.Second), Layer: LayerL7}, 4)
	require.NoError(t, err)
	assert.InDelta(t, 1, counts.StepSeconds, 1e-9)
	var total, failed uint64
	for step := range counts.Spans {
		for cell, n := range counts.Spans[step] {
			total, failed = total+n, failed+counts.Errors[step][cell]
			if n > 0 && step == 1 {
				assert.InDelta(t, 8.192, counts.BoundsMS[cell], 1e-9, "5 ms")
			}
		}
	}
	assert.EqualValues(t, 3, total)
	assert.EqualValues(t, 1, failed)
}

func TestHostileSpansAreBounded(t *testing.T) {
	attributes := map[string]any{}
	for i := range 1000 {
		attributes[fmt.Sprint(i)] = "\xff" + strings.Repeat("x", 10_000)
	}
	s, _ := newStore(t)
	s.Add(batch(testSpan{1, 1, 0, strings.Repeat("s", 1<<20), "n", 0, -time.Second, false, attributes}))
	trace, err := s.Trace(t.Context(), fmt.Sprintf("%032x", 1))
	require.NoError(t, err)
	span := trace.Spans[0]
	assert.Len(t, span.Attributes, maxAttributes)
	assert.Len(t, span.Service, maxText)
	assert.Zero(t, span.DurationMS)
	encoded, err := json.Marshal(trace)
	require.NoError(t, err)
	assert.Less(t, len(encoded), 200_000)
}

// TestCutTraceSaysSo sends more spans of a trace than one may have.
func TestCutTraceSaysSo(t *testing.T) {
	s, _ := newStore(t)
	td := ptrace.NewTraces()
	spans := td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans()
	for i := range maxSpansPerTrace + 5 {
		span := spans.AppendEmpty()
		span.SetTraceID(pcommon.TraceID{15: 1})
		span.SetSpanID(pcommon.SpanID{6: byte(i >> 8), 7: byte(i), 0: 1})
		span.SetStartTimestamp(pcommon.NewTimestampFromTime(origin))
	}
	s.Add(td)
	trace, err := s.Trace(t.Context(), fmt.Sprintf("%032x", 1))
	require.NoError(t, err)
	assert.Len(t, trace.Spans, maxSpansPerTrace)
	assert.Equal(t, 5, trace.DroppedSpans)
	list, err := s.Search(t.Context(), Query{Limit: 1})
	require.NoError(t, err)
	assert.Equal(t, 5, list[0].DroppedSpans)
}

func TestClockSkew(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		kinds           [2]ptrace.SpanKind
		start, duration time.Duration // of the server's span; the client's is from 5 to 55 ms
		failed          bool
		want            float64
	}{
		"inside":                     {start: 10 * ms, duration: 40 * ms},
		"within the slack":           {start: 4 * ms, duration: 40 * ms},
		"behind":                     {start: -390 * ms, duration: 40 * ms, want: -400},
		"ahead":                      {start: 410 * ms, duration: 40 * ms, want: 400},
		"behind, longer":             {start: 0, duration: 80 * ms, want: -5},
		"answers on after headers":   {start: 10 * ms, duration: 80 * ms},
		"the client had left before": {start: 100 * ms, duration: 10 * ms, failed: true},
		"a child of its own process": {kinds: [2]ptrace.SpanKind{ptrace.SpanKindServer, ptrace.SpanKindClient}, start: 0, duration: 5 * ms},
		"a message that waited":      {kinds: [2]ptrace.SpanKind{ptrace.SpanKindProducer, ptrace.SpanKindConsumer}, start: time.Hour, duration: ms},
		"a message before it was":    {kinds: [2]ptrace.SpanKind{ptrace.SpanKindProducer, ptrace.SpanKindConsumer}, start: -95 * ms, duration: ms, want: -100},
	} {
		t.Run(name, func(t *testing.T) {
			td := batch(
				testSpan{1, 1, 0, "web", "GET", 5 * ms, 50 * ms, test.failed, nil},
				testSpan{1, 2, 1, "api", "GET", test.start, test.duration, false, nil},
			)
			if test.kinds[0] == ptrace.SpanKindUnspecified {
				test.kinds = [2]ptrace.SpanKind{ptrace.SpanKindClient, ptrace.SpanKindServer}
			}
			for i, kind := range test.kinds {
				td.ResourceSpans().At(i).ScopeSpans().At(0).Spans().At(0).SetKind(kind)
			}
			s, _ := newStore(t)
			s.Add(td)
			trace, err := s.Trace(t.Context(), fmt.Sprintf("%032x", 1))
			require.NoError(t, err)
			list, err := s.Search(t.Context(), Query{Limit: 1})
			require.NoError(t, err)
			assert.InDelta(t, test.want, list[0].ClockSkewMS, 1e-6)
			if test.want == 0 {
				assert.Empty(t, trace.ClockSkews)
				return
			}
			require.Len(t, trace.ClockSkews, 1)
			assert.Equal(t, "api", trace.ClockSkews[0].Service)
			assert.InDelta(t, test.want, trace.ClockSkews[0].SkewMS, 1e-6)
		})
	}
}

// jaeger answers as a Jaeger of a version does.
func jaeger(t *testing.T, summaries bool) *Jaeger {
	td := batch(shop[:2]...)
	encoded, err := (&ptrace.JSONMarshaler{}).MarshalTraces(td)
	require.NoError(t, err)
	mux := http.NewServeMux()
	result := func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintf(w, `{"result":%s}`, encoded) }
	mux.HandleFunc("GET /api/v3/traces", func(w http.ResponseWriter, r *http.Request) {
		assert.NotEmpty(t, r.FormValue("query.startTimeMin"))
		if r.FormValue("query.serviceName") == "none" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		result(w, r)
	})
	mux.HandleFunc("GET /api/v3/traces/"+fmt.Sprintf("%032x", 1), result)
	mux.HandleFunc("GET /api/v3/services", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"services":["frontend","checkout"]}`))
	})
	mux.HandleFunc("GET /api/v3/operations", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"operations":[{"name":"of %s","spanKind":"server"}]}`, r.FormValue("service"))
	})
	if summaries {
		mux.HandleFunc("GET /api/v3/trace-summaries", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"summaries":[{"traceId":"%032x","rootServiceName":"frontend","rootOperationName":"POST /checkout","minStartTimeUnixNano":"%d",
				"maxEndTimeUnixNano":"%d","spanCount":2,"errorSpanCount":1,"services":[{"name":"checkout"},{"name":"frontend"}]}]}`,
				1, origin.UnixNano(), origin.Add(100*time.Millisecond).UnixNano())
		})
	}
	server := httptest.NewServer(mux)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return NewJaeger(server.Client(), server.URL+"/", nil)
}

func TestJaeger(t *testing.T) {
	for _, summaries := range []bool{true, false} {
		t.Run(fmt.Sprint("summaries ", summaries), func(t *testing.T) {
			j := jaeger(t, summaries)
			list, err := j.Search(t.Context(), Query{Service: "frontend", Start: origin, End: origin.Add(time.Hour), Limit: 5})
			require.NoError(t, err)
			require.Len(t, list, 1)
			assert.Equal(t, Summary{
				TraceID: fmt.Sprintf("%032x", 1), RootService: "frontend", RootOperation: "POST /checkout", Start: origin, DurationMS: 100,
				Spans: 2, Errors: 1, Services: []string{"checkout", "frontend"},
			}, list[0])
			rest, err := j.Search(t.Context(), Query{Service: "frontend", Start: origin, End: origin.Add(time.Hour), After: list[0].Start, AfterID: list[0].TraceID, Limit: 5})
			require.NoError(t, err)
			assert.Empty(t, rest)
			trace, err := j.Trace(t.Context(), fmt.Sprintf("%032x", 1))
			require.NoError(t, err)
			require.Len(t, trace.Spans, 2)
			assert.Equal(t, "POST /orders", trace.Spans[1].Name)
			none, err := j.Trace(t.Context(), fmt.Sprintf("%032x", 2))
			require.NoError(t, err)
			assert.Nil(t, none)
			services, err := j.Services(t.Context(), time.Time{}, time.Time{})
			require.NoError(t, err)
			assert.Equal(t, []Service{
				newService("checkout", []Operation{{"of checkout", "server"}}), newService("frontend", []Operation{{"of frontend", "server"}}),
			}, services)
			odd, err := j.Trace(t.Context(), "../services")
			require.NoError(t, err)
			assert.Nil(t, odd)
		})
	}
}

func TestJaegerThatIsNone(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("<html>"))
	}))
	defer server.Close()
	defer server.CloseClientConnections()
	j := NewJaeger(server.Client(), server.URL, nil)
	_, err := j.Search(t.Context(), Query{Limit: 1})
	require.Error(t, err)
	_, err = j.Trace(t.Context(), fmt.Sprintf("%032x", 1))
	require.Error(t, err)
	_, err = j.Services(t.Context(), time.Time{}, time.Time{})
	require.Error(t, err)
}
