package kube

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kubetest"
)

func TestForward(t *testing.T) {
	text := strings.Repeat("a config dump ", 100_000)
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	t.Cleanup(admin.Close)
	server := kubetest.Start(t)
	clients, err := NewClients(server.Config())
	require.NoError(t, err)
	t.Cleanup(clients.Close)
	pod := Pod{Namespace: "istio-system", Name: "ztunnel-a"}
	server.SetPort(pod.Namespace, pod.Name, "15000", admin.Listener.Addr().String())
	get := func(port uint16) (string, error) {
		client := &http.Client{Transport: &http.Transport{
			DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return clients.Forward(ctx, pod, port) },
			DisableKeepAlives: true,
		}}
		response, err := client.Get("http://ztunnel-a:15000/config_dump")
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return string(body), err
	}
	for range 3 {
		body, err := get(15000)
		require.NoError(t, err)
		assert.Equal(t, text, body)
	}
	_, err = get(15001)
	require.Error(t, err)
	assert.Contains(t, err.Error(), "port 15001: connection refused")

	server.Stop()
	_, err = get(15000)
	require.ErrorContains(t, err, "forwarding a port of pod istio-system/ztunnel-a")
}
