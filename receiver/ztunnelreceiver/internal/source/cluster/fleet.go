package cluster

import (
	"maps"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

// fleetPatience is how long a node may be without a ztunnel's pod until it counts as a node without a ztunnel: a pod that is replaced
// is missing for a moment.
const fleetPatience = 30 * time.Second

// maxLeft bounds the nodes of which it is remembered that they had a ztunnel once.
const maxLeft = 10_000

// fleet knows which nodes have a ztunnel, by their pods.
type fleet struct {
	nodes map[string]*fleetNode // bounded by the pods that there are
	// left are the nodes that had a ztunnel once and have none.
	left *expiry.Table[string, struct{}]
}

type fleetNode struct {
	pod kube.Pod
	// missing is since when there has been no pod; zero while there is one.
	missing time.Time
	// reported is when the node's ztunnel was last reported; zero if it changed since.
	reported time.Time
}

func newFleet() *fleet {
	return &fleet{nodes: map[string]*fleetNode{}, left: expiry.New[string, struct{}](maxLeft, nil)}
}

// update takes over all pods that there are.
func (f *fleet) update(pods []kube.Pod, now time.Time) {
	there := make(map[string]*kube.Pod, len(pods))
	for i := range pods {
		pod := &pods[i]
		// Of several pods of a node, one speaks for it.
		if there[pod.Node] == nil || !pod.Aside {
			there[pod.Node] = pod
		}
	}
	for node, pod := range there {
		n := f.nodes[node]
		if n == nil {
			n = &fleetNode{}
			f.nodes[node] = n
			f.left.Delete(node)
		}
		if n.pod.Name != pod.Name || n.pod.Version != pod.Version {
			n.reported = time.Time{}
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
	for _, node := range slices.Sorted(maps.Keys(f.nodes)) {
		n := f.nodes[node]
		if !n.missing.IsZero() && now.Sub(n.missing) >= fleetPatience {
			gone = append(gone, n.pod)
			delete(f.nodes, node)
			f.left.Put(node, struct{}{}, pcommon.NewTimestampFromTime(now))
		}
	}
	return gone
}

// gone tells whether a node had a ztunnel and has none any more.
func (f *fleet) gone(node string) bool {
	_, ok := f.left.Get(node)
	return ok
}

// due returns the ztunnels that are new or were reported that long ago.
func (f *fleet) due(now time.Time, refresh time.Duration) (pods []kube.Pod) {
	for _, node := range slices.Sorted(maps.Keys(f.nodes)) {
		n := f.nodes[node]
		if n.missing.IsZero() && (n.reported.IsZero() || now.Before(n.reported) || now.Sub(n.reported) >= refresh) {
			n.reported = now
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
