package topologyquery

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// assistant is a client of the SDK's, connected to an extension that has a recording.
func assistant(t *testing.T, recording, path string) *mcp.ClientSession {
	e, base := start(t, nil)
	if recording != "" {
		play(t, e, recording)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: base + path, DisableStandaloneSSE: true, HTTPClient: http.DefaultClient}, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, session.Close()) })
	return session
}

// call calls a tool and reads its answer.
func call[Out any](t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) Out {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	require.NoError(t, err)
	text := result.Content[0].(*mcp.TextContent).Text
	require.False(t, result.IsError, text)
	assert.Less(t, len(text), 64<<10, "an answer is for a reader with little room")
	var out Out
	require.NoError(t, json.Unmarshal([]byte(text), &out))
	return out
}

type toldOutage struct {
	ID, State, Kind, Severity, Summary, Root, Policy string
	Impact                                           int `json:"impact_count"`
}

type toldEdge struct {
	Source, Target, Health string
	ErrorRatio             float64           `json:"error_ratio"`
	ErrorsByReason         map[string]uint64 `json:"errors_by_reason"`
	P95                    float64           `json:"p95_ms"`
	MTLS                   bool
}

type freshness struct {
	DataTime string `json:"data_time"`
	Warning  string
}

func TestMCPTools(t *testing.T) {
	for _, path := range []string{"/api/ai/mcp/", "/mcp"} {
		session := assistant(t, "", path)
		tools, err := session.ListTools(t.Context(), nil)
		require.NoError(t, err)
		var names []string
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
			assert.True(t, tool.Annotations.ReadOnlyHint)
			assert.NotEmpty(t, tool.Description)
			assert.NotNil(t, tool.OutputSchema)
		}
		assert.ElementsMatch(t, []string{
			// Jaeger's.
			"get_services", "get_span_names", "search_traces", "get_span_details", "get_trace_errors", "get_trace_topology", "get_critical_path", "get_service_dependencies", "read_skill",
			"list_outages", "explain_outage", "list_changes", "get_mesh_graph", "compare_graph", "who_depends_on", "why_denied", "get_status", "search_flows", "query_promql",
		}, names)
		status := call[struct {
			Telemetry string
			freshness
		}](t, session, "get_status", nil)
		assert.Equal(t, "none", status.Telemetry)
		assert.Contains(t, status.Warning, "does not mean that all is well")
	}
}

func TestMCPRefuses(t *testing.T) {
	session := assistant(t, "", "/mcp")
	for _, test := range []struct {
		tool      string
		arguments map[string]any
		message   string
	}{
		{"explain_outage", nil, "there is no outage"},
		{"explain_outage", map[string]any{"id": "x"}, `there is no outage "x"`},
		{"list_outages", map[string]any{"state": "odd"}, "none of open, resolved, stale"},
		{"get_mesh_graph", map[string]any{"start": "yesterday"}, "neither an RFC 3339 time"},
		{"get_mesh_graph", map[string]any{"start": "now", "end": "-5m"}, "start must lie before end"},
		{"get_mesh_graph", map[string]any{"start": "1971-01-01T00:00:00Z"}, "longer than"},
		{"get_mesh_graph", map[string]any{"group_by": "colour"}, "none of workload"},
		{"who_depends_on", map[string]any{"workload": "nobody"}, "no workload is named"},
		{"query_promql", map[string]any{"query": "sum("}, "parse error"},
		{"query_promql", map[string]any{"query": "1", "step": "1ms"}, "more than 120 points"},
		{"get_trace_errors", map[string]any{"trace_id": "abc"}, "trace not found"},
		{"get_services", map[string]any{"pattern": "("}, "invalid pattern"},
		{"read_skill", map[string]any{"path": "../INSTRUCTIONS.md"}, "no skill"},
	} {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: test.tool, Arguments: test.arguments})
		require.NoError(t, err, test.tool)
		require.True(t, result.IsError, test.tool)
		assert.Contains(t, result.Content[0].(*mcp.TextContent).Text, test.message, test.tool)
	}
	_, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "nephilia://outages/x"})
	require.Error(t, err)
	_, base := start(t, nil)
	response, err := http.Get(base + "/mcp")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
	response, err = http.Post(base+"/mcp", "application/json", strings.NewReader(strings.Repeat(" ", 2<<20)))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.GreaterOrEqual(t, response.StatusCode, http.StatusBadRequest)
}

