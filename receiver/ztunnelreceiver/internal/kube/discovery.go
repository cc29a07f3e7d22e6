package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// maxPods bounds the ztunnels, the waypoints and the CNI agents, each.
const maxPods = 20_000

// DiscoveryConfig says which pods to look for.
type DiscoveryConfig struct {
	// Namespace holds the ztunnels.
	Namespace string
	// ZtunnelSelector and WaypointSelector are label selectors; without the latter waypoints are not looked for.
	ZtunnelSelector, WaypointSelector string
	// CNINamespace holds the CNI agents, CNISelector are their labels; without it they are not looked for.
	CNINamespace, CNISelector string
	// WaypointNamespaces are looked into; empty means all.
	WaypointNamespaces []string
	// Node restricts all to one node; empty means all.
	Node string
}

// Discovery follows the pods of ztunnels, waypoints and CNI agents.
type Discovery struct {
	informers []*Informer
	ztunnels  *podSet
	waypoints *podSet
	agents    *podSet
	changed   func()
	dropped   func(n int)
	dirty     chan struct{}
}

// NewDiscovery returns a discovery that Run starts. changed is called once all pods are known and after each change, by one
// goroutine; dropped counts pods beyond the bound on them.
func NewDiscovery(api kubernetes.Interface, cfg DiscoveryConfig, report Report, changed func(), dropped func(n int)) (*Discovery, error) {
	d := &Discovery{ztunnels: newPodSet(), waypoints: newPodSet(), agents: newPodSet(), changed: changed, dropped: dropped, dirty: make(chan struct{}, 1)}
	if err := d.follow(api, cfg.Namespace, "pods", cfg.ZtunnelSelector, cfg.Node, d.ztunnels, report); err != nil {
		return nil, err
	}
	if cfg.CNISelector != "" {
		if err := d.follow(api, cfg.CNINamespace, "cni_pods", cfg.CNISelector, cfg.Node, d.agents, report); err != nil {
			return nil, err
		}
	}
	if cfg.WaypointSelector == "" {
		return d, nil
	}
	namespaces := cfg.WaypointNamespaces
	if len(namespaces) == 0 {
		namespaces = []string{metav1.NamespaceAll}
	}
	for _, namespace := range namespaces {
		if err := d.follow(api, namespace, "waypoint_pods", cfg.WaypointSelector, cfg.Node, d.waypoints, report); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *Discovery) follow(api kubernetes.Interface, namespace, resource, selector, node string, set *podSet, report Report) error {
	r := Resource[*corev1.PodList]{
		Name: resource, Example: &corev1.Pod{}, Client: api.CoreV1().Pods(namespace), LabelSelector: selector, Trim: trimPod,
	}
	if node != "" {
		r.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
	}
	put := func(object any) {
		p, ok := object.(*corev1.Pod)
		if !ok {
			return
		}
		if pod, there := podOf(p); !there {
			set.remove(string(p.UID))
		} else if !set.put(pod) {
			d.dropped(1)
		}
		d.signal()
	}
	informer, err := NewInformer(api, r, cache.ResourceEventHandlerFuncs{
		AddFunc: put,
		UpdateFunc: func(before, after any) {
			// A pod that was deleted and created again between two lists comes as an update.
			if old, ok := before.(*corev1.Pod); ok {
				if p, ok := after.(*corev1.Pod); ok && old.UID != p.UID {
					set.remove(string(old.UID))
				}
			}
			put(after)
		},
		DeleteFunc: func(object any) {
			if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = gone.Obj
			}
			if p, ok := object.(*corev1.Pod); ok {
				set.remove(string(p.UID))
				d.signal()
			}
		},
	}, report)
	if err != nil {
		return fmt.Errorf("following %s: %w", resource, err)
	}
	d.informers = append(d.informers, informer)
	return nil
}

func (d *Discovery) signal() {
	select {
	case d.dirty <- struct{}{}:
	default:
	}
}

// Run follows the pods until the context ends and returns when nothing is under way any more.
func (d *Discovery) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	synced := make([]cache.InformerSynced, 0, len(d.informers))
	for _, informer := range d.informers {
		wg.Go(func() { informer.Run(ctx) })
		synced = append(synced, informer.Synced)
	}
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return
	}
	for {
		d.changed()
		select {
		case <-ctx.Done():
			return
		case <-d.dirty:
		}
	}
}

// Ztunnels are the ztunnels' pods, by node and name.
func (d *Discovery) Ztunnels() []Pod { return d.ztunnels.list() }

// CNIAgents are the CNI agents' pods, by node and name.
func (d *Discovery) CNIAgents() []Pod { return d.agents.list() }

// Waypoints are the waypoints' pods, by node and name. None of them is aside: they do not speak for their node.
func (d *Discovery) Waypoints() []Pod {
	pods := d.waypoints.list()
	for i := range pods {
		pods[i].Aside = pods[i].Leaving
	}
	return pods
}

// podSet is a set of pods by uid.
type podSet struct {
	mu    sync.Mutex
	pods  map[string]Pod // bounded by maxPods
	order []Pod          // nil when it has to be made anew
}

func newPodSet() *podSet { return &podSet{pods: map[string]Pod{}} }

func (s *podSet) put(pod Pod) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.pods[pod.UID]; !known && len(s.pods) >= maxPods {
		return false
	}
	s.pods[pod.UID] = pod
	s.order = nil
	return true
}

func (s *podSet) remove(uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pods, uid)
	s.order = nil
}

func (s *podSet) list() []Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.order == nil {
		s.order = make([]Pod, 0, len(s.pods))
		for _, pod := range s.pods {
			s.order = append(s.order, pod)
		}
		arrange(s.order)
	}
	return slices.Clone(s.order)
}
