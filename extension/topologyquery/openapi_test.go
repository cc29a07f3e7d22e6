package topologyquery

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nephilia/nephilia/extension/topologyquery/api"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
)

// description is the OpenAPI file with its schemas ready to validate.
type description struct {
	paths    map[string]map[string]any
	compiler *jsonschema.Compiler
}

func readDescription(t *testing.T) *description {
	var parsed any
	require.NoError(t, yaml.Unmarshal(api.OpenAPI, &parsed))
	// Through JSON, so that numbers and keys are as JSON Schema wants them.
	encoded, err := json.Marshal(parsed)
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	require.NoError(t, err)
	d := &description{paths: map[string]map[string]any{}, compiler: jsonschema.NewCompiler()}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	require.NoError(t, d.compiler.AddResource("openapi.json", document))
	for path, item := range document.(map[string]any)["paths"].(map[string]any) {
		d.paths[path] = item.(map[string]any)["get"].(map[string]any)
	}
	return d
}

func (d *description) schema(t *testing.T, pointer string) *jsonschema.Schema {
	s, err := d.compiler.Compile("openapi.json#" + pointer)
	require.NoError(t, err, pointer)
	return s
}

func escape(path string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(path) }

func validate(t *testing.T, s *jsonschema.Schema, body []byte, where string) {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	require.NoError(t, err, where)
	require.NoError(t, s.Validate(value), where)
}

// answered asks for a URL and returns the answer with its body.
func answered(t *testing.T, target string, header ...string) (*http.Response, []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response, body
}

// examples are requests with real answers for each route; every route of the file must have one.
func examples(t *testing.T, base string) map[string][]string {
	var found struct {
		Traces []struct {
			TraceID string `json:"trace_id"`
		}
	}
	_, body := answered(t, base+"/api/v1/traces?limit=1&service=checkout")
	require.NoError(t, json.Unmarshal(body, &found))
	require.NotEmpty(t, found.Traces)
	var outages struct{ Outages []struct{ ID string } }
	_, body = answered(t, base+"/api/v1/outages")
	require.NoError(t, json.Unmarshal(body, &outages))
	require.NotEmpty(t, outages.Outages)
	return map[string][]string{
		"/api/v1/status":       {"/api/v1/status"},
		"/api/v1/openapi.yaml": {"/api/v1/openapi.yaml"},
		"/api/v1/graph": {
			"/api/v1/graph", "/api/v1/graph?group_by=service", "/api/v1/graph?group_by=app&namespace=billing",
			"/api/v1/graph?group_by=namespace&idle_edges=true", "/api/v1/graph?start=0&end=1", "/api/v1/graph?waypoints=show", "/api/v1/graph?dns=show",
			"/api/v1/graph?start=2026-09-01T00:00:00%2B02:00&end=2026-09-01T00:05:00+02:00",
		},
		"/api/v1/series": {
			"/api/v1/series?metric=connections&by=error_type", "/api/v1/series?metric=p95&by=http_route,destination_service",
			"/api/v1/series?metric=heatmap&step=30", "/api/v1/series?metric=active&source=shop/frontend-v1",
			"/api/v1/series?metric=endpoint_failures&by=destination_pod&step=15s",
		},
		"/api/v1/outages":                      {"/api/v1/outages", "/api/v1/outages?state=resolved&limit=1", "/api/v1/outages?start=0&end=1"},
		"/api/v1/outages/{id}":                 {"/api/v1/outages/" + outages.Outages[0].ID},
		"/api/v1/chronic":                      {"/api/v1/chronic", "/api/v1/chronic?limit=1"},
		"/api/v1/workloads":                    {"/api/v1/workloads", "/api/v1/workloads?limit=3", "/api/v1/workloads?namespace=shop&q=cat"},
		"/api/v1/workloads/{namespace}/{name}": {"/api/v1/workloads/billing/payment-v1", "/api/v1/workloads/legacy/mailer-v1"},
		"/api/v1/namespaces":                   {"/api/v1/namespaces", "/api/v1/namespaces?limit=1"},
		"/api/v1/services":                     {"/api/v1/services", "/api/v1/services?limit=2"},
		"/api/v1/services/{namespace}/{name}":  {"/api/v1/services/billing/payment", "/api/v1/services/shop/catalog.shop.svc.cluster.local"},
		"/api/v1/policies":                     {"/api/v1/policies"},
		"/api/v1/policies/{namespace}/{name}":  {"/api/v1/policies/billing/no-checkout"},
		"/api/v1/nodes":                        {"/api/v1/nodes", "/api/v1/nodes?limit=1"},
		"/api/v1/nodes/{name}":                 {"/api/v1/nodes/node-a"},
		"/api/v1/nodes/{namespace}/{name}":     {"/api/v1/nodes/_/node-a"},
		"/api/v1/flows":                        {"/api/v1/flows", "/api/v1/flows?verdict=denied&limit=3", "/api/v1/flows?after=4000&limit=5", "/api/v1/flows?text=PAYMENT&limit=2", "/api/v1/flows?count=true", "/api/v1/flows?group_by=destination,reason&limit=3"},
		"/api/v1/lines":                        {"/api/v1/lines", "/api/v1/lines?node=node-a&level=warn&source=ztunnel&text=CONNECT&limit=2"},
		"/api/v1/endpoints":                    {"/api/v1/endpoints", "/api/v1/endpoints?service=catalog&namespace=shop&points=3&sort=errors", "/api/v1/endpoints?silent=true&start=0&end=1"},
		"/api/v1/findings":                     {"/api/v1/findings", "/api/v1/findings?kind=waypoint_bypassed&namespace=shop"},
		"/api/v1/changes":                      {"/api/v1/changes", "/api/v1/changes?limit=1", "/api/v1/changes?namespace=billing&name=no-checkout", "/api/v1/changes?name=node-a&start=0&end=1"},
		"/api/v1/traces":                       {"/api/v1/traces", "/api/v1/traces?status=error&layer=l4", "/api/v1/traces?attributes=http.request.method%3DPOST&min_duration=10ms", "/api/v1/traces?order=slowest&limit=3", "/api/v1/traces?order=most_errors&limit=3&cursor=3"},
		"/api/v1/traces/counts":                {"/api/v1/traces/counts?status=error", "/api/v1/traces/counts?steps=3"},
		"/api/v1/traces/{id}":                  {"/api/v1/traces/" + found.Traces[0].TraceID},
		"/api/v1/operations":                   {"/api/v1/operations", "/api/v1/operations?service=checkout"},
		"/api/dependencies":                    {"/api/dependencies?endTs=" + fmt.Sprint(time.Now().UnixMilli()) + "&lookback=604800000"},
		"/api/health":                          {"/api/health"},
		"/api/graph/fields":                    {"/api/graph/fields"},
		"/api/graph/data":                      {"/api/graph/data"},
	}
}

