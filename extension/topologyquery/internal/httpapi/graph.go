package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
)

const typeJSON = "application/json"

func (s *Server) graph(r *http.Request, p *params) (*answer, error) {
	w := s.window(p)
	options := graph.Options{
		Start: w.start, End: w.end,
		GroupBy: graph.GroupBy(p.oneOf("group_by", string(graph.ByWorkload),
			string(graph.ByWorkload), string(graph.ByService), string(graph.ByApp), string(graph.ByNamespace))),
		Namespace: p.text("namespace"),
	}
	idle := p.boolean("idle_edges")
	if p.err != nil {
		return nil, p.err
	}
	_, clock := s.Sources.Clock()
	key := graphKey{
		w.start, w.end, string(options.GroupBy), options.Namespace, idle,
		s.Live.Version(), s.Inventory.Version(), s.Outages.Version(), clock,
	}
	if known := s.graphs.get(key); known != nil {
		return known, nil
	}
	g, release, err := s.buildPooled(r.Context(), options, idle)
	if err != nil {
		return nil, err
	}
	a := &answer{contentType: typeJSON, body: g.AppendJSON(make([]byte, 0, g.JSONSize()))}
	release()
	s.graphs.put(key, a)
	return a, nil
}

// build makes the graph of a window, from memory where it can.
func (s *Server) build(ctx context.Context, options graph.Options, idle bool) (*graph.Graph, error) {
	g, _, err := s.buildPooled(ctx, options, idle)
	return g, err
}

// buildPooled is build for a graph that is used up at once: release gives its memory back.
func (s *Server) buildPooled(ctx context.Context, options graph.Options, idle bool) (g *graph.Graph, release func(), err error) {
	release = func() {}
	_, clock := s.Sources.Clock()
	options.DegradedAt, options.FailingAt = s.Health.DegradedAt, s.Health.FailingAt
	options.Delivering = s.Sources.Delivering(min(options.End, clock), s.SilentAfter.Milliseconds())
	options.Roots = s.roots(options.End)
	from := "live"
	var b *graph.Builder
	if s.Live.Covers(options.Start, clock) {
		window := s.Live.Window(options.Start, options.End, idle)
		release = window.Release
		b = graph.NewBuilder(s.Inventory, options, len(window.Edges))
		for i, e := range window.Edges {
			b.AddLive(e, window.Counts[i])
		}
	} else {
		from = "history"
		b = graph.NewBuilder(s.Inventory, options, 256)
		err := s.Past.Window(ctx, options.Start, options.End, func(key *edge.Key, c *live.Counts) {
			if idle || !c.Empty() {
				b.Add(key, c)
			}
		})
		if err != nil {
			return nil, nil, unavailable(err)
		}
	}
	g = b.Graph()
	g.From, g.Clock = from, clock
	return g, release, nil
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

func jsonAnswer(body any) (*answer, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &answer{contentType: typeJSON, body: encoded}, nil
}

func timeOf(ms int64) *time.Time {
	if ms <= 0 {
		return nil
	}
	t := time.UnixMilli(ms).UTC()
	return &t
}
