// Package httpapi is the topology API as extension/topologyquery/api/openapi.yaml describes it, and the UI's server.
package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/internal/edge"
)

// Past answers for windows that the live graph does not cover.
type Past interface {
	// Window calls visit for every edge with what happened in [start, end), in unix milliseconds. What visit is
	// given is reused.
	Window(ctx context.Context, start, end int64, visit func(key *edge.Key, counts *live.Counts)) error
}

// Stores are what the API serves.
type Stores struct {
	Live      *live.Graph
	Sources   *sources.Tracker
	Inventory *inventory.Inventory
	Flows     *flows.Ring
	Outages   *outages.Store
	Past      Past
}

// Settings of a Server.
type Settings struct {
	Build       Build
	Health      Health
	Limits      Limits
	Links       map[string]string
	SilentAfter time.Duration
}

// Health are the shares of failures from which on something is unwell.
type Health struct{ DegradedAt, FailingAt float64 }

// Limits bound requests.
type Limits struct {
	MaxRange time.Duration
}

// Build says what runs.
type Build struct {
	Command string `json:"command,omitempty"`
	Version string `json:"version"`
}

// Server serves the API.
type Server struct {
	Stores
	Settings
	now     func() time.Time
	started time.Time
}

// New returns a server.
func New(stores Stores, settings Settings) *Server {
	return &Server{Stores: stores, Settings: settings, now: time.Now, started: time.Now()}
}

// handler answers a request with a body, or an error that becomes a problem.
type handler func(r *http.Request, p *params) (*answer, error)

// answer is a response's body.
type answer struct {
	contentType string
	body        []byte
	// version, unless empty, stands for the body in its ETag.
	version string
}

// Handler returns the API's routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	s.routes(mux)
	return mux
}

func (s *Server) routes(mux *http.ServeMux) {
	for pattern, h := range map[string]handler{
		"/api/v1/status":       s.status,
		"/api/v1/graph":        s.graph,
		"/api/v1/outages":      s.outages,
		"/api/v1/outages/{id}": s.outage,
	} {
		mux.Handle(pattern, s.handle(h))
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, notFound("there is no "+r.URL.Path))
	})
}

func (s *Server) handle(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeProblem(w, &problem{Title: "Method not allowed", Status: http.StatusMethodNotAllowed, Detail: "this API is read-only"})
			return
		}
		p := &params{values: r.URL.Query()}
		p.single()
		a, err := h(r, p)
		if err == nil {
			err = p.err
		}
		if err != nil {
			writeProblem(w, err)
			return
		}
		w.Header().Set("Content-Type", a.contentType)
		w.Header().Set("Cache-Control", "no-cache")
		if r.Method != http.MethodHead {
			_, _ = w.Write(a.body)
		}
	})
}

// roots are the subjects of the outages that are open at a time.
func (s *Server) roots(at int64) []graph.Root {
	var roots []graph.Root
	for _, o := range s.Outages.OpenAt(time.UnixMilli(at)) {
		if o.Root.Type == "workload" || o.Root.Type == "service" {
			roots = append(roots, graph.Root{Namespace: o.Root.Namespace, Name: o.Root.Name, Critical: o.Severity == "critical"})
		}
	}
	return roots
}
