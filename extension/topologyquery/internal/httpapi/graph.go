package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// liveGraph answers for the newest windows. live.Graph is one.
type liveGraph interface {
	Covers(start, now int64) bool
	Window(start, end int64, idle bool) *live.Snapshot
	Version() uint64
	Stats() live.Stats
}

// pastGraph answers for windows that the live graph does not cover. history.Store is one.
type pastGraph interface {
	// Window calls visit for every edge with what happened in [start, end), in unix milliseconds.
	Window(ctx context.Context, start, end int64, visit func(key *edge.Key, counts *live.Counts)) error
}

// graphMesh is the mesh that a graph is drawn of.
type graphMesh interface {
	graph.Mesh
	Version() uint64
}

// delivering tells which nodes' telemetry arrives. sources.Tracker is one.
type delivering interface {
	Delivering(at, patience int64) map[string]bool
	Partial() map[string]bool
}

// pastOutages are the outages that a graph shows.
type pastOutages interface {
	List(start, end time.Time, state string) []*outage.Outage
	Version() uint64
}

// graphs makes graphs of windows, from memory where it can. Requests for the same graph at the same time cost one computation.
type graphs struct {
	live        liveGraph
	past        pastGraph
	names       pastAskers
	mesh        graphMesh
	resolver    resolverMesh
	delivering  delivering
	outages     pastOutages
	ranges      *ranges
	health      Health
	silentAfter time.Duration
	timeout     time.Duration

	gate   *gate
	memory *budget.Budget
	cache  *graphCache
	flight singleflight.Group
}

func newGraphs(all *stores.Stores, settings *Settings, ranges *ranges, gate *gate) *graphs {
	return &graphs{
		live: all.Live, past: all.Past, names: all.Past, mesh: all.Inventory, resolver: all.Inventory, delivering: all.Sources, outages: all.Outages, ranges: ranges,
		health: settings.Health, silentAfter: settings.SilentAfter, timeout: settings.Limits.Timeout,
		gate: gate, memory: settings.Memory, cache: newGraphCache(settings.Memory),
	}
}

const graphPattern = "/api/v1/graph"

// groupBy reads how to group.
func (p *params) groupBy() graph.GroupBy {
	return graph.GroupBy(p.oneOf("group_by", string(graph.ByWorkload), graph.Groupings()...))
}

func (s *graphs) get(r *http.Request, p *params) (*answer, error) {
	w := s.ranges.window(p)
	options := graph.Options{Start: w.start, End: w.end, GroupBy: p.groupBy(), Namespaces: p.namespaces()}
	idle := p.boolean("idle_edges")
	options.Waypoints = p.oneOf("waypoints", "hide", "hide", "show") == "show"
	dns := p.oneOf("dns", dnsFailing, dnsHide, dnsFailing, dnsShow)
	if p.err != nil {
		return nil, p.err
	}
	// The question, and the state of the stores that the answer depends on.
	key := fmt.Sprintf("%d %d %s %t %t %s %d %d %d %d %s", w.start, w.end, options.GroupBy, idle, options.Waypoints, dns,
		s.live.Version(), s.mesh.Version(), s.outages.Version(), s.ranges.now(), strings.Join(options.Namespaces, ","))
	if known := s.cache.get(key); known != nil {
		return known, nil
	}
	// The first one's answer is everybody's: it must not end with the first one's connection.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), s.timeout)
	defer cancel()
	made, err, _ := s.flight.Do(key, func() (any, error) {
		if known := s.cache.get(key); known != nil {
			return known, nil
		}
		return s.answer(ctx, key, options, idle, dns)
	})
	if err != nil {
		return nil, err
	}
	return made.(*answer), nil
}

