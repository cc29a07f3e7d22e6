package prometheusexporter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	upstream "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"google.golang.org/protobuf/encoding/prototext"

	"github.com/nephilia/nephilia/internal/exphist"
)

const (
	textFormat     = "text/plain; version=0.0.4"
	openMetrics    = "application/openmetrics-text; version=1.0.0"
	protobufFormat = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)

var began = pcommon.NewTimestampFromTime(time.Unix(1_700_000_000, 0))

// everything has a metric of each kind.
func everything() pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "ztunnel")
	rm.Resource().Attributes().PutStr("k8s.node.name", "node-a")
	sm := rm.ScopeMetrics().AppendEmpty()
	sm.Scope().SetName("scope")
	sm.Scope().SetVersion("1")
	sm.Scope().Attributes().PutStr("kind", "test")
	add := func(name, unit string) pmetric.Metric {
		m := sm.Metrics().AppendEmpty()
		m.SetName(name)
		m.SetUnit(unit)
		m.SetDescription("What " + name + "\nsays.")
		return m
	}
	number := func(p pmetric.NumberDataPoint, edge string, value int64) {
		p.Attributes().PutStr("edge", edge)
		p.Attributes().PutInt("destination.port", 80)
		p.SetStartTimestamp(began)
		p.SetTimestamp(began + 1_500_000_000)
		p.SetIntValue(value)
	}
	closed := add("mesh.edge.connections.closed", "{connection}").SetEmptySum()
	closed.SetIsMonotonic(true)
	closed.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	number(closed.DataPoints().AppendEmpty(), "a to b", 3)
	number(closed.DataPoints().AppendEmpty(), `quoted "c"\n`, 1<<40)
	bytes := add("mesh.edge.io", "By").SetEmptySum()
	bytes.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	number(bytes.DataPoints().AppendEmpty(), "a to b", -7)
	ratio := add("up", "1").SetEmptyGauge().DataPoints().AppendEmpty()
	ratio.SetDoubleValue(0.25)
	ratio.SetTimestamp(began)
	explicit := add("classic", "ms").SetEmptyHistogram()
	explicit.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	h := explicit.DataPoints().AppendEmpty()
	h.SetStartTimestamp(began)
	h.SetTimestamp(began)
	h.SetCount(6)
	h.SetSum(12.5)
	h.ExplicitBounds().FromRaw([]float64{1, 2.5, 10})
	h.BucketCounts().FromRaw([]uint64{1, 2, 0, 3})
	exponential := add("mesh.edge.connection.duration", "s").SetEmptyExponentialHistogram()
	exponential.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	for scale := range int32(12) {
		e := exponential.DataPoints().AppendEmpty()
		e.Attributes().PutInt("scale", int64(scale-2))
		e.SetStartTimestamp(began)
		e.SetTimestamp(began)
		e.SetScale(scale - 2)
		e.SetCount(10)
		e.SetSum(3.5)
		e.SetZeroCount(1)
		e.Positive().SetOffset(-3)
		e.Positive().BucketCounts().FromRaw([]uint64{2, 0, 0, 0, 0, 1, 3})
		e.Negative().SetOffset(4)
		e.Negative().BucketCounts().FromRaw([]uint64{3})
	}
	summary := add("quantiles", "").SetEmptySummary().DataPoints().AppendEmpty()
	summary.SetTimestamp(began)
	summary.SetCount(4)
	summary.SetSum(2)
	q := summary.QuantileValues().AppendEmpty()
	q.SetQuantile(0.5)
	q.SetValue(0.4)
	return md
}

// started is an exporter that takes batches, and its address.
func started(t testing.TB, factory exporter.Factory, cfg component.Config) (exporter.Metrics, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	switch c := cfg.(type) {
	case *Config:
		c.NetAddr.Endpoint = address
	case *upstream.Config:
		c.NetAddr.Endpoint = address
	}
	e, err := factory.CreateMetrics(context.Background(), exportertest.NewNopSettings(factory.Type()), cfg)
	require.NoError(t, err)
	require.NoError(t, e.Start(context.Background(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, e.Shutdown(context.Background())) })
	return e, address
}

func read(t testing.TB, address, format string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+address+"/metrics", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Accept", format)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	if strings.Contains(format, "protobuf") {
		var text []string
		decoder := expfmt.NewDecoder(response.Body, expfmt.ResponseFormat(response.Header))
		for {
			var family dto.MetricFamily
			if err := decoder.Decode(&family); errors.Is(err, io.EOF) {
				return strings.Join(text, "\n")
			}
			for _, m := range family.Metric {
				text = append(text, family.GetName()+" "+family.GetHelp()+" "+family.GetType().String()+" "+strings.ReplaceAll(prototext.Format(m), "  ", " "))
			}
		}
	}
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

