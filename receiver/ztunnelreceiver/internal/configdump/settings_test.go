package configdump

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSettings(t *testing.T) {
	var config map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(`{"dnsProxy": true, "crlPath": null, "clusterDomain": "cluster.local", "localNode": "a", "numWorkerThreads": 2,
		"poolUnusedReleaseTimeout": {"nanos": 0, "secs": 300}, "dnsResolverOpts": {"timeout": 5, "ndots": 5, "cache_size": 4096},
		"dnsResolverCfg": {"search": ["istio-system.svc.cluster.local"]}, "socketConfig": 3}`), &config))
	assert.Equal(t, map[string]string{
		"dnsProxy": "true", "crlPath": "", "clusterDomain": "cluster.local", "numWorkerThreads": "2", "poolUnusedReleaseTimeout": "5m0s",
		"dnsResolverOpts.timeout": "5", "dnsResolverOpts.ndots": "5", "dnsResolverOpts.cache_size": "4096", "dnsResolverCfg.search": `["istio-system.svc.cluster.local"]`,
	}, settingsOf(config))
	assert.Nil(t, settingsOf(nil))
}
