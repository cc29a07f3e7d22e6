package ztunnelreceiver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/xconfmap"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/receivertest"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubetest"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/metadata"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// kubeRig is a live receiver whose boundaries the test decides, while what it reads from Kubernetes goes its own way.
type kubeRig struct {
	*rig
	stop func()
}

func newKubeRig(t *testing.T, server *kubetest.Server, clock *steppedClock, store *memory, out *sink, settings map[string]any) *kubeRig {
	t.Helper()
	cfg := createDefaultConfig().(*Config)
	section := map[string]any{"auth_type": "kubeConfig", "kubeconfig": server.Kubeconfig()}
	maps.Copy(section, settings)
	raw := map[string]any{"kubernetes": section}
	if settings["logs"] != "off" {
		raw["access_logs"] = map[string]any{"start_at": "beginning", "storage": storageID.String()}
	}
	if settings["metrics"] != false {
		raw["metrics"] = map[string]any{"collection_interval": "500ms", "timeout": "500ms"}
	}
	if settings["config_dump"] == true {
		raw["config_dump"] = map[string]any{"collection_interval": "500ms", "timeout": "500ms"}
	}
	require.NoError(t, confmap.NewFromStringMap(raw).Unmarshal(cfg))
	require.NoError(t, xconfmap.Validate(cfg))
	tel, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	set := receivertest.NewNopSettings(metadata.Type)
	in, err := newIngest(cfg, set, consumers{logs: out, metrics: out, traces: out}, tel)
	require.NoError(t, err)
	l := newLive(cfg, in, clock)
	require.NoError(t, l.open(t.Context(), set, host{map[component.ID]component.Component{storageID: store}}))
	ctx, cancel := context.WithCancel(context.Background())
	var sources sync.WaitGroup
	for _, s := range l.sources {
		sources.Go(func() { s.Run(ctx) })
	}
	return &kubeRig{rig: &rig{live: l, t: t, out: out, clock: clock, store: store}, stop: func() {
		cancel()
		sources.Wait()
	}}
}

// until lets boundaries pass until a condition holds.
func (r *kubeRig) until(what string, condition func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(r.t, "never: "+what)
		}
		r.boundaryNow()
	}
}

func (r *kubeRig) end() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, r.close(context.Background()))
}

// kill ends it without anything being flushed or stored.
func (r *kubeRig) kill() {
	r.t.Helper()
	r.store.mu.Lock()
	r.store.err = errors.New("this process is gone")
	r.store.before, r.store.after = nil, nil
	r.store.mu.Unlock()
	r.stop()
	require.NoError(r.t, r.followers[0].Stop())
	r.kube.Close()
}

// Two ztunnels write thousands of lines through an API server that cuts streams, refuses and is restarted; the receiver is killed
// after each step and begins again with what was stored and sent then.
func TestKubernetesLogsKilledAtAnyMoment(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex
	chance := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	server := kubetest.Start(t)
	server.Wrap(func(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
		if !strings.HasSuffix(r.URL.Path, "/log") || chance(4) == 0 {
			return w
		}
		return &kubetest.Cutter{ResponseWriter: w, Left: chance(300_000), Clean: chance(2) == 0}
	})
	logs := map[string]*kubetest.Log{"a": kubetest.NewLog(), "b": kubetest.NewLog()}
	for node, log := range logs {
		server.Put("pods", kubetest.Ztunnel("ztunnel-"+node, "node-"+node, "127.0.0.1"))
		server.SetLog("istio-system", "ztunnel-"+node, log)
	}
	written, stamp := 0, epoch
	write := func(n int) {
		for range n {
			node := []string{"a", "b"}[written%2]
			// Lines share a time, the one that the runtime has for them. What comes in two seconds must fit between two cuts.
			stamp = stamp.Add(time.Duration(chance(2)) * 15 * time.Millisecond)
			logs[node].Write(stamp, strings.TrimSuffix(accessLine(written), "\n"))
			written++
		}
	}
	settings := map[string]any{"metrics": false}
	clock, out, store := &steppedClock{now: epoch}, &sink{}, newMemory(map[string][]byte{})
	r := newKubeRig(t, server, clock, store, out, settings)
	for step := range 12 {
		write(200 + chance(600))
		switch step {
		case 4:
			logs["a"].Restart()
		case 8:
			server.Stop()
			write(100)
			server.Restart()
		}
		if step%3 == 2 {
			r.until("all lines", func() bool {
				connections, _ := out.sums(t)
				return connections == written
			})
		} else {
			r.boundaryNow()
		}
		write(chance(300))
		// Killed: what was sent stays sent, what was not stored is forgotten.
		stored, emitted := store.copied(), append([]pmetric.Metrics(nil), out.metrics...)
		r.kill()
		clock.step(time.Second)
		out, store = &sink{metrics: emitted}, newMemory(stored)
		r = newKubeRig(t, server, clock, store, out, settings)
	}
	r.until("all lines", func() bool {
		connections, _ := out.sums(t)
		return connections >= written
	})
	r.end()
	connections, sent := out.sums(t)
	assert.Greater(t, written, 4000)
	assert.Equal(t, written, connections)
	assert.Equal(t, sumTo(written), sent)
	for _, md := range out.metrics[len(out.metrics)-1:] {
		assert.NotEmpty(t, heartbeats(md))
	}
}

