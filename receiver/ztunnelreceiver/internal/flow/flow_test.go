package flow

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
)

var t0 = time.Date(2026, 11, 23, 21, 18, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return t0.Add(d) }

// line writes an outbound access entry of a connection from pod to service, with more fields behind.
func line(at time.Time, pod, service, more string) []byte {
	level := "info"
	if strings.Contains(more, "error=") {
		level = "error"
	}
	return fmt.Appendf(nil, "%s\t%s\taccess\tconnection complete\tsrc.addr=10.0.0.1:4000 src.workload=%q src.namespace=\"shop\" dst.addr=10.0.0.2:15008 "+
		"dst.hbone_addr=10.0.0.2:8080 dst.service=%q direction=\"outbound\" bytes_sent=10 bytes_recv=100 duration=\"20ms\" %s",
		at.UTC().Format("2006-01-02T15:04:05.000000Z"), level, pod, service, more)
}

// closed returns the closed connections by source pod ("overflow" for the overflow series), and their starts.
func closed(md pmetric.Metrics) (counts map[string]int64, starts map[string]time.Time) {
	counts, starts = map[string]int64{}, map[string]time.Time{}
	for _, rm := range md.ResourceMetrics().All() {
		for _, m := range rm.ScopeMetrics().At(0).Metrics().All() {
			if m.Name() != semconv.MetricConnectionsClosed {
				continue
			}
			for _, p := range m.Sum().DataPoints().All() {
				name := "overflow"
				if v, ok := p.Attributes().Get(semconv.LabelSourcePod); ok {
					name = v.Str()
				}
				counts[name] += p.IntValue()
				starts[name] = p.StartTimestamp().AsTime()
			}
		}
	}
	return counts, starts
}

func TestOnlyWhatChangedIsFlushed(t *testing.T) {
	p := New(Config{RecordMetrics: true}, nil)
	p.Entry("n", line(after(0), "a", "s", ""), after(0))
	p.Entry("n", line(after(0), "b", "s", ""), after(0))
	counts, _ := closed(p.FlushMetrics(after(5*time.Second), false))
	assert.Equal(t, map[string]int64{"a": 1, "b": 1}, counts)

	p.Entry("n", line(after(6*time.Second), "b", "s", ""), after(6*time.Second))
	counts, _ = closed(p.FlushMetrics(after(10*time.Second), false))
	assert.Equal(t, map[string]int64{"b": 2}, counts)

	assert.Zero(t, p.FlushMetrics(after(15*time.Second), false).ResourceMetrics().Len())
	counts, _ = closed(p.FlushMetrics(after(20*time.Second), true))
	assert.Equal(t, map[string]int64{"a": 1, "b": 2}, counts)
}

func TestStartIsTheBoundaryBefore(t *testing.T) {
	p := New(Config{RecordMetrics: true}, nil)
	p.Entry("n", line(after(1500*time.Millisecond), "b", "s", ""), after(2*time.Second))
	p.Entry("n", line(after(1200*time.Millisecond), "a", "s", ""), after(2*time.Second))
	_, starts := closed(p.FlushMetrics(after(5*time.Second), false))
	assert.Equal(t, map[string]time.Time{"a": after(time.Second), "b": after(time.Second)}, starts)

	p.Entry("n", line(after(9*time.Second), "c", "s", ""), after(9*time.Second))
	_, starts = closed(p.FlushMetrics(after(10*time.Second), true))
	assert.Equal(t, map[string]time.Time{"a": after(time.Second), "b": after(time.Second), "c": after(5 * time.Second)}, starts)
}

func TestABacklogCountsFromTheStartOn(t *testing.T) {
	obs := counter{}
	p := New(Config{RecordMetrics: true, Expiry: time.Minute}, obs)
	p.Begin(after(time.Hour))
	p.Advance(after(time.Hour + 5*time.Second))
	p.Entry("n", line(after(0), "a", "s", ""), after(time.Hour+time.Second))
	counts, starts := closed(p.FlushMetrics(after(time.Hour+5*time.Second), false))
	assert.Equal(t, map[string]int64{"a": 1}, counts)
	assert.Equal(t, after(time.Hour), starts["a"], "what began long before is of an unknown past to those who read it")
	assert.Equal(t, 1, p.Series(), "it was read just now")
	assert.Equal(t, int64(1), obs[CountLate])
}

