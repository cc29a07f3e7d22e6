package ztunnelreceiver

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/collector/confmap"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

// KubernetesConfig finds ztunnels and waypoints through the API server. How they are read is said by access_logs, metrics
// and config_dump, which then need neither files nor endpoints.
type KubernetesConfig struct {
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
	// State is what of the cluster's state is followed, so that changes are known: workloads, pods, nodes, events.
	State []string `mapstructure:"state"`
	// WorkloadNamespaces are the namespaces in which waypoints and state are looked for; by default all.
	WorkloadNamespaces []string `mapstructure:"workload_namespaces"`
}

const (
	logsAPI   = "api"
	logsFiles = "files"
	logsOff   = "off"

	stateWorkloads = "workloads"
	statePods      = "pods"
	stateNodes     = "nodes"
	stateEvents    = "events"
)

func defaultKubernetes() KubernetesConfig {
	return KubernetesConfig{
		AuthType:         string(kube.ServiceAccount),
		Namespace:        "istio-system",
		ZtunnelSelector:  "app=ztunnel",
		Logs:             logsAPI,
		Metrics:          true,
		MetricsPort:      15020,
		WaypointSelector: "gateway.istio.io/managed=istio.io-mesh-controller",
	}
}

// Unmarshal implements confmap.Unmarshaler. What is to be read through Kubernetes is read with the defaults of its source,
// unless that says otherwise.
func (c *Config) Unmarshal(conf *confmap.Conf) error {
	if err := conf.Unmarshal(c); err != nil {
		return err
	}
	k := c.Kubernetes.Get()
	if k == nil {
		return nil
	}
	c.NodeName = cmp.Or(c.NodeName, k.Node)
	if k.Logs == logsAPI || k.Logs == logsFiles {
		c.AccessLogs.GetOrInsertDefault()
	}
	if logs := c.AccessLogs.Get(); k.Logs == logsFiles && len(logs.Include) == 0 {
		logs.Include = []string{"/var/log/pods/" + k.Namespace + "_ztunnel-*/istio-proxy/*.log"}
	}
	if k.Metrics || k.Waypoints {
		c.Metrics.GetOrInsertDefault()
	}
	if k.ConfigDump {
		c.ConfigDump.GetOrInsertDefault()
	}
	return nil
}

// Validate implements xconfmap.Validator.
func (c *KubernetesConfig) Validate() error {
	var errs []error
	if err := c.client().Validate(); err != nil {
		errs = append(errs, err)
	}
	if c.Namespace == "" {
		errs = append(errs, errors.New("namespace is needed: the ztunnels'"))
	}
	for _, selector := range []struct{ option, text string }{
		{"ztunnel_selector", c.ZtunnelSelector}, {"waypoint_selector", c.WaypointSelector},
	} {
		if selector.text == "" {
			errs = append(errs, errors.New(selector.option+" is needed"))
		} else if _, err := labels.Parse(selector.text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", selector.option, err))
		}
	}
	if c.Logs != logsAPI && c.Logs != logsFiles && c.Logs != logsOff {
		errs = append(errs, fmt.Errorf("logs %q must be %q, %q or %q", c.Logs, logsAPI, logsFiles, logsOff))
	}
	if c.MetricsPort == 0 {
		errs = append(errs, errors.New("metrics_port must be positive"))
	}
	for i, what := range c.State {
		if !slices.Contains(stateKinds, what) {
			errs = append(errs, fmt.Errorf("state %q must be one of %q", what, stateKinds))
		}
		if slices.Contains(c.State[:i], what) {
			errs = append(errs, fmt.Errorf("state %q is there twice", what))
		}
	}
	if slices.Contains(c.WorkloadNamespaces, "") {
		errs = append(errs, errors.New("workload_namespaces: a namespace is empty; leave the list out for all"))
	}
	if c.Logs == logsOff && !c.Metrics && !c.ConfigDump && !c.Waypoints && len(c.State) == 0 {
		errs = append(errs, errors.New("nothing is to be read: one of logs, metrics, config_dump, waypoints and state is needed"))
	}
	return errors.Join(errs...)
}

// stateKinds are the values of state.
var stateKinds = []string{stateWorkloads, statePods, stateNodes, stateEvents}

// client says how to reach the API server.
func (c *KubernetesConfig) client() kube.ClientConfig {
	return kube.ClientConfig{Auth: kube.Auth(c.AuthType), Kubeconfig: c.Kubeconfig, Context: c.Context}
}

// reads tells of which sources the endpoints or files come from Kubernetes.
func (c *Config) reads() (logs, metrics, dumps bool) {
	k := c.Kubernetes.Get()
	if k == nil {
		return false, false, false
	}
	return k.Logs == logsAPI, k.Metrics || k.Waypoints, k.ConfigDump
}

// apiLogs tells whether logs are streamed through the API server.
func (c *Config) apiLogs() bool {
	logs, _, _ := c.reads()
	return logs
}