func TestServerKeepsToOpenAPI(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "policy-deny")
	d := readDescription(t)
	asked := examples(t, base)
	problems := d.schema(t, "/components/schemas/Problem")
	for path, operation := range d.paths {
		if path == "/api/v1/events" || path == "/api/v1/flows/export" {
			continue // they are streams
		}
		require.NotEmpty(t, asked[path], "no request for %s", path)
		for _, target := range asked[path] {
			t.Run(target, func(t *testing.T) {
				response, body := answered(t, base+target)
				require.Equal(t, http.StatusOK, response.StatusCode, "%s", body)
				for mediaType := range operation["responses"].(map[string]any)["200"].(map[string]any)["content"].(map[string]any) {
					require.True(t, strings.HasPrefix(response.Header.Get("Content-Type"), mediaType), response.Header.Get("Content-Type"))
					if mediaType == "application/json" {
						validate(t, d.schema(t, "/paths/"+escape(path)+"/get/responses/200/content/application~1json/schema"), body, target)
					}
				}
				again, rest := answered(t, base+target, "If-None-Match", response.Header.Get("ETag"))
				if path != "/api/v1/status" {
					assert.Equal(t, http.StatusNotModified, again.StatusCode)
					assert.Empty(t, rest)
				}
			})
		}
		t.Run("bad parameters of "+path, func(t *testing.T) {
			for _, target := range badTargets(t, d, path, operation, asked[path][0]) {
				response, body := answered(t, base+target)
				assert.Equal(t, http.StatusBadRequest, response.StatusCode, "%s: %s", target, body)
				assert.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
				validate(t, problems, body, target)
			}
		})
	}
	for path := range asked {
		assert.Contains(t, d.paths, path)
	}
	for _, target := range []string{
		"/api/v1/nothing", "/api/v1/outages/none", "/api/v1/workloads/shop/none", "/api/v1/services/shop/none", "/api/v1/policies/shop/none",
		"/api/v1/nodes/none", "/api/v1/traces/00000000000000000000000000000000", "/api/", "/assets/none.js",
	} {
		response, body := answered(t, base+target)
		assert.Equal(t, http.StatusNotFound, response.StatusCode, target)
		validate(t, problems, body, target)
	}
}