func TestExpiredSeriesStartAnew(t *testing.T) {
	obs := counter{}
	p := New(Config{RecordMetrics: true, Expiry: time.Minute}, obs)
	p.Entry("n", line(after(0), "a", "s", ""), after(0))
	p.Entry("n", line(after(0), "a", "s", ""), after(0))
	p.FlushMetrics(after(5*time.Second), false)
	p.Entry("n", line(after(50*time.Second), "b", "s", ""), after(50*time.Second))
	counts, _ := closed(p.FlushMetrics(after(59*time.Second), true))
	assert.Equal(t, map[string]int64{"a": 2, "b": 1}, counts)

	counts, _ = closed(p.FlushMetrics(after(65*time.Second), false))
	assert.Empty(t, counts)
	assert.Equal(t, int64(1), obs[CountExpired])
	assert.Equal(t, 1, p.Series())

	p.Entry("n", line(after(70*time.Second), "a", "s", ""), after(70*time.Second))
	counts, starts := closed(p.FlushMetrics(after(75*time.Second), false))
	assert.Equal(t, map[string]int64{"a": 1}, counts)
	assert.Equal(t, after(65*time.Second), starts["a"])
}

func TestOverflow(t *testing.T) {
	obs := counter{}
	p := New(Config{RecordMetrics: true, MaxSeries: 2}, obs)
	for i, pod := range []string{"a", "b", "c", "d", "a", "c"} {
		p.Entry("n", line(after(time.Duration(i)*time.Second), pod, "s", `error="connection closed due to policy rejection: explicitly denied by: x/y"`), after(0))
	}
	md := p.FlushMetrics(after(time.Minute), false)
	counts, _ := closed(md)
	assert.Equal(t, map[string]int64{"a": 2, "b": 1, "overflow": 3}, counts)
	assert.Equal(t, int64(3), obs[CountOverflow])
	eachPoint(md, func(_, metric string, attrs pcommon.Map, value int64) {
		if _, overflow := attrs.Get(semconv.LabelOverflow); !overflow {
			return
		}
		want := map[string]any{semconv.LabelOverflow: true, semconv.LabelReporter: semconv.ReporterSource}
		switch metric {
		case semconv.MetricIO:
			direction, _ := attrs.Get(semconv.LabelDirection)
			want[semconv.LabelDirection] = direction.Str()
		case semconv.MetricConnectionsFailed:
			want[semconv.LabelErrorType] = semconv.ErrorTypePolicyDenied
			assert.Equal(t, int64(3), value)
		}
		assert.Equal(t, want, attrs.AsRaw(), metric)
	})
}

// TestLabelExplosion sends a million workloads that no one has seen before.
func TestLabelExplosion(t *testing.T) {
	const workloads, limit = 1_000_000, 1000
	obs := counter{}
	p := New(Config{RecordMetrics: true, RecordLogs: true, RecordSpans: true, MaxSeries: limit, MaxRecords: 100, Expiry: time.Minute}, obs)
	entry := line(after(0), "pod-0000000", "s", "")
	at := strings.Index(string(entry), "0000000")
	most := 0
	for i := range workloads {
		copy(entry[at:], fmt.Sprintf("%07d", i))
		p.Entry("n", entry, after(0))
		most = max(most, p.Series())
	}
	assert.LessOrEqual(t, most, limit+1)
	assert.LessOrEqual(t, len(p.series.slots), limit+1)
	logs, spans := p.Pending()
	assert.Equal(t, 100, logs)
	assert.Zero(t, spans)

	total := int64(0)
	counts, _ := closed(p.FlushMetrics(after(time.Second), false))
	for _, n := range counts {
		total += n
	}
	assert.Equal(t, int64(workloads), total, "nothing is lost")
	assert.Equal(t, int64(workloads-limit), obs[CountOverflow])
	assert.Equal(t, int64(workloads-100), obs[CountLogsDropped])

	p.FlushMetrics(after(time.Hour), false)
	assert.Zero(t, p.Series(), "the overflow series goes like any other")
}

