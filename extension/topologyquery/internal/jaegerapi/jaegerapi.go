// Package jaegerapi serves the stored traces by the HTTP APIs of Jaeger's query service, version 1 (that of its older UI, of Grafana's data
// source and of Kiali) and version 3 (jaeger-idl, api_v3/query_service.proto).
package jaegerapi

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/reply"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// Bounds on one answer: so many traces, and no further ones once there are so many spans.
const (
	maxTraces     = 200
	maxSpans      = 50_000
	defaultTraces = 20
)

// lookback is the range of a search that names none.
const lookback = time.Hour

// API answers. Paths are those that Jaeger's own query service has.
type API struct {
	// Traces is where traces are kept.
	Traces traces.Reader
	// Charts draws the requests of edges.
	Charts Charts
	// Now is the data's own time.
	Now func() time.Time
}

// Routes returns the handlers by pattern of http.ServeMux.
func (a *API) Routes() map[string]http.Handler {
	return map[string]http.Handler{
		"/api/services":                      v1(a.services),
		"/api/services/{service}/operations": v1(a.operationsOf),
		"/api/operations":                    v1(a.operations),
		"/api/traces":                        v1(a.search),
		"/api/traces/{id}":                   v1(a.trace),
		"/api/v3/services":                   v3(a.services3),
		"/api/v3/operations":                 v3(a.operations3),
		"/api/v3/traces":                     v3(a.search3),
		"/api/v3/traces/{id}":                v3(a.trace3),
		"/api/v3/trace-summaries":            v3(a.summaries3),
		"/api/metrics/calls":                 metricsOf(a.calls),
		"/api/metrics/errors":                metricsOf(a.errors),
		"/api/metrics/latencies":             metricsOf(a.latencies),
		"/api/metrics/minstep":               v1(minStep),
	}
}

var errNoTrace = reply.Fail(http.StatusNotFound, "trace not found")

// structured is the form of all answers of version 1.
type structured struct {
	Data   any         `json:"data"`
	Total  int         `json:"total"`
	Limit  int         `json:"limit"`
	Offset int         `json:"offset"`
	Errors []codedText `json:"errors"`
}

type codedText struct {
	Code int    `json:"code"`
	Text string `json:"msg"`
}

// refuse answers with an error in the form of version 1.
func refuse(w http.ResponseWriter, err error) {
	status := reply.StatusOf(err, http.StatusBadGateway)
	reply.Send(w, status, structured{Errors: []codedText{{status, err.Error()}}})
}

func v1(answer func(r *http.Request) (data any, total int, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, total, err := answer(r)
		if err != nil {
			refuse(w, err)
			return
		}
		reply.Send(w, http.StatusOK, structured{Data: data, Total: total})
	})
}

func v3(answer func(r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := answer(r)
		if err != nil {
			status := reply.StatusOf(err, http.StatusBadGateway)
			reply.Send(w, status, map[string]any{"error": map[string]any{"httpCode": status, "message": err.Error()}})
			return
		}
		reply.Send(w, http.StatusOK, body)
	})
}

func (a *API) serviceNames(ctx context.Context) ([]string, error) {
	all, err := a.Traces.Services(ctx, time.Time{}, time.Time{})
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return names, err
}

func (a *API) services(r *http.Request) (data any, total int, err error) {
	names, err := a.serviceNames(r.Context())
	return names, len(names), err
}

func (a *API) services3(r *http.Request) (any, error) {
	names, err := a.serviceNames(r.Context())
	return map[string]any{"services": names}, err
}

// service is what is known of a service; without operations for one that nobody knows.
func (a *API) service(ctx context.Context, name string) (traces.Service, error) {
	all, err := a.Traces.Services(ctx, time.Time{}, time.Time{})
	if i := slices.IndexFunc(all, func(s traces.Service) bool { return s.Name == name }); i >= 0 {
		return all[i], err
	}
	return traces.Service{Operations: []string{}}, err
}

func (a *API) operationsOf(r *http.Request) (data any, total int, err error) {
	one, err := a.service(r.Context(), r.PathValue("service"))
	return one.Operations, len(one.Operations), err
}

// operation is an operation's name and the kind of its spans.
type operation struct {
	Name string `json:"name"`
	Kind string `json:"spanKind"`
}

