package servicegraphprocessor

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden holds the shape of what leaves: names, units, attributes, timestamps.
func TestGolden(t *testing.T) {
	p := newPipelines(t, nil).known()
	p.step(1, func(b *batch) { b.tcp(0.5, tcp{node: "node-a", reporter: "source", start: 0.5, opened: 2, closed: 1}) })
	p.outMetrics.Reset()
	c := call{number: 1, at: 1.5, clientPod: "client-1", peer: "10.96.0.1:80", serverPod: "server-1", client: "10.0.1.1", attrs: map[string]any{"http.route": "/a"}, failed: true}
	p.spans(c.serverSpan())
	p.spans(c.clientSpan())
	p.step(2, func(b *batch) {
		v := &flowValues{start: pcommon.NewTimestampFromTime(epoch), closed: 3, sent: 30, received: 300, failed: map[[2]string]uint64{
			{semconv.ErrorTypePolicyDenied, "shop/no"}: 1,
		}}
		v.duration.Add(exphist.Default, 0.25, 3)
		b.flow(testRow(semconv.ReporterDestination), v)
		v.failed = map[[2]string]uint64{{semconv.ErrorTypePolicyDenied, ""}: 1}
		b.flow(testRow(semconv.ReporterSource), v)
	})
	require.Len(t, p.outMetrics.AllMetrics(), 1)
	raw, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(p.outMetrics.AllMetrics()[0])
	require.NoError(t, err)
	var got bytes.Buffer
	require.NoError(t, json.Indent(&got, raw, "", "  "))
	got.WriteByte('\n')
	path := filepath.Join("testdata", "edges.golden.json")
	if *update {
		require.NoError(t, os.WriteFile(path, got.Bytes(), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.JSONEq(t, string(want), got.String())
}
