package prometheusexporter

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func store(maxSeries int) *seriesStore {
	cfg := createDefaultConfig().(*Config)
	cfg.MaxSeries, cfg.WithoutScopeInfo = maxSeries, true
	return newSeriesStore(cfg)
}

// text is what a store exposes.
func text(t testing.TB, s *seriesStore, at time.Duration) string {
	t.Helper()
	var out bytes.Buffer
	encoder := expfmt.NewEncoder(&out, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range s.families(at) {
		require.NoError(t, encoder.Encode(f.exposed(false)))
	}
	return out.String()
}

// gauge is a batch of one point.
func gauge(name string, at pcommon.Timestamp, value float64, attributes ...string) pmetric.Metrics {
	md := pmetric.NewMetrics()
	m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
	m.SetName(name)
	p := m.SetEmptyGauge().DataPoints().AppendEmpty()
	p.SetTimestamp(at)
	p.SetDoubleValue(value)
	for i := 0; i < len(attributes); i += 2 {
		p.Attributes().PutStr(attributes[i], attributes[i+1])
	}
	return md
}

const upHead = "# HELP up \n# TYPE up gauge\n"

func TestNewestPointIsKept(t *testing.T) {
	s := store(10)
	s.take(gauge("up", 5, 5, "a", "1", "b", "2"), 0)
	s.take(gauge("up", 4, 4, "a", "1", "b", "2"), 1)
	assert.Equal(t, upHead+`up{a="1",b="2"} 5`+"\n", text(t, s, 1))
	s.take(gauge("up", 5, 6, "b", "2", "a", "1"), 2)
	assert.Equal(t, upHead+`up{a="1",b="2"} 6`+"\n", text(t, s, 2), "the order of attributes does not matter")

	ended := gauge("up", 6, 0, "a", "1", "b", "2")
	ended.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	s.take(ended, 3)
	assert.Empty(t, text(t, s, 3))
	assert.Empty(t, s.pairs)
	assert.Empty(t, s.byName)
}

func TestSeriesExpire(t *testing.T) {
	s := store(10)
	s.take(gauge("up", 1, 1, "a", "1", "shared", "x"), 0)
	s.take(gauge("up", 1, 1, "a", "2", "shared", "x"), time.Minute)
	assert.Equal(t, 2, s.len())
	assert.Equal(t, upHead+`up{a="2",shared="x"} 1`+"\n", text(t, s, 5*time.Minute+1))
	assert.Len(t, s.pairs, 2)
	s.take(gauge("down", 1, 1), 20*time.Minute)
	assert.Len(t, s.byName, 1)
	assert.Empty(t, s.pairs)
}

func TestRefused(t *testing.T) {
	s := store(1)
	only := func(reason refusal, md pmetric.Metrics) {
		t.Helper()
		var want [refusals]int
		want[reason] = 1
		assert.Equal(t, want, s.take(md, 0))
	}
	s.take(gauge("up", 1, 1), 0)
	only(refusedMaxSeries, gauge("up", 1, 1, "a", "1"))
	only(refusedName, gauge("___", 1, 1))
	counter := gauge("x", 1, 1)
	m := counter.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	m.Sum().DataPoints().AppendEmpty()
	only(refusedDelta, counter)
	m.SetName("up")
	m.SetEmptySummary().DataPoints().AppendEmpty()
	only(refusedType, counter)

	s = store(1)
	m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	m.ExponentialHistogram().DataPoints().AppendEmpty().SetScale(-5)
	only(refusedHistogram, counter)
	assert.Contains(t, text(t, s, 0), "up_count 0")
}

func TestLabels(t *testing.T) {
	s := store(10)
	s.take(gauge("up", 1, 1, "a.b", "1", "a-b", "2", "bad\xff", "\xff", "9", "nine", "", "nameless"), 0)
	assert.Equal(t, upHead+`up{a_b="2;1",bad_="`+"\uFFFD"+`",key_9="nine"} 1`+"\n", text(t, s, 0))
}

// FuzzTake gives whatever can be a batch to a store, and reads back what it exposes.
func FuzzTake(f *testing.F) {
	marshaler := &pmetric.ProtoMarshaler{}
	for _, md := range []pmetric.Metrics{everything(), gauge("up", 1, 1, "a", "\xff")} {
		encoded, err := marshaler.MarshalMetrics(md)
		require.NoError(f, err)
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		md, err := (&pmetric.ProtoUnmarshaler{}).UnmarshalMetrics(encoded)
		if err != nil {
			return
		}
		s := store(100)
		s.take(md, 0)
		s.take(md, 1)
		for _, format := range []expfmt.Format{expfmt.NewFormat(expfmt.TypeOpenMetrics), expfmt.NewFormat(expfmt.TypeProtoDelim)} {
			encoder := expfmt.NewEncoder(io.Discard, format)
			for _, family := range s.families(1) {
				if err := encoder.Encode(family.exposed(true)); err != nil {
					t.Errorf("%s: %v", format, err)
				}
			}
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		if _, err := parser.TextToMetricFamilies(bytes.NewReader([]byte(text(t, s, 1)))); err != nil {
			t.Errorf("what is exposed cannot be read: %v\n%s", err, text(t, s, 1))
		}
		s.sweep(time.Hour)
		if len(s.pairs)+len(s.byName)+s.len() > 0 {
			t.Errorf("%d labels, %d metrics, %d series stay", len(s.pairs), len(s.byName), s.len())
		}
	})
}

// edges is a batch such as the service graph sends.
func edges(n int) pmetric.Metrics {
	md := pmetric.NewMetrics()
	sm := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	sm.Scope().SetName("github.com/nephilia/nephilia/processor/servicegraphprocessor")
	for k := range 8 {
		m := sm.Metrics().AppendEmpty()
		m.SetName(fmt.Sprintf("mesh.edge.metric-%d", k))
		sum := m.SetEmptySum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		for i := range n {
			p := sum.DataPoints().AppendEmpty()
			p.SetTimestamp(1)
			p.SetIntValue(int64(i))
			for _, end := range []string{"source", "destination"} {
				for _, name := range []string{"cluster", "workload", "workload_namespace", "canonical_service", "principal"} {
					p.Attributes().PutStr(end+"_"+name, fmt.Sprintf("%s-of-%s-%d", name, end, i%(n/7+1)+k))
				}
			}
			p.Attributes().PutStr("edge", fmt.Sprint(i))
		}
	}
	return md
}

func BenchmarkScrape(b *testing.B) {
	s := store(1_000_000)
	s.take(edges(20_000), 0)
	b.ReportAllocs()
	for b.Loop() {
		encoder := expfmt.NewEncoder(io.Discard, expfmt.NewFormat(expfmt.TypeOpenMetrics))
		for _, f := range s.families(0) {
			if err := encoder.Encode(f.exposed(false)); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkTake(b *testing.B) {
	s, md := store(1_000_000), edges(1000)
	s.take(md, 0)
	b.ReportAllocs()
	for b.Loop() {
		s.take(md, 1)
	}
}
