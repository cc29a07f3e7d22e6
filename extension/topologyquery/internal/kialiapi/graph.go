package kialiapi

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/reply"
)

// The graph in Kiali's form (kiali, graph/config/common): nodes and edges with rates as text.
type (
	config struct {
		Timestamp int64    `json:"timestamp"`
		Duration  int64    `json:"duration"`
		GraphType string   `json:"graphType"`
		Elements  elements `json:"elements"`
	}

	elements struct {
		Nodes []nodeWrapper `json:"nodes"`
		Edges []edgeWrapper `json:"edges"`
	}

	nodeWrapper struct {
		Data *nodeData `json:"data"`
	}

	edgeWrapper struct {
		Data *edgeData `json:"data"`
	}

	nodeData struct {
		nodeName
		DestServices []destService     `json:"destServices,omitempty"`
		Traffic      []protocolTraffic `json:"traffic,omitempty"`
		HealthData   any               `json:"healthData"`
		nodeFlags
	}

	nodeName struct {
		ID        string `json:"id"`
		Parent    string `json:"parent,omitempty"`
		NodeType  string `json:"nodeType"`
		Cluster   string `json:"cluster"`
		Namespace string `json:"namespace"`
		Workload  string `json:"workload,omitempty"`
		App       string `json:"app,omitempty"`
		Version   string `json:"version,omitempty"`
		Service   string `json:"service,omitempty"`
	}

	nodeFlags struct {
		IsAmbient   bool   `json:"isAmbient,omitempty"`
		IsBox       string `json:"isBox,omitempty"`
		IsIdle      bool   `json:"isIdle,omitempty"`
		IsOutOfMesh bool   `json:"isOutOfMesh,omitempty"`
		IsOutside   bool   `json:"isOutside,omitempty"`
		IsRoot      bool   `json:"isRoot,omitempty"`
	}

	destService struct {
		Cluster   string `json:"cluster"`
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	}

	edgeData struct {
		ID           string          `json:"id"`
		Source       string          `json:"source"`
		Target       string          `json:"target"`
		HealthStatus string          `json:"healthStatus,omitempty"`
		IsMTLS       string          `json:"isMTLS,omitempty"`
		ResponseTime string          `json:"responseTime,omitempty"`
		Throughput   string          `json:"throughput,omitempty"`
		Traffic      protocolTraffic `json:"traffic"`
	}

	protocolTraffic struct {
		Protocol  string              `json:"protocol,omitempty"`
		Rates     map[string]string   `json:"rates,omitempty"`     // bounded by Kiali's rates
		Responses map[string]response `json:"responses,omitempty"` // bounded by the codes
	}

	response struct {
		Flags map[string]string `json:"flags,omitempty"` // bounded by the flags
		Hosts map[string]string `json:"hosts,omitempty"` // bounded by the edge's services
	}
)

// graphTypes are the types of graphs, and how each is grouped here.
var graphTypes = map[string]graph.GroupBy{ // bounded: constant
	"workload": graph.ByWorkload, "app": graph.ByApp, "versionedApp": graph.ByWorkload, "service": graph.ByService,
}

// question is what graph is asked for.
type question struct {
	kind       string
	namespaces []string
	start, end time.Time
	boxes      []string
	tcpRate    string // sent, received or total: of bytes, as the server sees it
	throughput string // request, response or none
}

func (a *API) questionOf(values url.Values) (q question, err error) {
	q = question{
		kind: cmp.Or(values.Get("graphType"), "workload"), namespaces: namespacesOf(values), tcpRate: cmp.Or(values.Get("rateTcp"), "sent"),
		throughput: values.Get("throughputType"),
	}
	if graphTypes[q.kind] == "" {
		return q, reply.Bad("Invalid graphType [%s]", q.kind)
	}
	if len(q.namespaces) == 0 {
		return q, reply.Bad("At least one namespace must be specified via the namespaces query parameter.")
	}
	if !slices.Contains([]string{"none", "sent", "received", "total"}, q.tcpRate) {
		return q, reply.Bad("Invalid TCP Rate [%s]", q.tcpRate)
	}
	for box := range strings.SplitSeq(values.Get("boxBy"), ",") {
		switch box = strings.TrimSpace(box); box {
		case "", "none":
		case "app", "namespace", "cluster":
			q.boxes = append(q.boxes, box)
		default:
			return q, reply.Bad("Invalid boxBy [%s]", box)
		}
	}
	if (q.kind == "app" || q.kind == "versionedApp") && !slices.Contains(q.boxes, "app") {
		q.boxes = append(q.boxes, "app")
	}
	q.start, q.end, err = a.window(values, "duration", 10*time.Minute)
	return q, err
}