// Each question of somebody on call is answered by one call, or by two.
func TestMCPAnswersQuestions(t *testing.T) {
	type outages struct {
		Outages []toldOutage
		freshness
	}
	type edges struct {
		Edges []toldEdge
		Total int `json:"total_count"`
	}
	type explained struct {
		Outage        toldOutage
		Impact        []struct{ Workload, How string }
		Evidence      []struct{ Text, Source string }
		ChangesBefore []struct{ Text, Object string } `json:"changes_before"`
		TraceIDs      []string                        `json:"trace_ids"`
		PromQL        []string                        `json:"promql"`
	}
	t.Run("a policy denies", func(t *testing.T) {
		session := assistant(t, "policy-deny", "/api/ai/mcp/")
		// 1. What is broken?
		broken := call[outages](t, session, "list_outages", nil)
		require.Len(t, broken.Outages, 1)
		one := broken.Outages[0]
		assert.Equal(t, "policy_denied", one.Kind)
		assert.Equal(t, "workload billing/payment", one.Root)
		assert.NotEmpty(t, broken.DataTime)
		assert.Contains(t, broken.Warning, "recording")
		// 2. Why, and what changed before?
		why := call[explained](t, session, "explain_outage", map[string]any{"id": one.ID})
		assert.Equal(t, "billing/no-checkout", why.Outage.Policy)
		assert.NotEmpty(t, why.Evidence)
		require.NotEmpty(t, why.ChangesBefore)
		assert.Contains(t, why.ChangesBefore[0].Object, "no-checkout")
		assert.Equal(t, why, call[explained](t, session, "explain_outage", nil))
		// 3. Who feels it?
		var felt []string
		for _, i := range why.Impact {
			felt = append(felt, i.Workload)
		}
		assert.Contains(t, felt, "shop/checkout")
		callers := call[struct {
			Dependents []struct {
				Workload, Via string
				Distance      int
			}
		}](t, session, "who_depends_on", map[string]any{"workload": "payment"})
		require.Len(t, callers.Dependents, 3)
		assert.Equal(t, "shop/checkout-v1", callers.Dependents[0].Workload)
		assert.Equal(t, "shop/frontend-v1", callers.Dependents[1].Workload)
		assert.Equal(t, 3, callers.Dependents[2].Distance)
		// 4. Why is checkout denied at payment?
		denied := call[struct {
			Answer   string
			Policies []struct {
				Policy, Action, Rules string
				Denied                int
			}
			Samples []struct {
				Message  string
				Identity string `json:"source_identity"`
			}
			Outages []toldOutage
		}](t, session, "why_denied", map[string]any{"source": "shop/checkout", "destination": "payment.billing.svc.cluster.local"})
		assert.Equal(t, "of 179 from shop/checkout to payment.billing.svc.cluster.local, policies denied 65: 65 by billing/no-checkout", denied.Answer)
		assert.Equal(t, "billing/no-checkout", denied.Policies[0].Policy)
		assert.Equal(t, 65, denied.Policies[0].Denied)
		assert.Equal(t, "DENY", denied.Policies[0].Action, "what is gone by now is known still")
		require.NotEmpty(t, denied.Samples)
		assert.Contains(t, denied.Samples[0].Identity, "checkout")
		assert.Equal(t, one.ID, denied.Outages[0].ID)
		// 5. Show me one request that failed.
		found := call[struct {
			Traces []struct {
				ID string `json:"trace_id"`
			}
		}](t, session, "search_traces", map[string]any{"service_name": "checkout", "with_errors": true})
		require.NotEmpty(t, found.Traces)
		failed := call[struct {
			Total int `json:"total_error_count"`
			Spans []struct{ Status struct{ Message string } }
		}](t, session, "get_trace_errors", map[string]any{"trace_id": found.Traces[0].ID})
		assert.Positive(t, failed.Total)
		assert.Contains(t, encoded(t, failed), "billing/no-checkout")
		// 6. Does the figure hold?
		require.NotEmpty(t, why.PromQL)
		verified := call[struct {
			Series []struct{ Labels map[string]string }
		}](t, session, "query_promql", map[string]any{"query": why.PromQL[0], "end": "-20s"})
		require.NotEmpty(t, verified.Series)
		assert.Equal(t, "policy_denied", verified.Series[0].Labels["error_type"])
		resource, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "nephilia://outages/" + one.ID})
		require.NoError(t, err)
		assert.Contains(t, resource.Contents[0].Text, "no-checkout")
	})
	t.Run("a service fails", func(t *testing.T) {
		session := assistant(t, "shipping-500", "/mcp")
		// 7. Which edges fail, and how?
		failing := call[edges](t, session, "get_mesh_graph", map[string]any{"only": "failing"})
		require.NotEmpty(t, failing.Edges)
		reasons := map[string]uint64{}
		for _, e := range failing.Edges {
			if e.Target == "shop/shipping-v1" {
				reasons = e.ErrorsByReason
			}
		}
		assert.Positive(t, reasons["http_500"]+reasons["http_503"])
		assert.Less(t, failing.Total, call[edges](t, session, "get_mesh_graph", nil).Total)
		// 8. What is different from before?
		different := call[struct {
			Edges []struct {
				Source, Target string
				What           []string
			}
		}](t, session, "compare_graph", map[string]any{"window": "40s", "after": "-60s"})
		require.NotEmpty(t, different.Edges)
		// 9. Where does the time of a request go?
		found := call[struct {
			Traces []struct {
				ID string `json:"trace_id"`
			}
		}](t, session, "search_traces", map[string]any{"service_name": "frontend", "search_depth": 1})
		path := call[struct {
			Total    int64 `json:"total_duration_us"`
			Critical int64 `json:"critical_path_duration_us"`
			Segments []struct {
				Self  int64 `json:"self_time_us"`
				Start int64 `json:"start_offset_us"`
				End   int64 `json:"end_offset_us"`
			}
		}](t, session, "get_critical_path", map[string]any{"trace_id": found.Traces[0].ID})
		require.NotEmpty(t, path.Segments)
		at := int64(0)
		for _, s := range path.Segments {
			assert.InDelta(t, at, s.Start, 1, "segments follow each other")
			at = s.End
		}
		assert.InDelta(t, path.Total, path.Critical, float64(path.Total)/10)
		topology := call[struct{ Spans []struct{ Path string } }](t, session, "get_trace_topology", map[string]any{"trace_id": found.Traces[0].ID})
		parts := strings.Split(topology.Spans[len(topology.Spans)-1].Path, "/")
		detail := call[struct{ Spans []struct{ Service string } }](t, session, "get_span_details",
			map[string]any{"trace_id": found.Traces[0].ID, "span_ids": parts[len(parts)-1:]})
		assert.Len(t, detail.Spans, 1)
		links := call[struct {
			Dependencies []struct{ Caller, Callee string }
		}](t, session, "get_service_dependencies", nil)
		assert.NotEmpty(t, links.Dependencies)
	})
	t.Run("a node is lost", func(t *testing.T) {
		session := assistant(t, "node-loss", "/mcp")
		// 10. Is it the mesh, or a node? And is what is told complete?
		broken := call[outages](t, session, "list_outages", nil)
		require.NotEmpty(t, broken.Outages)
		assert.Equal(t, "node_down", broken.Outages[0].Kind)
		status := call[struct {
			Nodes     int `json:"node_count"`
			Telemetry string
		}](t, session, "get_status", nil)
		assert.Positive(t, status.Nodes)
		changed := call[struct {
			Changes []struct{ Text string }
		}](t, session, "list_changes", nil)
		assert.NotNil(t, changed.Changes)
		connections := call[struct {
			Flows []struct{ Reason, Verdict string }
		}](t, session, "search_flows", map[string]any{"verdict": "failed"})
		require.NotEmpty(t, connections.Flows)
		skill := call[struct{ Instructions string }](t, session, "read_skill", map[string]any{"path": "is-it-the-mesh/SKILL.md"})
		assert.Contains(t, skill.Instructions, "node_down")
	})
}

func encoded(t *testing.T, v any) string {
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}
