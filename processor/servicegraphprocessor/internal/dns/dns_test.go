package dns

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/exposition"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

const second = pcommon.Timestamp(time.Second)

type bench struct {
	t     *testing.T
	table *Table
	names *naming.Directory
}

func newBench(t *testing.T) *bench {
	t.Helper()
	told, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	t.Cleanup(told.Shutdown)
	names := naming.NewDirectory(naming.Config{MaxEntities: 100, MaxExternal: 10, MaxWeights: 10})
	return &bench{t, NewTable(Config{MaxSeries: 100, Refresh: time.Minute, Expiry: time.Hour}, names, told), names}
}

func (b *bench) pod(namespace, name, node, app string) {
	require.True(b.t, b.names.Apply(mesh.Event{Time: 1, Entity: &mesh.Workload{
		UID: namespace + "/" + name, Namespace: namespace, Name: name, Node: node,
		Naming: mesh.Naming{CanonicalName: app, CanonicalRevision: "v1", WorkloadName: app + "-v1"},
	}}))
}

// scrape is what a proxy tells of one app at a time, since a start.
func (b *bench) scrape(node, app string, start, at pcommon.Timestamp, asked, forwarded, failed uint64, buckets ...uint64) {
	source := &exposition.Source{Node: node}
	arrival := moment.Arrival{Now: at, Latest: at + second}
	label := func(attrs pcommon.Map) {
		attrs.PutStr(semconv.LabelSourceCanonicalService, app)
		attrs.PutStr(semconv.LabelSourceCanonicalRevision, "v1")
		attrs.PutStr(semconv.LabelQueryType, "a")
	}
	for name, value := range map[string]uint64{
		"istio_dns_requests_total": asked, "istio_dns_upstream_requests_total": forwarded, "istio_dns_upstream_failures_total": failed,
	} {
		metric := pmetric.NewMetric()
		metric.SetName(name)
		point := metric.SetEmptySum().DataPoints().AppendEmpty()
		point.SetStartTimestamp(start)
		point.SetTimestamp(at)
		point.SetDoubleValue(float64(value))
		label(point.Attributes())
		assert.False(b.t, b.table.Apply(source, metric, arrival), "scrapes pass through")
	}
	metric := pmetric.NewMetric()
	metric.SetName("istio_dns_upstream_request_duration_seconds")
	point := metric.SetEmptyHistogram().DataPoints().AppendEmpty()
	point.ExplicitBounds().FromRaw([]float64{0.001, 1, 5})
	point.BucketCounts().FromRaw(buckets)
	var count uint64
	for _, n := range buckets {
		count += n
	}
	point.SetCount(count)
	point.SetStartTimestamp(start)
	point.SetTimestamp(at)
	label(point.Attributes())
	b.table.Apply(source, metric, arrival)
}

// emit is what leaves: the values of each metric by the workload's namespace and name, or its app where these are not told.
func (b *bench) emit(now pcommon.Timestamp) map[string]uint64 {
	scope := pmetric.NewScopeMetrics()
	b.table.Emit(scope, now)
	out := map[string]uint64{}
	for _, metric := range scope.Metrics().All() {
		switch metric.Type() {
		case pmetric.MetricTypeSum:
			for _, p := range metric.Sum().DataPoints().All() {
				assert.Less(b.t, p.StartTimestamp(), p.Timestamp())
				out[metric.Name()+" "+who(p.Attributes())] += uint64(p.IntValue())
			}
		case pmetric.MetricTypeExponentialHistogram:
			for _, p := range metric.ExponentialHistogram().DataPoints().All() {
				out[metric.Name()+" "+who(p.Attributes())] += p.Count()
			}
		}
	}
	return out
}

func who(attrs pcommon.Map) string {
	text := func(name string) string { v, _ := attrs.Get(name); return v.Str() }
	name := text(semconv.LabelSourceNamespace) + "/" + text(semconv.LabelSourceWorkload)
	if name == "/" {
		name = text(semconv.LabelSourceCanonicalService)
	}
	if q := text(semconv.LabelQuestionName); q != "" {
		name += " " + q + " " + text(semconv.LabelResult)
	}
	return name
}

// TestCounters counts from the first scrape on, by the workload that a canonical service is on a node, over restarts of its ztunnel.
func TestCounters(t *testing.T) {
	b := newBench(t)
	b.pod("billing", "payment-1", "node-a", "payment")
	b.scrape("node-a", "payment", 10*second, 10*second, 100, 80, 60, 70, 10, 0, 0)
	assert.Empty(t, b.emit(11*second), "what was before the first scrape has no time")
	b.scrape("node-a", "payment", 10*second, 15*second, 110, 88, 66, 76, 10, 2, 0)
	assert.Equal(t, map[string]uint64{
		"mesh.dns.queries billing/payment-v1": 10, "mesh.dns.forwarded billing/payment-v1": 8, "mesh.dns.failed billing/payment-v1": 6,
		"mesh.dns.duration billing/payment-v1": 8,
	}, b.emit(16*second))
	assert.Empty(t, b.emit(17*second), "only what changed is told")
	b.scrape("node-a", "payment", 17*second, 20*second, 4, 4, 3, 4, 0, 0, 0)
	assert.Equal(t, uint64(14), b.emit(21 * second)["mesh.dns.queries billing/payment-v1"], "one that begins anew counts on top")
	assert.Len(t, b.emit(90*second), 4, "and all once in a while")
}

// TestAmbiguous leaves out workload and namespace where several share a canonical name on a node.
func TestAmbiguous(t *testing.T) {
	b := newBench(t)
	b.pod("shop", "api-1", "node-a", "api")
	b.pod("crm", "api-1", "node-a", "api")
	b.pod("shop", "api-2", "node-b", "api")
	for _, node := range []string{"node-a", "node-b"} {
		b.scrape(node, "api", 10*second, 10*second, 1, 1, 1, 1, 0, 0, 0)
		b.scrape(node, "api", 10*second, 15*second, 3, 2, 2, 2, 0, 0, 0)
	}
	told := b.emit(16 * second)
	assert.Equal(t, uint64(2), told["mesh.dns.queries api"])
	assert.Equal(t, uint64(2), told["mesh.dns.queries shop/api-v1"])
}

// TestLookups counts names by the pod's workload, and takes what the receiver counted.
func TestLookups(t *testing.T) {
	b := newBench(t)
	b.pod("billing", "payment-1", "node-a", "payment")
	metric := pmetric.NewMetric()
	metric.SetName(semconv.MetricLookups)
	point := metric.SetEmptySum().DataPoints().AppendEmpty()
	point.SetStartTimestamp(9 * second)
	point.SetTimestamp(10 * second)
	point.SetIntValue(7)
	point.Attributes().PutStr(semconv.LabelSourcePod, "payment-1")
	point.Attributes().PutStr(semconv.LabelSourceNamespace, "billing")
	point.Attributes().PutStr(semconv.LabelQuestionName, "api.stripe.test")
	point.Attributes().PutStr(semconv.LabelResult, semconv.LookupServerFailure)
	assert.True(t, b.table.Apply(&exposition.Source{Node: "node-a"}, metric, moment.Arrival{Now: 10 * second, Latest: 11 * second}))
	assert.Equal(t, map[string]uint64{"mesh.dns.lookups billing/payment-v1 api.stripe.test server_failure": 7}, b.emit(11*second))
	b.table.Rewind(5 * second)
	b.table.Sweep(20000 * second)
	assert.Empty(t, b.emit(20001*second))
}
