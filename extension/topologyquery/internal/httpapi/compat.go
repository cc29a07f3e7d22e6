package httpapi

import (
	"net/http"
	"slices"
	"strconv"
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
	g, release, err := s.graphs.build(r.Context(), graph.Options{Start: w.start, End: w.end, GroupBy: graph.ByApp}, false)
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
			{"mainStat", "string", "", "Rate"},
			{"secondaryStat", "string", "", "Failed"},
			{"detail__service", "string", "", "Service"},
			{"detail__security", "string", "", "Security"},
			{"detail__health", "string", "", "Health"},
			{"detail__p95", "string", "", "p95"},
		},
		[]field{
			{"id", "string", "", ""},
			{"title", "string", "", "Workload"},
			{"subTitle", "string", "", "Namespace"},
			{"mainStat", "string", "", "Health"},
			{"secondaryStat", "string", "", "Pods"},
			{"arc__ok", "number", "green", "Succeeded"},
			{"arc__failed", "number", "red", "Failed"},
		},
	})
}

func (s *compatRoutes) nodeGraphData(r *http.Request, p *params) (*answer, error) {
	w := s.ranges.window(p)
	options := graph.Options{
		Start: w.start, End: w.end, Namespace: p.text("namespace"),
		GroupBy: p.groupBy(),
	}
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.build(r.Context(), options, false)
	if err != nil {
		return nil, err
	}
	defer release()
	type node struct {
		ID            string  `json:"id"`
		Title         string  `json:"title"`
		SubTitle      string  `json:"subTitle"`
		MainStat      string  `json:"mainStat"`
		SecondaryStat string  `json:"secondaryStat"`
		OK            float64 `json:"arc__ok"`
		Failed        float64 `json:"arc__failed"`
	}
	type edge struct {
		ID            string `json:"id"`
		Source        string `json:"source"`
		Target        string `json:"target"`
		MainStat      string `json:"mainStat"`
		SecondaryStat string `json:"secondaryStat"`
		Service       string `json:"detail__service"`
		Security      string `json:"detail__security"`
		Health        string `json:"detail__health"`
		P95           string `json:"detail__p95"`
	}
	body := struct {
		Nodes []node `json:"nodes"`
		Edges []edge `json:"edges"`
	}{[]node{}, []edge{}}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		failed := n.FailureRatio()
		body.Nodes = append(body.Nodes, node{n.ID, n.Name, n.Namespace, n.Health, strconv.Itoa(len(n.Pods)) + " pods", 1 - failed, failed})
	}
	seconds := max(float64(w.end-w.start)/1000, 0.001)
	for _, e := range g.Edges {
		rate, failed, p95 := float64(e.Counts.Fields[live.Closed])/seconds, e.Counts.Failed, ""
		if e.Counts.Fields[live.Requests] > 0 {
			rate, failed = float64(e.Counts.Fields[live.Requests])/seconds, e.Counts.Fields[live.RequestsFailed]+e.Counts.Failed
			var value [1]float64
			e.Counts.Request.Quantiles([]float64{0.95}, value[:])
			if e.Counts.Request.Count > 0 {
				p95 = strconv.FormatFloat(value[0]*1000, 'f', 1, 64) + " ms"
			}
		}
		body.Edges = append(body.Edges, edge{
			g.EdgeID(e), g.Nodes[e.Source].ID, g.Nodes[e.Destination].ID,
			strconv.FormatFloat(rate, 'f', 2, 64) + "/s", strconv.FormatUint(failed, 10) + " failed",
			e.Service, e.Security, e.Health, p95,
		})
	}
	return jsonAnswer(body)
}
