package kialiapi

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/reply"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Statuses of Kiali's.
const (
	statusHealthy  = "Healthy"
	statusDegraded = "Degraded"
	statusFailure  = "Failure"
	statusUnknown  = "NA"
)

// statuses are Kiali's words for healths. What is denied on purpose does not work all the same.
var statuses = map[string]string{ // bounded: constant
	graph.Healthy: statusHealthy, graph.Degraded: statusDegraded, graph.Failing: statusFailure, graph.Denied: statusDegraded,
	graph.Idle: statusUnknown, graph.Unknown: statusUnknown,
}

// codeRates are rates by protocol and code; connections that failed have a flag for a code.
type codeRates map[string]map[string]float64 // bounded by the protocols and codes

func (r codeRates) add(protocol, code string, rate float64) {
	if rate <= 0 {
		return
	}
	if r[protocol] == nil {
		r[protocol] = map[string]float64{}
	}
	r[protocol][code] += rate
}

// addEdge adds what happened on an edge.
func (r codeRates) addEdge(e *graph.Edge, seconds float64) {
	c := e.Counts
	per := func(n uint64) float64 { return float64(n) / seconds }
	requests := c.Fields[live.Requests]
	protocol := semconv.ProtocolTCP
	if requests > 0 && (e.Protocol == semconv.ProtocolHTTP || e.Protocol == semconv.ProtocolGRPC) {
		protocol = e.Protocol
		told := uint64(0)
		for _, one := range c.Responses {
			r.add(protocol, one.Response.Code, per(one.Count))
			told += one.Count
		}
		r.add(protocol, "-", per(requests-min(told, requests)))
	} else {
		n := max(c.Fields[live.Closed], c.Fields[live.Opened])
		r.add(protocol, "-", per(n-min(c.Failed, n)))
	}
	for _, reason := range c.Reasons {
		r.add(protocol, flagOf(reason.Reason.ErrorType), per(reason.Count))
	}
}

type requestHealth struct {
	Inbound     codeRates         `json:"inbound"`
	Outbound    codeRates         `json:"outbound"`
	Annotations map[string]string `json:"healthAnnotations"` // bounded: none
}

type calculated struct {
	Status     string  `json:"status"`
	ErrorRatio float64 `json:"errorRatio,omitempty"`
	Total      float64 `json:"totalRequestRate,omitempty"`
}

type workloadStatus struct {
	Name      string `json:"name"`
	Desired   int    `json:"desiredReplicas"`
	Current   int    `json:"currentReplicas"`
	Available int    `json:"availableReplicas"`
	// Synced is -1: there are no proxies of its own.
	Synced int `json:"syncedProxies"`
}

// health is an app's, a workload's or a service's, which has no replicas.
type health struct {
	Requests         requestHealth    `json:"requests"`
	Status           calculated       `json:"status"`
	WorkloadStatuses []workloadStatus `json:"workloadStatuses,omitempty"`
	WorkloadStatus   *workloadStatus  `json:"workloadStatus,omitempty"`
}

func newHealth() *health {
	return &health{Requests: requestHealth{codeRates{}, codeRates{}, map[string]string{}}, Status: calculated{Status: statusUnknown}}
}

// judged is the health of each of a graph's nodes.
func judged(g *graph.Graph) []*health {
	all := make([]*health, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		all[i] = newHealth()
		all[i].Status.Status = cmp.Or(statuses[n.Health], statusUnknown)
		all[i].Status.ErrorRatio = 100 * n.FailureRatio()
	}
	seconds := max(float64(g.End-g.Start)/1000, 0.001)
	for _, e := range g.Edges {
		all[e.Destination].Requests.Inbound.addEdge(e, seconds)
		all[e.Source].Requests.Outbound.addEdge(e, seconds)
	}
	for _, h := range all {
		// In the order of names, so that the sum is the same each time.
		for _, rates := range [...]codeRates{h.Requests.Inbound, h.Requests.Outbound} {
			for _, protocol := range slices.Sorted(maps.Keys(rates)) {
				for _, code := range slices.Sorted(maps.Keys(rates[protocol])) {
					h.Status.Total += rates[protocol][code]
				}
			}
		}
	}
	return all
}

// replicas are a workload's pods. How many are wanted is not known here: as many as there are.
func replicas(w *inventory.Workload) workloadStatus {
	s := workloadStatus{Name: w.Name.Name, Desired: len(w.Pods), Current: len(w.Pods), Synced: -1}
	for _, pod := range w.Pods {
		if pod.Healthy {
			s.Available++
		}
	}
	return s
}

// kinds are what health is told of, and how a graph of it is grouped.
var kinds = map[string]struct { // bounded: constant
	by  graph.GroupBy
	key string
}{
	"app": {graph.ByApp, "namespaceAppHealth"}, "workload": {graph.ByWorkload, "namespaceWorkloadHealth"}, "service": {graph.ByService, "namespaceServiceHealth"},
}