// TestSameAsContrib scrapes contrib's exporter and this one, in each format.
func TestSameAsContrib(t *testing.T) {
	for name, set := range map[string]func(*upstream.Config){
		"shipped": func(c *upstream.Config) { c.EnableOpenMetrics, c.ResourceToTelemetrySettings.Enabled = true, true },
		"plain":   func(*upstream.Config) {},
		"options": func(c *upstream.Config) {
			c.Namespace, c.SendTimestamps, c.WithoutScopeInfo = "my-mesh", true, true
			c.ConstLabels = map[string]string{"cluster": "east"}
			c.ResourceToTelemetrySettings.Enabled, c.ResourceToTelemetrySettings.ExcludeServiceAttributes = true, true
		},
		"utf8": func(c *upstream.Config) { c.TranslationStrategy = "NoUTF8EscapingWithSuffixes" },
	} {
		t.Run(name, func(t *testing.T) {
			theirs := upstream.NewFactory().CreateDefaultConfig().(*upstream.Config)
			set(theirs)
			ours := createDefaultConfig().(*Config)
			set(&ours.Config)
			ours.Histograms = exphist.Native
			contrib, contribAddress := started(t, upstream.NewFactory(), theirs)
			e, address := started(t, NewFactory(), ours)
			require.NoError(t, contrib.ConsumeMetrics(context.Background(), everything()))
			md := everything()
			md.MarkReadOnly()
			require.NoError(t, e.ConsumeMetrics(context.Background(), md))
			for _, format := range []string{textFormat, openMetrics, protobufFormat} {
				want, got := strings.Split(read(t, contribAddress, format), "\n"), strings.Split(read(t, address, format), "\n")
				slices.Sort(want)
				slices.Sort(got)
				assert.Equal(t, want, got, format)
			}
		})
	}
}

// TestHistograms exposes the same histogram natively, classically and both ways.
func TestHistograms(t *testing.T) {
	for form, want := range map[exphist.Form]struct{ native, classic bool }{
		exphist.Native: {native: true}, exphist.Classic: {classic: true}, exphist.Both: {native: true, classic: true},
	} {
		t.Run(string(form), func(t *testing.T) {
			cfg := createDefaultConfig().(*Config)
			require.Equal(t, exphist.Both, cfg.Histograms)
			cfg.Histograms = form
			e, address := started(t, NewFactory(), cfg)
			md := everything()
			require.NoError(t, e.ConsumeMetrics(context.Background(), md))
			const series = `mesh_edge_connection_duration_seconds`
			text := read(t, address, textFormat)
			assert.Equal(t, want.classic, strings.Contains(text, `le="0.25"`), text)
			assert.Contains(t, text, series+`_count`)
			assert.Equal(t, want.native, strings.Contains(read(t, address, protobufFormat), "positive_span"))
			if want.classic {
				assert.Regexp(t, series+`_bucket\{[^}]*scale="0"[^}]*le="0.125"\} 4\n`, text, "1 of zero, 3 below, none between")
				assert.Regexp(t, series+`_bucket\{[^}]*scale="0"[^}]*le="0.25"\} 6\n`, text)
				assert.Regexp(t, series+`_bucket\{[^}]*scale="0"[^}]*le="\+Inf"\} 10\n`, text)
			}
		})
	}
}

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
	e, address := started(t, NewFactory(), createDefaultConfig())
	before := heap()
	for number := range batches {
		require.NoError(t, e.ConsumeMetrics(context.Background(), batch(number, busy)))
	}
	assert.Less(t, heap()-min(before, heap()), uint64(batches*busy*10), "bytes that are held")
	text := read(t, address, textFormat)
	assert.Equal(t, batches, strings.Count(text, `edge="quiet-`))
	assert.Contains(t, text, fmt.Sprintf(`edge="busy-7",otel_scope_name="",otel_scope_schema_url="",otel_scope_version=""} %d`, batches-1))
}

// TestSlowScrapes has more clients that do not read than scrapes may go on: they make room for one that does, and what comes is taken.
func TestSlowScrapes(t *testing.T) {
	e, address := started(t, NewFactory(), createDefaultConfig())
	require.NoError(t, e.ConsumeMetrics(context.Background(), batch(1, 100_000)))
	for range 2 * maxScrapes {
		connection, err := net.Dial("tcp", address)
		require.NoError(t, err)
		defer connection.Close()
		_, err = io.WriteString(connection, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
		_, err = io.ReadFull(connection, make([]byte, 12))
		require.NoError(t, err)
	}
	require.NoError(t, e.ConsumeMetrics(context.Background(), batch(2, 1000)))
	client := &http.Client{}
	defer client.CloseIdleConnections()
	require.Eventually(t, func() bool {
		response, err := client.Get("http://" + address + "/metrics")
		if err != nil {
			return false
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		return err == nil && response.StatusCode == http.StatusOK && strings.Count(string(text), `edge="busy-`) == 100_000
	}, time.Minute, 100*time.Millisecond)
}

func TestScrapesMakeRoom(t *testing.T) {
	s := scrapes{open: map[*scrape]struct{}{}}
	var first *scrape
	for range maxScrapes {
		one := s.enter(httptest.NewRecorder())
		require.NotNil(t, one)
		if first == nil {
			first = one
		}
	}
	assert.Nil(t, s.enter(httptest.NewRecorder()), "all make progress")
	first.progressed = time.Now().Add(-stalled)
	require.NotNil(t, s.enter(httptest.NewRecorder()))
	assert.NotContains(t, s.open, first)
	assert.Len(t, s.open, maxScrapes)
	s.leave(first)
	assert.Len(t, s.open, maxScrapes)
}

func TestAcceptsGzip(t *testing.T) {
	for header, want := range map[string]bool{
		"": false, "gzip": true, "deflate, gzip;q=0.5": true, "gzip; q=0": false, "gzip;q=0.000": false, "br": false, "gzip;q=x": true,
	} {
		assert.Equal(t, want, acceptsGzip(header), header)
	}
}
