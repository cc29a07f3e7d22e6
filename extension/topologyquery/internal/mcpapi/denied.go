package mcpapi

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/internal/outage"
)

// maxSamples bounds the connections that are shown.
const maxSamples = 5

type deniedIn struct {
	Source      string `json:"source" jsonschema:"The client: a workload or app, such as checkout or shop/checkout"`
	Destination string `json:"destination" jsonschema:"The server: a workload or app, or a service's host name"`
	Port        uint16 `json:"port,omitempty" jsonschema:"Only of this port"`
	Window
}

type policyRow struct {
	Policy    string `json:"policy"`
	Denied    uint64 `json:"denied" jsonschema:"How many connections it denied in the window"`
	Action    string `json:"action,omitempty" jsonschema:"DENY, or ALLOW: what none of these allows is denied"`
	Scope     string `json:"scope,omitempty"`
	Rules     string `json:"rules,omitempty" jsonschema:"Its rules as ztunnels have them, as JSON"`
	Exists    bool   `json:"exists"`
	AppliesTo int    `json:"applies_to_workloads"`
}

type sample struct {
	Time        string `json:"time"`
	Source      string `json:"source"`
	Destination string `json:"destination"`
	Identity    string `json:"source_identity,omitempty" jsonschema:"Who the client was to the policy; none without mutual TLS"`
	Message     string `json:"message"`
	Node        string `json:"node,omitempty"`
}

type deniedOut struct {
	Answer   string      `json:"answer"`
	Edges    []edgeRow   `json:"edges" jsonschema:"What goes from the one to the other"`
	Policies []policyRow `json:"policies" jsonschema:"Those that denied, and others that apply to the destination"`
	Samples  []sample    `json:"samples" jsonschema:"Newest connections that were denied"`
	Outages  []outageRow `json:"outages" jsonschema:"Outages that this is part of"`
	Fresh
}

func (s graphTools) whyDenied(ctx context.Context, in deniedIn) (out deniedOut, err error) {
	start, end, err := s.window(in.Window)
	if err != nil {
		return out, err
	}
	g, release, err := s.graphOf(ctx, start, end, graph.ByWorkload)
	if err != nil {
		return out, err
	}
	defer release()
	out = deniedOut{Edges: []edgeRow{}, Policies: []policyRow{}, Samples: []sample{}, Outages: []outageRow{}, Fresh: s.fresh()}
	denied := map[string]uint64{} // bounded by the policies
	var all, lost, total uint64
	var apps [2]map[string]bool
	apps[0], apps[1] = map[string]bool{}, map[string]bool{}
	for _, e := range g.Edges {
		from, to := &g.Nodes[e.Source], &g.Nodes[e.Destination]
		if !named(from, in.Source) || !named(to, in.Destination) && e.Service != in.Destination || in.Port != 0 && e.Port != in.Port {
			continue
		}
		apps[0][name(from.Namespace, cmp.Or(from.App, from.Name))], apps[1][name(to.Namespace, cmp.Or(to.App, to.Name))] = true, true
		out.Edges = append(out.Edges, edgeRowOf(g, e))
		n, failed := counted(e.Counts)
		all, lost = all+n, lost+failed
		for policy, n := range e.Counts.DeniedBy() {
			denied[policy] += n.All()
			total += n.All()
		}
	}
	out.Edges, _, _ = cut(out.Edges, defaultEdges)
	out.Policies = s.policies(denied, apps[1])
	if out.Samples, err = s.samples(ctx, in, start, end); err != nil {
		return out, err
	}
	for _, o := range s.Outages.List(start, end, "") {
		if slices.ContainsFunc(o.Edges, func(e outage.Edge) bool {
			return apps[0][name(e.Source.Namespace, e.Source.Name)] && apps[1][name(e.Destination.Namespace, e.Destination.Name)]
		}) && len(out.Outages) < maxParts {
			out.Outages = append(out.Outages, rowOf(o))
		}
	}
	switch {
	case len(out.Edges) == 0:
		out.Answer = fmt.Sprintf("nothing went from %s to %s in this window, so that nothing was denied; check the names with get_mesh_graph", in.Source, in.Destination)
	case total == 0:
		out.Answer = fmt.Sprintf("no policy denied anything: of %d from %s to %s, %d failed for other reasons (errors_by_reason)", all, in.Source, in.Destination, lost)
	default:
		var by []string
		for _, key := range slices.Sorted(maps.Keys(denied)) {
			by = append(by, fmt.Sprintf("%d by %s", denied[key], cmp.Or(key, "policies that are not named: most likely none allows it")))
		}
		out.Answer = fmt.Sprintf("of %d from %s to %s, policies denied %d: %s", all, in.Source, in.Destination, total, strings.Join(by, ", "))
	}
	return out, nil
}

// policies are those that denied, and others that apply to one of some apps.
func (s graphTools) policies(denied map[string]uint64, apps map[string]bool) []policyRow {
	out := []policyRow{}
	left := maps.Clone(denied)
	workloads := s.Mesh.Workloads()
	for _, policy := range s.Mesh.Policies() {
		row := policyRow{policy.Key(), denied[policy.Key()], policy.Action, policy.Scope, policy.Rules, true, 0}
		applies := false
		for _, w := range workloads {
			if w.Selected(policy) {
				row.AppliesTo++
				applies = applies || apps[name(w.Namespace, w.App)]
			}
		}
		delete(left, policy.Key())
		if row.Denied > 0 || applies && len(out) < maxParts {
			out = append(out, row)
		}
	}
	for key, n := range left {
		if key == "" {
			continue
		}
		row := policyRow{Policy: key, Denied: n}
		if gone, _ := s.Mesh.Policy(key); gone != nil {
			row.Action, row.Scope, row.Rules = gone.Action, gone.Scope, gone.Rules
		}
		out = append(out, row)
	}
	slices.SortStableFunc(out, func(a, b policyRow) int {
		return cmp.Or(cmp.Compare(b.Denied, a.Denied), cmp.Compare(a.Policy, b.Policy))
	})
	return out
}

func (s graphTools) samples(ctx context.Context, in deniedIn, start, end time.Time) ([]sample, error) {
	part := func(name string) string {
		// Flows are found by parts of "namespace/pod".
		if host, rest, is := strings.Cut(name, "."); is && strings.Contains(rest, ".svc") {
			return host
		}
		return name
	}
	found, _, err := s.Flows.List(ctx, flows.Filter{
		Source: part(in.Source), Destination: part(in.Destination), Verdict: flows.VerdictDenied, Since: start, Until: end.Add(time.Millisecond),
	}, 0, maxSamples)
	out := []sample{}
	for _, f := range found {
		out = append(out, sample{format(f.Time), party(&f.Source), party(&f.Dest), f.Source.Identity, f.Message, f.Node})
	}
	return out, err
}

// party names an end of a connection.
func party(p *flows.Party) string { return name(p.Namespace, cmp.Or(p.Pod, p.Address)) }
