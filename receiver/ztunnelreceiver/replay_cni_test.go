package ztunnelreceiver

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
)

// TestReplayOfACNIAgent reads an agent's log in both of its formats, and what it says of pods and ztunnels.
func TestReplayOfACNIAgent(t *testing.T) {
	directory := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600))
	}
	write("istio-cni-node-a.log", "2026-11-23T21:18:40.000001Z\tinfo\tFLAG: --log_as_json=\"false\"\n"+
		"2026-11-23T21:18:41.000001Z\tinfo\tcni-agent\tadding pod to the mesh\tns=shop name=pay-0\n"+
		"2026-11-23T21:18:41.000002Z\terror\tcni-agent\tfailed to add pod to ztunnel: pod partially added, annotating with pending status\tns=shop name=pay-0\n"+
		"2026-11-23T21:18:42.000001Z\tinfo\tcni-agent\tsetting up host net rules\n")
	write("istio-cni-node-b.log", `{"level":"warn","time":"2026-11-23T21:18:43.000001Z","scope":"cni-agent","msg":"Unable to send pod to ztunnel. Will retry. `+
		`AddPodToMesh returned: no ztunnel connection","ns":"shop","name":"cart-0"}`+"\n")
	out := play(t, replayConfig(directory), &fakeClock{})

	var told [][]string
	for _, logs := range out.logs {
		for _, rl := range logs.ResourceLogs().All() {
			assert.Equal(t, "istio-cni-node", str(rl.Resource().Attributes(), semconv.AttrServiceName))
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					attrs := record.Attributes()
					told = append(told, []string{
						record.EventName(), str(rl.Resource().Attributes(), semconv.AttrNodeName), record.Timestamp().AsTime().Format("05"), record.SeverityText(),
						record.Body().Str(), str(attrs, "ztunnel.scope"), str(attrs, "ztunnel.field.ns") + "/" + str(attrs, "ztunnel.field.name"),
					})
				}
			}
		}
	}
	assert.Equal(t, [][]string{
		{"istio_cni.log", "node-a", "41", "info", "adding pod to the mesh", "cni-agent", "shop/pay-0"},
		{"istio_cni.log", "node-a", "41", "error", "failed to add pod to ztunnel: pod partially added, annotating with pending status", "cni-agent", "shop/pay-0"},
		{
			"istio_cni.log", "node-b", "43", "warn", "Unable to send pod to ztunnel. Will retry. AddPodToMesh returned: no ztunnel connection",
			"cni-agent", "shop/cart-0",
		},
	}, told)
	ups := map[string]bool{}
	for _, md := range out.metrics {
		for _, beat := range heartbeats(md) {
			if beat.source == semconv.SourceCNILog {
				ups[beat.node] = beat.up
			}
		}
	}
	assert.Equal(t, map[string]bool{"node-a": true, "node-b": true}, ups)
}