// badTargets are requests with a bad value for each documented parameter that has a form.
func badTargets(t *testing.T, d *description, path string, operation map[string]any, good string) []string {
	var out []string
	parameters, _ := operation["parameters"].([]any)
	for i := range parameters {
		parameter := parameters[i].(map[string]any)
		pointer := fmt.Sprintf("/paths/%s/get/parameters/%d", escape(path), i)
		if ref, ok := parameter["$ref"].(string); ok {
			pointer = strings.TrimPrefix(ref, "#")
		}
		resolved := d.resolve(t, pointer)
		schema := resolved["schema"].(map[string]any)
		if ref, ok := schema["$ref"].(string); ok {
			schema = d.resolve(t, strings.TrimPrefix(ref, "#"))
		}
		if resolved["in"] != "query" || schema["enum"] == nil && schema["format"] == nil && schema["type"] == "string" {
			continue
		}
		name := resolved["name"].(string)
		target, err := url.Parse(good)
		require.NoError(t, err)
		query := target.Query()
		query.Set(name, "\x00nonsense")
		target.RawQuery = query.Encode()
		out = append(out, target.String())
		query.Set(name, "-1")
		target.RawQuery = query.Encode()
		out = append(out, target.String())
		query[name] = []string{"1", "2"}
		target.RawQuery = query.Encode()
		out = append(out, target.String())
		if name == "end" {
			query["start"], query["end"] = []string{"20"}, []string{"10"}
			target.RawQuery = query.Encode()
			if slices.ContainsFunc(parameters, func(p any) bool { return p.(map[string]any)["$ref"] == "#/components/parameters/start" }) {
				out = append(out, target.String())
			}
		}
	}
	return out
}

func (d *description) resolve(t *testing.T, pointer string) map[string]any {
	var parsed any
	require.NoError(t, yaml.Unmarshal(api.OpenAPI, &parsed))
	for _, step := range strings.Split(strings.TrimPrefix(pointer, "/"), "/") {
		step = strings.NewReplacer("~1", "/", "~0", "~").Replace(step)
		switch node := parsed.(type) {
		case map[string]any:
			parsed = node[step]
		case []any:
			var i int
			_, err := fmt.Sscan(step, &i)
			require.NoError(t, err)
			parsed = node[i]
		}
	}
	return parsed.(map[string]any)
}

func TestEveryRouteIsDescribed(t *testing.T) {
	d := readDescription(t)
	files, err := filepath.Glob("internal/httpapi/*.go")
	require.NoError(t, err)
	routes := 0
	for _, file := range files {
		for _, match := range regexp.MustCompile(`"(/api/[^"]+)"(:|, stream|\n)`).FindAllStringSubmatch(readFile(t, file), -1) {
			assert.Contains(t, d.paths, match[1])
			routes++
		}
	}
	assert.Len(t, d.paths, routes)
}

func TestEveryGroupingIsDescribed(t *testing.T) {
	parameter := readDescription(t).resolve(t, "/components/parameters/groupBy")
	var described []string
	for _, one := range parameter["schema"].(map[string]any)["enum"].([]any) {
		described = append(described, one.(string))
	}
	assert.Equal(t, graph.Groupings(), described)
}

// event is one server-sent event.
type event struct{ id, kind, data string }

// follow opens the event stream and hands its events to a channel until the test ends.
func follow(t *testing.T, target string, header ...string) (<-chan event, func()) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	require.NoError(t, err)
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.Equal(t, "text/event-stream", response.Header.Get("Content-Type"))
	out := make(chan event, 1024)
	go func() {
		defer close(out)
		var e event
		for scanner := newScanner(response.Body); scanner.Scan(); {
			name, value, _ := strings.Cut(scanner.Text(), ": ")
			switch name {
			case "id":
				e.id = value
			case "event":
				e.kind = value
			case "data":
				e.data = value
			case "":
				out <- e
				e = event{}
			}
		}
	}()
	return out, func() { _ = response.Body.Close() }
}

func newScanner(r io.Reader) *bufio.Scanner {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 16<<20)
	return s
}

// next waits for an event of a kind.
func next(t *testing.T, events <-chan event, kind string) event {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-events:
			require.True(t, ok, "the stream ended before %s", kind)
			if e.kind == kind {
				return e
			}
		case <-late:
			require.FailNow(t, "no event "+kind)
		}
	}
}

func TestEventStream(t *testing.T) {
	e, base := start(t, func(c *Config) { c.Events.Heartbeat, c.Events.Queue = 50*time.Millisecond, 4096 })
	d := readDescription(t)
	events, stop := follow(t, base+"/api/v1/events?flows=true")
	hello := next(t, events, "hello")
	require.NotEmpty(t, hello.id)
	next(t, events, "heartbeat")
	play(t, e, "policy-deny")
	graph := next(t, events, "graph")
	validate(t, d.schema(t, "/components/schemas/GraphDelta"), []byte(graph.data), "graph")
	resumed, stopResumed := follow(t, base+"/api/v1/events", "Last-Event-ID", hello.id)
	outage := next(t, resumed, "outage")
	validate(t, d.schema(t, "/components/schemas/OutageEvent"), []byte(outage.data), "outage")
	stop()
	stopResumed()

	unknown, stop := follow(t, base+"/api/v1/events", "Last-Event-ID", "0000-7")
	next(t, unknown, "resync")
	stop()
}