// serveMetrics answers scrapes at addresses of loopback that share a port.
func serveMetrics(t *testing.T, broken *atomic.Bool, addresses ...string) (port int) {
	t.Helper()
	for _, address := range addresses {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(address, strconv.Itoa(port)))
		require.NoError(t, err)
		port = listener.Addr().(*net.TCPAddr).Port
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken.Load() {
				http.Error(w, "no", http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			fmt.Fprintf(w, "# TYPE istio_served_total counter\nistio_served_total{path=%q} 1\n", r.URL.Path)
		}))
		require.NoError(t, server.Listener.Close())
		server.Listener = listener
		server.Start()
		t.Cleanup(server.Close)
	}
	return port
}

// upPoint is a point of "up".
type upPoint struct {
	service, name, instance string
	up, stale               bool
}

// ups are the newest points of each target's "up", by instance.
func (s *sink) ups() map[string]upPoint {
	newest := map[string]upPoint{}
	for _, md := range s.metrics {
		for _, rm := range md.ResourceMetrics().All() {
			attrs := rm.Resource().Attributes()
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if m.Name() != semconv.MetricUp {
						continue
					}
					point := m.Gauge().DataPoints().At(0)
					name := str(attrs, semconv.AttrNodeName)
					if name == "" {
						name = str(attrs, semconv.AttrWaypoint)
					}
					instance := str(attrs, semconv.AttrServiceInstanceID)
					host, _, err := net.SplitHostPort(instance)
					if err != nil {
						host = instance
					}
					newest[host] = upPoint{
						str(attrs, semconv.AttrServiceName), name, host, point.IntValue() == 1, point.Flags().NoRecordedValue(),
					}
				}
			}
		}
	}
	return newest
}

// ztunnels are the ztunnels' entities, by node.
func (s *sink) ztunnels(t *testing.T) map[string]*mesh.Ztunnel {
	t.Helper()
	state := mesh.NewState(100)
	for _, ld := range s.logs {
		for _, rl := range ld.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				if !mesh.IsEntityScope(sl.Scope()) {
					continue
				}
				for _, record := range sl.LogRecords().All() {
					event, err := mesh.ParseEvent(record)
					require.NoError(t, err)
					state.Apply(event)
				}
			}
		}
	}
	found := map[string]*mesh.Ztunnel{}
	for _, z := range state.Ztunnels() {
		found[z.Node] = z
	}
	return found
}