func (a *API) graph(r *http.Request) (any, error) {
	q, err := a.questionOf(r.URL.Query())
	if err != nil {
		return nil, err
	}
	var out *config
	err = a.graphOf(r.Context(), q.start, q.end, graphTypes[q.kind], func(g *graph.Graph) { out = q.draw(g) })
	return out, err
}

// draw writes a graph in Kiali's form.
func (q *question) draw(g *graph.Graph) *config {
	out := &config{Timestamp: q.end.Unix(), Duration: int64(q.end.Sub(q.start).Seconds()), GraphType: q.kind, Elements: elements{[]nodeWrapper{}, []edgeWrapper{}}}
	flows := q.flows(g)
	traffic := map[int]*nodeTraffic{} // bounded by the nodes
	of := func(node int) *nodeTraffic {
		if traffic[node] == nil {
			traffic[node] = &nodeTraffic{hosts: map[destService]bool{}}
		}
		return traffic[node]
	}
	for _, f := range flows {
		of(f.source).out.add(f)
		to := of(f.target)
		to.in.add(f)
		for host := range f.hosts {
			to.hosts[serviceOf(host, &g.Nodes[f.target])] = true
		}
	}
	ids, healths := map[int]string{}, judged(g) // bounded by the nodes
	for i := range g.Nodes {
		n := &g.Nodes[i]
		asked := slices.Contains(q.namespaces, n.Namespace)
		if !asked && traffic[i] == nil {
			continue
		}
		data := q.node(n)
		data.IsOutside = !asked
		data.traffic(of(i))
		data.HealthData = healths[i]
		ids[i] = data.ID
		out.Elements.Nodes = append(out.Elements.Nodes, nodeWrapper{data})
	}
	for _, f := range flows {
		if f.Protocol == "" {
			continue
		}
		out.Elements.Edges = append(out.Elements.Edges, edgeWrapper{f.edge(ids, of(f.source))})
	}
	q.box(&out.Elements)
	slices.SortFunc(out.Elements.Nodes, func(x, y nodeWrapper) int {
		a, b := x.Data, y.Data
		return cmp.Or(cmp.Compare(boxRank(a.IsBox), boxRank(b.IsBox)), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.App, b.App), cmp.Compare(a.Version, b.Version), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Workload, b.Workload))
	})
	slices.SortFunc(out.Elements.Edges, func(x, y edgeWrapper) int {
		a, b := x.Data, y.Data
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Traffic.Protocol, b.Traffic.Protocol))
	})
	return out
}

func boxRank(box string) int {
	if rank := slices.Index([]string{"cluster", "namespace", "app"}, box); rank >= 0 {
		return rank
	}
	return 3
}

func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// node names a node as graphs of this type do.
func (q *question) node(n *graph.Node) *nodeData {
	cluster := cmp.Or(n.Cluster, home)
	d := &nodeData{nodeName: nodeName{Cluster: cluster, Namespace: n.Namespace}}
	id := func(kind string, parts ...string) {
		d.ID = hash(kind + "_" + cluster + "_" + n.Namespace + "_" + strings.Join(parts, "_"))
	}
	switch {
	case n.Type == graph.TypeExternal:
		d.NodeType, d.Namespace, d.Service = "service", "unknown", n.Name
		id("svc", n.Name)
		return d
	case q.kind == "service":
		d.NodeType, d.Service = "service", n.Name
		id("svc", n.Name)
	case q.kind == "app":
		d.NodeType, d.App = "app", n.Name
		id("app", n.Name)
	case q.kind == "versionedApp" && n.App != "":
		d.NodeType, d.App, d.Version, d.Workload = "app", n.App, n.Version, n.Name
		id("vapp", n.App, n.Version)
	default:
		d.NodeType, d.App, d.Version, d.Workload = "workload", n.App, n.Version, n.Name
		id("wl", n.Name)
	}
	d.IsAmbient, d.IsOutOfMesh = n.InMesh, !n.InMesh
	return d
}

