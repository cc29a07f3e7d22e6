// Package kialiapi answers a part of Kiali's API from the mesh's edges: what Backstage's Kiali plugin, scripts and kubernetes-mcp-server ask
// for. What Kiali reads from Kubernetes' and Istio's configuration is not known here and not served.
package kialiapi

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/reply"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

// version is that of the Kiali whose forms the answers have. Clients choose by it what they may ask.
const version = "v2.31.0"

// controlPlane is the namespace of istiod.
const controlPlane = "istio-system"

// Mesh is what the mesh consists of. inventory.Inventory is one.
type Mesh interface {
	Workloads() []*inventory.Workload
	Services() []*mesh.Service
	Ztunnels() []*mesh.Ztunnel
	Policies() []*mesh.Policy
}

// Graphs makes the graph of a window. release gives its memory back: nothing of it may be used afterwards.
type Graphs interface {
	Graph(ctx context.Context, options graph.Options) (g *graph.Graph, release func(), err error)
}

// Outages are the outages that are kept. outages.Store is one.
type Outages interface {
	List(start, end time.Time, state string) []*outage.Outage
}

// Sources tell which telemetry arrives. sources.Tracker is one.
type Sources interface {
	Nodes() []sources.Node
}

// API answers.
type API struct {
	Version string
	Mesh    Mesh
	Graphs  Graphs
	Outages Outages
	Sources Sources
	Traces  traces.Reader
	// Now is the data's own time.
	Now func() time.Time
	// Retention is how long history is kept, 0 for ever.
	Retention time.Duration
}

// ChatPattern is the pattern of the tools that kubernetes-mcp-server calls.
const ChatPattern = "/api/chat/mcp/{tool}"

// Routes returns the handlers by pattern of http.ServeMux.
func (a *API) Routes() map[string]http.Handler {
	routes := map[string]http.Handler{
		"/api/auth/info":          answers(authInfo),
		"/api/status":             answers(a.status),
		"/api/config":             answers(a.config),
		"/api/config/disabled":    answers(disabled),
		"/api/namespaces":         answers(a.namespaces),
		"/api/namespaces/graph":   answers(a.graph),
		"/api/clusters/health":    answers(a.health),
		"/api/clusters/apps":      answers(a.apps),
		"/api/clusters/workloads": answers(a.workloads),
		"/api/clusters/services":  answers(a.services),
		"POST " + ChatPattern:     answers(a.chat),
	}
	maps.Copy(routes, details{a}.routes())
	return routes
}

func answers(answer func(r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		body, err := answer(r)
		if err != nil {
			status = reply.StatusOf(err, http.StatusServiceUnavailable)
			body = map[string]string{"error": err.Error()}
		}
		reply.Send(w, status, body)
	})
}

// object is a JSON object.
type object = map[string]any

func authInfo(*http.Request) (any, error) {
	return object{"strategy": "anonymous", "sessionInfo": object{}}, nil
}

func (a *API) status(*http.Request) (any, error) {
	return object{
		"status": object{
			"Kiali state": "running", "Kiali version": version, "Kiali commit hash": "nephilia " + a.Version, "Kiali container version": version, "Disabled features": "",
		},
		"externalServices": []any{}, "warningMessages": []string{}, "istioEnvironment": object{"istioAPIEnabled": false},
	}, nil
}

// tolerances are Kiali's own: shares of codes, in percent, from which on something is degraded or failing.
var tolerances = []object{
	{"code": `^5\d\d$`, "degraded": 0, "failure": failureFrom, "protocol": "http", "direction": ".*"},
	{"code": `^4\d\d$`, "degraded": 10, "failure": 20, "protocol": "http", "direction": ".*"},
	{"code": `^[1-9]$|^1[0-6]$`, "degraded": 0, "failure": failureFrom, "protocol": "grpc", "direction": ".*"},
}

// failureFrom is the share of errors, in percent, from which on Kiali calls an edge failing.
const failureFrom = 10

