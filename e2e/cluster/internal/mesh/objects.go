package mesh

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// AuthorizationPolicies is the resource of Istio's policies.
var AuthorizationPolicies = schema.GroupVersionResource{Group: "security.istio.io", Version: "v1", Resource: "authorizationpolicies"}

// Objects keeps a recording's mesh in an API server, from where istiod takes it.
type Objects struct {
	Client  kubernetes.Interface
	Dynamic dynamic.Interface
}

// Create creates the mesh as it is at the start: namespaces, service accounts, services and pods.
func (o *Objects) Create(ctx context.Context, r *Recording) error {
	accounts := map[[2]string]bool{}
	namespaces := map[string]bool{}
	for i := range r.Pods {
		namespaces[r.Pods[i].Namespace] = true
		accounts[[2]string{r.Pods[i].Namespace, r.Pods[i].SA}] = true
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		_, err := o.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: namespace, Labels: map[string]string{"istio.io/dataplane-mode": "ambient"},
		}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("creating namespace %s: %w", namespace, err)
		}
	}
	for account := range accounts {
		_, err := o.Client.CoreV1().ServiceAccounts(account[0]).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account[1]}}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("creating service account %s: %w", account, err)
		}
	}
	for i := range r.Services {
		if err := o.CreateService(ctx, &r.Services[i]); err != nil {
			return err
		}
	}
	for i := range r.Pods {
		if r.Pods[i].From == 0 {
			if err := o.CreatePod(ctx, &r.Pods[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// CreateService creates a Service.
func (o *Objects) CreateService(ctx context.Context, s *Service) error {
	_, err := o.Client.CoreV1().Services(s.Namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: s.Name},
		Spec: corev1.ServiceSpec{
			ClusterIP: s.VIP, Selector: map[string]string{"app": s.App},
			Ports: []corev1.ServicePort{{Name: s.PortName, Port: s.Port, TargetPort: intstr.FromInt32(s.Port)}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating service %s: %w", s.Name, err)
	}
	return nil
}

// CreatePod creates a pod as its Deployment, the scheduler and the kubelet would leave it.
func (o *Objects) CreatePod(ctx context.Context, p *Pod) error {
	const hash = "5d89f7c4b6"
	controller := true
	annotations := map[string]string{}
	if p.Mesh {
		annotations["ambient.istio.io/redirection"] = "enabled" // by the CNI, once the pod's traffic goes through the ztunnel
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			// istiod looks at the owner of pods with a generated name only.
			Name: p.Name, GenerateName: p.Workload() + "-" + hash + "-", Namespace: p.Namespace, Annotations: annotations,
			Labels: map[string]string{"app": p.App, "version": p.Version, "pod-template-hash": hash},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: p.Workload() + "-" + hash, UID: types.UID(p.Namespace + "-" + p.Workload()), Controller: &controller,
			}},
		},
		Spec: corev1.PodSpec{
			NodeName: p.Node, ServiceAccountName: p.SA,
			Containers: []corev1.Container{{Name: p.App, Image: "shop/" + p.App}},
		},
	}
	return o.runPod(ctx, pod, p.IP, p.Ready || p.From > 0)
}

// CreateZtunnel creates a node's ztunnel pod, as the DaemonSet of Istio's chart would.
func (o *Objects) CreateZtunnel(ctx context.Context, node, ip string) (*corev1.Pod, error) {
	controller := true
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "ztunnel-" + strings.TrimPrefix(node, "node-") + "x7k2", GenerateName: "ztunnel-", Namespace: "istio-system",
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "ztunnel", UID: "ztunnel", Controller: &controller}},
			Labels:          map[string]string{"app": "ztunnel", "app.kubernetes.io/name": "ztunnel", "istio.io/dataplane-mode": "none"},
		},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: "ztunnel",
			Containers: []corev1.Container{{
				Name: "istio-proxy", Image: "istio/ztunnel",
				Ports: []corev1.ContainerPort{{Name: "ztunnel-stats", ContainerPort: 15020}},
			}},
		},
	}
	if err := o.runPod(ctx, pod, ip, true); err != nil {
		return nil, err
	}
	return o.Client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
}

func (o *Objects) runPod(ctx context.Context, pod *corev1.Pod, ip string, ready bool) error {
	pods := o.Client.CoreV1().Pods(pod.Namespace)
	created, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	now := metav1.Now()
	created.Status = corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: &now,
		Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: status, LastTransitionTime: now},
			{Type: corev1.ContainersReady, Status: status, LastTransitionTime: now},
		},
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: created.Spec.Containers[0].Name, Ready: ready, Image: created.Spec.Containers[0].Image, ContainerID: "test://" + string(created.UID),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		}},
	}
	if _, err := pods.UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("setting the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// DeletePod removes a pod at once.
func (o *Objects) DeletePod(ctx context.Context, p *Pod) error {
	now := int64(0)
	err := o.Client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return nil
}

// CreateNode registers a node whose kubelet listens at an address and port.
func (o *Objects) CreateNode(ctx context.Context, name, address string, port int32) error {
	zone := "eu-west-1" + name[len(name)-1:]
	node, err := o.Client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{
			"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
			"topology.kubernetes.io/region": "eu-west", "topology.kubernetes.io/zone": zone,
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("creating node %s: %w", name, err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = port
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	node.Status.Capacity = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("110")}
	if _, err := o.Client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("setting the status of node %s: %w", name, err)
	}
	return nil
}

// Act does to the API server what a recorded action did to the mesh.
func (o *Objects) Act(ctx context.Context, a Action) error {
	switch a.Do {
	case "deny":
		policy := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
			"metadata": map[string]any{"name": a.Name, "namespace": a.NS},
			"spec": map[string]any{
				"action": "DENY", "selector": map[string]any{"matchLabels": map[string]any{"app": a.App}},
				"rules": []any{map[string]any{"from": []any{map[string]any{"source": map[string]any{"principals": anys(a.From)}}}}},
			},
		}}
		if _, err := o.Dynamic.Resource(AuthorizationPolicies).Namespace(a.NS).Create(ctx, policy, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating policy %s: %w", a.Name, err)
		}
	case "undeny":
		policies, err := o.Dynamic.Resource(AuthorizationPolicies).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("listing policies: %w", err)
		}
		for i := range policies.Items {
			if policies.Items[i].GetName() != a.Name {
				continue
			}
			if err := o.Dynamic.Resource(AuthorizationPolicies).Namespace(policies.Items[i].GetNamespace()).Delete(ctx, a.Name, metav1.DeleteOptions{}); err != nil {
				return fmt.Errorf("deleting policy %s: %w", a.Name, err)
			}
		}
	}
	return nil
}

func anys(texts []string) []any {
	var out []any
	for _, text := range texts {
		out = append(out, text)
	}
	return out
}
