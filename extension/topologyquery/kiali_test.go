package topologyquery

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

// kialiGraph has the fields of Kiali's own graph (graph/config/common, kiali v2.31), as far as they can be set here.
type kialiGraph struct {
	Timestamp int64  `json:"timestamp"`
	Duration  int64  `json:"duration"`
	GraphType string `json:"graphType"`
	Elements  struct {
		Nodes []struct {
			Data struct {
				ID           string                                      `json:"id"`
				Parent       string                                      `json:"parent"`
				NodeType     string                                      `json:"nodeType"`
				Cluster      string                                      `json:"cluster"`
				Namespace    string                                      `json:"namespace"`
				Workload     string                                      `json:"workload"`
				App          string                                      `json:"app"`
				Version      string                                      `json:"version"`
				Service      string                                      `json:"service"`
				DestServices []struct{ Cluster, Namespace, Name string } `json:"destServices"`
				Traffic      []struct {
					Protocol string            `json:"protocol"`
					Rates    map[string]string `json:"rates"`
				} `json:"traffic"`
				HealthData  json.RawMessage `json:"healthData"`
				IsAmbient   bool            `json:"isAmbient"`
				IsBox       string          `json:"isBox"`
				IsIdle      bool            `json:"isIdle"`
				IsOutOfMesh bool            `json:"isOutOfMesh"`
				IsOutside   bool            `json:"isOutside"`
				IsRoot      bool            `json:"isRoot"`
			} `json:"data"`
		} `json:"nodes"`
		Edges []struct {
			Data struct {
				ID           string `json:"id"`
				Source       string `json:"source"`
				Target       string `json:"target"`
				HealthStatus string `json:"healthStatus"`
				IsMTLS       string `json:"isMTLS"`
				ResponseTime string `json:"responseTime"`
				Throughput   string `json:"throughput"`
				Traffic      struct {
					Protocol  string            `json:"protocol"`
					Rates     map[string]string `json:"rates"`
					Responses map[string]struct {
						Flags map[string]string `json:"flags"`
						Hosts map[string]string `json:"hosts"`
					} `json:"responses"`
				} `json:"traffic"`
			} `json:"data"`
		} `json:"edges"`
	} `json:"elements"`
}

