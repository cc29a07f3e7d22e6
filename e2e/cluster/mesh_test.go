package cluster

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nephilia/nephilia/e2e/cluster/internal/kubelet"
	"github.com/nephilia/nephilia/e2e/cluster/internal/mesh"
)

// TestMeshState creates a pod, a Service and an AuthorizationPolicy in the API server, which only istiod can tell of, and removes
// them again while istiod is away.
func TestMeshState(t *testing.T) {
	t.Parallel()
	s := scenario{name: "mesh state", seed: 5, seconds: 5}
	c := newCluster(t, simulate(t, &s))
	c.install(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	pod := &mesh.Pod{
		Name: "parcels-v1-5d89f7c4b6-abcde", Namespace: c.recording.Pods[0].Namespace, SA: c.recording.Pods[0].SA, IP: "10.9.8.7",
		Node: nodes[1], App: "parcels", Version: "v1", Ready: true, Mesh: true,
	}
	service := &mesh.Service{Name: "parcels", Namespace: pod.Namespace, VIP: "10.96.9.9", App: "parcels", PortName: "http", Port: 8080}
	deny := mesh.Action{Do: "deny", Name: "no-parcels", NS: pod.Namespace, App: "parcels", From: []string{"cluster.local/ns/nowhere/sa/nobody"}}
	for _, gateway := range c.gateways {
		requireState(t, gateway, pod, 0)
	}
	if err := c.objects.CreatePod(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if err := c.objects.CreateService(ctx, service); err != nil {
		t.Fatal(err)
	}
	if err := c.objects.Act(ctx, deny); err != nil {
		t.Fatal(err)
	}
	for _, gateway := range c.gateways {
		requireState(t, gateway, pod, 1)
	}

	c.control.KillIstiod()
	if err := c.objects.DeletePod(ctx, pod); err != nil {
		t.Fatal(err)
	}
	if err := c.control.Client.CoreV1().Services(service.Namespace).Delete(ctx, service.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deny.Do = "undeny"
	if err := c.objects.Act(ctx, deny); err != nil {
		t.Fatal(err)
	}
	if err := c.control.StartIstiod(); err != nil {
		t.Fatal(err)
	}
	for _, gateway := range c.gateways {
		requireState(t, gateway, pod, 0)
	}
}

// requireState waits until a gateway knows as many (1 or 0) of the pod, its Service and the policy that selects it.
func requireState(t *testing.T, gateway *kubelet.Pod, pod *mesh.Pod, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s knows %d of each", gateway.Object.Name, want), func() error {
		var all struct {
			Workloads []struct {
				Name, Namespace string
				InMesh          bool `json:"in_mesh"`
				Pods            []struct{ Name, Node, IP string }
			}
			Services []struct {
				Namespace, Hostname string
				Endpoints           int
			}
			Policies []struct {
				Namespace, Name, Action string
				Present                 bool
				Selects                 int
			}
		}
		for _, list := range []string{"workloads", "services", "policies"} {
			if err := get(gateway.Namespace, api+"/"+list, url.Values{"namespace": {pod.Namespace}, "limit": {"500"}}, &all); err != nil {
				return err
			}
		}
		var found [3]int
		for _, w := range all.Workloads {
			for _, p := range w.Pods {
				if w.Name == pod.Workload() && w.InMesh && p.Name == pod.Name && p.Node == pod.Node && p.IP == pod.IP {
					found[0]++
				}
			}
		}
		for _, s := range all.Services {
			if strings.HasPrefix(s.Hostname, "parcels.") && s.Endpoints == 1 {
				found[1]++
			}
		}
		for _, p := range all.Policies {
			if p.Name == "no-parcels" && p.Action == "DENY" && p.Present && p.Selects == 1 {
				found[2]++
			}
		}
		if slices.ContainsFunc(found[:], func(n int) bool { return n != want }) {
			return fmt.Errorf("found %v pods, services, policies", found)
		}
		return nil
	})
}
