package cluster

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

// Config finds ztunnels and waypoints through the API server. How they are read is said by access_logs, metrics
// and config_dump, which then need neither files nor endpoints.
type Config struct {
	// AuthType is "serviceAccount" (the pod's own) or "kubeConfig".
	AuthType string `mapstructure:"auth_type"`
	// Kubeconfig is the file to read for the latter; by default where kubectl looks. Context is one of its contexts; by default its
	// current one.
	Kubeconfig string `mapstructure:"kubeconfig"`
	Context    string `mapstructure:"context"`

	// Namespace holds the ztunnels, ZtunnelSelector are their labels.
	Namespace       string `mapstructure:"namespace"`
	ZtunnelSelector string `mapstructure:"ztunnel_selector"`
	// Node restricts everything to one node: for a DaemonSet, ${env:K8S_NODE_NAME}.
	Node string `mapstructure:"node"`

	// Logs is "api" (through the API server), "files" (the node's, where access_logs::include says) or "off".
	Logs string `mapstructure:"logs"`
	// Metrics scrapes the ztunnels, at MetricsPort of their pods.
	Metrics     bool   `mapstructure:"metrics"`
	MetricsPort uint16 `mapstructure:"metrics_port"`
	// ConfigDump fetches the ztunnels' config dumps, by forwarding a port: a ztunnel serves them on its own localhost only.
	ConfigDump bool `mapstructure:"config_dump"`

	// Waypoints scrapes waypoints too, whose labels are WaypointSelector.
	Waypoints        bool   `mapstructure:"waypoints"`
	WaypointSelector string `mapstructure:"waypoint_selector"`
	CNIConfig        `mapstructure:",squash"`
	// State is what of the cluster's state is followed, so that changes are known: workloads, pods, nodes, events.
	State []string `mapstructure:"state"`
	// WorkloadNamespaces are the namespaces in which waypoints and state are looked for; by default all.
	WorkloadNamespaces []string `mapstructure:"workload_namespaces"`
}

// CNIConfig finds the CNI agents.
type CNIConfig struct {
	// CNI follows the logs of the CNI agents, whose labels are CNISelector, in CNINamespace (by default Namespace).
	CNI          bool   `mapstructure:"cni"`
	CNISelector  string `mapstructure:"cni_selector"`
	CNINamespace string `mapstructure:"cni_namespace"`
}

// Where logs are read.
const (
	LogsAPI   = "api"
	LogsFiles = "files"
	LogsOff   = "off"
)

const (
	stateWorkloads = "workloads"
	statePods      = "pods"
	stateNodes     = "nodes"
	stateEvents    = "events"
)

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		AuthType:         string(kube.ServiceAccount),
		Namespace:        "istio-system",
		ZtunnelSelector:  "app=ztunnel",
		Logs:             LogsAPI,
		Metrics:          true,
		MetricsPort:      15020,
		WaypointSelector: "gateway.istio.io/managed=istio.io-mesh-controller",
		CNIConfig:        CNIConfig{CNISelector: "k8s-app=istio-cni-node"},
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	if err := c.client().Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Namespace == "" {
		errs = append(errs, errors.New("namespace is required: the ztunnels'"))
	}
	for _, selector := range []struct{ option, text string }{
		{"ztunnel_selector", c.ZtunnelSelector}, {"waypoint_selector", c.WaypointSelector}, {"cni_selector", c.CNISelector},
	} {
		if selector.text == "" {
			errs = append(errs, errors.New(selector.option+" is required"))
		} else if _, err := labels.Parse(selector.text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", selector.option, err))
		}
	}
	if c.Logs != LogsAPI && c.Logs != LogsFiles && c.Logs != LogsOff {
		errs = append(errs, fmt.Errorf("logs %q must be %q, %q or %q", c.Logs, LogsAPI, LogsFiles, LogsOff))
	}
	if c.MetricsPort == 0 {
		errs = append(errs, errors.New("metrics_port must be positive"))
	}
	for i, what := range c.State {
		if !slices.Contains(stateKinds, what) {
			errs = append(errs, fmt.Errorf("state %q must be one of %q", what, stateKinds))
		}
		if slices.Contains(c.State[:i], what) {
			errs = append(errs, fmt.Errorf("state %q is listed twice", what))
		}
	}
	if slices.Contains(c.WorkloadNamespaces, "") {
		errs = append(errs, errors.New("workload_namespaces: a namespace is empty; leave the list out for all"))
	}
	if c.CNI && c.Logs == LogsOff {
		errs = append(errs, errors.New("cni reads logs, and logs is off"))
	}
	if c.Logs == LogsOff && !c.Metrics && !c.ConfigDump && !c.Waypoints && len(c.State) == 0 {
		errs = append(errs, errors.New("nothing is to be read: one of logs, metrics, config_dump, waypoints and state is required"))
	}
	return errors.Join(errs...)
}

// stateKinds are the values of state.
var stateKinds = []string{stateWorkloads, statePods, stateNodes, stateEvents}

// client says how to reach the API server.
func (c *Config) client() kube.ClientConfig {
	return kube.ClientConfig{Auth: kube.Auth(c.AuthType), Kubeconfig: c.Kubeconfig, Context: c.Context}
}