// TestPortsAreBounded scans the ports of one pod: who comes after has a series, and the scan is forgotten.
func TestPortsAreBounded(t *testing.T) {
	const ports = 20_000
	obs := counter{}
	p := New(Config{RecordMetrics: true, MaxSeries: 2 * maxPorts, Expiry: time.Minute}, obs)
	scan := func() {
		for port := range ports {
			entry := bytes.Replace(line(after(0), "scanner", "s", ""), []byte(":8080"), fmt.Appendf(nil, ":%d", port+1), 1)
			p.Entry("n", entry, after(0))
		}
	}
	scan()
	scan()
	p.Entry("n", line(after(0), "good", "s", ""), after(0))
	assert.Equal(t, maxPorts+2, p.Series())
	counts, _ := closed(p.FlushMetrics(after(time.Second), false))
	assert.Equal(t, int64(2*(ports-maxPorts)), obs[CountOverflow])
	assert.Equal(t, map[string]int64{"scanner": 2 * ports, "good": 1}, counts)

	p.FlushMetrics(after(time.Hour), false)
	assert.Zero(t, p.Series())
	assert.Empty(t, p.series.ports)
}

func TestPoliciesAreBounded(t *testing.T) {
	p := New(Config{RecordMetrics: true}, nil)
	for i := range 100 {
		p.Entry("n", line(after(0), "a", "s", fmt.Sprintf(`error="connection closed due to policy rejection: explicitly denied by: x/p%d"`, i)), after(0))
	}
	policies, total := map[string]bool{}, int64(0)
	eachPoint(p.FlushMetrics(after(time.Second), false), func(_, metric string, attrs pcommon.Map, value int64) {
		if metric == semconv.MetricConnectionsFailed {
			policies[fmt.Sprint(attrs.AsRaw()[semconv.LabelPolicy])] = true
			total += value
		}
	})
	assert.Equal(t, int64(100), total)
	assert.Len(t, policies, maxPolicies+1)
}

func TestNodesAreBounded(t *testing.T) {
	obs := counter{}
	p := New(Config{RecordMetrics: true, MaxNodes: 2}, obs)
	for _, node := range []string{"a", "b", "c", "a", "d"} {
		p.Entry(node, line(after(0), "a", "s", ""), after(0))
	}
	assert.Equal(t, 2, p.FlushMetrics(after(time.Second), false).ResourceMetrics().Len())
	assert.Equal(t, int64(2), obs[CountNodesDropped])
}

func TestClock(t *testing.T) {
	obs := counter{}
	p := New(Config{RecordMetrics: true}, obs)
	assert.True(t, p.Log("n").LastSeen.IsZero())
	for _, at := range []time.Time{
		time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), after(2 * time.Hour),
	} {
		p.Entry("n", line(at, "a", "s", ""), after(10*time.Second))
		assert.Equal(t, after(10*time.Second), p.Log("n").LastSeen)
	}
	p.Entry("n", line(after(40*time.Second), "a", "s", ""), after(10*time.Second))
	assert.Equal(t, after(40*time.Second), p.Log("n").LastSeen, "within the tolerance")
	p.Entry("n", line(time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC), "a", "s", ""), time.Time{})
	p.Entry("n", line(after(2*time.Hour), "a", "s", ""), time.Time{})
	assert.Equal(t, after(2*time.Hour), p.Log("n").LastSeen, "nothing to compare with")
	counts, _ := closed(p.FlushMetrics(after(time.Hour), false))
	assert.Equal(t, map[string]int64{"a": 6}, counts)
	assert.Equal(t, int64(4), obs[CountClockOutliers])
}

func TestTimeShift(t *testing.T) {
	p := New(Config{RecordMetrics: true, RecordLogs: true, RecordSpans: true, SamplingRatio: 1}, nil)
	p.SetTimeShift(time.Hour)
	p.Entry("n", line(after(0), "a", "s", ""), after(time.Hour))
	assert.Equal(t, after(time.Hour), p.Log("n").LastSeen)
	assert.Equal(t, after(time.Hour), firstLog(p.FlushLogs()).Timestamp().AsTime())
	first := firstSpan(p.FlushSpans())
	assert.Equal(t, after(time.Hour), first.EndTimestamp().AsTime())
	p.SetTimeShift(2 * time.Hour)
	p.Entry("n", line(after(0), "a", "s", ""), after(2*time.Hour))
	assert.NotEqual(t, first.TraceID(), firstSpan(p.FlushSpans()).TraceID(), "the next round of a replay is another connection")
}

