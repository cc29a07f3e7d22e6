package kube

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubetest"
)

// watcher runs a discovery and notes what it tells.
type watcher struct {
	*Discovery
	mu      sync.Mutex
	changes int
	dropped int
	answers map[string]int
	errors  map[string]int
}

func discover(t *testing.T, api kubernetes.Interface, cfg DiscoveryConfig) *watcher {
	t.Helper()
	w := &watcher{answers: map[string]int{}, errors: map[string]int{}}
	if cfg.Namespace == "" {
		cfg.Namespace, cfg.ZtunnelSelector = "istio-system", "app=ztunnel"
	}
	locked := func(f func()) {
		w.mu.Lock()
		defer w.mu.Unlock()
		f()
	}
	var err error
	w.Discovery, err = NewDiscovery(api, cfg, func(resource string, err error) {
		locked(func() {
			if err == nil {
				w.answers[resource]++
			} else {
				w.errors[resource+" "+Reason(err)]++
			}
		})
	}, func() { locked(func() { w.changes++ }) }, func(n int) { locked(func() { w.dropped += n }) })
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func (w *watcher) told() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changes
}

func (w *watcher) failures(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.errors[what]
}

func names(pods []Pod) []string {
	found := []string{}
	for _, pod := range pods {
		found = append(found, pod.Node+"/"+pod.Name)
	}
	return found
}

func (w *watcher) ztunnels(t *testing.T, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	kubetest.Eventually(t, "the ztunnels", func() bool { return w.told() > 0 && assert.ObjectsAreEqual(want, names(w.Ztunnels())) })
}

func TestDiscovery(t *testing.T) {
	other := kubetest.Ztunnel("other", "node-a", "10.0.0.9")
	other.Labels = map[string]string{"app": "istiod"}
	api := fake.NewClientset(
		kubetest.Ztunnel("ztunnel-b", "node-b", "10.0.0.2"), kubetest.Ztunnel("ztunnel-a", "node-a", "10.0.0.1"), other,
		kubetest.Waypoint("shop", "waypoint-1", "waypoint", "node-a", "10.0.1.1"), kubetest.Waypoint("billing", "waypoint-2", "gate", "node-b", "10.0.1.2"),
	)
	w := discover(t, api, DiscoveryConfig{
		Namespace: "istio-system", ZtunnelSelector: "app=ztunnel", WaypointSelector: "gateway.istio.io/managed=istio.io-mesh-controller",
	})
	w.ztunnels(t, "node-a/ztunnel-a", "node-b/ztunnel-b")
	assert.Equal(t, Pod{
		UID: "uid-ztunnel-a", Namespace: "istio-system", Name: "ztunnel-a", Node: "node-a", IP: "10.0.0.1", Version: "1.31.0", Container: Container,
		Created: kubetest.Born, Ready: true,
	}, w.Ztunnels()[0])
	kubetest.Eventually(t, "the waypoints", func() bool { return len(w.Waypoints()) == 2 })
	assert.Equal(t, "waypoint", w.Waypoints()[0].Gateway)

	pods := api.CoreV1().Pods("istio-system")
	changed := kubetest.Ztunnel("ztunnel-a", "node-a", "10.0.0.1")
	changed.Status.ContainerStatuses[0].RestartCount = 3
	changed.Status.ContainerStatuses[0].Ready = false
	changed.Status.ContainerStatuses[0].State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	_, err := pods.Update(t.Context(), changed, metav1.UpdateOptions{})
	require.NoError(t, err)
	kubetest.Eventually(t, "the restart", func() bool { return w.Ztunnels()[0].Restarts == 3 })
	assert.Equal(t, "CrashLoopBackOff", w.Ztunnels()[0].Waiting)

	require.NoError(t, pods.Delete(t.Context(), "ztunnel-b", metav1.DeleteOptions{}))
	w.ztunnels(t, "node-a/ztunnel-a")
	unplaced := kubetest.Ztunnel("ztunnel-c", "", "")
	_, err = pods.Create(t.Context(), unplaced, metav1.CreateOptions{})
	require.NoError(t, err)
	evicted := kubetest.Ztunnel("ztunnel-a", "node-a", "10.0.0.1")
	evicted.Status.Phase, evicted.Status.Reason = corev1.PodFailed, "Evicted"
	_, err = pods.Update(t.Context(), evicted, metav1.UpdateOptions{})
	require.NoError(t, err)
	w.ztunnels(t)
}

