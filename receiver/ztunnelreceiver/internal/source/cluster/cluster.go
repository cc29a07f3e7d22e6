// Package cluster is the source of what Kubernetes knows: which pods are ztunnels and waypoints, for the other sources, and what changes
// of workloads, pods and nodes.
package cluster

import (
	"cmp"
	"context"
	"net"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubestate"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

const (
	roleZtunnel  = "ztunnel"
	roleWaypoint = "waypoint"
)

// Sink is the part of source.Sink that is needed. All but Lock are called with the lock held.
type Sink interface {
	sync.Locker
	AddEvents(events []mesh.Event)
	AddChanges(changes []mesh.Change)
	Up(source, node string, up bool, seen time.Time)
	Forget(node string)
}

// Env is what the source works in.
type Env struct {
	Sink      Sink
	Telemetry *telemetry.Telemetry
	Now       func() time.Time
	// Cluster is the cluster's name, which may be empty.
	Cluster string
	// Refresh is after how long a ztunnel is told again, 0 for never by this source: another one knows more of it.
	Refresh time.Duration
}

// Source is what comes through the API server. A nil Source finds nothing.
type Source struct {
	cfg       *Config
	env       Env
	clients   *kube.Clients
	discovery *kube.Discovery
	state     *kubestate.Watcher
	// ztunnels, waypoints and agents are told which of them there are; nil if nobody asks.
	ztunnels, waypoints, agents func(pods []kube.Pod, now time.Time)

	// All below is guarded by the lock.

	fleet *fleet
	// failing are the resources that cannot be followed; bounded by the kinds of them.
	failing map[string]struct{}
	// heard is when the API server last answered.
	heard time.Time
}

// Open prepares what is found through the API server. Without anything to find, the source is nil.
func Open(cfg *Config, env Env) (*Source, error) {
	if cfg == nil || !cfg.discovers() && len(cfg.State) == 0 {
		return nil, nil
	}
	config, err := cfg.client().REST()
	if err != nil {
		return nil, err
	}
	clients, err := kube.NewClients(config)
	if err != nil {
		return nil, err
	}
	k := &Source{cfg: cfg, env: env, clients: clients, fleet: newFleet(), failing: map[string]struct{}{}}
	if len(cfg.State) > 0 {
		if k.state, err = kubestate.New(clients.API, cfg.state(), k.report, stateSink{k}, env.Now); err != nil {
			return nil, err
		}
	}
	if !cfg.discovers() {
		return k, nil
	}
	discovery := kube.DiscoveryConfig{Namespace: cfg.Namespace, ZtunnelSelector: cfg.ZtunnelSelector, Node: cfg.Node}
	if cfg.Waypoints {
		discovery.WaypointSelector, discovery.WaypointNamespaces = cfg.WaypointSelector, cfg.WorkloadNamespaces
	}
	if cfg.CNI && cfg.Logs == LogsAPI {
		discovery.CNISelector, discovery.CNINamespace = cfg.CNISelector, cmp.Or(cfg.CNINamespace, cfg.Namespace)
	}
	k.discovery, err = kube.NewDiscovery(clients.API, discovery, k.report, k.podsChanged, k.podsDropped)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// Run implements source.Source.
func (k *Source) Run(ctx context.Context) {
	var running sync.WaitGroup
	if k.state != nil {
		running.Go(func() { k.state.Run(ctx) })
	}
	if k.discovery != nil {
		running.Go(func() { k.discovery.Run(ctx) })
	}
	running.Wait()
}

// Close implements source.Closer.
func (k *Source) Close() { k.clients.Close() }

// Config is the source's configuration.
func (k *Source) Config() *Config { return k.cfg }

// Logs tells whether the ztunnels' logs are to be read through the API server.
func (k *Source) Logs() bool { return k != nil && k.cfg.Logs == LogsAPI }

// WaypointLogs tells whether the waypoints' logs are to be read through the API server.
func (k *Source) WaypointLogs() bool { return k.Logs() && k.cfg.Waypoints }

// CNILogs tells whether the CNI agents' logs are to be read through the API server.
func (k *Source) CNILogs() bool { return k.Logs() && k.cfg.CNI }

// Scrapes tells whether ztunnels or waypoints that are found are to be scraped.
func (k *Source) Scrapes() bool { return k != nil && (k.cfg.Metrics || k.cfg.Waypoints) }

// Dumps tells whether the config dumps of ztunnels that are found are to be fetched.
func (k *Source) Dumps() bool { return k != nil && k.cfg.ConfigDump }

// Ztunnels are the ztunnels' pods that there are now.
func (k *Source) Ztunnels() []kube.Pod { return k.discovery.Ztunnels() }

// Waypoints are the waypoints' pods that there are now.
func (k *Source) Waypoints() []kube.Pod { return k.discovery.Waypoints() }

// OnZtunnels lets follow know which ztunnels there are, each time that this changes. It comes before Run.
func (k *Source) OnZtunnels(follow func(pods []kube.Pod, now time.Time)) { k.ztunnels = follow }

// OnWaypoints is OnZtunnels for waypoints.
func (k *Source) OnWaypoints(follow func(pods []kube.Pod, now time.Time)) { k.waypoints = follow }

// OnCNIAgents is OnZtunnels for CNI agents.
func (k *Source) OnCNIAgents(follow func(pods []kube.Pod, now time.Time)) { k.agents = follow }

// LogSource opens pods' logs.
func (k *Source) LogSource() kube.Logs { return kube.Logs{API: k.clients.Streams} }

// Forward connects to a port of a pod.
func (k *Source) Forward(ctx context.Context, pod kube.Pod, port uint16) (net.Conn, error) {
	return k.clients.Forward(ctx, pod, port)
}

// state says what of the cluster's state to follow.
func (c *Config) state() kubestate.Config {
	return kubestate.Config{
		Workloads: slices.Contains(c.State, stateWorkloads), Pods: slices.Contains(c.State, statePods),
		Nodes: slices.Contains(c.State, stateNodes), Events: slices.Contains(c.State, stateEvents),
		Namespaces: c.WorkloadNamespaces, Node: c.Node,
	}
}

// stateSink takes what is new about the cluster.
type stateSink struct{ *Source }

// Changed implements kubestate.Sink.
func (s stateSink) Changed(changes []mesh.Change) {
	s.env.Sink.Lock()
	defer s.env.Sink.Unlock()
	s.env.Sink.AddChanges(changes)
}

// NodeGone implements kubestate.Sink: a node that is gone has no ztunnel.
func (s stateSink) NodeGone(node string) {
	s.env.Sink.Lock()
	defer s.env.Sink.Unlock()
	s.env.Sink.Forget(node)
	s.env.Sink.AddEvents([]mesh.Event{ztunnelEvent(&kube.Pod{Node: node}, s.env.Cluster, s.env.Now(), true)})
}

// discovers tells whether pods have to be found.
func (c *Config) discovers() bool {
	return c.Logs == LogsAPI || c.Metrics || c.ConfigDump || c.Waypoints
}

// report implements kube.Report.
func (k *Source) report(resource string, err error) {
	k.env.Sink.Lock()
	defer k.env.Sink.Unlock()
	if err == nil {
		delete(k.failing, resource)
		k.heard = k.env.Now()
		return
	}
	reason := kube.Reason(err)
	k.env.Telemetry.KubernetesError(resource, reason)
	if reason == kube.ReasonExpired {
		// So it goes: the server forgets old versions.
		return
	}
	k.failing[resource] = struct{}{}
	k.env.Telemetry.Warn("Kubernetes "+resource+" cannot be followed", zap.String("reason", reason), zap.Error(err))
}

func (k *Source) podsDropped(n int) { k.env.Telemetry.Dropped(telemetry.ReasonPods, n) }

// podsChanged takes over the pods that there are now.
func (k *Source) podsChanged() {
	ztunnels, waypoints := k.discovery.Ztunnels(), k.discovery.Waypoints()
	now := k.env.Now()
	if k.ztunnels != nil {
		k.ztunnels(ztunnels, now)
	}
	if k.waypoints != nil {
		k.waypoints(waypoints, now)
	}
	if k.agents != nil {
		k.agents(k.discovery.CNIAgents(), now)
	}
	k.env.Telemetry.Pods(roleZtunnel, len(ztunnels))
	k.env.Telemetry.Pods(roleWaypoint, len(waypoints))
	k.env.Sink.Lock()
	defer k.env.Sink.Unlock()
	k.fleet.update(ztunnels, now)
}

// Boundary implements source.Teller: it tells what is new about the nodes.
func (k *Source) Boundary(at time.Time, lost bool) {
	for _, pod := range k.fleet.expire(k.env.Now()) {
		k.env.Sink.Forget(pod.Node)
		k.env.Sink.AddEvents([]mesh.Event{ztunnelEvent(&pod, k.env.Cluster, at, true)})
	}
	if refresh := k.env.Refresh; refresh > 0 {
		if lost {
			refresh = 0
		}
		for _, pod := range k.fleet.due(at, refresh) {
			k.env.Sink.AddEvents([]mesh.Event{ztunnelEvent(&pod, k.env.Cluster, at, false)})
		}
	}
	if k.cfg.Node == "" && !k.heard.IsZero() {
		k.env.Sink.Up(semconv.SourceKubernetes, "", len(k.failing) == 0, k.heard)
	}
}

// Gone tells whether a node has no ztunnel any more; the lock is held.
func (k *Source) Gone(node string) bool { return k != nil && k.fleet.gone(node) }
