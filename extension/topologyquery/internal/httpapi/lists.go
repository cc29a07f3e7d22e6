package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/mesh"
)

// page is a part of a list that is ordered by key.
type page struct {
	limit  int
	after  string
	filter string
	// namespace, unless empty, is the items'.
	namespace string
}

// page reads a list's parameters.
func (p *params) page() page {
	out := page{limit: p.limit(defaultLimit, maxLimit), filter: strings.ToLower(p.text("q")), namespace: p.text("namespace")}
	if cursor := p.text("cursor"); cursor != "" {
		after, err := base64.RawURLEncoding.DecodeString(cursor)
		if err != nil {
			p.fail("cursor", notACursor)
		}
		out.after = string(after)
	}
	return out
}

// cut returns the items of the page, how many there are on all pages, and the cursor of the next one, empty if there is
// none. Items must be ordered by key.
func cut[T any](p page, items []T, key func(T) (namespace, name string)) (part []T, total int, next string) {
	matching := make([]T, 0, len(items))
	for _, item := range items {
		namespace, name := key(item)
		if p.namespace != "" && namespace != p.namespace ||
			p.filter != "" && !strings.Contains(strings.ToLower(namespace+"/"+name), p.filter) {
			continue
		}
		matching = append(matching, item)
	}
	keyOf := func(item T) string {
		namespace, name := key(item)
		return namespace + "\x00" + name
	}
	from := 0
	if p.after != "" {
		from, _ = slices.BinarySearchFunc(matching, p.after, func(item T, after string) int {
			if keyOf(item) <= after {
				return -1
			}
			return 1
		})
	}
	part = matching[from:]
	if len(part) > p.limit {
		part = part[:p.limit]
		next = base64.RawURLEncoding.EncodeToString([]byte(keyOf(part[len(part)-1])))
	}
	return part, len(matching), next
}

// position is the place of an item in a list that is ordered by time, newest first, and by id where times are the same.
type position struct {
	at time.Time
	id string
}

// position reads the cursor of such a list; the zero position is before its first item.
func (p *params) position() position {
	cursor := p.text("cursor")
	if cursor == "" {
		return position{}
	}
	decoded, err := base64.RawURLEncoding.DecodeString(cursor)
	text, id, ok := strings.Cut(string(decoded), "\x00")
	at, timeErr := time.Parse(time.RFC3339Nano, text)
	if err != nil || !ok || timeErr != nil {
		p.fail("cursor", notACursor)
		return position{}
	}
	return position{at: at, id: id}
}

func (p position) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(p.at.UTC().Format(time.RFC3339Nano) + "\x00" + p.id))
}

// listBody is what every list has beside its items.
type listBody struct {
	Total int    `json:"total"`
	Next  string `json:"next_cursor,omitempty"`
}

type nameBody struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// healthBody is the health of something, and a clause that says why; it may be empty.
type healthBody struct {
	Health string `json:"health"`
	Reason string `json:"health_reason,omitempty"`
}

// worsen takes over a worse health.
func (h *healthBody) worsen(other healthBody) {
	if graph.Worse(other.Health, h.Health) {
		*h = other
	}
}

// healthOf are the healths of a graph's nodes by name.
func healthOf(g *graph.Graph) map[inventory.Name]healthBody {
	out := make(map[inventory.Name]healthBody, len(g.Nodes))
	for _, n := range slices.Concat(g.Nodes, g.Waypoints) {
		out[inventory.Name{Namespace: n.Namespace, Name: n.Name}] = healthBody{n.Health, n.Reason}
	}
	return out
}

// neighbours are the edges that touch one of some nodes, with their nodes, as JSON.
type neighbours struct {
	Nodes    []json.RawMessage `json:"nodes"`
	Inbound  []json.RawMessage `json:"inbound"`
	Outbound []json.RawMessage `json:"outbound"`
}

// around collects the edges into and out of the nodes that is selects; via, unless nil, selects edges as well.
func around(g *graph.Graph, is func(n *graph.Node) bool, via func(e *graph.Edge) bool) neighbours {
	out := neighbours{Nodes: []json.RawMessage{}, Inbound: []json.RawMessage{}, Outbound: []json.RawMessage{}}
	shown := map[int]struct{}{}
	for _, e := range g.Edges {
		in, from := is(&g.Nodes[e.Destination]), is(&g.Nodes[e.Source])
		if via != nil {
			in, from = via(e), false
		}
		if !in && !from {
			continue
		}
		encoded := json.RawMessage(g.AppendEdge(nil, e))
		if in {
			out.Inbound = append(out.Inbound, encoded)
		}
		if from {
			out.Outbound = append(out.Outbound, encoded)
		}
		for _, at := range [...]int{e.Source, e.Destination} {
			if _, ok := shown[at]; !ok {
				shown[at] = struct{}{}
				out.Nodes = append(out.Nodes, g.AppendNode(nil, &g.Nodes[at]))
			}
		}
	}
	return out
}

// deniedBy is how much each policy denied on the edges that are selected.
func deniedBy(edges []*graph.Edge, selects func(e *graph.Edge) bool) map[string]live.Denials {
	out := map[string]live.Denials{}
	for _, e := range edges {
		if selects(e) {
			addDenials(out, e.Counts)
		}
	}
	return out
}

// addDenials adds what each policy denied of what was counted.
func addDenials(to map[string]live.Denials, c *live.Counts) {
	for policy, n := range c.DeniedBy() {
		if policy != "" {
			to[policy] = live.Denials{Connections: to[policy].Connections + n.Connections, Requests: to[policy].Requests + n.Requests}
		}
	}
}

type certificateBody struct {
	Node string `json:"node"`
	mesh.Certificate
	// ExpiresInSeconds is negative once the certificate has expired, by the data's clock.
	ExpiresInSeconds *float64 `json:"expires_in_seconds,omitempty"`
}

// certificates are those that the ztunnels hold, of the identities that are selected.
func (s *pods) certificates(ztunnels []*mesh.Ztunnel, selects func(identity string) bool) []certificateBody {
	now := time.UnixMilli(s.ranges.now())
	out := []certificateBody{}
	for _, z := range ztunnels {
		for _, c := range z.Certificates {
			if !selects(c.Identity) {
				continue
			}
			body := certificateBody{Node: z.Node, Certificate: c}
			if !c.NotAfter.IsZero() {
				left := c.NotAfter.Sub(now).Seconds()
				body.ExpiresInSeconds = &left
			}
			out = append(out, body)
		}
	}
	return out
}