// listOperations lists what a service does; unknown stands for a kind that is not known.
func (a *API) listOperations(r *http.Request, unknown string) ([]operation, error) {
	values := r.URL.Query()
	service, kind := values.Get("service"), cmp.Or(values.Get("spanKind"), values.Get("span_kind"))
	if service == "" {
		return nil, reply.Bad("parameter 'service' is required")
	}
	one, err := a.service(r.Context(), service)
	list := []operation{}
	for _, o := range one.Kinds {
		known := Kind(o.Kind)
		if kind == "" || strings.EqualFold(kind, known) {
			list = append(list, operation{o.Name, cmp.Or(known, unknown)})
		}
	}
	return list, err
}

// Kind is a span's kind as Jaeger tells it: nothing where none was said.
func Kind(kind string) string {
	if kind = strings.ToLower(kind); kind != "unspecified" {
		return kind
	}
	return ""
}

func (a *API) operations(r *http.Request) (data any, total int, err error) {
	list, err := a.listOperations(r, "")
	return list, len(list), err
}

func (a *API) operations3(r *http.Request) (any, error) {
	list, err := a.listOperations(r, "internal")
	return map[string]any{"operations": list}, err
}

func (a *API) search(r *http.Request) (data any, total int, err error) {
	values := r.URL.Query()
	ids := values["traceID"]
	if len(ids) > maxTraces {
		return nil, 0, reply.Bad("at most %d traces at a time", maxTraces)
	}
	if len(ids) == 0 {
		query, err := a.queryOf(values)
		if err != nil {
			return nil, 0, err
		}
		found, err := a.Traces.Search(r.Context(), query)
		if err != nil {
			return nil, 0, err
		}
		ids = idsOf(found)
	}
	list := []*trace{}
	err = a.each(r.Context(), ids, func(t *traces.Trace) { list = append(list, traceOf(t)) })
	return list, len(list), err
}

func idsOf(found []traces.Summary) []string {
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].TraceID
	}
	return ids
}

// each reads traces until their spans are too many for one answer.
func (a *API) each(ctx context.Context, ids []string, take func(*traces.Trace)) error {
	spans := 0
	for _, id := range ids {
		t, err := a.Traces.Trace(ctx, FullID(id))
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		if spans += len(t.Spans); spans > maxSpans && spans > len(t.Spans) {
			return nil
		}
		take(t)
	}
	return nil
}

// FullID is a trace's id as it is stored: Jaeger leaves out zeros at the beginning.
func FullID(id string) string {
	return strings.Repeat("0", max(32-len(id), 0)) + strings.ToLower(id)
}

func (a *API) one(r *http.Request) (*traces.Trace, error) {
	t, err := a.Traces.Trace(r.Context(), FullID(r.PathValue("id")))
	if err == nil && t == nil {
		err = errNoTrace
	}
	return t, err
}

func (a *API) trace(r *http.Request) (data any, total int, err error) {
	t, err := a.one(r)
	if err != nil {
		return nil, 0, err
	}
	return []*trace{traceOf(t)}, 1, nil
}

// queryOf reads a search of version 1. Times are unix microseconds, durations those of Go.
func (a *API) queryOf(values url.Values) (traces.Query, error) {
	q := traces.Query{Service: values.Get("service"), Operation: values.Get("operation")}
	if q.Service == "" {
		return q, reply.Bad("parameter 'service' is required")
	}
	at := func(text string) (time.Time, error) {
		us, err := strconv.ParseInt(text, 10, 64)
		return time.UnixMicro(us).UTC(), err
	}
	tags := []string{values.Get("tags")}
	for _, tag := range values["tag"] {
		if name, value, ok := strings.Cut(tag, ":"); ok {
			encoded, _ := json.Marshal(map[string]string{name: value}) // Strings cannot fail.
			tags = append(tags, string(encoded))
		}
	}
	err := a.complete(&q, search{
		start: values.Get("start"), end: values.Get("end"), at: at,
		shortest: values.Get("minDuration"), longest: values.Get("maxDuration"), limit: values.Get("limit"), tags: tags,
	})
	return q, err
}

// search is what a search names, as text.
type search struct {
	start, end        string
	at                func(text string) (time.Time, error)
	shortest, longest string
	limit             string
	tags              []string // JSON objects of strings
}

