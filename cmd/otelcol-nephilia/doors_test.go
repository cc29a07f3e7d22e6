package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
)

// certificates makes an authority, and what it signs for a gateway and an agent, in a folder.
func certificates(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	now := time.Now()
	var authority *x509.Certificate
	var authorityKey *ecdsa.PrivateKey
	for i, name := range []string{"ca", "gateway", "agent"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			IsCA: name == "ca", BasicConstraintsValid: true, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		if authority == nil {
			authority, authorityKey = template, key
		}
		signed, err := x509.CreateCertificate(rand.Reader, template, authority, &key.PublicKey, authorityKey)
		require.NoError(t, err)
		encoded, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: signed}, name + ".key": {Type: "PRIVATE KEY", Bytes: encoded}} {
			require.NoError(t, os.WriteFile(filepath.Join(folder, file), pem.EncodeToMemory(block), 0o600))
		}
	}
	return folder
}

// post sends OTLP as JSON and returns the answer's status, 0 if there is none.
func post(client *http.Client, url, body string) int {
	response, err := client.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// span is one span of a trace, written by a scope.
func span(trace byte, service, scope string) string {
	now := time.Now().UnixNano()
	return fmt.Sprintf(`{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":%q}}]},"scopeSpans":[{"scope":{"name":%q},
		"spans":[{"traceId":"%032x","spanId":"%016x","name":"x","kind":2,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[
		{"key":"ztunnel.direction","value":{"stringValue":"inbound"}}]}]}]}]}`, service, scope, trace, trace, now-1_000_000, now)
}

// TestApplicationsDoor sends to where applications send their spans: nothing else is taken, and nothing of a ztunnel's.
func TestApplicationsDoor(t *testing.T) {
	for name, opts := range map[string]options{
		"standalone": {config: "standalone.yaml"},
		"gateway":    {config: "gateway.yaml", overlays: []string{"examples/spans.yaml"}},
	} {
		t.Run(name, func(t *testing.T) {
			door := freeAddress(t)
			opts.env = map[string]string{
				"NEPHILIA_LOGS": filepath.Join(t.TempDir(), "*.log"), "NEPHILIA_XDS": freeAddress(t), "NEPHILIA_XDS_INSECURE": "true", "NEPHILIA_TELEMETRY_PORT": "0",
				"NEPHILIA_ZTUNNEL_METRICS": "http://" + freeAddress(t), "NEPHILIA_ZTUNNEL_ADMIN": "http://" + freeAddress(t), "NEPHILIA_SPANS_GRPC": freeAddress(t),
			}
			if name == "gateway" {
				opts.env["NEPHILIA_SPANS_HTTP"] = door
			} else {
				opts.env["NEPHILIA_OTLP_HTTP"] = door
			}
			c := startCollector(t, opts)
			for _, signal := range []string{"metrics", "logs"} {
				assert.Equal(t, http.StatusNotFound, post(c.client, "http://"+door+"/v1/"+signal, "{}"), signal)
			}
			require.Equal(t, http.StatusOK, post(c.client, "http://"+door+"/v1/traces", span(1, "forger", semconv.ScopeReceiver)))
			require.Equal(t, http.StatusOK, post(c.client, "http://"+door+"/v1/traces", span(2, "application", "some/library")))
			traces := func(service string) int {
				var found struct{ Traces []any }
				c.get(t, "/api/v1/traces", url.Values{"service": {service}}, &found)
				return len(found.Traces)
			}
			require.Eventually(t, func() bool { return traces("application") == 1 }, 30*time.Second, 100*time.Millisecond)
			assert.Zero(t, traces("forger"))
		})
	}
}

// accessLog is a record of an access log, of a scope, about a request to a path.
func accessLog(scope, path string) string {
	at := time.Now().UTC().Add(-time.Second)
	line := fmt.Sprintf(`[%s] "GET %s HTTP/1.1" 503 UF upstream_reset_before_response_started{connection_failure} - "-" 0 91 4 - "-" "curl" "-" "oven" `+
		`"envoy://connect_originate/10.71.2.20:8080" inbound-vip|8080|http|oven.bakery.svc.cluster.local - 10.112.0.20:8080 10.71.3.50:33444 - default`, at.Format(time.RFC3339Nano), path)
	return fmt.Sprintf(`{"resourceLogs":[{"scopeLogs":[{"scope":{"name":%q},"logRecords":[{"timeUnixNano":"%d","body":{"stringValue":%q}}]}]}]}`, scope, at.UnixNano(), line)
}

// TestProxiesDoor sends to where waypoints send their access logs: nothing else is taken, and nothing of an agent's.
func TestProxiesDoor(t *testing.T) {
	door := freeAddress(t)
	c := startCollector(t, options{
		config: "gateway.yaml", overlays: []string{"examples/access-logs.yaml"}, set: []string{"processors::service_graph::resolve_hold: 100ms"},
		env: map[string]string{
			"NEPHILIA_XDS": freeAddress(t), "NEPHILIA_XDS_INSECURE": "true", "NEPHILIA_TELEMETRY_PORT": "0",
			"NEPHILIA_ACCESS_LOGS_HTTP": door, "NEPHILIA_ACCESS_LOGS_GRPC": freeAddress(t),
		},
	})
	for _, signal := range []string{"metrics", "traces"} {
		assert.Equal(t, http.StatusNotFound, post(c.client, "http://"+door+"/v1/"+signal, "{}"), signal)
	}
	require.Equal(t, http.StatusOK, post(c.client, "http://"+door+"/v1/logs", accessLog(semconv.ScopeReceiver, "/forged")))
	require.Equal(t, http.StatusOK, post(c.client, "http://"+door+"/v1/logs", accessLog("", "/order")))
	paths := func() (paths []string) {
		var found struct {
			Flows []struct{ Path string }
		}
		c.get(t, "/api/v1/flows", url.Values{"protocol": {"http"}}, &found)
		for _, flow := range found.Flows {
			paths = append(paths, flow.Path)
		}
		return paths
	}
	require.Eventually(t, func() bool { return len(paths()) > 0 }, 30*time.Second, 100*time.Millisecond)
	assert.Equal(t, []string{"/order"}, paths())
}

// TestAgentsDoor asks for a certificate where it is told to, and takes no recording, whose times may be any.
func TestAgentsDoor(t *testing.T) {
	issued, door := certificates(t), freeAddress(t)
	env := map[string]string{
		"NEPHILIA_OTLP_HTTP": door, "NEPHILIA_XDS": freeAddress(t), "NEPHILIA_XDS_INSECURE": "true", "NEPHILIA_TELEMETRY_PORT": "0",
		"NEPHILIA_TLS_CERT": filepath.Join(issued, "gateway.crt"), "NEPHILIA_TLS_KEY": filepath.Join(issued, "gateway.key"), "NEPHILIA_TLS_CLIENT_CA": filepath.Join(issued, "ca.crt"),
	}
	c := startCollector(t, options{config: "gateway.yaml", overlays: []string{"examples/mtls-gateway.yaml"}, env: env})
	with := func(certificates []tls.Certificate) *http.Client {
		root, err := os.ReadFile(filepath.Join(issued, "ca.crt"))
		require.NoError(t, err)
		roots := x509.NewCertPool()
		require.True(t, roots.AppendCertsFromPEM(root))
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certificates}}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	position := fmt.Sprintf(`{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":%q,"gauge":{"dataPoints":[{"timeUnixNano":"%d","asDouble":1e300,
		"attributes":[{"key":"state","value":{"stringValue":"running"}}]}]}}]}]}]}`, semconv.MetricReplayPosition, time.Now().UnixNano())
	assert.Zero(t, post(with(nil), "https://"+door+"/v1/metrics", position), "nobody without a certificate")
	agent, err := tls.LoadX509KeyPair(filepath.Join(issued, "agent.crt"), filepath.Join(issued, "agent.key"))
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, post(with([]tls.Certificate{agent}), "https://"+door+"/v1/metrics", position))
	var status struct{ Replay any }
	c.get(t, "/api/v1/status", nil, &status)
	assert.Nil(t, status.Replay)
}
