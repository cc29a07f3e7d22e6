package ztunnelreceiver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// requestLine is the n-th line of a waypoint's log, as the container's runtime keeps it: longer ones in two parts.
func requestLine(n int) string {
	at := epoch.Add(time.Duration(n) * time.Millisecond)
	line := fmt.Sprintf(`[%s] "GET /order/%d?x=%s HTTP/1.1" 200 - via_upstream - "-" 0 512 2 1 "-" "curl/8" "-" "oven:8080" `+
		`"envoy://connect_originate/10.71.2.20:8080" inbound-vip|8080|http|oven.bakery.svc.cluster.local envoy://internal_client_address/ 10.112.0.20:8080 10.71.1.10:40112 - default`,
		at.Format("2006-01-02T15:04:05.000Z"), n, strings.Repeat("y", n%7))
	stamp := at.Add(2 * time.Millisecond).Format("2006-01-02T15:04:05.000000000Z")
	if n%5 == 0 {
		return stamp + " stdout P " + line[:100] + "\n" + stamp + " stdout F " + line[100:] + "\n"
	}
	return stamp + " stdout F " + line + "\n"
}

// requests are the paths of the records of requests by the proxy that logged them, each as often as it left.
func (s *sink) requests() map[string]map[string]int {
	paths := map[string]map[string]int{}
	for _, logs := range s.logs {
		for _, rl := range logs.ResourceLogs().All() {
			resource := rl.Resource().Attributes().AsRaw()
			name := resource[semconv.AttrWaypoint]
			if name == nil {
				name = resource[semconv.AttrGateway]
			}
			of := fmt.Sprint(name, " ", resource[semconv.AttrPodName])
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					if record.EventName() != semconv.EventRequest {
						continue
					}
					if paths[of] == nil {
						paths[of] = map[string]int{}
					}
					path, _ := record.Attributes().Get(semconv.AttrURLPath)
					paths[of][path.Str()]++
				}
			}
		}
	}
	return paths
}

// TestEnvoyLogs reads a waypoint's log beside a ztunnel's, over a crash within a line and the loss of what was stored, each request once.
func TestEnvoyLogs(t *testing.T) {
	folder := t.TempDir()
	pod := filepath.Join(folder, "bakery_waypoint-6b9d7c5f4-x7k2p_0e1f", "istio-proxy")
	require.NoError(t, os.MkdirAll(pod, 0o755))
	ztunnel, waypoint := filepath.Join(folder, "ztunnel.log"), filepath.Join(pod, "0.log")
	appendTo := func(path, text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	text := func(from, to int) string {
		var b strings.Builder
		for n := from; n < to; n++ {
			b.WriteString(requestLine(n))
		}
		return b.String()
	}
	clock, store, out := &steppedClock{now: epoch.Add(time.Minute)}, newMemory(map[string][]byte{}), &sink{}
	startAt := tail.StartAtBeginning
	start := func() *rig {
		return newRig(t, clock, store, out, accesslogs.Config{Include: []string{ztunnel}}, func(c *Config) {
			logs := c.EnvoyLogs.GetOrInsertDefault()
			logs.Include = []string{filepath.Join(folder, "*_*", "istio-proxy", "*.log")}
			logs.StartAt, logs.PollInterval = startAt, 2*time.Millisecond
		})
	}
	appendTo(ztunnel, accessText(0, 100))
	appendTo(waypoint, text(0, 103)+requestLine(105)[:80]) // in the middle of a part
	r := start()
	require.Len(t, r.followers, 2)
	r.polls(0, 1)
	r.boundaryNow()
	assert.Len(t, out.requests()["bakery/waypoint waypoint-6b9d7c5f4-x7k2p"], 103)
	assert.True(t, out.beats()["envoy_log node-a"], "the source has a heartbeat, of its node")
	r.crash()

	store.mu.Lock()
	store.err = nil
	store.mu.Unlock()
	appendTo(waypoint, requestLine(105)[80:]+text(106, 200)+"no line of any format\n"+text(200, 201))
	appendTo(ztunnel, accessText(100, 150))
	r = start()
	r.polls(0, 1)
	r.boundaryNow()
	requests := out.requests()
	require.Len(t, requests, 1)
	assert.Len(t, requests["bakery/waypoint waypoint-6b9d7c5f4-x7k2p"], 103+1+94+1)
	connections, _ := out.sums(t)
	assert.Equal(t, 150, connections)
	require.NoError(t, r.close(t.Context()))

	others := store.others
	store, startAt = newMemory(map[string][]byte{}), tail.StartAtEnd
	store.others = others
	appendTo(waypoint, text(3_000_000, 3_000_010))
	r = start()
	r.polls(0, 1)
	for range 3 { // the first is one that was flushed before
		r.boundaryNow()
	}
	requests = out.requests()
	assert.Len(t, requests["bakery/waypoint waypoint-6b9d7c5f4-x7k2p"], 103+1+94+1+10)
	for path, n := range requests["bakery/waypoint waypoint-6b9d7c5f4-x7k2p"] {
		assert.Equal(t, 1, n, path)
	}
	require.NoError(t, r.close(t.Context()))
}
