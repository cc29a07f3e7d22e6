package httpapi

import (
	"net/http"
	"slices"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
)

// compatRoutes are the routes that other tools ask for.
type compatRoutes struct {
	graphs *graphs
	ranges *ranges
}

func (s *compatRoutes) routes() map[string]handler {
	return map[string]handler{
		"/api/dependencies": s.dependencies, "/api/health": s.nodeGraphHealth,
		"/api/graph/fields": s.nodeGraphFields, "/api/graph/data": s.nodeGraphData,
	}
}

// dependencies answers as Jaeger's System Architecture page and Grafana's Jaeger data source ask: endTs and lookback are
// milliseconds.
func (s *compatRoutes) dependencies(r *http.Request, p *params) (*answer, error) {
	end, lookback := p.number("endTs", milliseconds), p.number("lookback", milliseconds)
	wanted := p.text("service")
	w := window{end: int64(min(end, lastMilli))}
	if w.end == 0 {
		w.end = s.ranges.now()
	}
	if lookback == 0 {
		lookback = uint64((24 * time.Hour).Milliseconds())
	}
	// Jaeger's page asks for the last seven days, by its own clock.
	w.start = max(w.end-int64(min(lookback, uint64(s.ranges.most.Milliseconds()))), 1)
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.build(r.Context(), graph.Options{Start: w.start, End: w.end, GroupBy: graph.ByApp}, false, dnsHide)
	if err != nil {
		return nil, err
	}
	defer release()
	links := slices.DeleteFunc(g.Links(), func(l graph.Link) bool { return wanted != "" && l.Parent != wanted && l.Child != wanted })
	return jsonAnswer(struct {
		Data   []graph.Link `json:"data"`
		Total  int          `json:"total"`
		Limit  int          `json:"limit"`
		Offset int          `json:"offset"`
		Errors any          `json:"errors"`
	}{Data: links})
}

const milliseconds = "must be a whole number of milliseconds"

// The three routes of Grafana's Node Graph API data source.

func (s *compatRoutes) nodeGraphHealth(*http.Request, *params) (*answer, error) {
	return &answer{contentType: "text/plain; charset=utf-8", body: []byte("ok")}, nil
}

func (s *compatRoutes) nodeGraphFields(*http.Request, *params) (*answer, error) {
	type field struct {
		Name        string `json:"field_name"`
		Type        string `json:"type"`
		Color       string `json:"color,omitempty"`
		DisplayName string `json:"displayName,omitempty"`
	}
	return jsonAnswer(struct {
		Edges []field `json:"edges_fields"`
		Nodes []field `json:"nodes_fields"`
	}{
		[]field{
			{"id", "string", "", ""},
			{"source", "string", "", ""},
			{"target", "string", "", ""},
			{"mainStat", "number", "", "Per second"},
			{"secondaryStat", "number", "", "Failed, %"},
			{"detail__service", "string", "", "Service"},
			{"detail__security", "string", "", "Security"},
			{"detail__health", "string", "", "Health"},
			{"detail__p95", "number", "", "p95, ms"},
		},
		[]field{
			{"id", "string", "", ""},
			{"title", "string", "", "Workload"},
			{"subTitle", "string", "", "Namespace"},
			{"mainStat", "number", "", "Per second"},
			{"secondaryStat", "number", "", "Failed, %"},
			{"arc__ok", "number", "green", "Succeeded"},
			{"arc__failed", "number", "red", "Failed"},
			{"detail__health", "string", "", "Health"},
			{"detail__pods", "number", "", "Pods"},
		},
	})
}

func (s *compatRoutes) nodeGraphData(r *http.Request, p *params) (*answer, error) {
	// Dashboards have ${__from} and ${__to} for from and to.
	for from, to := range map[string]string{"from": "start", "to": "end"} { // bounded: constant
		if p.values.Has(from) && !p.values.Has(to) {
			p.values.Set(to, p.values.Get(from))
		}
	}
	w := s.ranges.window(p)
	options := graph.Options{Start: w.start, End: w.end, Namespaces: p.namespaces(), GroupBy: p.groupBy()}
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.build(r.Context(), options, false, dnsHide)
	if err != nil {
		return nil, err
	}
	defer release()
	type node struct {
		ID            string  `json:"id"`
		Title         string  `json:"title"`
		SubTitle      string  `json:"subTitle"`
		MainStat      float64 `json:"mainStat"`
		SecondaryStat float64 `json:"secondaryStat"`
		OK            float64 `json:"arc__ok"`
		Failed        float64 `json:"arc__failed"`
		Health        string  `json:"detail__health"`
		Pods          int     `json:"detail__pods"`
	}
	type edge struct {
		ID            string   `json:"id"`
		Source        string   `json:"source"`
		Target        string   `json:"target"`
		MainStat      float64  `json:"mainStat"`
		SecondaryStat float64  `json:"secondaryStat"`
		Service       string   `json:"detail__service"`
		Security      string   `json:"detail__security"`
		Health        string   `json:"detail__health"`
		P95           *float64 `json:"detail__p95"`
	}
	body := struct {
		Nodes []node `json:"nodes"`
		Edges []edge `json:"edges"`
	}{[]node{}, []edge{}}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		failed := n.FailureRatio()
		body.Nodes = append(body.Nodes, node{n.ID, n.Name, n.Namespace, 0, 100 * failed, 1 - failed, failed, n.Health, len(n.Pods)})
	}
	seconds := max(float64(w.end-w.start)/1000, 0.001)
	for _, e := range g.Edges {
		all, failed := e.Counts.Fields[live.Closed], e.Counts.Failed
		var p95 *float64
		if requests := e.Counts.Fields[live.Requests]; requests > 0 {
			all, failed = requests+e.Counts.Failed, e.Counts.Fields[live.RequestsFailed]+e.Counts.Failed
			if e.Counts.Request.Count > 0 {
				var value [1]float64
				e.Counts.Request.Quantiles([]float64{0.95}, value[:])
				value[0] *= 1000
				p95 = &value[0]
			}
		}
		rate := float64(all) / seconds
		body.Nodes[e.Destination].MainStat += rate
		body.Edges = append(body.Edges, edge{
			g.EdgeID(e), g.Nodes[e.Source].ID, g.Nodes[e.Destination].ID,
			rate, 100 * float64(min(failed, all)) / float64(max(all, 1)),
			e.Service, e.Security, e.Health, p95,
		})
	}
	return jsonAnswer(body)
}