func TestKubernetesTargets(t *testing.T) {
	var broken atomic.Bool
	port := serveMetrics(t, &broken, "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")
	server := kubetest.Start(t)
	server.Put("pods", kubetest.Ztunnel("ztunnel-a", "node-a", "127.0.0.2"))
	server.Put("pods", kubetest.Ztunnel("ztunnel-b", "node-b", "127.0.0.3"))
	server.Put("pods", kubetest.Waypoint("shop", "waypoint-1", "gate", "node-a", "127.0.0.5"))
	out := &sink{}
	r := newKubeRig(t, server, &steppedClock{now: epoch}, newMemory(map[string][]byte{}), out, map[string]any{
		"logs": "off", "waypoints": true, "metrics_port": port,
	})
	defer r.end()
	r.until("all are up", func() bool {
		ups := out.ups()
		return ups["127.0.0.2"].up && ups["127.0.0.3"].up && ups["127.0.0.5"].up && len(out.beats()) == 4 && len(out.ztunnels(t)) == 2
	})
	assert.Equal(t, map[string]bool{"metrics node-a": true, "metrics node-b": true, "metrics ": true, "kubernetes ": true}, out.beats())
	assert.Equal(t, upPoint{"ztunnel", "node-a", "127.0.0.2", true, false}, out.ups()["127.0.0.2"])
	assert.Equal(t, upPoint{"waypoint", "shop/gate", "127.0.0.5", true, false}, out.ups()["127.0.0.5"])
	assert.Equal(t, &mesh.Ztunnel{Node: "node-a", Name: "ztunnel-a", Namespace: "istio-system", Version: "1.31.0"}, out.ztunnels(t)["node-a"])

	// A rollout: the new one is there but has not begun, then takes over; the old one goes.
	starting := kubetest.Ztunnel("ztunnel-c", "node-a", "")
	starting.Status.ContainerStatuses, starting.Status.Phase = nil, "Pending"
	server.Put("pods", starting)
	r.until("three ztunnels", func() bool { return len(r.kube.Ztunnels()) == 3 })
	server.Put("pods", kubetest.Ztunnel("ztunnel-c", "node-a", "127.0.0.4"))
	r.until("the new one", func() bool { return out.ups()["127.0.0.4"].up })
	server.Delete("pods", "istio-system", "ztunnel-a")
	r.until("the end of the old one", func() bool { return out.ups()["127.0.0.2"].stale })
	r.until("the new one's name", func() bool { return out.ztunnels(t)["node-a"].Name == "ztunnel-c" })
	for _, md := range out.metrics {
		for _, beat := range heartbeats(md) {
			require.True(t, beat.up, beat)
		}
	}
	for instance, point := range out.ups() {
		require.True(t, point.up || point.stale, instance)
	}

	// One that is there and does not answer.
	broken.Store(true)
	r.until("failures", func() bool {
		return !out.beats()["metrics node-a"] && !out.beats()["metrics node-b"] && !out.ups()["127.0.0.3"].up
	})
	broken.Store(false)
	r.until("recovery", func() bool { return out.beats()["metrics node-a"] && out.beats()["metrics node-b"] })

	// A node that goes.
	server.Delete("pods", "istio-system", "ztunnel-b")
	r.until("the node's end", func() bool { return out.ztunnels(t)["node-b"] == nil })
	assert.Equal(t, map[string]bool{"metrics node-a": true, "metrics ": true, "kubernetes ": true}, out.beats())
	r.until("the end of its target", func() bool { return out.ups()["127.0.0.3"].stale })

	server.Stop()
	r.until("no API server", func() bool { return !out.beats()["kubernetes "] })
	assert.True(t, out.beats()["metrics node-a"], "what is known is scraped on")
	server.Restart()
	r.until("the API server again", func() bool { return out.beats()["kubernetes "] })
}

func TestKubernetesConfigDumps(t *testing.T) {
	dump := lines(t, filepath.Join(recordings, "baseline", "config_dump-node-a.jsonl.gz"))[0]
	_, dump, _ = strings.Cut(dump, `"config_dump": `)
	dump = strings.TrimSuffix(dump, "}")
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/config_dump" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, dump)
	}))
	t.Cleanup(admin.Close)
	server := kubetest.Start(t)
	server.Put("pods", kubetest.Ztunnel("ztunnel-a", "node-a", "127.0.0.1"))
	server.Put("pods", kubetest.Ztunnel("ztunnel-b", "node-b", "127.0.0.1"))
	server.SetPort("istio-system", "ztunnel-a", "15000", admin.Listener.Addr().String())
	out := &sink{}
	r := newKubeRig(t, server, &steppedClock{now: epoch}, newMemory(map[string][]byte{}), out, map[string]any{
		"logs": "off", "metrics": false, "config_dump": true,
	})
	defer r.end()
	r.until("a dump", func() bool {
		z := out.ztunnels(t)["node-a"]
		return z != nil && len(z.Certificates) > 0 && len(out.beats()) == 3
	})
	assert.Equal(t, map[string]bool{"config_dump node-a": true, "config_dump node-b": false, "kubernetes ": true}, out.beats())
}

