package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nephilia/nephilia/e2e/cluster/internal/controlplane"
	"github.com/nephilia/nephilia/e2e/cluster/internal/kubelet"
	"github.com/nephilia/nephilia/e2e/cluster/internal/mesh"
	"github.com/nephilia/nephilia/e2e/cluster/internal/network"
	"github.com/nephilia/nephilia/e2e/cluster/internal/workload"
)

const (
	repository = "../.."
	namespace  = "nephilia"
	release    = "nephilia"
)

// maxGateways is how many gateways a test may run.
const maxGateways = 2

// nodes are those of every cluster, as in the recordings.
var nodes = []string{"node-a", "node-b", "node-c"}

// Addresses, all in one flat network.
var (
	controlAddress = netip.MustParseAddr("10.0.0.10")
	watchAddress   = netip.MustParseAddr("10.0.0.20") // of Prometheus
)

func nodeAddress(node int) netip.Addr    { return netip.AddrFrom4([4]byte{10, 0, 1, byte(1 + node)}) }
func ztunnelAddress(node int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(node), 2}) }
func agentAddress(node int) netip.Addr   { return netip.AddrFrom4([4]byte{10, 1, byte(node), 3}) }
func gatewayAddress(ordinal int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 1, 200, byte(1 + ordinal)})
}

// cluster is a control plane, three nodes with a kubelet and a ztunnel each, and what a chart deploys.
type cluster struct {
	folder    string
	network   *network.Network
	control   *controlplane.ControlPlane
	objects   *mesh.Objects
	applier   *workload.Applier
	recording *mesh.Recording
	ledger    *mesh.Ledger
	kubelets  []*kubelet.Kubelet
	ztunnels  []*mesh.Ztunnel
	runner    *kubelet.Runner
	agents    []*kubelet.Pod
	gateways  []*kubelet.Pod
	watch     *network.Namespace // Prometheus's
	cutOff    *kubelet.Pod       // that was, for a while
}

// program returns a built program's path.
func program(t *testing.T, variable, fallback string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join(repository, fallback)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not built: run make e2e-cluster (%v)", fallback, err)
	}
	return path
}

// folder is where a test's cluster keeps everything; it outlives the test where NEPHILIA_E2E_KEEP names a place for that.
func folder(t *testing.T) string {
	t.Helper()
	keep := os.Getenv("NEPHILIA_E2E_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	path := filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "-"))
	if err := errors.Join(os.RemoveAll(path), os.MkdirAll(path, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// newCluster starts everything but the product.
func newCluster(t *testing.T, recording *mesh.Recording, connectionAge ...time.Duration) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c := &cluster{folder: folder(t), recording: recording}
	var err error
	if c.network, err = network.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.network.Close() })
	control, err := c.network.Join("control-plane", controlAddress)
	if err != nil {
		t.Fatal(err)
	}
	c.control, err = controlplane.Start(ctx, controlplane.Options{
		Folder:    filepath.Join(c.folder, "control-plane"),
		APIServer: program(t, "NEPHILIA_E2E_APISERVER", "bin/e2e/kube-apiserver"),
		Istiod:    program(t, "NEPHILIA_E2E_ISTIOD", "bin/e2e/pilot-discovery"),
		CRDs:      program(t, "NEPHILIA_E2E_CRDS", "bin/e2e/istio-crds.yaml"),
		Namespace: control,

		ConnectionAge: slices.Max(append(connectionAge, 0)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.control.Stop(); err != nil {
			t.Error(err)
		}
	})
	c.objects = &mesh.Objects{Client: c.control.Client, Dynamic: c.control.Dynamic}
	if c.applier, err = workload.NewApplier(c.control.Client, c.control.Dynamic); err != nil {
		t.Fatal(err)
	}
	if c.ledger, err = mesh.NewLedger(recording); err != nil {
		t.Fatal(err)
	}
	if err := c.createNamespaces(ctx); err != nil {
		t.Fatal(err)
	}
	for i, node := range nodes {
		c.startNode(ctx, t, i, node)
	}
	if err := c.objects.Create(ctx, recording); err != nil {
		t.Fatal(err)
	}
	for _, action := range recording.Actions {
		if action.At > 0 {
			continue
		}
		if err := c.objects.Act(ctx, action); err != nil {
			t.Fatal(err)
		}
	}
	c.runner = &kubelet.Runner{
		Client: c.control.Client, Network: c.network, Folder: filepath.Join(c.folder, "pods"),
		Binary: program(t, "NEPHILIA_BINARY", "bin/otelcol-nephilia"),
		API:    netip.AddrPortFrom(controlAddress, 6443),
		Hosts:  map[string]netip.Addr{"istiod.istio-system.svc": controlAddress},
	}
	return c
}

// createNamespaces creates the product's namespace and does the work of the controllers that watch namespaces.
func (c *cluster) createNamespaces(ctx context.Context) error {
	ca, err := os.ReadFile(c.control.Authority.Path())
	if err != nil {
		return err
	}
	_, err = c.control.Client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	for _, account := range [][2]string{{controlplane.IstioNamespace, "ztunnel"}} {
		_, err := c.control.Client.CoreV1().ServiceAccounts(account[0]).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account[1]}}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	_, err = c.control.Client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": string(ca)},
	}, metav1.CreateOptions{})
	return err
}

