package traces

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Bounds on what a Jaeger answers.
const (
	maxResponse = 64 << 20
	maxServices = 100
)

// Jaeger reads traces from a Jaeger over api_v3 (HTTP). It implements Reader.
type Jaeger struct {
	client   *http.Client
	endpoint string
	appOf    AppOf
}

// NewJaeger returns a reader of the Jaeger at endpoint, the URL under which it has /api/v3/traces.
func NewJaeger(client *http.Client, endpoint string, appOf AppOf) *Jaeger {
	return &Jaeger{client, strings.TrimSuffix(endpoint, "/"), appOf}
}

// errNone is Jaeger's way to say that nothing matches.
var errNone = errors.New("not found")

func (j *Jaeger) get(ctx context.Context, path string, query url.Values) ([]byte, error) {
	target := j.endpoint + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("asking Jaeger: %w", err)
	}
	response, err := j.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking Jaeger: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
	case len(body) > maxResponse:
		return nil, errors.New("reading Jaeger's answer: it is too large")
	case response.StatusCode == http.StatusNotFound:
		return nil, errNone
	case response.StatusCode != http.StatusOK:
		var problem struct {
			Error struct {
				Message string `json:"message"`
			} `json:"error"`
		}
		_ = json.Unmarshal(body, &problem)
		return nil, fmt.Errorf("asking Jaeger: %s: %s", response.Status, problem.Error.Message)
	}
	return body, nil
}

// Search implements Reader. Jaeger's own search needs a service; what it cannot select by is selected here.
func (j *Jaeger) Search(ctx context.Context, q Query) ([]Summary, error) {
	end, depth := q.End, q.Limit+q.Offset
	if !q.After.IsZero() && q.After.Before(end) {
		// The trace to go on from is found once more.
		end, depth = q.After.Add(time.Nanosecond), depth+1
	}
	values := url.Values{
		"query.startTimeMin": {q.Start.UTC().Format(time.RFC3339Nano)},
		"query.startTimeMax": {end.UTC().Format(time.RFC3339Nano)},
		"query.searchDepth":  {strconv.Itoa(depth)},
	}
	set := func(name, value string) {
		if value != "" {
			values.Set("query."+name, value)
		}
	}
	set("serviceName", q.Service)
	set("operationName", q.Operation)
	if q.MinDuration > 0 {
		set("durationMin", q.MinDuration.String())
	}
	if q.MaxDuration > 0 {
		set("durationMax", q.MaxDuration.String())
	}
	tags := map[string]string{}
	for name, value := range q.Attributes {
		tags[name] = value
	}
	if q.Status == "error" {
		tags["error"] = "true"
	}
	if len(tags) > 0 {
		encoded, err := json.Marshal(tags)
		if err != nil {
			return nil, fmt.Errorf("asking Jaeger: %w", err)
		}
		set("attributes", string(encoded))
	}
	if q.Layer == "" && (q.Status == "" || q.Status == "error") {
		summaries, err := j.summaries(ctx, values, &q)
		if err == nil || !errors.Is(err, errNone) {
			return summaries, err
		}
		// A Jaeger before 2.19 has no summaries.
	}
	traces, err := j.traces(ctx, "/api/v3/traces", values)
	if err != nil {
		return nil, err
	}
	out := []Summary{}
	for id, spans := range traces {
		if summary := summarise(id, spans); q.follows(summary.Start, id) && slices.ContainsFunc(spans, func(s *Span) bool { return s.match(&q) }) {
			out = append(out, summary)
		}
	}
	return q.cut(out), nil
}

// cut orders a list as the query asks and keeps what it asks for.
func (q *Query) cut(list []Summary) []Summary {
	slices.SortFunc(list, q.compareSummaries)
	list = list[min(q.Offset, len(list)):]
	return list[:min(len(list), q.Limit)]
}

func newestFirst(a, b Summary) int {
	return cmp.Or(b.Start.Compare(a.Start), strings.Compare(a.TraceID, b.TraceID))
}

