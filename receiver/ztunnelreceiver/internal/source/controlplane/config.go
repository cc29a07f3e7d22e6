package controlplane

import (
	"errors"
	"fmt"
)

// Config says how to ask istiods for the mesh's state: one, or one of each cluster of the mesh.
type Config struct {
	ClusterConfig `mapstructure:",squash"`

	// Clusters are further istiods, each of another cluster. In a mesh of several clusters a name means the same in all of them.
	Clusters []ClusterConfig `mapstructure:"clusters"`
	// MaxResources bounds the entities that are held, of each cluster.
	MaxResources int `mapstructure:"max_resources"`
}

// ClusterConfig says how to ask one istiod.
type ClusterConfig struct {
	// Endpoint is host:port; 15010 is plaintext, 15012 TLS.
	Endpoint string `mapstructure:"endpoint"`
	// TLS is how to reach the endpoint.
	TLS TLSConfig `mapstructure:"tls"`
	// TokenFile holds the service account token of audience istio-ca, which is read again for each stream. It is sent over TLS only.
	TokenFile string `mapstructure:"token_file"`
	// PodName, Namespace and ClusterID say who asks. istiod takes a token only from the namespace of its service account, and
	// asks the API server of that cluster about it.
	PodName   string `mapstructure:"pod_name"`
	Namespace string `mapstructure:"namespace"`
	ClusterID string `mapstructure:"cluster_id"`
}

// TLSConfig is how to reach istiod.
type TLSConfig struct {
	// Insecure is plaintext.
	Insecure bool `mapstructure:"insecure"`
	// CAFile is the root certificate; by default the system's.
	CAFile string `mapstructure:"ca_file"`
	// ServerNameOverride is the name in istiod's certificate, where it is not the endpoint's.
	ServerNameOverride string `mapstructure:"server_name_override"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config { return Config{MaxResources: 200_000} }

// All are all istiods to ask, in the order in which they are believed.
func (c *Config) All() []ClusterConfig {
	if c.Endpoint == "" {
		return c.Clusters
	}
	return append([]ClusterConfig{c.ClusterConfig}, c.Clusters...)
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var errs []error
	clusters := c.All()
	if len(clusters) == 0 {
		errs = append(errs, errors.New("endpoint is required: istiod's host:port"))
	}
	if c.Endpoint == "" && c.ClusterConfig != (ClusterConfig{}) {
		errs = append(errs, errors.New("options of an endpoint without one; those of clusters are below clusters"))
	}
	seen := map[string]bool{}
	for i := range clusters {
		cluster := &clusters[i]
		if err := cluster.check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", cluster.Endpoint, err))
		}
		if len(clusters) == 1 {
			continue
		}
		if cluster.ClusterID == "" {
			errs = append(errs, fmt.Errorf("%s: cluster_id is required where there are several clusters", cluster.Endpoint))
		} else if seen[cluster.ClusterID] {
			errs = append(errs, fmt.Errorf("%s: cluster_id %q is listed twice", cluster.Endpoint, cluster.ClusterID))
		}
		seen[cluster.ClusterID] = true
	}
	if c.MaxResources < 1 {
		errs = append(errs, errors.New("max_resources must be positive"))
	}
	return errors.Join(errs...)
}

func (c *ClusterConfig) check() error {
	var errs []error
	if c.Endpoint == "" {
		errs = append(errs, errors.New("endpoint is required: istiod's host:port"))
	}
	if c.TLS.Insecure && (c.TLS.CAFile != "" || c.TLS.ServerNameOverride != "") {
		errs = append(errs, errors.New("tls: insecure excludes ca_file and server_name_override"))
	}
	return errors.Join(errs...)
}
