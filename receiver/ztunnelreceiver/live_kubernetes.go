package ztunnelreceiver

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/configdump"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubestate"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/podlogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
)

const (
	resourceKey  = attribute.Key("resource")
	reasonKey    = attribute.Key(attrReason)
	waypointPath = "/stats/prometheus"

	roleZtunnel  = "ztunnel"
	roleWaypoint = "waypoint"
)

// kubernetes is what comes through the API server. Its fields but discovery and clients are guarded by the lock.
type kubernetes struct {
	*live

	cfg       *KubernetesConfig
	clients   *kube.Clients
	discovery *kube.Discovery
	pods      *podlogs.Tail
	fleet     *fleet
	// failing are the resources that cannot be followed; bounded by the kinds of them.
	failing map[string]struct{}
	// heard is when the API server last answered.
	heard time.Time
}

// openKubernetes prepares what is found through the API server.
func (l *live) openKubernetes() error {
	cfg := l.cfg.Kubernetes.Get()
	if cfg == nil || !cfg.discovers() && len(cfg.State) == 0 {
		return nil
	}
	config, err := cfg.client().REST()
	if err != nil {
		return err
	}
	clients, err := kube.NewClients(config)
	if err != nil {
		return err
	}
	k := &kubernetes{live: l, cfg: cfg, clients: clients, fleet: newFleet(), failing: map[string]struct{}{}}
	l.kube = k
	if len(cfg.State) > 0 {
		state, err := kubestate.New(clients.API, cfg.state(), k.report, stateSink{k}, l.clock.Now)
		if err != nil {
			return err
		}
		l.sources = append(l.sources, state.Run)
	}
	if !cfg.discovers() {
		return nil
	}
	discovery := kube.DiscoveryConfig{Namespace: cfg.Namespace, ZtunnelSelector: cfg.ZtunnelSelector, Node: cfg.Node}
	if cfg.Waypoints {
		discovery.WaypointSelector, discovery.WaypointNamespaces = cfg.WaypointSelector, cfg.WorkloadNamespaces
	}
	k.discovery, err = kube.NewDiscovery(clients.API, discovery, k.report, k.podsChanged, k.podsDropped)
	if err != nil {
		return err
	}
	l.sources = append(l.sources, k.discovery.Run)
	return nil
}

// state says what of the cluster's state to follow.
func (c *KubernetesConfig) state() kubestate.Config {
	return kubestate.Config{
		Workloads: slices.Contains(c.State, stateWorkloads), Pods: slices.Contains(c.State, statePods),
		Nodes: slices.Contains(c.State, stateNodes), Events: slices.Contains(c.State, stateEvents),
		Namespaces: c.WorkloadNamespaces, Node: c.Node,
	}
}

// stateSink takes what is new about the cluster.
type stateSink struct{ *kubernetes }

// Changed implements kubestate.Sink.
func (s stateSink) Changed(changes []mesh.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addChanges(changes)
}

// NodeGone implements kubestate.Sink: a node that is gone has no ztunnel.
func (s stateSink) NodeGone(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live.live.remove(node)
	s.addEvents([]mesh.Event{ztunnelEvent(&kube.Pod{Node: node}, s.live.cfg.ClusterName, s.clock.Now(), true)})
}

// discovers tells whether pods have to be found.
func (c *KubernetesConfig) discovers() bool {
	return c.Logs == logsAPI || c.Metrics || c.ConfigDump || c.Waypoints
}

func (l *live) openPodLogs(ctx context.Context, logs *AccessLogsConfig) error {
	k := l.kube
	k.pods = podlogs.New(podlogs.Config{FromEnd: logs.StartAt == startAtEnd, MaxEntry: logs.MaxEntrySize},
		kube.Logs{API: k.clients.Streams}, podSink{l}, &l.mu, l.awaitRoom)
	l.follower = k.pods
	if l.client == nil {
		return nil
	}
	return k.pods.Restore(ctx, l.client)
}

// report implements kube.Report.
func (k *kubernetes) report(resource string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		delete(k.failing, resource)
		k.heard = k.clock.Now()
		return
	}
	reason := kube.Reason(err)
	k.tel.ReceiverZtunnelKubernetesErrors.Add(context.Background(), 1,
		metric.WithAttributeSet(attribute.NewSet(resourceKey.String(resource), reasonKey.String(reason))))
	if reason == kube.ReasonExpired {
		// So it goes: the server forgets old versions.
		return
	}
	k.failing[resource] = struct{}{}
	k.tel.warn("Kubernetes "+resource+" cannot be followed", zap.String("reason", reason), zap.Error(err))
}

func (k *kubernetes) podsDropped(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dropped(reasonPods, n)
}