func TestEntriesAheadOfTheBoundaryWait(t *testing.T) {
	obs := counter{}
	p := New(Config{RecordMetrics: true, MaxHeldBytes: 4096}, obs)
	p.Advance(after(5 * time.Second))
	p.Entry("n", line(after(4*time.Second), "a", "s", ""), after(time.Minute))
	p.Entry("n", line(after(5*time.Second), "a", "s", ""), after(time.Minute))
	p.Entry("n", line(after(12*time.Second), "a", "s", ""), after(time.Minute))
	p.Entry("n", line(after(4*time.Second), "a", "s", ""), after(time.Minute))
	assert.Equal(t, after(12*time.Second), p.Log("n").LastSeen)

	for _, step := range []struct {
		at   time.Duration
		want map[string]int64
	}{
		{5 * time.Second, map[string]int64{"a": 2}},
		{10 * time.Second, map[string]int64{"a": 3}},
		{15 * time.Second, map[string]int64{"a": 4}},
		{20 * time.Second, map[string]int64{}},
	} {
		counts, _ := closed(p.FlushMetrics(after(step.at), false))
		assert.Equal(t, step.want, counts, step.at)
		p.Advance(after(step.at + 5*time.Second))
	}

	p.Entry("n", line(after(3*time.Second), "a", "s", ""), after(time.Minute))
	for range 100 {
		p.Entry("n", line(after(40*time.Second), "a", "s", ""), after(time.Minute))
	}
	counts, _ := closed(p.FlushMetrics(after(25*time.Second), false))
	assert.Equal(t, int64(1), obs[CountLate])
	assert.Positive(t, obs[CountEarly])
	assert.Equal(t, 4+1+obs[CountEarly], counts["a"])
	p.Advance(after(time.Hour))
	counts, _ = closed(p.FlushMetrics(after(time.Hour), false))
	assert.Equal(t, int64(105), counts["a"], "nothing is lost")
}

func TestKey(t *testing.T) {
	const head = "2026-11-23T21:18:51Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:4000 "
	for _, tt := range []struct {
		name, entry string
		want        map[string]any
	}{
		{"tunnel to a host", head + `dst.addr=10.0.0.9:15008 dst.hbone_addr=pay.svc:8080 direction="outbound"`, map[string]any{
			"reporter": "source", "source_address": "10.0.0.1", "destination_address": "10.0.0.9", "destination_port": int64(8080), "connection_security_policy": "mutual_tls",
		}},
		{"IPv6", head + `dst.addr=[fd00::9]:15008 dst.hbone_addr=[fd00::9]:8080 direction="inbound"`, map[string]any{
			"reporter": "destination", "source_address": "10.0.0.1", "destination_address": "fd00::9", "destination_port": int64(8080), "connection_security_policy": "mutual_tls",
		}},
		{"outside the mesh", head + `src.workload="batch-1" src.cluster="c" dst.addr=10.0.0.2:80 dst.workload="w" dst.namespace="n" dst.service="s" direction="inbound"`, map[string]any{
			"reporter": "destination", "source_pod": "batch-1", "source_address": "10.0.0.1", "source_cluster": "c", "destination_address": "10.0.0.2",
			"destination_pod": "w", "destination_workload_namespace": "n", "destination_service": "s", "destination_port": int64(80), "connection_security_policy": "none",
		}},
		{"identities", head + `src.identity="spiffe://a" dst.addr=10.0.0.2:80 direction="inbound"`, map[string]any{
			"reporter": "destination", "source_address": "10.0.0.1", "destination_address": "10.0.0.2", "destination_port": int64(80), "connection_security_policy": "mutual_tls",
			"source_principal": "spiffe://a",
		}},
		{"through a network's gateway", head + `src.workload="gateway-1" src.identity="spiffe://a" dst.addr=10.0.0.2:15008 dst.hbone_addr=pay.svc:80 direction="inbound"`, map[string]any{
			"reporter": "destination", "source_pod": "gateway-1", "source_address": "10.0.0.1", "destination_address": "10.0.0.2", "destination_port": int64(80),
			"connection_security_policy": "mutual_tls", "source_principal": "spiffe://a",
		}},
		{"early denial at the client", strings.Replace(head, "complete", "failed", 1) + `dst.addr=10.96.0.1:80 direction="outbound" error="x"`, map[string]any{
			"reporter": "source", "source_address": "10.0.0.1", "destination_address": "10.96.0.1", "destination_port": int64(80), "connection_security_policy": "unknown",
		}},
		{"early denial at the server", strings.Replace(head, "complete", "failed", 1) + `dst.addr=10.0.0.2:15008 direction="inbound" error="x"`, map[string]any{
			"reporter": "destination", "source_address": "10.0.0.1", "destination_address": "10.0.0.2", "connection_security_policy": "unknown",
		}},
		{"bad addresses", strings.Replace(head, "10.0.0.1:4000", "x", 1) + `dst.addr=10.0.0.2:80 direction="outbound"`, map[string]any{
			"reporter": "source", "destination_address": "10.0.0.2", "destination_port": int64(80), "connection_security_policy": "none",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := New(Config{RecordMetrics: true}, nil)
			p.Entry("n", []byte(tt.entry), after(time.Minute))
			md := p.FlushMetrics(after(time.Minute), false)
			require.Equal(t, 1, md.ResourceMetrics().Len())
			assert.Equal(t, tt.want, md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum().DataPoints().At(0).Attributes().AsRaw())
		})
	}
}