// serviceOf is a service by its host name.
func serviceOf(host string, n *graph.Node) destService {
	name, rest, _ := strings.Cut(host, ".")
	namespace, _, _ := strings.Cut(rest, ".")
	return destService{cmp.Or(n.Cluster, home), cmp.Or(namespace, n.Namespace), name}
}

// rates are what happened per second.
type rates struct {
	http, http3xx, http4xx, http5xx, httpNone float64
	grpc, grpcErr                             float64
	tcp                                       float64
}

func (r *rates) add(f *flow) {
	r.http += f.http
	r.http3xx += f.http3xx
	r.http4xx += f.http4xx
	r.http5xx += f.http5xx
	r.httpNone += f.httpNone
	r.grpc += f.grpc
	r.grpcErr += f.grpcErr
	r.tcp += f.tcp
}

type nodeTraffic struct {
	in, out rates
	hosts   map[destService]bool // bounded by the node's services
}

// put adds a rate that is not 0, as Kiali writes it.
func put(into map[string]string, name string, rate float64) {
	if rate > 0 {
		into[name] = rateText(rate)
	}
}

// rateText has two decimals, or as many as show one digit, up to five.
func rateText(rate float64) string {
	precision := 2
	for digits, v := 0, rate; v < 1 && digits < 5; {
		v, digits = v*10, digits+1
		precision = max(2, digits)
	}
	return strconv.FormatFloat(rate, 'f', precision, 64)
}

func (d *nodeData) traffic(t *nodeTraffic) {
	for service := range t.hosts {
		d.DestServices = append(d.DestServices, service)
	}
	slices.SortFunc(d.DestServices, func(a, b destService) int {
		return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	grpc, http, tcp := map[string]string{}, map[string]string{}, map[string]string{}
	put(grpc, "grpcIn", t.in.grpc)
	put(grpc, "grpcInErr", t.in.grpcErr)
	put(grpc, "grpcOut", t.out.grpc)
	put(http, "httpIn", t.in.http)
	put(http, "httpInNoResponse", t.in.httpNone)
	put(http, "httpIn3xx", t.in.http3xx)
	put(http, "httpIn4xx", t.in.http4xx)
	put(http, "httpIn5xx", t.in.http5xx)
	put(http, "httpOut", t.out.http)
	put(tcp, "tcpIn", t.in.tcp)
	put(tcp, "tcpOut", t.out.tcp)
	for _, one := range []protocolTraffic{{"grpc", grpc, nil}, {"http", http, nil}, {"tcp", tcp, nil}} {
		if len(one.Rates) > 0 {
			d.Traffic = append(d.Traffic, one)
		}
	}
	d.IsIdle = len(d.Traffic) == 0
	d.IsRoot = !d.IsIdle && t.in == (rates{})
}

// box adds a node around those that belong together, inner ones first.
func (q *question) box(e *elements) {
	for _, by := range []string{"app", "namespace", "cluster"} {
		if !slices.Contains(q.boxes, by) {
			continue
		}
		members := map[string][]*nodeData{} // bounded by the nodes
		for _, n := range e.Nodes {
			d := n.Data
			switch {
			case by == "app" && d.App != "" && d.IsBox == "":
				key := "box_" + d.Cluster + "_" + d.Namespace + "_" + d.App
				members[key] = append(members[key], d)
			case by == "namespace" && d.Parent == "" && d.Namespace != "unknown":
				key := "box_" + d.Cluster + "_" + d.Namespace
				members[key] = append(members[key], d)
			case by == "cluster" && d.Parent == "":
				members["box_"+d.Cluster] = append(members["box_"+d.Cluster], d)
			}
		}
		if by != "app" && len(members) < 2 {
			continue
		}
		for key, of := range members {
			if len(of) < 2 {
				continue
			}
			box := &nodeData{nodeName: nodeName{ID: hash(key), NodeType: "box", Cluster: of[0].Cluster}, nodeFlags: nodeFlags{IsBox: by}}
			if by != "cluster" {
				box.Namespace = of[0].Namespace
			}
			if by == "app" {
				box.App = of[0].App
			}
			for _, d := range of {
				d.Parent = box.ID
			}
			e.Nodes = append(e.Nodes, nodeWrapper{box})
		}
	}
}
