package scrape

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

var update = flag.Bool("update", false, "write the golden files")

func TestGolden(t *testing.T) {
	ztunnel := readScrapes(t, filepath.Join(recordings, "policy-deny", "metrics-node-a.prom.gz"))
	waypoint, err := os.ReadFile(filepath.Join("testdata", "waypoint.prom"))
	require.NoError(t, err)
	second := bytes.ReplaceAll(waypoint, []byte(`response_flags="-"} 120`), []byte(`response_flags="-"} 125`))
	for name, tc := range map[string]struct {
		target      Target
		contentType string
		options     Options
		bodies      []recorded // the last one's outcome is compared
	}{
		"ztunnel": {
			target:      Target{Name: "node-a", Instance: "10.0.0.1:15020", Cluster: "west"},
			contentType: "application/openmetrics-text;charset=utf-8;version=1.0.0",
			options:     Options{Families: []string{"istio_tcp_connections_closed_total", "istio_tcp_sockets_open", "istio_xds_*", "istio_build", "process_*"}},
			bodies:      ztunnel[:3],
		},
		"waypoint": {
			target:      Target{Kind: Waypoint, Name: "shop/waypoint"},
			contentType: "text/plain; version=0.0.4; charset=utf-8",
			bodies: []recorded{
				{at: time.Unix(1795460000, 0), body: waypoint},
				{at: time.Unix(1795460005, 0), body: second},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := NewTracker()
			var md pmetric.Metrics
			for _, body := range tc.bodies {
				var stats Stats
				var err error
				md, stats, err = Parse(bytes.NewReader(body.body), tc.contentType, body.at, tc.target, tc.options, tracker)
				require.NoError(t, err)
				assert.Zero(t, stats.Dropped())
			}
			compareGolden(t, filepath.Join("testdata", name+".json"), md)
		})
	}
}

func compareGolden(t *testing.T, path string, md pmetric.Metrics) {
	t.Helper()
	raw, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(md)
	require.NoError(t, err)
	var got bytes.Buffer
	require.NoError(t, json.Indent(&got, raw, "", " "))
	got.WriteByte('\n')
	if *update {
		require.NoError(t, os.WriteFile(path, got.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), got.String())
}