func (c *cluster) createNamespace(t *testing.T, name string) {
	t.Helper()
	_, err := c.control.Client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) startNode(ctx context.Context, t *testing.T, i int, node string) {
	t.Helper()
	machine, err := c.network.Join(node, nodeAddress(i))
	if err != nil {
		t.Fatal(err)
	}
	k, err := kubelet.Start(node, machine, c.control.Authority, filepath.Join(c.folder, node))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	if err := c.objects.CreateNode(ctx, node, nodeAddress(i).String(), kubelet.Port); err != nil {
		t.Fatal(err)
	}
	pod, err := c.objects.CreateZtunnel(ctx, node, ztunnelAddress(i).String())
	if err != nil {
		t.Fatal(err)
	}
	home, err := c.network.Join(pod.Name, ztunnelAddress(i))
	if err != nil {
		t.Fatal(err)
	}
	z, err := mesh.NewZtunnel(c.recording, node, k.PodLogs(pod, "istio-proxy"), c.ledger)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := home.Listen(15020)
	if err != nil {
		t.Fatal(err)
	}
	z.Serve(listener)
	t.Cleanup(func() { _ = z.Close() })
	c.kubelets, c.ztunnels = append(c.kubelets, k), append(c.ztunnels, z)
}

// render renders the chart as `helm install` would.
func render(t *testing.T, values ...string) []byte {
	t.Helper()
	args := []string{"template", release, filepath.Join(repository, "deploy/helm/nephilia"), "--namespace", namespace, "--kube-version", "1.36.1"}
	for _, value := range values {
		args = append(args, "--set-json", value)
	}
	cmd := exec.Command(program(t, "NEPHILIA_E2E_HELM", "bin/tools/helm"), args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("rendering the chart: %v\n%s", err, said.String())
	}
	return out.Bytes()
}

// install creates the chart's objects and runs its pods.
func (c *cluster) install(t *testing.T, values ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	objects, err := workload.Decode(render(t, values...))
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range objects {
		if err := c.applier.Create(ctx, object); err != nil {
			t.Fatal(err)
		}
	}
	// istiod writes its root certificate into every namespace.
	eventually(t, "istiod's root certificate is there", func() error {
		_, err := c.control.Client.CoreV1().ConfigMaps(namespace).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		return err
	})
	c.startPrometheus(t)
	c.runGateways(ctx, t)
	c.runStandalone(ctx, t)
	c.runAgents(ctx, t)
	for _, pod := range append(append([]*kubelet.Pod(nil), c.gateways...), c.agents...) {
		c.awaitReady(t, pod)
	}
}

