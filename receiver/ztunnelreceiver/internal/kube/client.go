package kube

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Auth is how the API server is found and convinced.
type Auth string

// The ways.
const (
	// ServiceAccount is that of the pod that this process runs in.
	ServiceAccount Auth = "serviceAccount"
	// KubeConfig is a file such as kubectl's.
	KubeConfig Auth = "kubeConfig"
)

// ClientConfig says how to reach the API server.
type ClientConfig struct {
	Auth Auth
	// Kubeconfig is the file; by default where kubectl looks. Context is one of its contexts; by default its current one.
	Kubeconfig, Context string
}

// Validate tells what is wrong with the configuration.
func (c ClientConfig) Validate() error {
	switch {
	case c.Auth != ServiceAccount && c.Auth != KubeConfig:
		return fmt.Errorf("auth_type %q must be %q or %q", c.Auth, ServiceAccount, KubeConfig)
	case c.Auth == ServiceAccount && (c.Kubeconfig != "" || c.Context != ""):
		return errors.New("kubeconfig and context are for auth_type kubeConfig only")
	}
	return nil
}

const (
	// Informers ask seldom; log streams begin all at once when the collector starts.
	queriesPerSecond = 50
	burst            = 200
	dialTimeout      = 10 * time.Second
)

// keepAlive finds out in half a minute that the server of a silent stream is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// REST is the configuration of a client.
func (c ClientConfig) REST() (*rest.Config, error) {
	var config *rest.Config
	var err error
	if c.Auth == ServiceAccount {
		config, err = rest.InClusterConfig()
	} else {
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		rules.ExplicitPath = c.Kubeconfig
		config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: c.Context}).ClientConfig()
	}
	if err != nil {
		return nil, fmt.Errorf("finding the Kubernetes API server: %w", err)
	}
	config.UserAgent = "nephilia"
	config.QPS, config.Burst = queriesPerSecond, burst
	return config, nil
}

// Clients speak to one API server.
type Clients struct {
	// API is for informers.
	API kubernetes.Interface
	// Streams is for logs that are followed. Each stream has a connection of its own (HTTP/1.1): one that is not read holds up its server
	// and nobody else, and takes no memory here.
	Streams kubernetes.Interface
	// Config is the configuration of both.
	Config *rest.Config

	transports []http.RoundTripper
}

// NewClients returns clients that Close ends.
func NewClients(config *rest.Config) (*Clients, error) {
	c := &Clients{Config: config}
	api := rest.CopyConfig(config)
	api.ContentType = runtime.ContentTypeProtobuf
	api.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	streams := rest.CopyConfig(config)
	streams.NextProtos = []string{"http/1.1"}
	streams.DisableCompression = true
	if streams.Dial == nil {
		streams.Dial = (&net.Dialer{Timeout: dialTimeout, KeepAliveConfig: keepAlive}).DialContext
	}
	var err error
	if c.API, err = c.client(api); err != nil {
		return nil, err
	}
	if c.Streams, err = c.client(streams); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Clients) client(config *rest.Config) (kubernetes.Interface, error) {
	transport, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("connecting to the Kubernetes API server: %w", err)
	}
	c.transports = append(c.transports, transport.Transport)
	client, err := kubernetes.NewForConfigAndClient(config, transport)
	if err != nil {
		return nil, fmt.Errorf("connecting to the Kubernetes API server: %w", err)
	}
	return client, nil
}

// Close closes the connections that are not in use.
func (c *Clients) Close() {
	for _, transport := range c.transports {
		utilnet.CloseIdleConnectionsFor(transport)
	}
}