// The requests are those of Backstage's Kiali plugin.
func TestKialiAPI(t *testing.T) {
	e, base := start(t, nil)
	play(t, e, "policy-deny")

	var info struct {
		Strategy    string
		SessionInfo map[string]any
	}
	getJSON(t, base+"/api/auth/info", http.StatusOK, &info)
	assert.Equal(t, "anonymous", info.Strategy)
	assert.NotNil(t, info.SessionInfo)
	var status struct {
		Status           map[string]string
		ExternalServices []any
		WarningMessages  []string
	}
	getJSON(t, base+"/api/status", http.StatusOK, &status)
	assert.Equal(t, "running", status.Status["Kiali state"])
	assert.Regexp(t, `^v2\.`, status.Status["Kiali version"])
	assert.NotNil(t, status.ExternalServices)
	var config struct {
		AmbientEnabled bool
		Clusters       map[string]struct{ Name string }
		Deployment     struct{ ViewOnlyMode bool }
	}
	getJSON(t, base+"/api/config", http.StatusOK, &config)
	assert.True(t, config.AmbientEnabled)
	assert.True(t, config.Deployment.ViewOnlyMode)
	assert.Equal(t, "Kubernetes", config.Clusters["Kubernetes"].Name)
	getJSON(t, base+"/api/config/disabled", http.StatusOK, nil)
	var namespaces []struct {
		Name, Cluster             string
		IsAmbient, IsControlPlane bool
	}
	getJSON(t, base+"/api/namespaces", http.StatusOK, &namespaces)
	ambient := map[string]bool{}
	for _, one := range namespaces {
		ambient[one.Name] = one.IsAmbient
	}
	assert.True(t, ambient["shop"])
	assert.False(t, ambient["legacy"])
	assert.Contains(t, ambient, "istio-system")

	golden := filepath.Join("testdata", "kiali_graph.json")
	_, body := answered(t, base+"/api/namespaces/graph?namespaces=shop,billing&graphType=workload&duration=240s&appenders=health,responseTime&boxBy=namespace")
	if *update {
		require.NoError(t, os.WriteFile(golden, indented(t, body), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(indented(t, body)))
	var g kialiGraph
	strict(t, body, &g)
	names := map[string]string{}
	for _, n := range g.Elements.Nodes {
		names[n.Data.ID] = n.Data.Workload
	}
	found := false
	for _, edge := range g.Elements.Edges {
		require.Contains(t, names, edge.Data.Source)
		require.Contains(t, names, edge.Data.Target)
		if names[edge.Data.Source] == "checkout-v1" && names[edge.Data.Target] == "payment-v1" {
			found = true
			assert.Equal(t, "Failure", edge.Data.HealthStatus)
			assert.Equal(t, "36.3", edge.Data.Traffic.Responses["-"].Flags["DENY"], "65 of 179")
			assert.Equal(t, "63.7", edge.Data.Traffic.Responses["200"].Flags["-"])
			assert.Equal(t, "36.3", edge.Data.Traffic.Rates["httpPercentErr"])
			assert.Equal(t, "100", edge.Data.IsMTLS)
		}
	}
	assert.True(t, found)
	for _, kind := range []string{"app", "versionedApp", "service"} {
		_, body := answered(t, base+"/api/namespaces/graph?namespaces=shop&duration=60s&graphType="+kind)
		strict(t, body, &g)
		assert.Equal(t, kind, g.GraphType)
		assert.NotEmpty(t, g.Elements.Edges)
	}
	var failure struct{ Error string }
	for query, message := range map[string]string{
		"":                               "At least one namespace must be specified via the namespaces query parameter.",
		"?namespaces=shop&graphType=odd": "Invalid graphType [odd]", "?namespaces=shop&duration=odd": "Invalid duration [odd]",
		"?namespaces=shop&queryTime=odd": "Invalid queryTime [odd]", "?namespaces=shop&boxBy=odd": "Invalid boxBy [odd]",
	} {
		getJSON(t, base+"/api/namespaces/graph"+query, http.StatusBadRequest, &failure)
		assert.Equal(t, message, failure.Error)
	}

	type health struct {
		Requests struct {
			Inbound, Outbound map[string]map[string]float64
			HealthAnnotations map[string]string
		}
		Status           struct{ Status string }
		WorkloadStatus   struct{ DesiredReplicas, AvailableReplicas int }
		WorkloadStatuses []struct{ Name string }
	}
	var healths map[string]map[string]map[string]health
	getJSON(t, base+"/api/clusters/health?type=workload&namespaces=shop,billing&rateInterval=240s", http.StatusOK, &healths)
	payment := healths["namespaceWorkloadHealth"]["billing"]["payment-v1"]
	assert.Positive(t, payment.Requests.Inbound["http"]["200"])
	assert.InDelta(t, 65.0/240, payment.Requests.Inbound["http"]["DENY"], 1e-9)
	assert.Positive(t, payment.WorkloadStatus.DesiredReplicas)
	getJSON(t, base+"/api/clusters/health?type=app&namespaces=shop&rateInterval=60s", http.StatusOK, &healths)
	assert.NotEmpty(t, healths["namespaceAppHealth"]["shop"]["checkout"].WorkloadStatuses)
	getJSON(t, base+"/api/clusters/health?type=service&namespaces=shop", http.StatusOK, &healths)
	assert.NotEmpty(t, healths["namespaceServiceHealth"]["shop"])
	getJSON(t, base+"/api/clusters/health?type=odd", http.StatusBadRequest, nil)
	for path, key := range map[string]string{"apps": "applications", "workloads": "workloads", "services": "services"} {
		var list map[string]any
		getJSON(t, base+"/api/clusters/"+path+"?namespaces=shop", http.StatusOK, &list)
		assert.NotEmpty(t, list[key], path)
	}
	var policies struct {
		Resources map[string][]struct {
			Metadata struct{ Name, Namespace string }
		}
	}
	getJSON(t, base+"/api/istio/config?namespaces=shop", http.StatusOK, &policies)
	assert.Contains(t, policies.Resources, "security.istio.io/v1, Kind=AuthorizationPolicy")
	var components []map[string]any
	getJSON(t, base+"/api/istio/status", http.StatusOK, &components)
	assert.Empty(t, components, "what is well")
	var tls []struct{ Namespace, Status string }
	getJSON(t, base+"/api/clusters/tls?namespaces=shop,billing", http.StatusOK, &tls)
	assert.Len(t, tls, 2)
	getJSON(t, base+"/api/mesh/tls", http.StatusOK, nil)
	getJSON(t, base+"/api/istio/validations?namespaces=shop", http.StatusOK, nil)
	grafana, _ := answered(t, base+"/api/grafana")
	assert.Equal(t, http.StatusNoContent, grafana.StatusCode)
	var workload struct {
		Name     string
		Pods     []struct{ Name string }
		Services []struct{ Name string }
		Health   health
	}
	getJSON(t, base+"/api/namespaces/billing/workloads/payment-v1?health=true&rateInterval=240s", http.StatusOK, &workload)
	assert.Equal(t, "payment-v1", workload.Name)
	assert.NotEmpty(t, workload.Pods)
	require.Len(t, workload.Services, 1)
	assert.Equal(t, "payment", workload.Services[0].Name)
	assert.NotEmpty(t, workload.Health.Requests.Inbound["http"])
	var app struct {
		Workloads    []struct{ WorkloadName string }
		ServiceNames []string
	}
	getJSON(t, base+"/api/namespaces/shop/apps/catalog", http.StatusOK, &app)
	assert.NotEmpty(t, app.Workloads)
	assert.Equal(t, []string{"catalog"}, app.ServiceNames)
	var service struct {
		Service   struct{ Hostnames []string }
		Workloads []struct{ Name string }
	}
	getJSON(t, base+"/api/namespaces/billing/services/payment", http.StatusOK, &service)
	assert.Equal(t, []string{"payment.billing.svc.cluster.local"}, service.Service.Hostnames)
	assert.NotEmpty(t, service.Workloads)
	getJSON(t, base+"/api/namespaces/shop/workloads/nobody", http.StatusNotFound, &failure)
	assert.Contains(t, failure.Error, "nobody")
	getJSON(t, base+"/api/namespaces/shop/workloads/checkout-v1/dashboard", http.StatusNotFound, nil)

	// What kubernetes-mcp-server sends.
	ask := func(tool, arguments string, status int) string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/api/chat/mcp/"+tool, strings.NewReader(arguments))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer token")
		request.Header.Set("X-Kubernetes-MCP-Server", "true")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, status, response.StatusCode, "%s: %s", tool, body)
		return string(body)
	}
	said := ask("get_mesh_status", `{"mcp_mode":"true"}`, http.StatusOK)
	assert.Contains(t, said, `"monitored_namespaces"`)
	assert.Contains(t, said, `resolved; critical; felt by shop/checkout`)
	assert.Contains(t, ask("get_mesh_traffic_graph", `{"namespaces":"shop,billing","graphType":"workload","mcp_mode":"true"}`, http.StatusOK), `"topUnhealthy"`)
	traces := ask("list_traces", `{"namespace":"shop","serviceName":"checkout","errorOnly":true,"lookbackSeconds":600,"limit":2,"mcp_mode":"true"}`, http.StatusOK)
	var listed struct {
		Summary struct {
			TotalFound int `json:"total_found"`
		}
		Traces []struct{ ID string }
	}
	require.NoError(t, json.Unmarshal([]byte(traces), &listed))
	require.NotEmpty(t, listed.Traces)
	assert.Contains(t, ask("get_trace_details", `{"traceId":"`+listed.Traces[0].ID+`"}`, http.StatusOK), `"hierarchy"`)
	assert.Contains(t, ask("list_clusters", `{}`, http.StatusOK), `"isHome":true`)
	assert.Contains(t, ask("list_or_get_resources", `{"resourceType":"workload","namespaces":"shop"}`, http.StatusOK), `checkout-v1`)
	assert.Contains(t, ask("list_or_get_resources", `{"resourceType":"service","namespace":"billing","resourceName":"payment"}`, http.StatusOK), `"payment"`)
	assert.Contains(t, ask("get_metrics", `{"resourceType":"workload","namespace":"billing","resourceName":"payment-v1","direction":"inbound"}`, http.StatusOK), `"error_percent"`)
	assert.Contains(t, ask("manage_istio_config", `{}`, http.StatusNotFound), `"error"`)
	ask("list_traces", `{}`, http.StatusBadRequest)
	ask("list_traces", `[`, http.StatusBadRequest)
	ask("get_trace_details", `{"traceId":"abc"}`, http.StatusNotFound)
}

func indented(t *testing.T, body []byte) []byte {
	var out bytes.Buffer
	require.NoError(t, json.Indent(&out, body, "", "  "))
	return append(out.Bytes(), '\n')
}

// strict reads JSON that has no other fields.
func strict(t *testing.T, body []byte, into any) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(into))
}
