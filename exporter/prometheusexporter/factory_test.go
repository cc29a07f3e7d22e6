package prometheusexporter

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	upstream "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// batch holds many busy series, always the same, and one that no other batch has.
func batch(number, busy int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	metric := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	metric.SetName("mesh.edge.connections.active")
	points := metric.SetEmptyGauge().DataPoints()
	add := func(edge string) {
		point := points.AppendEmpty()
		point.SetTimestamp(pcommon.NewTimestampFromTime(time.Unix(int64(number), 0)))
		point.SetIntValue(int64(number))
		point.Attributes().PutStr("edge", edge)
	}
	for i := range busy {
		add(fmt.Sprintf("busy-%d", i))
	}
	add(fmt.Sprintf("quiet-%d", number))
	return md
}

func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestLetsGo sends batches that each hold one series which stays, and reads that everything is served and little is held.
func TestLetsGo(t *testing.T) {
	const batches, busy = 200, 1000
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	factory := NewFactory()
	cfg := factory.CreateDefaultConfig().(*upstream.Config)
	cfg.NetAddr.Endpoint = address
	exporter, err := factory.CreateMetrics(context.Background(), exportertest.NewNopSettings(factory.Type()), cfg)
	require.NoError(t, err)
	require.True(t, exporter.Capabilities().MutatesData)
	require.NoError(t, exporter.Start(context.Background(), componenttest.NewNopHost()))
	defer func() { require.NoError(t, exporter.Shutdown(context.Background())) }()
	before := heap()
	for number := range batches {
		require.NoError(t, exporter.ConsumeMetrics(context.Background(), batch(number, busy)))
	}
	assert.Less(t, heap()-min(before, heap()), uint64(batches*busy*10), "bytes that are held")

	client := &http.Client{}
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + address + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	assert.Equal(t, batches, strings.Count(string(text), `edge="quiet-`))
	assert.Contains(t, string(text), fmt.Sprintf(`edge="busy-7",otel_scope_name="",otel_scope_schema_url="",otel_scope_version=""} %d`, batches-1))
}