func (a *API) config(*http.Request) (any, error) {
	clusters := object{}
	for _, name := range a.clusters() {
		clusters[name] = cluster(name)
	}
	return object{
		"authStrategy": "anonymous", "ambientEnabled": true, "clusters": clusters, "clusterWideAccess": true, "controlPlanes": object{},
		"deployment":        object{"viewOnlyMode": true},
		"healthConfig":      object{"rate": []object{{"namespace": ".*", "kind": ".*", "name": ".*", "tolerance": tolerances}}},
		"istioLabels":       object{"appLabelName": "app", "versionLabelName": "version"},
		"istioAnnotations":  object{"ambientAnnotation": "ambient.istio.io/redirection", "ambientAnnotationEnabled": "enabled", "istioInjectionAnnotation": "sidecar.istio.io/inject"},
		"kialiFeatureFlags": object{"disabledFeatures": []string{}},
		"prometheus":        object{"enabled": true, "globalScrapeInterval": 15, "storageTsdbRetention": int64(a.Retention.Seconds())},
	}, nil
}

func cluster(name string) object {
	return object{"accessible": true, "apiEndpoint": "", "isKialiHome": true, "kialiInstances": []any{}, "name": name, "secretName": ""}
}

// disabled tells which metrics there are not.
func disabled(*http.Request) (any, error) {
	return object{
		"requestSize": true, "requestSizeAverage": true, "requestSizePercentiles": true,
		"responseSize": true, "responseSizeAverage": true, "responseSizePercentiles": true,
		"responseTime": false, "responseTimeAverage": false, "responseTimePercentiles": false,
	}, nil
}

// home is the name of a cluster that has none.
const home = "Kubernetes"

func (a *API) clusters() []string {
	names := map[string]bool{} // bounded by the mesh's
	for _, w := range a.Mesh.Workloads() {
		names[cmp.Or(w.Cluster, home)] = true
	}
	if len(names) == 0 {
		names[home] = true
	}
	return slices.Sorted(maps.Keys(names))
}

type namespace struct {
	Name         string            `json:"name"`
	Cluster      string            `json:"cluster"`
	Ambient      bool              `json:"isAmbient"`
	ControlPlane bool              `json:"isControlPlane"`
	Labels       map[string]string `json:"labels"`      // bounded: ours
	Annotations  map[string]string `json:"annotations"` // bounded: none
}

// allNamespaces are the namespaces that have workloads, and the control plane's. Their labels are not known, but for what follows from the mesh.
func (a *API) allNamespaces() []namespace {
	all := map[string]*namespace{} // bounded by the mesh's
	add := func(name, cluster string) *namespace {
		if all[name] == nil {
			all[name] = &namespace{Name: name, Cluster: cmp.Or(cluster, home), ControlPlane: name == controlPlane, Labels: map[string]string{}, Annotations: map[string]string{}}
		}
		return all[name]
	}
	for _, w := range a.Mesh.Workloads() {
		if one := add(w.Namespace, w.Cluster); w.InMesh && w.Namespace != controlPlane {
			one.Ambient = true
			one.Labels["istio.io/dataplane-mode"] = "ambient"
		}
	}
	if len(a.Mesh.Ztunnels()) > 0 {
		add(controlPlane, "")
	}
	out := make([]namespace, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, *all[name])
	}
	return out
}

func (a *API) namespaces(*http.Request) (any, error) { return a.allNamespaces(), nil }

// namespacesOf reads a list of namespaces; nil for all.
func namespacesOf(values url.Values) []string {
	var names []string
	for _, value := range values["namespaces"] {
		for name := range strings.SplitSeq(value, ",") {
			if name = strings.TrimSpace(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// window reads a range: so long before a time. Durations are Prometheus's.
func (a *API) window(values url.Values, name string, fallback time.Duration) (start, end time.Time, err error) {
	length := fallback
	if text := values.Get(name); text != "" {
		parsed, err := model.ParseDuration(text)
		if err != nil || parsed <= 0 {
			return start, end, reply.Bad("Invalid %s [%s]", name, text)
		}
		length = time.Duration(parsed)
	}
	end = a.Now()
	if text := values.Get("queryTime"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil || seconds <= 0 || seconds > 1e10 {
			return start, end, reply.Bad("Invalid queryTime [%s]", text)
		}
		end = time.Unix(seconds, 0).UTC()
	}
	return end.Add(-length), end, nil
}

// graphOf makes a graph and gives it to use.
func (a *API) graphOf(ctx context.Context, start, end time.Time, by graph.GroupBy, use func(g *graph.Graph)) error {
	g, release, err := a.Graphs.Graph(ctx, graph.Options{Start: start.UnixMilli(), End: end.UnixMilli(), GroupBy: by})
	if err != nil {
		return err
	}
	defer release()
	use(g)
	return nil
}
