// Package httpapi is the topology API as extension/topologyquery/api/openapi.yaml describes it, and the UI's server.
package httpapi

import (
	"context"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
)

// Settings of a Server.
type Settings struct {
	Build       Build
	Health      Health
	Limits      Limits
	Links       map[string]string
	SilentAfter time.Duration
	Heartbeat   time.Duration
	// UI is the web UI's build, OpenAPI the API's description.
	UI      fs.FS
	OpenAPI []byte
	// Observe, Rejected and Failed are told of answers, of requests that were turned away, and of the unforeseen.
	Observe  Observe
	Rejected func(ctx context.Context)
	Failed   func(ctx context.Context, err error)
}

// Health are the shares of failures from which on something is unwell.
type Health struct{ DegradedAt, FailingAt float64 }

// Limits bound requests.
type Limits struct {
	MaxRange   time.Duration
	Timeout    time.Duration
	Concurrent int
	Queue      int
}

// Build says what runs.
type Build struct {
	Command string `json:"command,omitempty"`
	Version string `json:"version"`
}

// Server serves the API.
type Server struct {
	*stores.Stores
	Settings
	now     func() time.Time
	started time.Time
	gate    *gate
	graphs  *graphCache
}

// New returns a server.
func New(all *stores.Stores, settings Settings) *Server {
	return &Server{
		Stores: all, Settings: settings, now: time.Now, started: time.Now(),
		gate:   newGate(settings.Limits.Concurrent, settings.Limits.Queue),
		graphs: newGraphCache(),
	}
}

// handler answers a request with a body, or an error that becomes a problem.
type handler func(r *http.Request, p *params) (*answer, error)

// Handler returns the server's routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"/api/v1/status":                       s.status,
		"/api/v1/openapi.yaml":                 s.openAPI,
		"/api/v1/graph":                        s.graph,
		"/api/v1/outages":                      s.listOutages,
		"/api/v1/outages/{id}":                 s.outage,
		"/api/v1/workloads":                    s.workloads,
		"/api/v1/workloads/{namespace}/{name}": s.workload,
		"/api/v1/services":                     s.services,
		"/api/v1/services/{namespace}/{name}":  s.service,
		"/api/v1/policies":                     s.policies,
		"/api/v1/policies/{namespace}/{name}":  s.policy,
		"/api/v1/nodes":                        s.nodes,
		"/api/v1/nodes/{name}":                 s.node,
		"/api/v1/nodes/{namespace}/{name}":     s.node,
		"/api/v1/flows":                        s.flows,
		"/api/v1/changes":                      s.listChanges,
		"/api/v1/traces":                       s.searchTraces,
		"/api/v1/traces/{id}":                  s.trace,
		"/api/v1/operations":                   s.operations,
		"/api/v1/series":                       s.series,
		"/api/dependencies":                    s.dependencies,
		"/api/graph/fields":                    s.nodeGraphFields,
		"/api/graph/data":                      s.nodeGraphData,
		"/api/health":                          s.nodeGraphHealth,
	} {
		mux.Handle(pattern, s.handle(pattern, h))
	}
	mux.Handle("/api/v1/events", http.HandlerFunc(s.events))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, notFound("there is no "+r.URL.Path))
	})
	mux.Handle("/", &ui{files: s.UI})
	return secure(readOnly(s.recovered(withoutSlash(mux))))
}

// withoutSlash takes paths of the API with and without a slash at the end for the same.
func withoutSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; strings.HasPrefix(p, "/api/") && strings.HasSuffix(p, "/") && p != "/api/" {
			clone := *r
			u := *r.URL
			u.Path = strings.TrimRight(p, "/")
			u.RawPath = ""
			clone.URL = &u
			r = &clone
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) openAPI(*http.Request, *params) (*answer, error) {
	return &answer{contentType: "application/yaml", body: s.OpenAPI}, nil
}