func (j *Jaeger) summaries(ctx context.Context, values url.Values, q *Query) ([]Summary, error) {
	body, err := j.get(ctx, "/api/v3/trace-summaries", values)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Summaries []struct {
			TraceID           string          `json:"traceId"`
			RootServiceName   string          `json:"rootServiceName"`
			RootOperationName string          `json:"rootOperationName"`
			MinStart          int64           `json:"minStartTimeUnixNano,string"`
			MaxEnd            int64           `json:"maxEndTimeUnixNano,string"`
			SpanCount         int             `json:"spanCount"`
			ErrorSpanCount    int             `json:"errorSpanCount"`
			Services          []jaegerService `json:"services"`
		} `json:"summaries"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
	}
	out := []Summary{}
	for _, s := range answer.Summaries {
		start := time.Unix(0, s.MinStart).UTC()
		if !q.follows(start, s.TraceID) {
			continue
		}
		services := []string{}
		for _, service := range s.Services {
			services = append(services, service.Name)
		}
		out = append(out, Summary{
			TraceID: s.TraceID, RootService: s.RootServiceName, RootOperation: s.RootOperationName,
			Start: start, DurationMS: float64(s.MaxEnd-s.MinStart) / 1e6,
			Spans: s.SpanCount, Errors: s.ErrorSpanCount, Services: services,
		})
	}
	return q.cut(out), nil
}

// jaegerService is a service of a summary: a name, or an object that has one.
type jaegerService struct{ Name string }

// UnmarshalJSON implements json.Unmarshaler.
func (s *jaegerService) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &s.Name); err == nil {
		return nil
	}
	var object struct {
		Name        string `json:"name"`
		ServiceName string `json:"serviceName"`
	}
	if err := json.Unmarshal(b, &object); err != nil {
		return err
	}
	s.Name = object.Name + object.ServiceName
	return nil
}

func (j *Jaeger) traces(ctx context.Context, path string, values url.Values) (map[string][]*Span, error) {
	body, err := j.get(ctx, path, values)
	if errors.Is(err, errNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var answer struct {
		Result json.RawMessage `json:"result"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
	}
	td, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(answer.Result)
	if err != nil {
		return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
	}
	traces := map[string][]*Span{}
	convert(td, j.appOf, func(s *Span) { traces[s.TraceID] = append(traces[s.TraceID], s) })
	return traces, nil
}

// Trace implements Reader.
func (j *Jaeger) Trace(ctx context.Context, id string) (*Trace, error) {
	if _, err := hex.DecodeString(id); err != nil {
		return nil, nil //nolint:nilerr // what is no id names no trace
	}
	traces, err := j.traces(ctx, "/api/v3/traces/"+id, nil)
	if err != nil || len(traces) == 0 {
		return nil, err
	}
	var spans []*Span
	for _, some := range traces {
		spans = append(spans, some...)
	}
	sortSpans(spans)
	return &Trace{TraceID: id, Spans: spans, ClockSkews: skewsOf(spans)}, nil
}

// Count implements Reader: a Jaeger does not tell.
func (j *Jaeger) Count(context.Context, Query, int) (*Counts, error) { return nil, nil }

// Services implements Reader. A Jaeger tells of all the time that it has.
func (j *Jaeger) Services(ctx context.Context, _, _ time.Time) ([]Service, error) {
	body, err := j.get(ctx, "/api/v3/services", nil)
	if err != nil && !errors.Is(err, errNone) {
		return nil, err
	}
	var answer struct {
		Services []string `json:"services"`
	}
	if err == nil {
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
		}
	}
	slices.Sort(answer.Services)
	out := []Service{}
	for i, name := range answer.Services {
		var operations []Operation
		if i < maxServices {
			if operations, err = j.operations(ctx, name); err != nil {
				return nil, err
			}
		}
		out = append(out, newService(name, operations))
	}
	return out, nil
}

func (j *Jaeger) operations(ctx context.Context, service string) ([]Operation, error) {
	body, err := j.get(ctx, "/api/v3/operations", url.Values{"service": {service}})
	if errors.Is(err, errNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var answer struct {
		Operations []struct {
			Name string `json:"name"`
			Kind string `json:"spanKind"`
		} `json:"operations"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("reading Jaeger's answer: %w", err)
	}
	var operations []Operation
	for _, operation := range answer.Operations {
		operations = append(operations, Operation{operation.Name, strings.ToLower(operation.Kind)})
	}
	return operations, nil
}
