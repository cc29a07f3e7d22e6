package als

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/requestlog"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// Kinds of Istio's proxies, as a node's ID begins.
const (
	kindWaypoint = "waypoint"
	kindRouter   = "router"
	kindSidecar  = "sidecar"
)

// node is who sends a log, as far as it says so.
type node struct {
	// kind is that of an Istio proxy, empty if it is not known.
	kind    string
	pod     naming.Pod
	cluster string
}

// nodeOf reads a resource: what collectors add in between, Envoy's own labels, which Istio turns off, and what the envoyals receiver writes.
func nodeOf(resource pcommon.Resource) node {
	var n node
	for name, value := range resource.Attributes().All() {
		switch name {
		case semconv.AttrNamespaceName:
			n.pod.Namespace = value.Str()
		case semconv.AttrPodName:
			n.pod.Name = value.Str()
		case semconv.AttrClusterName:
			n.cluster = value.Str()
		case "node_name":
			n.readID(value.Str())
		case "node":
			// The text of a protobuf message: id:"waypoint~…" cluster:"…".
			if _, rest, ok := strings.Cut(value.Str(), `id:"`); ok {
				id, _, _ := strings.Cut(rest, `"`)
				n.readID(id)
			}
		}
	}
	return n
}

// readID reads a node's ID "KIND~ADDRESS~POD.NAMESPACE~DOMAIN".
func (n *node) readID(id string) {
	kind, rest, _ := strings.Cut(id, "~")
	if kind != kindWaypoint && kind != kindRouter && kind != kindSidecar {
		return
	}
	n.kind = kind
	_, rest, _ = strings.Cut(rest, "~")
	of, _, _ := strings.Cut(rest, "~")
	if pod, namespace, ok := strings.Cut(of, "."); ok {
		n.pod = naming.Pod{Namespace: namespace, Name: pod}
	}
}

// readRecord reads the labels that users give to their logs, by the names that Istio's examples have.
func (n *node) readRecord(attrs pcommon.Map) {
	for _, label := range [...]struct {
		to    *string
		names [3]string
	}{
		{&n.pod.Name, [...]string{semconv.AttrPodName, "pod", "pod_name"}},
		{&n.pod.Namespace, [...]string{semconv.AttrNamespaceName, "namespace", "pod_namespace"}},
	} {
		for _, name := range label.names {
			if value, ok := attrs.Get(name); ok && *label.to == "" && value.Str() != "-" {
				*label.to = value.Str()
			}
		}
	}
}

// proxyOf names who sends a log; false if the sender is another one. Who says nothing of itself is found by what it logs: a waypoint by
// its services, a gateway by the address at which it was called.
func (r *Reader) proxyOf(n *node, sender *mesh.Workload) (requestlog.Proxy, bool) {
	pod := n.pod
	if pod.Name == "" || pod.Namespace == "" {
		pod = naming.Pod{}
	}
	var w *mesh.Workload
	if sender != nil {
		if n.pod.Namespace != "" && n.pod.Namespace != sender.Namespace {
			return requestlog.Proxy{}, false
		}
		w, pod = sender, naming.Pod{Namespace: sender.Namespace, Name: sender.Name}
	} else if pod.Name != "" {
		w = r.names.Pod(pod.Namespace, pod.Name)
	}
	var proxy requestlog.Proxy
	if pod.Name != "" {
		proxy = requestlog.ProxyOfPod(pod.Namespace, pod.Name)
	}
	cluster := r.record.Values[envoylog.Cluster]
	proxy.Gateway = n.kind != kindWaypoint && !envoylog.OfWaypoint(cluster) && (cluster != nil || w == nil || !r.names.IsWaypoint(w))
	if w != nil {
		proxy.Name = naming.WaypointName(w)
	}
	return proxy, true
}
