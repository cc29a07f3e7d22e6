package main

import (
	"cmp"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// withoutAPI are the configurations that serve no API.
var withoutAPI = map[string]bool{"agent.yaml": true}

// TestShippedConfigs starts every configuration that is shipped, the overlays of config/examples on top of one of them,
// and stops it. What they would talk to is not there, as on a bad day.
func TestShippedConfigs(t *testing.T) {
	recording, err := filepath.Abs(filepath.Join(root, "recordings", "baseline"))
	require.NoError(t, err)
	nowhere := freeAddress(t)
	env := map[string]string{
		"NEPHILIA_RECORDING":        recording,
		"NEPHILIA_LOGS":             filepath.Join(t.TempDir(), "*.log"),
		"NEPHILIA_XDS":              nowhere,
		"NEPHILIA_XDS_INSECURE":     "true",
		"NEPHILIA_ZTUNNEL_METRICS":  "http://" + nowhere + "/metrics",
		"NEPHILIA_TARGETS":          "[" + nowhere + "]",
		"NEPHILIA_ZTUNNEL_ADMIN":    "http://" + nowhere + "/config_dump",
		"NEPHILIA_GATEWAY":          nowhere,
		"NEPHILIA_TELEMETRY_PORT":   "0",
		"NEPHILIA_JAEGER_OTLP":      nowhere,
		"NEPHILIA_REMOTE_WRITE":     "http://" + nowhere + "/api/v1/write",
		"NEPHILIA_PROMETHEUS_QUERY": "http://" + nowhere,
		"NEPHILIA_ALERTMANAGER":     "http://" + nowhere,
		"NEPHILIA_SPANS_GRPC":       freeAddress(t),
		"NEPHILIA_SPANS_HTTP":       freeAddress(t),
	}
	issued := certificates(t)
	for name, file := range map[string]string{"CERT": "gateway.crt", "KEY": "gateway.key", "CA": "ca.crt", "CLIENT_CA": "ca.crt"} {
		env["NEPHILIA_TLS_"+name] = filepath.Join(issued, file)
	}
	for name, overlays := range shippedConfigs(t) {
		t.Run(name, func(t *testing.T) {
			own := map[string]string{}
			for key, value := range env {
				own[key] = value
			}
			var set []string
			if strings.HasSuffix(name, "remote-write.yaml") {
				// It tries each batch that is queued at the stop until its time is up.
				set = append(set, "exporters::prometheus_remote_write::timeout: 100ms")
			}
			c := startCollector(t, options{config: strings.Split(name, "+")[0], overlays: overlays, env: own, set: set})
			if withoutAPI[strings.Split(name, "+")[0]] {
				return
			}
			var status map[string]any
			c.get(t, "/api/v1/status", nil, &status)
			assert.NotEmpty(t, status)
			response, err := c.client.Get("http://" + c.api + "/")
			require.NoError(t, err)
			defer response.Body.Close()
			assert.Equal(t, http.StatusOK, response.StatusCode)
			assert.Contains(t, response.Header.Get("Content-Type"), "text/html")
		})
	}
}

// over are the configurations that an example is laid over, where it is not replay.yaml.
var over = map[string]string{
	"examples/spans.yaml": "gateway.yaml", "examples/mtls-gateway.yaml": "gateway.yaml", "examples/mtls-agent.yaml": "agent.yaml",
	"examples/access-logs.yaml": "gateway.yaml",
}

// shippedConfigs are all files of config/, and all of config/examples/ laid over another.
func shippedConfigs(t *testing.T) map[string][]string {
	t.Helper()
	configs := map[string][]string{}
	for _, path := range configFiles(t) {
		name, err := filepath.Rel(filepath.Join(root, "config"), path)
		require.NoError(t, err)
		if strings.HasPrefix(name, "examples") {
			configs[cmp.Or(over[name], "replay.yaml")+"+"+name] = []string{name}
		} else {
			configs[name] = nil
		}
	}
	require.GreaterOrEqual(t, len(configs), 5)
	return configs
}

func configFiles(t *testing.T) []string {
	t.Helper()
	own, err := filepath.Glob(filepath.Join(root, "config", "*.yaml"))
	require.NoError(t, err)
	examples, err := filepath.Glob(filepath.Join(root, "config", "examples", "*.yaml"))
	require.NoError(t, err)
	return append(own, examples...)
}

var (
	addressLine = regexp.MustCompile(`(?m)^\s*(?:- )?(?:endpoint|host):\s*(\S+)\s*$`)
	outgoing    = regexp.MustCompile(`NEPHILIA_(GATEWAY|XDS|ZTUNNEL_METRICS|ZTUNNEL_ADMIN|JAEGER_OTLP|REMOTE_WRITE|PROMETHEUS_QUERY|ALERTMANAGER)\b`)
)

// Nothing that is shipped listens beyond this machine unless it is told to.
func TestShippedConfigsListenOnLoopback(t *testing.T) {
	for _, path := range configFiles(t) {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, match := range addressLine.FindAllStringSubmatch(string(content), -1) {
			if outgoing.MatchString(match[1]) {
				continue
			}
			// A default is what stands after ":-", innermost first.
			address := strings.TrimRight(match[1], "}")
			if i := strings.LastIndex(address, ":-"); i >= 0 {
				address = address[i+2:]
			}
			assert.True(t, strings.HasPrefix(address, "localhost"), "%s: %s", path, match[0])
		}
	}
}
