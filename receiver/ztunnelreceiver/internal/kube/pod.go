package kube

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Container is the container of a ztunnel's or waypoint's pod that does the work.
	Container = "istio-proxy"
	// CNIContainer is the one of a CNI agent's pod.
	CNIContainer = "install-cni"
	// gatewayLabel names the Gateway that a waypoint's pod belongs to.
	gatewayLabel = "gateway.networking.k8s.io/gateway-name"
)

// Pod is what is known of a ztunnel's or waypoint's pod.
type Pod struct {
	UID, Namespace, Name string
	Node                 string
	// IP is empty for as long as the pod has none.
	IP string
	// Gateway is the name of a waypoint's Gateway, in the pod's namespace.
	Gateway string
	// Version is the image's tag.
	Version string
	// Container is the one whose log is read.
	Container string
	Created   time.Time
	// Restarts counts the container's restarts.
	Restarts int32
	// Waiting says what keeps the container from running; empty while it runs.
	Waiting string
	Ready   bool
	// Leaving is set once the pod is being deleted.
	Leaving bool
	// Aside is set if another pod of the node speaks for it, or this one is leaving: that it fails says nothing about the node.
	Aside bool
}

// trimPod keeps of a pod what podOf reads.
func trimPod(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	trimmed := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			UID: p.UID, Namespace: p.Namespace, Name: p.Name, ResourceVersion: p.ResourceVersion,
			CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp,
		},
		Spec:   corev1.PodSpec{NodeName: p.Spec.NodeName},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP, Reason: p.Status.Reason},
	}
	if gateway, ok := p.Labels[gatewayLabel]; ok {
		trimmed.Labels = map[string]string{gatewayLabel: gateway}
	}
	for i := range p.Spec.Containers {
		if c := &p.Spec.Containers[i]; c.Name == Container || c.Name == CNIContainer {
			trimmed.Spec.Containers = []corev1.Container{{Name: c.Name, Image: c.Image}}
		}
	}
	for i := range p.Status.ContainerStatuses {
		if s := &p.Status.ContainerStatuses[i]; s.Name == Container || s.Name == CNIContainer {
			trimmed.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: s.Name, Ready: s.Ready, RestartCount: s.RestartCount, State: s.State,
			}}
		}
	}
	return trimmed, nil
}

// podOf reads a pod; ok is false for one that has not been placed on a node or that has ended for good.
func podOf(p *corev1.Pod) (pod Pod, ok bool) {
	if p.Spec.NodeName == "" || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return Pod{}, false
	}
	pod = Pod{
		UID: string(p.UID), Namespace: p.Namespace, Name: p.Name, Node: p.Spec.NodeName, IP: p.Status.PodIP,
		Gateway: p.Labels[gatewayLabel], Created: p.CreationTimestamp.Time, Leaving: p.DeletionTimestamp != nil,
		Waiting: cmp.Or(p.Status.Reason, string(p.Status.Phase)),
	}
	if len(p.Spec.Containers) > 0 {
		pod.Container = p.Spec.Containers[0].Name
		pod.Version = tagOf(p.Spec.Containers[0].Image)
	}
	if len(p.Status.ContainerStatuses) > 0 {
		s := &p.Status.ContainerStatuses[0]
		pod.Restarts, pod.Ready = s.RestartCount, s.Ready
		switch {
		case s.State.Running != nil:
			pod.Waiting = ""
		case s.State.Waiting != nil && s.State.Waiting.Reason != "":
			pod.Waiting = s.State.Waiting.Reason
		case s.State.Terminated != nil && s.State.Terminated.Reason != "":
			pod.Waiting = s.State.Terminated.Reason
		}
	}
	return pod, true
}

// tagOf is the tag of an image such as registry:5000/istio/ztunnel:1.31.0@sha256:…; empty without one.
func tagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[i+1:]
	}
	return ""
}

// arrange orders pods by node and name and says which of them speak for their node: in a rollout a node has two ztunnels for
// a while, of which the older one serves until the newer one is ready.
func arrange(pods []Pod) {
	slices.SortFunc(pods, func(a, b Pod) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	for from := 0; from < len(pods); {
		to, speaker := from+1, from
		for ; to < len(pods) && pods[to].Node == pods[from].Node; to++ {
			if speaksBefore(&pods[to], &pods[speaker]) {
				speaker = to
			}
		}
		for i := from; i < to; i++ {
			pods[i].Aside = i != speaker || pods[i].Leaving
		}
		from = to
	}
}

func speaksBefore(a, b *Pod) bool {
	switch {
	case a.Leaving != b.Leaving:
		return b.Leaving
	case a.Ready != b.Ready:
		return a.Ready
	}
	return a.Created.After(b.Created)
}
