package httpapi

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/mesh"
)

type policyBody struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Scope     string `json:"scope"`
	Action    string `json:"action"`
	DryRun    bool   `json:"dry_run"`
	// Present is false for a policy that is gone.
	Present bool `json:"present"`
}

func newPolicyBody(policy *mesh.Policy) policyBody {
	return policyBody{policy.Namespace, policy.Name, policy.Scope, policy.Action, policy.DryRun, true}
}

// rootNamespace holds the policies that apply to the whole mesh.
const rootNamespace = "istio-system"

// selects tells whether a policy applies to a workload.
func selects(policy *mesh.Policy, w *inventory.Workload) bool {
	switch policy.Scope {
	case "GLOBAL":
		return w.InMesh
	case "NAMESPACE":
		return w.InMesh && (policy.Namespace == w.Namespace || policy.Namespace == rootNamespace)
	}
	return slices.ContainsFunc(w.Pods, func(pod *mesh.Workload) bool { return slices.Contains(pod.Policies, policy.Key()) })
}

type policyItem struct {
	policyBody
	// Selects is the number of workloads that the policy applies to, Denied that of the connections it denied.
	Selects int    `json:"selects"`
	Denied  uint64 `json:"denied"`
}

func (s *Server) policies(r *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, err := s.workloadGraph(r.Context(), w)
	if err != nil {
		return nil, err
	}
	all := s.Inventory.Policies()
	slices.SortFunc(all, func(a, b *mesh.Policy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	list, total, next := cut(part, all, func(policy *mesh.Policy) (string, string) { return policy.Namespace, policy.Name })
	body := struct {
		Policies []policyItem `json:"policies"`
		listBody
	}{[]policyItem{}, listBody{total, next}}
	workloads := s.Inventory.Workloads()
	for _, policy := range list {
		item := policyItem{policyBody: newPolicyBody(policy)}
		for _, workload := range workloads {
			if selects(policy, workload) {
				item.Selects++
			}
		}
		for _, e := range g.Edges {
			item.Denied += failedBy(e.Counts, policy.Key())
		}
		body.Policies = append(body.Policies, item)
	}
	return jsonAnswer(body)
}

type deniedEdge struct {
	Source      nameBody `json:"source"`
	Destination nameBody `json:"destination"`
	Service     string   `json:"service"`
	Port        uint16   `json:"port"`
	Denied      uint64   `json:"denied"`
	Closed      uint64   `json:"closed"`
}

type policyDetail struct {
	policyBody
	Rules     json.RawMessage `json:"rules"`
	Workloads []nameBody      `json:"workloads"`
	Denied    uint64          `json:"denied"`
	DeniedOn  []deniedEdge    `json:"denied_on"`
}

func (s *Server) policy(r *http.Request, p *params) (*answer, error) {
	w := s.window(p)
	if p.err != nil {
		return nil, p.err
	}
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	policy, present := s.Inventory.Policy(key)
	g, err := s.workloadGraph(r.Context(), w)
	if err != nil {
		return nil, err
	}
	body := policyDetail{Rules: json.RawMessage("null"), Workloads: []nameBody{}, DeniedOn: []deniedEdge{}}
	for _, e := range g.Edges {
		if n := failedBy(e.Counts, key); n > 0 {
			source, destination := &g.Nodes[e.Source], &g.Nodes[e.Destination]
			body.Denied += n
			body.DeniedOn = append(body.DeniedOn, deniedEdge{
				nameBody{source.Namespace, source.Name},
				nameBody{destination.Namespace, destination.Name},
				e.Service, e.Port, n, e.Counts.Fields[live.Closed],
			})
		}
	}
	if policy == nil {
		if body.Denied == 0 {
			return nil, notFound("there is no policy " + key)
		}
		// It was gone before this process began, but it denied something in this window.
		body.policyBody = policyBody{Namespace: r.PathValue("namespace"), Name: r.PathValue("name"), Scope: "UNKNOWN", Action: "UNKNOWN"}
		return jsonAnswer(body)
	}
	body.policyBody = newPolicyBody(policy)
	body.Present = present
	if json.Valid([]byte(policy.Rules)) {
		body.Rules = json.RawMessage(policy.Rules)
	}
	for _, workload := range s.Inventory.Workloads() {
		if present && selects(policy, workload) {
			body.Workloads = append(body.Workloads, nameBody{workload.Namespace, workload.Name.Name})
		}
	}
	return jsonAnswer(body)
}