func (s *graphs) answer(ctx context.Context, key string, options graph.Options, idle bool, dns string) (*answer, error) {
	if err := s.gate.enter(ctx); err != nil {
		return nil, err
	}
	defer s.gate.leave()
	g, release, err := s.build(ctx, options, idle, dns)
	if err != nil {
		return nil, err
	}
	defer release()
	a := &answer{contentType: typeJSON, body: g.AppendJSON(make([]byte, 0, g.JSONSize())), shared: true}
	s.cache.put(key, a)
	return a, nil
}

// edgeBytes is what an edge takes while a graph is made, its JSON included.
const edgeBytes = 2 << 10

// build makes the graph of a window. release gives its memory back: nothing of it may be used afterwards.
func (s *graphs) build(ctx context.Context, options graph.Options, idle bool, dns string) (g *graph.Graph, release func(), err error) {
	size := int64(1+s.live.Stats().Edges) * edgeBytes
	if err := s.memory.Reserve(size); err != nil {
		return nil, nil, err
	}
	release = func() { s.memory.Release(size) }
	clock := s.ranges.now()
	s.judgeBy(&options)
	names, err := s.ask(ctx, &options, dns)
	if err != nil {
		release()
		return nil, nil, err
	}
	from := "live"
	var b *graph.Builder
	if s.live.Covers(options.Start, clock) {
		snapshot := s.live.Window(options.Start, options.End, idle)
		release = func() {
			snapshot.Release()
			s.memory.Release(size)
		}
		b = graph.NewBuilder(s.mesh, options, len(snapshot.Edges))
		for i, e := range snapshot.Edges {
			b.AddLive(e, snapshot.Counts[i])
		}
	} else {
		from = "history"
		b = graph.NewBuilder(s.mesh, options, 256)
		err := s.past.Window(ctx, options.Start, options.End, func(key *edge.Key, c *live.Counts) {
			if idle || !c.Empty() {
				b.Add(key, c)
			}
		})
		if err != nil {
			release()
			return nil, nil, unavailable(err)
		}
	}
	names.addTo(b)
	g = b.Graph()
	g.From, g.Clock = from, clock
	return g, release, nil
}

// Graph is build for the APIs of other tools.
func (s *graphs) Graph(ctx context.Context, options graph.Options) (g *graph.Graph, release func(), err error) {
	if time.Duration(options.End-options.Start)*time.Millisecond > s.ranges.most {
		return nil, nil, badParameter("start", "the range is longer than "+s.ranges.most.String())
	}
	return s.build(ctx, options, false, dnsHide)
}

// workloads is the graph of workloads in a window, for health and neighbours.
func (s *graphs) workloads(ctx context.Context, w window) (g *graph.Graph, release func(), err error) {
	return s.build(ctx, graph.Options{Start: w.start, End: w.end, GroupBy: graph.ByWorkload}, false, dnsHide)
}

// judgeBy completes options by all that health is judged by, which is the same for everything at a moment.
func (s *graphs) judgeBy(options *graph.Options) {
	options.DegradedAt, options.FailingAt = s.health.DegradedAt, s.health.FailingAt
	options.Partial = s.delivering.Partial()
	options.Delivering = s.delivering.Delivering(min(options.End, s.ranges.now()), s.silentAfter.Milliseconds())
	// An outage may be known a moment after the newest data.
	end := time.UnixMilli(options.End)
	for _, o := range s.outages.List(time.UnixMilli(options.Start), end.Add(time.Millisecond), "") {
		one := graph.Outage{
			Summary: o.Summary, Critical: o.Severity == "critical", IsOpen: o.EndedAt == nil || o.EndedAt.After(end),
			Denial: o.Kind == semconv.ErrorTypePolicyDenied, Edges: o.Edges,
			Names: o.Kind == semconv.ErrorTypeDNSFailure || o.Kind == kindDNSSlow,
		}
		if o.Root.Type == "workload" || o.Root.Type == "service" {
			one.Root = graph.Root{Namespace: o.Root.Namespace, Name: o.Root.Name}
		}
		options.Outages = append(options.Outages, one)
	}
}