func TestKubernetesState(t *testing.T) {
	server := kubetest.Start(t)
	replicas := int32(3)
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "catalog-v1", UID: "1", Generation: 1, CreationTimestamp: metav1.NewTime(kubetest.Born)},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas},
	}
	server.Put("deployments", deployment)
	server.Put("nodes", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a", UID: "1", CreationTimestamp: metav1.NewTime(kubetest.Born)}})
	out := &sink{}
	r := newKubeRig(t, server, &steppedClock{now: epoch}, newMemory(map[string][]byte{}), out, map[string]any{
		"logs": "off", "metrics": false, "state": []any{"workloads", "pods", "nodes", "events"},
	})
	defer r.end()
	changes := func() (list []mesh.Change) {
		for _, ld := range out.logs {
			for _, rl := range ld.ResourceLogs().All() {
				for _, sl := range rl.ScopeLogs().All() {
					for _, record := range sl.LogRecords().All() {
						if record.EventName() == semconv.EventChange {
							change, err := mesh.ParseChange(record)
							require.NoError(t, err)
							list = append(list, change)
						}
					}
				}
			}
		}
		return list
	}
	r.until("everything is watched", func() bool {
		for _, resource := range []string{"deployments", "statefulsets", "daemonsets", "pods", "nodes", "events"} {
			if server.Seen("watch "+resource) == 0 {
				return false
			}
		}
		return true
	})
	assert.Empty(t, changes(), "what was there before is no change")
	replicas = 0
	server.Put("deployments", deployment)
	r.until("the change", func() bool { return len(changes()) == 1 })
	got := changes()[0]
	assert.False(t, got.Time.AsTime().Before(epoch))
	got.Time, got.Observed = 0, 0
	assert.Equal(t, mesh.Change{
		Reason: mesh.ChangeScaled, Kind: "Deployment", Namespace: "shop", Name: "catalog-v1", App: "catalog-v1",
		Text: "deployment shop/catalog-v1 was scaled from 3 to 0",
	}, got)

	server.Delete("nodes", "", "node-a")
	r.until("the node's end", func() bool { return len(changes()) == 2 })
	assert.Equal(t, mesh.ChangeRemoved, changes()[1].Reason)
	_, entities := out.events(t)
	assert.Equal(t, 1, entities[mesh.TypeZtunnel], "its ztunnel is gone too")
}

func TestChangesAreBounded(t *testing.T) {
	_, in := newTestIngest(t, createDefaultConfig().(*Config), &sink{})
	for range 3 {
		in.AddChanges(make([]mesh.Change, maxChanges/2+1))
	}
	assert.Len(t, in.gathered.changes, maxChanges)
	in.out.wants.logs = nil
	in.gathered.changes = nil
	in.AddChanges(make([]mesh.Change, 1))
	assert.Empty(t, in.gathered.changes)
}

func TestKubernetesThroughTheFactory(t *testing.T) {
	server := kubetest.Start(t)
	log := kubetest.NewLog()
	server.Put("pods", kubetest.Ztunnel("ztunnel-a", "node-a", "127.0.0.1"))
	server.SetLog("istio-system", "ztunnel-a", log)
	for n := range 20 {
		log.Write(epoch, strings.TrimSuffix(accessLine(n), "\n"))
	}
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{
		"flush_interval": "20ms",
		"access_logs":    map[string]any{"start_at": "beginning"},
		"kubernetes":     map[string]any{"auth_type": "kubeConfig", "kubeconfig": server.Kubeconfig(), "metrics": false, "node": "node-a"},
	}).Unmarshal(cfg))
	require.NoError(t, xconfmap.Validate(cfg))
	out := &lockedMetrics{}
	set := receivertest.NewNopSettings(metadata.Type)
	r, err := NewFactory().CreateMetrics(t.Context(), set, cfg, out)
	require.NoError(t, err)
	require.NoError(t, r.Start(t.Context(), componenttest.NewNopHost()))
	kubetest.Eventually(t, "all lines", func() bool { return out.closed(t) == 20 })
	require.NoError(t, r.Shutdown(t.Context()))
	assert.Equal(t, 20, out.closed(t))
}

// lockedMetrics is a sink that may be looked into meanwhile.
type lockedMetrics struct {
	sink
	mu sync.Mutex
}

func (l *lockedMetrics) ConsumeMetrics(ctx context.Context, md pmetric.Metrics) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sink.ConsumeMetrics(ctx, md)
}

func (l *lockedMetrics) closed(t *testing.T) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return closed(l.final(t))
}

func TestKubernetesStartFails(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	cfg := createDefaultConfig().(*Config)
	require.NoError(t, confmap.NewFromStringMap(map[string]any{"kubernetes": map[string]any{}}).Unmarshal(cfg))
	require.NoError(t, xconfmap.Validate(cfg))
	r, err := NewFactory().CreateMetrics(t.Context(), receivertest.NewNopSettings(metadata.Type), cfg, &sink{})
	require.NoError(t, err)
	require.ErrorContains(t, r.Start(t.Context(), componenttest.NewNopHost()), "finding the Kubernetes API server")
	require.NoError(t, r.Shutdown(t.Context()))
}