// healths are by namespace and name.
type healths map[string]map[string]*health // bounded by the graph's nodes

// healthsOf judges all of a kind in some namespaces; in all if none is named.
func (a *API) healthsOf(r *http.Request, kind string, namespaces []string, start, end time.Time) (healths, error) {
	out := healths{}
	for _, one := range a.allNamespaces() {
		if len(namespaces) == 0 || slices.Contains(namespaces, one.Name) {
			out[one.Name] = map[string]*health{}
		}
	}
	err := a.graphOf(r.Context(), start, end, kinds[kind].by, func(g *graph.Graph) {
		for i, h := range judged(g) {
			if n := &g.Nodes[i]; n.Type != graph.TypeExternal && out[n.Namespace] != nil {
				out[n.Namespace][n.Name] = h
			}
		}
	})
	for _, w := range a.Mesh.Workloads() {
		s := replicas(w)
		if h := out[w.Namespace][w.Name.Name]; h != nil && kind == "workload" {
			h.WorkloadStatus = &s
		}
		if h := out[w.Namespace][w.App]; h != nil && kind == "app" {
			h.WorkloadStatuses = append(h.WorkloadStatuses, s)
		}
	}
	return out, err
}

func (a *API) health(r *http.Request) (any, error) {
	values := r.URL.Query()
	kind := cmp.Or(values.Get("type"), "app")
	if kinds[kind].by == "" {
		return nil, reply.Bad("Bad request, query parameter 'type' must be one of ['app','service','workload']")
	}
	start, end, err := a.window(values, "rateInterval", 5*time.Minute)
	if err != nil {
		return nil, err
	}
	all, err := a.healthsOf(r, kind, namespacesOf(values), start, end)
	return object{kinds[kind].key: all}, err
}

// item is one of a list.
type item struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Cluster   string            `json:"cluster"`
	Ambient   bool              `json:"isAmbient"`
	Sidecar   bool              `json:"istioSidecar"`
	Labels    map[string]string `json:"labels"` // bounded: ours
	Health    *health           `json:"health"`
	Type      string            `json:"type,omitempty"`
	Pods      int               `json:"podCount,omitempty"`
	AppLabel  bool              `json:"appLabel,omitempty"`
	Version   bool              `json:"versionLabel,omitempty"`
	Refs      []any             `json:"istioReferences"`
}

// list makes a list of a kind from what is known of the mesh.
func (a *API) list(r *http.Request, kind, key string, each func(add func(one item))) (any, error) {
	values := r.URL.Query()
	start, end, err := a.window(values, "rateInterval", 5*time.Minute)
	if err != nil {
		return nil, err
	}
	all, err := a.healthsOf(r, kind, namespacesOf(values), start, end)
	if err != nil {
		return nil, err
	}
	items, seen := []item{}, map[[2]string]bool{} // bounded by the mesh's
	each(func(one item) {
		id := [2]string{one.Namespace, one.Name}
		if all[one.Namespace] == nil || seen[id] {
			return
		}
		seen[id] = true
		one.Cluster, one.Refs = cmp.Or(one.Cluster, home), []any{}
		if one.Health = all[one.Namespace][one.Name]; one.Health == nil {
			one.Health = newHealth()
		}
		items = append(items, one)
	})
	return object{"cluster": a.clusters()[0], key: items, "validations": object{}}, nil
}

// labelsOf are a workload's labels, as far as the mesh tells them.
func labelsOf(w *inventory.Workload) map[string]string {
	out := map[string]string{"app": w.App}
	if w.Version != "" {
		out["version"] = w.Version
	}
	return out
}

func (a *API) apps(r *http.Request) (any, error) {
	return a.list(r, "app", "applications", func(add func(item)) {
		for _, w := range a.Mesh.Workloads() {
			add(item{Name: w.App, Namespace: w.Namespace, Cluster: w.Cluster, Ambient: w.InMesh, Labels: map[string]string{"app": w.App}})
		}
	})
}

func (a *API) workloads(r *http.Request) (any, error) {
	return a.list(r, "workload", "workloads", func(add func(item)) {
		for _, w := range a.Mesh.Workloads() {
			add(item{
				Name: w.Name.Name, Namespace: w.Namespace, Cluster: w.Cluster, Ambient: w.InMesh, Labels: labelsOf(w), Type: w.Kind,
				Pods: len(w.Pods), AppLabel: w.App != "", Version: w.Version != "",
			})
		}
	})
}

func (a *API) services(r *http.Request) (any, error) {
	return a.list(r, "service", "services", func(add func(item)) {
		for _, s := range a.Mesh.Services() {
			add(item{Name: s.Name, Namespace: s.Namespace, Ambient: true, Labels: map[string]string{}})
		}
	})
}
