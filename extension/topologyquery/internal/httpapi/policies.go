package httpapi

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
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
	denied := deniedBy(g.Edges, func(*graph.Edge) bool { return true })
	all := s.policiesWith(denied)
	list, total, next := cut(part, all, func(policy policyBody) (string, string) { return policy.Namespace, policy.Name })
	body := struct {
		Policies []policyItem `json:"policies"`
		listBody
	}{[]policyItem{}, listBody{total, next}}
	workloads := s.Inventory.Workloads()
	for _, policy := range list {
		key := policy.Namespace + "/" + policy.Name
		item := policyItem{policyBody: policy, Denied: denied[key]}
		if present, ok := s.Inventory.Policy(key); ok {
			for _, workload := range workloads {
				if selects(present, workload) {
					item.Selects++
				}
			}
		}
		body.Policies = append(body.Policies, item)
	}
	return jsonAnswer(body)
}

// policiesWith are the mesh's policies and those that denied something and are gone, by namespace and name.
func (s *Server) policiesWith(denied map[string]uint64) []policyBody {
	var all []policyBody
	for _, policy := range s.Inventory.Policies() {
		all = append(all, newPolicyBody(policy))
	}
	for key := range denied {
		if policy, present := s.Inventory.Policy(key); !present {
			all = append(all, gonePolicy(key, policy))
		}
	}
	slices.SortFunc(all, func(a, b policyBody) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// gonePolicy describes a policy that is gone; known is nil where it was gone before this process began.
func gonePolicy(key string, known *mesh.Policy) policyBody {
	if known != nil {
		body := newPolicyBody(known)
		body.Present = false
		return body
	}
	namespace, name, _ := strings.Cut(key, "/")
	return policyBody{Namespace: namespace, Name: name, Scope: "UNKNOWN", Action: "UNKNOWN"}
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
		body.policyBody = gonePolicy(key, nil)
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