// A real server's answers: a node's pods only, broken watches, versions that are too old, a restart.
func TestDiscoveryThroughAServer(t *testing.T) {
	server := kubetest.Start(t)
	clients, err := NewClients(server.Config())
	require.NoError(t, err)
	t.Cleanup(clients.Close)
	server.Put("pods", kubetest.Ztunnel("ztunnel-a", "node-a", "10.0.0.1"))
	server.Put("pods", kubetest.Ztunnel("ztunnel-b", "node-b", "10.0.0.2"))
	all := discover(t, clients.API, DiscoveryConfig{})
	one := discover(t, clients.API, DiscoveryConfig{Namespace: "istio-system", ZtunnelSelector: "app=ztunnel", Node: "node-b"})
	all.ztunnels(t, "node-a/ztunnel-a", "node-b/ztunnel-b")
	one.ztunnels(t, "node-b/ztunnel-b")
	assert.Positive(t, server.Seen("watchlist pods"))
	all.mu.Lock()
	assert.Empty(t, all.errors, "that a server cannot stream lists is no error")
	all.mu.Unlock()

	// Changed while no watch was open, and the server forgot how.
	server.Put("pods", kubetest.Ztunnel("ztunnel-c", "node-c", "10.0.0.3"))
	server.Delete("pods", "istio-system", "ztunnel-a")
	server.Forget()
	all.ztunnels(t, "node-b/ztunnel-b", "node-c/ztunnel-c")

	server.Stop()
	server.Put("pods", kubetest.Ztunnel("ztunnel-d", "node-d", "10.0.0.4"))
	kubetest.Eventually(t, "an error", func() bool { return all.failures("pods connection") > 0 })
	assert.Len(t, all.Ztunnels(), 2, "what is known stays known")
	server.Restart()
	all.ztunnels(t, "node-b/ztunnel-b", "node-c/ztunnel-c", "node-d/ztunnel-d")
	one.ztunnels(t, "node-b/ztunnel-b")
	assert.Positive(t, all.failures("pods expired")+one.failures("pods expired"))
}

// A pod that is deleted and created anew under its name between two lists.
func TestPodOfTheSameName(t *testing.T) {
	server := kubetest.Start(t)
	clients, err := NewClients(server.Config())
	require.NoError(t, err)
	t.Cleanup(clients.Close)
	server.Put("pods", kubetest.Ztunnel("ztunnel-a", "node-a", "10.0.0.1"))
	w := discover(t, clients.API, DiscoveryConfig{})
	w.ztunnels(t, "node-a/ztunnel-a")
	successor := kubetest.Ztunnel("ztunnel-a", "node-a", "10.0.0.7")
	successor.UID = "uid-successor"
	server.Put("pods", successor)
	kubetest.Eventually(t, "the successor", func() bool { return w.Ztunnels()[0].UID == "uid-successor" })
	assert.Len(t, w.Ztunnels(), 1)
}

func TestForbidden(t *testing.T) {
	server := kubetest.Start(t)
	config := server.Config()
	config.BearerToken = "another"
	clients, err := NewClients(config)
	require.NoError(t, err)
	t.Cleanup(clients.Close)
	w := discover(t, clients.API, DiscoveryConfig{})
	kubetest.Eventually(t, "a refusal", func() bool { return w.failures("pods unauthorized") > 0 })
	assert.Zero(t, w.told(), "nothing is known, which is not to know that there is nothing")
}

