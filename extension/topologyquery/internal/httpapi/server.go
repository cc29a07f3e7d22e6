// Package httpapi is the topology API as extension/topologyquery/api/openapi.yaml describes it, and the UI's server.
//
// Each resource has a type of its own over the stores that it reads. A handler makes an answer; the responder sends it.
package httpapi

import (
	"context"
	"io/fs"
	"maps"
	"net/http"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/drops"
)

// Place is where the server is found.
type Place struct {
	// AllowedHosts are the names by which the server may be asked; with none, any name will do.
	AllowedHosts []string
	// BasePath is the path under which it is found, empty or like /mesh.
	BasePath string
	// FrameAncestors are the origins whose pages may show the UI in a frame.
	FrameAncestors []string
}

// Settings of a Server.
type Settings struct {
	Build       Build
	Health      Health
	Limits      Limits
	Links       map[string]string // bounded by the configuration
	SilentAfter time.Duration
	Heartbeat   time.Duration
	// UI is the web UI's build, OpenAPI the API's description.
	UI      fs.FS
	OpenAPI []byte
	Place
	// Memory is what all answers that are made or sent have together.
	Memory *budget.Budget
	// Prometheus is Prometheus's HTTP API over the history, nil where another server stores it.
	Prometheus http.Handler
	// Retention is how long the history is kept, 0 for ever.
	Retention time.Duration
	// Dropped is what was not taken over, by component and reason.
	Dropped func() []drops.Total
	Hooks
}

// Hooks are told of answers, of requests that were turned away, and of the unforeseen.
type Hooks struct {
	Observe  func(ctx context.Context, route string, status int, took time.Duration)
	Rejected func(ctx context.Context, reason string)
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
	handler   http.Handler
	publisher *publisher
	findings  *findingRoutes
}

// resource is a group of routes.
type resource interface {
	// routes returns the handlers by pattern.
	routes() map[string]handler
}

// New returns a server.
func New(all *stores.Stores, settings Settings) *Server {
	r := newResponder(&settings)
	ranges := &ranges{data: all.Sources, wall: time.Now, most: settings.Limits.MaxRange}
	graphs := newGraphs(all, &settings, ranges, r.gate)
	pods := &pods{mesh: all.Inventory, ranges: ranges, proxies: all.Proxies}
	outages := &outageRoutes{all.Outages, all.Outages.Chronic}
	found := &findingRoutes{all.Inventory, graphs}
	routes := map[string]handler{}
	for _, one := range []resource{
		&statusRoutes{settings: &settings, live: all.Live, sources: all.Sources, ranges: ranges, records: all.Records, started: time.Now()},
		outages,
		&workloadRoutes{
			mesh: all.Inventory, known: all.Inventory, pods: pods, graphs: graphs, past: all.Past, names: all.Past, outages: outages,
		},
		&serviceRoutes{mesh: all.Inventory, pods: pods, graphs: graphs, past: all.Past},
		&namespaceRoutes{mesh: all.Inventory, graphs: graphs},
		&policyRoutes{mesh: all.Inventory, graphs: graphs},
		&nodeRoutes{mesh: all.Inventory, pods: pods, sources: all.Sources, names: all.Past, outages: outages, ranges: ranges, silentAfter: settings.SilentAfter},
		&flowRoutes{all.Flows},
		&lineRoutes{all.Lines},
		&endpointRoutes{all.Endpoints, all.Inventory, ranges},
		found,
		&changeRoutes{all.Changes},
		&traceRoutes{all.Traces, ranges},
		&seriesRoutes{all.Past, ranges},
		&compatRoutes{graphs, ranges},
	} {
		maps.Copy(routes, one.routes())
	}
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.Handle(pattern, r.handle(pattern, r.gated(h)))
	}
	// Those that ask for the same graph wait for one of them together: only that one is counted.
	mux.Handle(graphPattern, r.handle(graphPattern, graphs.get))
	stream := &stream{hub: all.Events, flows: all.Flows, ranges: ranges, heartbeat: settings.Heartbeat, rejected: settings.Rejected}
	mux.Handle("/api/v1/events", stream)
	mux.Handle(exportPattern, compressed(&export{flows: all.Flows, responder: r}))
	for pattern, h := range foreign(all, &settings, graphs) {
		mux.Handle(pattern, r.pass(pattern, h))
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, notFound("there is no "+r.URL.Path))
	})
	mux.Handle("/", compressed(&ui{files: settings.UI, base: settings.BasePath}))
	handler := recovered(settings.Failed, withoutSlash(mux))
	handler = secure(settings.FrameAncestors, allowHosts(settings.AllowedHosts, settings.Rejected, readOnly(handler)))
	handler = under(settings.BasePath, handler)
	return &Server{
		handler:   handler,
		findings:  found,
		publisher: &publisher{hub: all.Events, live: all.Live, sources: all.Sources, graphs: graphs, ranges: ranges},
	}
}

// Handler returns the server's routes.
func (s *Server) Handler() http.Handler { return s.handler }

// Graph makes the graph of a window. release gives its memory back: nothing of it may be used afterwards.
func (s *Server) Graph(ctx context.Context, options graph.Options) (g *graph.Graph, release func(), err error) {
	return s.publisher.graphs.Graph(ctx, options)
}

// Publish makes events of what changes, until the context ends. changed is signalled after each write.
func (s *Server) Publish(ctx context.Context, changed <-chan struct{}) { s.publisher.run(ctx, changed) }

// Findings is the number of findings of each kind in the newest minutes.
func (s *Server) Findings(ctx context.Context) (map[string]int, error) { return s.findings.count(ctx) }
