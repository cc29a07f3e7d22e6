package ztunnelreceiver

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

// fleetPatience is how long a node may be without a ztunnel's pod until it counts as a node without a ztunnel: a pod that is replaced
// is missing for a moment.
const fleetPatience = 30 * time.Second

// fleet knows which nodes have a ztunnel, by their pods.
type fleet struct {
	nodes map[string]*fleetNode
	// left are the nodes that had a ztunnel once and have none.
	left map[string]struct{}
}

type fleetNode struct {
	pod kube.Pod
	// missing is since when there has been no pod; zero while there is one.
	missing time.Time
	// told is when the node's ztunnel was last told of; zero if that changed since.
	told time.Time
}

func newFleet() *fleet { return &fleet{nodes: map[string]*fleetNode{}, left: map[string]struct{}{}} }

// update takes over all pods that there are.
func (f *fleet) update(pods []kube.Pod, now time.Time) {
	there := make(map[string]struct{}, len(pods))
	for i := range pods {
		pod := &pods[i]
		_, twice := there[pod.Node]
		if twice && pod.Aside {
			continue
		}
		there[pod.Node] = struct{}{}
		n := f.nodes[pod.Node]
		if n == nil {
			n = &fleetNode{}
			f.nodes[pod.Node] = n
			delete(f.left, pod.Node)
		}
		if n.pod.Name != pod.Name || n.pod.Version != pod.Version {
			n.told = time.Time{}
		}
		n.pod, n.missing = *pod, time.Time{}
	}
	for node, n := range f.nodes {
		if _, ok := there[node]; !ok && n.missing.IsZero() {
			n.missing = now
		}
	}
}

// expire removes the nodes that have no ztunnel any more and returns their last ones.
func (f *fleet) expire(now time.Time) (gone []kube.Pod) {
	for node, n := range f.nodes {
		if !n.missing.IsZero() && now.Sub(n.missing) >= fleetPatience {
			gone = append(gone, n.pod)
			delete(f.nodes, node)
			f.left[node] = struct{}{}
		}
	}
	return gone
}

// gone tells whether a node had a ztunnel and has none any more.
func (f *fleet) gone(node string) bool {
	_, ok := f.left[node]
	return ok
}

// due returns the ztunnels that are new or were told of that long ago.
func (f *fleet) due(now time.Time, refresh time.Duration) (pods []kube.Pod) {
	for _, n := range f.nodes {
		if n.missing.IsZero() && (n.told.IsZero() || now.Sub(n.told) >= refresh) {
			n.told = now
			pods = append(pods, n.pod)
		}
	}
	return pods
}

// ztunnelEvent is what is known of a ztunnel by its pod.
func ztunnelEvent(pod *kube.Pod, cluster string, at time.Time, deleted bool) mesh.Event {
	return mesh.Event{
		Time: pcommon.NewTimestampFromTime(at), Deleted: deleted,
		Entity: &mesh.Ztunnel{Node: pod.Node, Name: pod.Name, Namespace: pod.Namespace, Version: pod.Version, ClusterID: cluster},
	}
}