func TestBadInput(t *testing.T) {
	good := line(after(0), "a", "s", "")
	obs := counter{}
	p := New(Config{RecordMetrics: true, RecordLogs: true, RecordSpans: true, SamplingRatio: 1, MaxEntry: 8192}, obs)
	for _, tt := range []struct {
		name    string
		entry   string
		counter Counter
	}{
		{"cut", string(good[:len(good)-3]), CountCut},
		{"foreign", "<html>502 Bad Gateway</html>", CountForeign},
		{"empty", "", CountForeign},
		{"incomplete", "2026-11-23T21:18:51Z\tinfo\taccess\tconnection complete\ta=b", CountIncomplete},
		{"1 MiB", string(line(after(0), strings.Repeat("x", 1<<20), "s", "")), CountTruncated},
		{"1 MiB of error", string(line(after(0), "big", "s", `error="`+strings.Repeat("x", 1<<20)+`"`)), CountTruncated},
		{"invalid UTF-8", string(line(after(0), "z", "s", "src.cluster=\"\xff\xfe\"")), CountAccess},
		{"NUL bytes", string(line(after(0), "y", "s", "src.cluster=\"\x00\"")), CountAccess},
		{"wrong types", string(line(after(0), "w", "s", `bytes_sent="many" dst.addr=nowhere`)), CountInvalidFields},
		{"huge numbers", string(line(after(0), "h", "s", "bytes_sent=99999999999999999999999999")), CountInvalidFields},
		{"negative durations", string(line(after(0), "d", "s", `duration="-5ms"`)), CountInvalidFields},
	} {
		before := obs[tt.counter]
		p.Entry("n", []byte(tt.entry), after(0))
		p.Entry("n", good, after(0))
		p.FlushMetrics(after(time.Second), false)
		assert.Greater(t, obs[tt.counter], before, tt.name)
	}
	counts, _ := closed(p.FlushMetrics(after(2*time.Second), true))
	assert.Equal(t, map[string]int64{"a": 11, "big": 1, "z": 1, "y": 1, "w": 1, "h": 1, "d": 1}, counts, "nothing else is lost")
}

func TestSumsSaturate(t *testing.T) {
	p := New(Config{RecordMetrics: true}, nil)
	for range 20 {
		p.Entry("n", line(after(0), "a", "s", fmt.Sprintf("bytes_sent=%d", int64(1)<<60)), after(0))
	}
	eachPoint(p.FlushMetrics(after(time.Second), false), func(_, metric string, _ pcommon.Map, value int64) {
		assert.GreaterOrEqual(t, value, int64(0), metric)
	})
}

func TestDrainIsClosedAndNotFailed(t *testing.T) {
	p := New(Config{RecordMetrics: true, RecordSpans: true}, nil)
	p.Entry("n", line(after(0), "a", "s", `error="connection closed due to connection drain"`), after(0))
	counts, _ := closed(p.FlushMetrics(after(time.Second), false))
	assert.Equal(t, map[string]int64{"a": 1}, counts)
	eachPoint(p.FlushMetrics(after(time.Second), true), func(_, metric string, _ pcommon.Map, _ int64) {
		assert.NotEqual(t, semconv.MetricConnectionsFailed, metric)
	})
	assert.Zero(t, p.FlushSpans().SpanCount())
}