func (c *cluster) runGateways(ctx context.Context, t *testing.T) {
	t.Helper()
	sets, err := c.control.Client.AppsV1().StatefulSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		for ordinal := range int(*set.Spec.Replicas) {
			c.runner.Hosts[fmt.Sprintf("%s-%d.%s.%s.svc", set.Name, ordinal, set.Spec.ServiceName, namespace)] = gatewayAddress(ordinal)
		}
		for ordinal := range int(*set.Spec.Replicas) {
			object, err := workload.StatefulPod(ctx, c.control.Client, set, ordinal, nodes[ordinal%len(nodes)])
			if err != nil {
				t.Fatal(err)
			}
			c.gateways = append(c.gateways, c.run(ctx, t, object, gatewayAddress(ordinal), nil))
		}
	}
}

// runStandalone runs the pod that does everything; it counts as a gateway, for it serves the API.
func (c *cluster) runStandalone(ctx context.Context, t *testing.T) {
	t.Helper()
	deployments, err := c.control.Client.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range deployments.Items {
		object, err := workload.DeploymentPod(ctx, c.control.Client, &deployments.Items[i], nodes[0])
		if err != nil {
			t.Fatal(err)
		}
		c.gateways = append(c.gateways, c.run(ctx, t, object, gatewayAddress(0), nil))
	}
}

func (c *cluster) runAgents(ctx context.Context, t *testing.T) {
	t.Helper()
	sets, err := c.control.Client.AppsV1().DaemonSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range sets.Items {
		for n, node := range nodes {
			object, err := workload.DaemonPod(ctx, c.control.Client, &sets.Items[i], node)
			if err != nil {
				t.Fatal(err)
			}
			c.agents = append(c.agents, c.run(ctx, t, object, agentAddress(n), c.kubelets[n]))
		}
	}
}

// run runs a pod until the test's end.
func (c *cluster) run(ctx context.Context, t *testing.T, object *corev1.Pod, address netip.Addr, node *kubelet.Kubelet) *kubelet.Pod {
	t.Helper()
	pod, err := c.runner.Run(ctx, object, address, node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pod.Stop(); err != nil {
			t.Errorf("%v\n%s", err, tail(pod))
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", pod.Object.Name, tail(pod))
		}
		if err := pod.Remove(); err != nil {
			t.Error(err)
		}
	})
	return pod
}

// play lets the ztunnels live through the recording; act is called for each of the recording's actions.
func (c *cluster) play(ctx context.Context, start time.Time) error {
	errs := make(chan error, len(c.ztunnels)+1)
	for _, z := range c.ztunnels {
		go func() { errs <- z.Play(ctx, start) }()
	}
	go func() { errs <- c.act(ctx, start) }()
	var all []error
	for range len(c.ztunnels) + 1 {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// act changes the API server's objects when the recording's mesh changed.
func (c *cluster) act(ctx context.Context, start time.Time) error {
	type change struct {
		at float64
		do func() error
	}
	var changes []change
	for _, action := range c.recording.Actions {
		if action.At == 0 {
			continue // it was there before
		}
		changes = append(changes, change{action.At, func() error { return c.objects.Act(ctx, action) }})
	}
	for i := range c.recording.Pods {
		pod := &c.recording.Pods[i]
		if pod.From > 0 {
			changes = append(changes, change{pod.From, func() error { return c.objects.CreatePod(ctx, pod) }})
		}
		if pod.Until > 0 {
			changes = append(changes, change{pod.Until, func() error { return c.objects.DeletePod(ctx, pod) }})
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	for _, change := range changes {
		if err := sleepUntil(ctx, start.Add(seconds(change.at))); err != nil {
			return err
		}
		if err := change.do(); err != nil {
			return err
		}
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func sleepUntil(ctx context.Context, at time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(at)):
		return nil
	}
}

// eventually tries until there is no error, for two minutes.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
