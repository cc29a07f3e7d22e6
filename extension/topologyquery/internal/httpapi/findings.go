package httpapi

import (
	"context"
	"net/http"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/findings"
)

// findingRoutes tells of findings.
type findingRoutes struct {
	mesh   findings.Mesh
	graphs *graphs
}

func (s *findingRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/findings": s.list}
}

func (s *findingRoutes) list(r *http.Request, p *params) (*answer, error) {
	w := s.graphs.ranges.window(p)
	namespace, kind := p.text("namespace"), p.oneOf("kind", "", findings.Kinds...)
	limit := p.limit(defaultLimit, maxLimit)
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.workloads(r.Context(), w)
	if err != nil {
		return nil, err
	}
	defer release()
	body := struct {
		Findings []findings.Finding `json:"findings"`
		Total    int                `json:"total"`
	}{Findings: []findings.Finding{}}
	for _, one := range findings.Find(g, s.mesh) {
		if namespace != "" && one.Subject.Namespace != namespace || kind != "" && one.Kind != kind {
			continue
		}
		if body.Total++; body.Total <= limit {
			body.Findings = append(body.Findings, one)
		}
	}
	return jsonAnswer(body)
}

// count is the number of findings of each kind in the newest minutes.
func (s *findingRoutes) count(ctx context.Context) (map[string]int, error) {
	p := &params{}
	g, release, err := s.graphs.workloads(ctx, s.graphs.ranges.window(p))
	if err != nil {
		return nil, err
	}
	defer release()
	counts := map[string]int{}
	for _, kind := range findings.Kinds {
		counts[kind] = 0
	}
	for _, one := range findings.Find(g, s.mesh) {
		counts[one.Kind]++
	}
	return counts, nil
}