// podsChanged takes over the pods that there are now.
func (k *kubernetes) podsChanged() {
	ztunnels, waypoints := k.discovery.Ztunnels(), k.discovery.Waypoints()
	now := k.clock.Now()
	damaged := 0
	if k.pods != nil {
		damaged = k.pods.Follow(ztunnels, now)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	ctx := context.Background()
	if damaged > 0 {
		k.tel.ReceiverZtunnelCheckpointErrors.Add(ctx, int64(damaged))
		k.tel.warn("The stored positions in pods' logs are damaged; these are read from now on", zap.Int("pods", damaged))
	}
	k.tel.ReceiverZtunnelPods.Record(ctx, int64(len(ztunnels)), with(attrRole, roleZtunnel))
	k.tel.ReceiverZtunnelPods.Record(ctx, int64(len(waypoints)), with(attrRole, roleWaypoint))
	k.fleet.update(ztunnels, now)
}

// boundary tells what is new about the nodes; the lock is held.
func (k *kubernetes) boundary(at time.Time, again bool) {
	for _, pod := range k.fleet.expire(k.clock.Now()) {
		k.live.live.remove(pod.Node)
		k.addEvents([]mesh.Event{ztunnelEvent(&pod, k.live.cfg.ClusterName, at, true)})
	}
	// A config dump knows more of its ztunnel.
	if !k.live.cfg.ConfigDump.HasValue() {
		refresh := k.live.cfg.RefreshInterval
		if again {
			refresh = 0
		}
		for _, pod := range k.fleet.due(at, refresh) {
			k.addEvents([]mesh.Event{ztunnelEvent(&pod, k.live.cfg.ClusterName, at, false)})
		}
	}
	if k.cfg.Node == "" && !k.heard.IsZero() {
		k.live.live.set(semconv.SourceKubernetes, "", len(k.failing) == 0, k.heard)
	}
}

// gone tells whether a node has no ztunnel any more; the lock is held.
func (k *kubernetes) gone(node string) bool { return k.fleet.gone(node) }

// foundTargets are endpoints of the configuration and those that are found.
type foundTargets struct {
	scrape.StaticTargets
	kube *kubernetes
}

func (l *live) metricsTargets(static scrape.StaticTargets) scrape.TargetProvider {
	if _, found, _ := l.cfg.reads(); !found {
		return static
	}
	return foundTargets{static, l.kube}
}

// Targets implements scrape.TargetProvider.
func (f foundTargets) Targets() []scrape.Target {
	k := f.kube
	targets := append([]scrape.Target(nil), f.StaticTargets...)
	address := func(target *scrape.Target, pod *kube.Pod, path string) {
		target.Cluster, target.Waiting, target.Aside = k.live.cfg.ClusterName, pod.Waiting, pod.Aside
		target.Instance = pod.Name
		if pod.IP != "" {
			target.Instance = net.JoinHostPort(pod.IP, strconv.Itoa(int(k.cfg.MetricsPort)))
			target.URL = "http://" + target.Instance + path
		}
		targets = append(targets, *target)
	}
	if k.cfg.Metrics {
		for _, pod := range k.discovery.Ztunnels() {
			address(&scrape.Target{Kind: scrape.Ztunnel, Name: pod.Node}, &pod, metricsPath)
		}
	}
	for _, pod := range k.discovery.Waypoints() {
		if pod.IP != "" && pod.Gateway != "" {
			address(&scrape.Target{Kind: scrape.Waypoint, Name: pod.Namespace + "/" + pod.Gateway}, &pod, waypointPath)
		}
	}
	return targets
}

// adminPort is where a ztunnel serves its config dump, on its own localhost.
const adminPort = 15000

// dumpTargets are the ztunnels' config dumps, of those that speak for their node.
type dumpTargets struct{ kube *kubernetes }

func dumpHost(pod *kube.Pod) string { return pod.Name + "." + pod.Namespace }

// Targets implements configdump.TargetProvider.
func (d dumpTargets) Targets() []configdump.Target {
	var targets []configdump.Target
	for _, pod := range d.kube.discovery.Ztunnels() {
		if !pod.Aside {
			targets = append(targets, configdump.Target{
				Node: pod.Node, URL: "http://" + net.JoinHostPort(dumpHost(&pod), strconv.Itoa(adminPort)) + dumpPath,
			})
		}
	}
	return targets
}

// dumpClient reaches the ztunnels' localhosts by forwarding a port for each request.
func (k *kubernetes) dumpClient() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			for _, pod := range k.discovery.Ztunnels() {
				if dumpHost(&pod) == host {
					return k.clients.Forward(ctx, pod, adminPort)
				}
			}
			return nil, fmt.Errorf("no pod %s any more", host)
		},
	}}
}

// podSink takes what pods log; the lock is held.
type podSink struct{ *live }

// Entry implements podlogs.Sink.
func (s podSink) Entry(node string, entry []byte) { tailSink(s).Entry(node, entry) }

// Damaged implements podlogs.Sink.
func (s podSink) Damaged(what podlogs.Damage, n int64) {
	s.tel.ReceiverZtunnelEntriesDamaged.Add(context.Background(), n, with(attrReason, string(what)))
}

// Skipped implements podlogs.Sink.
func (s podSink) Skipped(n int64) {
	s.tel.ReceiverZtunnelLogLinesRepeated.Add(context.Background(), n)
}

// Reconnect implements podlogs.Sink.
func (s podSink) Reconnect(pod kube.Pod, reason string, err error) {
	s.tel.ReceiverZtunnelLogReconnects.Add(context.Background(), 1, with(attrReason, reason))
	if err != nil && !pod.Leaving {
		s.tel.warn("A pod's log cannot be followed", zap.String("pod", pod.Namespace+"/"+pod.Name), zap.String("reason", reason), zap.Error(err))
	}
}

// Gap implements podlogs.Sink.
func (s podSink) Gap(pod kube.Pod) {
	s.tel.ReceiverZtunnelLogGaps.Add(context.Background(), 1)
	s.tel.warn("Lines of a pod's log may be missing: it was rotated while it could not be followed, or its container restarted twice",
		zap.String("pod", pod.Namespace+"/"+pod.Name))
}
