package kubetest

import (
	"encoding/pem"
	"io"
	"log" //nolint:depguard // http.Server takes no other
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

var (
	noResource = schema.GroupResource{Resource: "resource"}
	noKind     = schema.GroupKind{Kind: "ListOptions"}
	silent     = log.New(io.Discard, "", 0)
	// kinds and versions are those of the resources that the server knows.
	kinds = map[string]string{
		"pods": "Pod", "nodes": "Node", "events": "Event", "deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet",
	}
	versions = map[string]string{
		"pods": "v1", "nodes": "v1", "events": "v1", "deployments": "apps/v1", "statefulsets": "apps/v1", "daemonsets": "apps/v1",
	}
)

func encodePEM(raw []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}

func fieldsOf(object runtime.Object) fields.Set {
	if pod, ok := object.(*corev1.Pod); ok {
		return fields.Set{"spec.nodeName": pod.Spec.NodeName, "metadata.name": pod.Name}
	}
	return fields.Set{}
}

// Born is when the pods of a test were created.
var Born = time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC)

// Ztunnel is a ztunnel's pod that runs on a node and is ready.
func Ztunnel(name, node, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "istio-system", Name: name, UID: types.UID("uid-" + name), CreationTimestamp: metav1.NewTime(Born),
			Labels: map[string]string{"app": "ztunnel"}, Annotations: map[string]string{"prometheus.io/port": "15020"},
		},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "istio-proxy", Image: "registry:5000/istio/ztunnel:1.31.0"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: ip,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "istio-proxy", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(Born)}},
			}},
		},
	}
}

// Waypoint is a waypoint's pod.
func Waypoint(namespace, name, gateway, node, ip string) *corev1.Pod {
	pod := Ztunnel(name, node, ip)
	pod.Namespace = namespace
	pod.Labels = map[string]string{
		"gateway.istio.io/managed": "istio.io-mesh-controller", "gateway.networking.k8s.io/gateway-name": gateway,
	}
	pod.Spec.Containers[0].Image = "registry:5000/istio/proxyv2:1.31.0"
	return pod
}
