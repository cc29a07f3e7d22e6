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
	// AtWaypoint tells that a waypoint or gateway denied requests by it and no ztunnel is told of it, so that nobody knows its rules.
	AtWaypoint bool `json:"at_waypoint,omitempty"`
}

func newPolicyBody(policy *mesh.Policy) policyBody {
	return policyBody{policy.Namespace, policy.Name, policy.Scope, policy.Action, policy.DryRun, true, false}
}

// policyMesh is what the policies' routes read of the mesh. inventory.Inventory is one.
type policyMesh interface {
	Workloads() []*inventory.Workload
	Policies() []*mesh.Policy
	// Policy also returns one that is gone; present is false then.
	Policy(key string) (policy *mesh.Policy, present bool)
}

type policyRoutes struct {
	mesh   policyMesh
	graphs *graphs
}

func (s *policyRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/policies": s.list, "/api/v1/policies/{namespace}/{name}": s.get}
}

type policyItem struct {
	policyBody
	// Selects is the number of workloads that the policy applies to, Denied that of the connections it denied.
	Selects int    `json:"selects"`
	Denied  uint64 `json:"denied"`
}

func (s *policyRoutes) list(r *http.Request, p *params) (*answer, error) {
	part, w := p.page(), s.graphs.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	g, release, err := s.graphs.workloads(r.Context(), w)
	if err != nil {
		return nil, err
	}
	defer release()
	denied := deniedBy(g.Edges, func(*graph.Edge) bool { return true })
	all := s.with(denied)
	list, total, next := cut(part, all, func(policy policyBody) (string, string) { return policy.Namespace, policy.Name })
	body := struct {
		Policies []policyItem `json:"policies"`
		listBody
	}{[]policyItem{}, listBody{total, next}}
	workloads := s.mesh.Workloads()
	for _, policy := range list {
		key := policy.Namespace + "/" + policy.Name
		item := policyItem{policyBody: policy, Denied: denied[key].All()}
		if present, ok := s.mesh.Policy(key); ok {
			for _, workload := range workloads {
				if workload.Selected(present) {
					item.Selects++
				}
			}
		}
		body.Policies = append(body.Policies, item)
	}
	return jsonAnswer(body)
}

// with are the mesh's policies and those that denied something and are gone, by namespace and name.
func (s *policyRoutes) with(denied map[string]live.Denials) []policyBody {
	var all []policyBody
	for _, policy := range s.mesh.Policies() {
		all = append(all, newPolicyBody(policy))
	}
	for key, by := range denied {
		if policy, present := s.mesh.Policy(key); !present {
			all = append(all, gonePolicy(key, policy, by.Requests > 0))
		}
	}
	slices.SortFunc(all, func(a, b policyBody) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// gonePolicy describes a policy that ztunnels are not told of: one that is gone, or a waypoint's. Known is nil where it was gone before this process
// began.
func gonePolicy(key string, known *mesh.Policy, requests bool) policyBody {
	if known != nil {
		body := newPolicyBody(known)
		body.Present = false
		return body
	}
	namespace, name, _ := strings.Cut(key, "/")
	return policyBody{Namespace: namespace, Name: name, Scope: "UNKNOWN", Action: "UNKNOWN", Present: requests, AtWaypoint: requests}
}

type deniedEdge struct {
	Source      nameBody `json:"source"`
	Destination nameBody `json:"destination"`
	Service     string   `json:"service"`
	Port        uint16   `json:"port"`
	Denied      uint64   `json:"denied"`
	// Closed is how many connections there were, or requests where these were denied.
	Closed uint64 `json:"closed"`
}

type policyDetail struct {
	policyBody
	Rules     json.RawMessage `json:"rules"`
	Workloads []nameBody      `json:"workloads"`
	Denied    uint64          `json:"denied"`
	DeniedOn  []deniedEdge    `json:"denied_on"`
}

func (s *policyRoutes) get(r *http.Request, p *params) (*answer, error) {
	w := s.graphs.ranges.window(p)
	if p.err != nil {
		return nil, p.err
	}
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	policy, present := s.mesh.Policy(key)
	g, release, err := s.graphs.workloads(r.Context(), w)
	if err != nil {
		return nil, err
	}
	defer release()
	requests, denied := uint64(0), map[string]live.Denials{}
	body := policyDetail{Rules: json.RawMessage("null"), Workloads: []nameBody{}, DeniedOn: []deniedEdge{}}
	for _, e := range g.Edges {
		clear(denied)
		addDenials(denied, e.Counts)
		by := denied[key]
		if n := by.All(); n > 0 {
			source, destination := &g.Nodes[e.Source], &g.Nodes[e.Destination]
			body.Denied += n
			requests += by.Requests
			of := live.Closed
			if by.Requests > by.Connections {
				of = live.Requests
			}
			body.DeniedOn = append(body.DeniedOn, deniedEdge{
				nameBody{source.Namespace, source.Name},
				nameBody{destination.Namespace, destination.Name},
				e.Service, e.Port, n, e.Counts.Fields[of],
			})
		}
	}
	if policy == nil {
		if body.Denied == 0 {
			return nil, notFound("there is no policy " + key)
		}
		// It was gone before this process began, but it denied something in this window.
		body.policyBody = gonePolicy(key, nil, requests > 0)
		return jsonAnswer(body)
	}
	body.policyBody = newPolicyBody(policy)
	body.Present = present
	if json.Valid([]byte(policy.Rules)) {
		body.Rules = json.RawMessage(policy.Rules)
	}
	for _, workload := range s.mesh.Workloads() {
		if present && workload.Selected(policy) {
			body.Workloads = append(body.Workloads, nameBody{workload.Namespace, workload.Name.Name})
		}
	}
	return jsonAnswer(body)
}