func (a *API) complete(q *traces.Query, s search) error {
	q.Order, q.Limit = traces.OrderNewest, defaultTraces
	if s.limit != "" {
		limit, err := strconv.Atoi(s.limit)
		if err != nil || limit < 1 {
			return reply.Bad("unable to parse param 'limit': %q", s.limit)
		}
		q.Limit = min(limit, maxTraces)
	}
	var err error
	// Spans may be newer than the data's time.
	q.End = a.Now().Add(lookback).UTC()
	if s.end != "" {
		if q.End, err = s.at(s.end); err != nil {
			return reply.Bad("unable to parse param 'end': %q", s.end)
		}
	}
	q.Start = q.End.Add(-2 * lookback)
	if s.start != "" {
		if q.Start, err = s.at(s.start); err != nil {
			return reply.Bad("unable to parse param 'start': %q", s.start)
		}
	}
	for _, d := range []struct {
		name, text string
		into       *time.Duration
	}{{"minDuration", s.shortest, &q.MinDuration}, {"maxDuration", s.longest, &q.MaxDuration}} {
		if d.text == "" {
			continue
		}
		if *d.into, err = time.ParseDuration(d.text); err != nil {
			return reply.Bad("unable to parse param '%s': %q", d.name, d.text)
		}
	}
	if q.MaxDuration > 0 && q.MaxDuration < q.MinDuration {
		return reply.Bad("'maxDuration' should be greater than 'minDuration'")
	}
	q.Attributes = map[string]string{}
	for _, tags := range s.tags {
		if tags == "" {
			continue
		}
		if err := json.Unmarshal([]byte(tags), &q.Attributes); err != nil {
			return reply.Bad("malformed 'tags' parameter, expecting a JSON object of strings")
		}
	}
	if value, ok := q.Attributes["error"]; ok {
		// Jaeger makes this tag of a span's status.
		delete(q.Attributes, "error")
		if value == "true" {
			q.Status = "error"
		}
	}
	return nil
}

// queryOf3 reads a search of version 3, whose parameters come in two spellings. Times are RFC 3339.
func (a *API) queryOf3(values url.Values) (traces.Query, error) {
	get := func(names ...string) string {
		for _, name := range names {
			if value := values.Get("query." + name); value != "" {
				return value
			}
		}
		return ""
	}
	q := traces.Query{Service: get("service_name", "serviceName"), Operation: get("operation_name", "operationName")}
	err := a.complete(&q, search{
		start: get("start_time_min", "startTimeMin"), end: get("start_time_max", "startTimeMax"),
		at:       func(text string) (time.Time, error) { return time.Parse(time.RFC3339Nano, text) },
		shortest: get("duration_min", "durationMin"), longest: get("duration_max", "durationMax"),
		limit: get("search_depth", "searchDepth", "num_traces", "numTraces"),
		tags:  []string{get("attributes")},
	})
	return q, err
}

// find3 searches as a request of version 3 asks.
func (a *API) find3(r *http.Request) ([]traces.Summary, error) {
	query, err := a.queryOf3(r.URL.Query())
	if err != nil {
		return nil, err
	}
	return a.Traces.Search(r.Context(), query)
}

func (a *API) trace3(r *http.Request) (any, error) {
	t, err := a.one(r)
	if err != nil {
		return nil, err
	}
	return result(t)
}

func (a *API) search3(r *http.Request) (any, error) {
	found, err := a.find3(r)
	if err != nil {
		return nil, err
	}
	var list []*traces.Trace
	if err := a.each(r.Context(), idsOf(found), func(t *traces.Trace) { list = append(list, t) }); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, reply.Fail(http.StatusNotFound, "no traces found")
	}
	return result(list...)
}

// result is the answer with traces: OTLP in JSON.
func result(list ...*traces.Trace) (any, error) {
	encoded, err := (&ptrace.JSONMarshaler{}).MarshalTraces(otlpOf(list))
	if err != nil {
		return nil, fmt.Errorf("encoding traces: %w", err)
	}
	return map[string]any{"result": json.RawMessage(encoded)}, nil
}

// summary is a trace in a list of version 3.
type summary struct {
	TraceID       string         `json:"traceId"`
	RootService   string         `json:"rootServiceName"`
	RootOperation string         `json:"rootOperationName"`
	Start         string         `json:"minStartTimeUnixNano"`
	End           string         `json:"maxEndTimeUnixNano"`
	Spans         int            `json:"spanCount"`
	Errors        int            `json:"errorSpanCount"`
	Orphans       int            `json:"orphanSpanCount"`
	Services      []serviceSpans `json:"services"`
}

type serviceSpans struct {
	Name   string `json:"name"`
	Spans  int    `json:"spanCount"`
	Errors int    `json:"errorSpanCount"`
}

func (a *API) summaries3(r *http.Request) (any, error) {
	found, err := a.find3(r)
	if err != nil {
		return nil, err
	}
	list := []summary{}
	by := map[string]*traces.Summary{} // bounded by the query's limit
	for i := range found {
		by[found[i].TraceID] = &found[i]
	}
	err = a.each(r.Context(), idsOf(found), func(t *traces.Trace) { list = append(list, summaryOf(t, by[t.TraceID])) })
	return map[string]any{"summaries": list}, err
}