func TestAClientThatLeavesAtOnceDoesNotTellOfTheServer(t *testing.T) {
	for duration, want := range map[string]uint64{"5ms": 0, "1000ms": 1} {
		p := New(Config{RecordMetrics: true}, nil)
		entry := bytes.Replace(line(after(0), "a", "s", `error="receive: client disconnected before all data was written"`), []byte(`"20ms"`), []byte(`"`+duration+`"`), 1)
		p.Entry("n", bytes.Replace(entry, []byte("bytes_recv=100"), []byte("bytes_recv=0"), 1), after(0))
		p.FlushMetrics(after(5*time.Second), false)
		assert.Equal(t, want, p.series.slots[0].unanswered, duration)
	}
}

func TestOpenedIsARecordAndNoConnection(t *testing.T) {
	p := New(Config{RecordMetrics: true, RecordLogs: true, RecordSpans: true, SamplingRatio: 1}, nil)
	p.Entry("n", []byte(strings.Replace(string(line(after(0), "a", "s", "")), "complete", "opened", 1)), after(0))
	assert.Zero(t, p.FlushMetrics(after(time.Second), true).DataPointCount())
	assert.Zero(t, p.FlushSpans().SpanCount())
	assert.Equal(t, "connection opened", firstLog(p.FlushLogs()).Body().Str())
}

func firstLog(logs plog.Logs) plog.LogRecord {
	return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
}

func firstSpan(traces ptrace.Traces) ptrace.Span {
	return traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0)
}

func TestNotableMessages(t *testing.T) {
	p := New(Config{RecordLogs: true}, nil)
	for _, tt := range []struct {
		entry string
		want  bool
	}{
		{"2026-11-23T21:18:51Z\twarn\tinpod::workloadmanager\tfailed to connect\t", true},
		{"2026-11-23T21:18:51Z\terror\tproxy\tx\t", true},
		{"2026-11-23T21:18:51Z\tinfo\txds::client:xds{id=1}\tStream established\t", true},
		{"2026-11-23T21:18:51Z\tdebug\tidentity::manager\tx\t", true},
		{"2026-11-23T21:18:51Z\tinfo\tproxy::inbound\tlistener established\taddress=[::]:15008", false},
		{"2026-11-23T21:18:51Z\tinfo\txdsx\tx\t", false},
	} {
		p.Entry("n", []byte(tt.entry), after(time.Minute))
		logs := p.FlushLogs()
		assert.Equal(t, tt.want, logs.LogRecordCount() == 1, tt.entry)
		if tt.want {
			assert.Equal(t, semconv.EventZtunnelLog, firstLog(logs).EventName())
		}
	}
}

func TestConfigValidate(t *testing.T) {
	require.NoError(t, (&Config{}).Validate())
	for _, cfg := range []Config{
		{MaxSeries: -1},
		{MaxNodes: -1},
		{MaxRecords: -1},
		{MaxHeldBytes: -1},
		{MaxEntry: -1},
		{Expiry: -1},
		{SlowThreshold: -1},
		{MaxSkew: -1},
		{Histogram: HistogramConfig{MaxScale: 9}},
		{Histogram: HistogramConfig{MaxScale: -1}},
		{Histogram: HistogramConfig{MaxBuckets: 4}},
		{Histogram: HistogramConfig{MaxBuckets: 1000}},
	} {
		assert.Error(t, cfg.Validate())
	}
}

func TestWarmEntryDoesNotAllocate(t *testing.T) {
	for _, recording := range []string{"policy-deny", "payment-refused"} {
		lines := recordedAccess(t, recordings+"/"+recording)
		entries := make([][]byte, len(lines))
		for i, l := range lines {
			entries[i] = []byte(l.line)
		}
		p := New(Config{RecordMetrics: true, RecordSpans: true}, nil)
		for i, l := range lines {
			p.Entry(l.node, entries[i], l.at)
		}
		p.FlushMetrics(lines[len(lines)-1].at.Add(time.Second), false)
		p.cfg.RecordSpans = false // a span is meant to allocate; the decision is not
		require.Zero(t, testing.AllocsPerRun(3, func() {
			for i, l := range lines {
				p.Entry(l.node, entries[i], l.at)
			}
		}), recording)
		require.Zero(t, testing.AllocsPerRun(3, func() {
			s := sampler{below: 1, key: make([]byte, 0, 256)}
			for range lines {
				s.take(&p.rec)
			}
		})-1) // the sampler's buffer
	}
}
