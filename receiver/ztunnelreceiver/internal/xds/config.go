package xds

import (
	"errors"
	"fmt"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Config says where istiod is and how to speak to it. Zero values of the bounds and times mean the defaults.
type Config struct {
	// Endpoint is istiod's host:port: 15010 is plaintext, 15012 TLS.
	Endpoint string
	// TLS is nil for plaintext.
	TLS  *TLS
	Node Node
	// MaxMessageBytes bounds one response, MaxResources what the mesh may hold.
	MaxMessageBytes int
	MaxResources    int
	// InitialBackoff is the first wait after a failure; each further one is twice as long up to MaxBackoff. Waits are
	// shortened at random by up to a half, so that clients do not come back all at once.
	InitialBackoff time.Duration
	MaxBackoff     time.Duration
	// KeepaliveTime is how long a stream may be silent until the server is asked whether it still lives, KeepaliveTimeout
	// how long it has to answer. istiod breaks off streams that ask more often than every 15 s.
	KeepaliveTime    time.Duration
	KeepaliveTimeout time.Duration
	// SyncTimeout is how long a new stream may take until it has answered for every type.
	SyncTimeout time.Duration
}

// TLS says how istiod is verified and the client authenticated. All files are read again for every stream.
type TLS struct {
	// CAFile holds the certificates to trust, PEM; empty means the system's.
	CAFile string
	// TokenFile holds a service account token of the audience istio-ca, sent as bearer token; empty for none.
	TokenFile string
	// ServerName is the name that istiod's certificate must bear and that is asked for (SNI); empty means the endpoint's host.
	ServerName string
}

// Node is what the client says about itself. istiod takes a token only from the namespace of its service account.
type Node struct {
	IP        string
	PodName   string
	Namespace string
	NodeName  string
	// ClusterID is the cluster whose API server verifies the token.
	ClusterID string
	// Metadata is sent in addition. It is bounded by the configuration.
	Metadata map[string]string
}

// Defaults of Config and Node.
const (
	DefaultInitialBackoff   = 500 * time.Millisecond
	DefaultMaxBackoff       = 15 * time.Second
	DefaultKeepaliveTime    = 30 * time.Second
	DefaultKeepaliveTimeout = 10 * time.Second
	DefaultSyncTimeout      = time.Minute

	defaultNodeIP = "1.1.1.1" // as a ztunnel that was not told its own
)

// Validate tells what is wrong with the configuration.
func (c Config) Validate() error {
	if c.Endpoint == "" {
		return errors.New("no endpoint")
	}
	if host, port, err := net.SplitHostPort(c.Endpoint); err != nil || host == "" || port == "" {
		return fmt.Errorf("endpoint %q is not host:port", c.Endpoint)
	}
	if c.MaxMessageBytes < 0 || c.MaxResources < 0 {
		return errors.New("a bound is negative")
	}
	for _, d := range []time.Duration{c.InitialBackoff, c.MaxBackoff, c.KeepaliveTime, c.KeepaliveTimeout, c.SyncTimeout} {
		if d < 0 {
			return errors.New("a duration is negative")
		}
	}
	if c.MaxBackoff != 0 && c.MaxBackoff < c.InitialBackoff {
		return fmt.Errorf("maximum back-off %s is shorter than the initial one, %s", c.MaxBackoff, c.InitialBackoff)
	}
	return nil
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxMessageBytes, DefaultMaxMessageBytes)
	setDefault(&c.InitialBackoff, DefaultInitialBackoff)
	setDefault(&c.MaxBackoff, max(DefaultMaxBackoff, c.InitialBackoff))
	setDefault(&c.KeepaliveTime, DefaultKeepaliveTime)
	setDefault(&c.KeepaliveTimeout, DefaultKeepaliveTimeout)
	setDefault(&c.SyncTimeout, DefaultSyncTimeout)
	setDefault(&c.Node.IP, defaultNodeIP)
	setDefault(&c.Node.ClusterID, DefaultClusterID)
	return c
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func (n Node) proto() (*corev3.Node, error) {
	fields := map[string]any{
		"NAME":         n.PodName,
		"NAMESPACE":    n.Namespace,
		"INSTANCE_IPS": n.IP,
		"NODE_NAME":    n.NodeName,
		"CLUSTER_ID":   n.ClusterID,
	}
	for key, value := range n.Metadata {
		fields[key] = value
	}
	metadata, err := structpb.NewStruct(fields)
	if err != nil {
		return nil, fmt.Errorf("node metadata: %w", err)
	}
	return &corev3.Node{
		// istiod serves workloads to nodes of the type ztunnel.
		Id:       fmt.Sprintf("ztunnel~%s~%s.%s~%s.svc.cluster.local", n.IP, n.PodName, n.Namespace, n.Namespace),
		Metadata: metadata,
	}, nil
}
