package controlplane

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

func TestClientOfACluster(t *testing.T) {
	config := ClusterConfig{
		Endpoint: "istiod.istio-system.svc:15012", TokenFile: "/var/run/secrets/tokens/istio-token",
		TLS:     TLSConfig{CAFile: "/var/run/secrets/istio/root-cert.pem", ServerNameOverride: "istiod.istio-system.svc"},
		PodName: "nephilia-0", Namespace: "nephilia", ClusterID: "Kubernetes",
	}
	assert.Equal(t, xds.Config{
		Endpoint:     "istiod.istio-system.svc:15012",
		MaxResources: 500,
		Node:         xds.Node{PodName: "nephilia-0", Namespace: "nephilia", NodeName: "node-a", ClusterID: "Kubernetes"},
		TLS: &xds.TLS{
			CAFile: "/var/run/secrets/istio/root-cert.pem", TokenFile: "/var/run/secrets/tokens/istio-token",
			ServerName: "istiod.istio-system.svc",
		},
	}, config.client("node-a", 500))
	config.TLS = TLSConfig{Insecure: true}
	assert.Nil(t, config.client("node-a", 500).TLS)
}