func TestWhoSpeaksForANode(t *testing.T) {
	pod := func(name string, age int, ready, leaving bool) Pod {
		return Pod{UID: name, Name: name, Node: "node", Created: kubetest.Born.AddDate(0, 0, -age), Ready: ready, Leaving: leaving}
	}
	for name, test := range map[string]struct {
		pods []Pod
		want string
	}{
		"one":                           {[]Pod{pod("a", 1, true, false)}, "a"},
		"one that is not ready":         {[]Pod{pod("a", 1, false, false)}, "a"},
		"one that leaves":               {[]Pod{pod("a", 1, true, true)}, ""},
		"the older, until the new runs": {[]Pod{pod("a", 1, false, false), pod("b", 2, true, false)}, "b"},
		"the newer of two":              {[]Pod{pod("a", 1, true, false), pod("b", 2, true, false)}, "a"},
		"who stays":                     {[]Pod{pod("a", 1, true, true), pod("b", 2, false, false)}, "b"},
		"both leave":                    {[]Pod{pod("a", 1, true, true), pod("b", 2, true, true)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			arrange(test.pods)
			speaker := ""
			for _, p := range test.pods {
				if !p.Aside {
					speaker += p.Name
				}
			}
			assert.Equal(t, test.want, speaker)
		})
	}
}

func TestTagOf(t *testing.T) {
	for image, want := range map[string]string{
		"istio/ztunnel:1.31.0":                            "1.31.0",
		"registry:5000/istio/ztunnel:1.31.0-distroless":   "1.31.0-distroless",
		"registry:5000/istio/ztunnel":                     "",
		"istio/ztunnel@sha256:0123":                       "",
		"registry:5000/istio/ztunnel:1.31.0@sha256:01234": "1.31.0",
		"": "",
	} {
		assert.Equal(t, want, tagOf(image), image)
	}
}

func TestTrimKeepsWhatIsRead(t *testing.T) {
	pod := kubetest.Waypoint("shop", "waypoint-1", "waypoint", "node-a", "10.0.1.1")
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "other"})
	pod.Status.ContainerStatuses = append([]corev1.ContainerStatus{{Name: "other"}}, pod.Status.ContainerStatuses...)
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "someone"}}
	trimmed, err := trimPod(pod)
	require.NoError(t, err)
	got, ok := podOf(trimmed.(*corev1.Pod))
	require.True(t, ok)
	assert.Equal(t, Pod{
		UID: "uid-waypoint-1", Namespace: "shop", Name: "waypoint-1", Node: "node-a", IP: "10.0.1.1", Gateway: "waypoint", Version: "1.31.0", Container: Container,
		Created: kubetest.Born, Ready: true,
	}, got)
	assert.Empty(t, trimmed.(*corev1.Pod).ManagedFields)
	again, err := trimPod("something else")
	require.NoError(t, err)
	assert.Equal(t, "something else", again)
}

func TestClientConfig(t *testing.T) {
	require.ErrorContains(t, ClientConfig{Auth: "none"}.Validate(), `auth_type "none"`)
	require.ErrorContains(t, ClientConfig{Auth: ServiceAccount, Context: "a"}.Validate(), "kubeConfig only")
	require.NoError(t, ClientConfig{Auth: KubeConfig, Context: "a"}.Validate())

	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := ClientConfig{Auth: ServiceAccount}.REST()
	require.ErrorContains(t, err, "finding the Kubernetes API server")
	_, err = ClientConfig{Auth: KubeConfig, Kubeconfig: "no-such-file"}.REST()
	require.ErrorContains(t, err, "no-such-file")

	server := kubetest.Start(t)
	config, err := ClientConfig{Auth: KubeConfig, Kubeconfig: server.Kubeconfig(), Context: "test"}.REST()
	require.NoError(t, err)
	assert.Equal(t, server.Config().Host, config.Host)
	assert.Equal(t, "nephilia", config.UserAgent)
	_, err = ClientConfig{Auth: KubeConfig, Kubeconfig: server.Kubeconfig(), Context: "another"}.REST()
	require.ErrorContains(t, err, "another")
}
