package attacks

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestForgedWaypoint scrapes a pod of one namespace, labelled as a waypoint, that tells of failing requests between two others.
func TestForgedWaypoint(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = fmt.Fprintf(w, `# TYPE istio_requests_total counter
istio_requests_total{reporter="waypoint",source_workload="checkout",source_workload_namespace="shop",source_canonical_service="checkout",destination_workload="payment",destination_workload_namespace="billing",destination_canonical_service="payment",destination_service="payment.billing.svc.cluster.local",destination_service_name="payment",destination_service_namespace="billing",request_protocol="http",response_code="503",response_flags="-",connection_security_policy="mutual_tls"} %d
# TYPE istio_tcp_connections_opened_total counter
istio_tcp_connections_opened_total{reporter="source",source_workload="checkout",source_workload_namespace="shop",destination_workload="payment",destination_workload_namespace="billing",destination_service="payment.billing.svc.cluster.local",connection_security_policy="mutual_tls"} %d
`, n.Add(20), n.Load())
	}))
	defer server.Close()
	c := startCollector(t, "standalone.yaml", nil, fmt.Sprintf(
		"receivers: {ztunnel: {metrics: {collection_interval: 2s, timeout: 2s, endpoints: [{endpoint: '%s', kind: waypoint, waypoint: evil/wp}]}}}", server.URL))
	pause(30 * time.Second)
	if n.Load() == 0 {
		t.Fatal("nobody scraped")
	}
	var graph struct{ Edges []any }
	c.get("/api/v1/graph", &graph)
	if len(graph.Edges) > 0 {
		t.Errorf("edges: %v", graph.Edges)
	}
	if found := c.outages(""); len(found) > 0 {
		t.Errorf("outages: %v", found)
	}
	if c.own("otelcol_service_graph_dropped", `reason="foreign_service"`) == 0 {
		t.Error("what was left out is not said")
	}
}

// TestHost asks by a name that another site may have, as a browser does whose name resolution was rebound.
func TestHost(t *testing.T) {
	t.Parallel()
	c := startCollector(t, "standalone.yaml", nil)
	for host, want := range map[string]int{
		"localhost": http.StatusOK, "127.0.0.1": http.StatusOK, "[::1]": http.StatusOK, "evil.example": http.StatusForbidden, "127.0.0.1.evil.example": http.StatusForbidden,
		"localhost:16680": http.StatusOK, "LOCALHOST": http.StatusOK, "evil.example:16680": http.StatusForbidden, "localhost.evil.example": http.StatusForbidden,
		"evil.example:80@localhost": http.StatusForbidden, "169.254.169.254.nip.io": http.StatusForbidden, "[::ffff:7f00:1].evil": http.StatusForbidden,
	} {
		request, err := http.NewRequest(http.MethodGet, "http://"+c.env["NEPHILIA_API"]+"/api/v1/graph", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		request.Header.Set("Origin", "http://evil.example")
		response, err := c.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if refused := response.StatusCode >= 400; refused != (want >= 400) {
			t.Errorf("Host %s: %d", host, response.StatusCode)
		}
		if allowed := response.Header.Get("Access-Control-Allow-Origin"); allowed != "" {
			t.Errorf("Host %s: other sites may read: %s", host, allowed)
		}
	}
}

// TestCredentials asks for everything without credentials, or with wrong ones, where the API wants them.
func TestCredentials(t *testing.T) {
	t.Parallel()
	c := startCollector(t, "gateway.yaml", nil, `extensions: {basicauth: {htpasswd: {inline: "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="}}, topology_query: {http: {auth: {authenticator: basicauth}}}}
service: {extensions: [basicauth, file_storage, topology_query, health_check]}
`)
	spec, err := os.ReadFile(filepath.Join(root, "extension", "topologyquery", "api", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{
		"/", "/index.html", "/graph", "/assets/x.js", "//api/v1/status", "/api/v1//status", "/api/v1/status/", "/api/v1/../v1/status", "/%2e%2e/", "/metrics",
		"/assets/..%2f..%2fetc/passwd", "/debug/pprof/", "/prometheus/api/v1/query?query=up", "/api/traces", "/api/v3/services", "/.git/config",
	}
	for line := range strings.Lines(string(spec)) {
		if path, found := strings.CutSuffix(strings.TrimSpace(line), ":"); found && strings.HasPrefix(line, "  /") {
			paths = append(paths, path)
		}
	}
	ask := func(method, path string, header http.Header) int {
		request, err := http.NewRequest(method, "http://"+c.env["NEPHILIA_API"], http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.URL.Opaque = path
		maps.Copy(request.Header, header)
		response, err := c.client.Transport.RoundTrip(request)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	for _, path := range paths {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions, http.MethodDelete, http.MethodTrace} {
			for _, header := range []http.Header{
				nil,
				{"Authorization": {"Basic "}},
				{"Authorization": {"Basic YWxpY2U6eA=="}},
				{"Authorization": {"Bearer x"}},
				{"Authorization": {"Basic Og=="}},
				{"X-Forwarded-For": {"127.0.0.1"}},
				{"Authorization": {"Basic " + strings.Repeat("A", 60_000)}},
				{"Cookie": {"a=b"}},
			} {
				if status := ask(method, path, header); status != http.StatusUnauthorized && status != http.StatusBadRequest {
					t.Errorf("%s %s with %.60v: %d", method, path, header, status)
				}
			}
		}
	}
	if status := ask(http.MethodGet, "/api/v1/status", http.Header{"Authorization": {"Basic YWxpY2U6c2VjcmV0"}}); status != http.StatusOK {
		t.Errorf("with the right password: %d", status)
	}
}
