package proxies

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/goleak"

	"github.com/nephilia/nephilia/internal/semconv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const second = pcommon.Timestamp(time.Second)

func line(text, uid string, at pcommon.Timestamp) plog.LogRecord {
	record := plog.NewLogRecord()
	record.SetTimestamp(at)
	record.SetSeverityText("error")
	record.Body().SetStr(text)
	record.Attributes().PutStr(semconv.AttrScope, "inpod::workloadmanager")
	record.Attributes().PutStr(semconv.AttrFieldPrefix+"uid", uid)
	return record
}

// TestEvents groups what a ztunnel logs by what does not differ, and keeps the newest.
func TestEvents(t *testing.T) {
	table := New()
	assert.Empty(t, table.Events("node-a"))
	for i := range 3 {
		at := pcommon.Timestamp(100+i) * second
		table.Message("node-a", line(fmt.Sprintf("failed to start proxy: Bind([::]:%d)", i), "u", at), at)
	}
	table.Message("node-a", line("odd thing 7", "", 104*second), 104*second)
	events := table.Events("node-a")
	require.Len(t, events, 2)
	assert.Equal(t, "odd thing 7", events[0].Message)
	assert.Empty(t, events[0].Meaning)
	assert.EqualValues(t, 3, events[1].Count)
	assert.Equal(t, "failed to start proxy: Bind([::]:2)", events[1].Message)
	assert.NotEmpty(t, events[1].Meaning)
	assert.Equal(t, 2*time.Second, events[1].Last.Sub(events[1].First))
	for i := range 3 * maxEvents {
		table.Message("node-a", line(fmt.Sprintf("new%c%c", 'a'+i%26, 'a'+i/26), "", 105*second), 105*second)
	}
	assert.Len(t, table.Events("node-a"), maxEvents)
}

// TestWaits believes the lines of attempts, and only while they go on.
func TestWaits(t *testing.T) {
	table := New()
	table.Message("node-a", line("failed to start proxy: taken", "u", 100*second), 100*second)
	assert.Equal(t, "failed to start proxy: taken", table.Waits("node-a", "u", 104*second))
	assert.Empty(t, table.Waits("node-a", "other", 104*second))
	assert.Empty(t, table.Waits("node-b", "u", 104*second))
	assert.Empty(t, table.Waits("node-a", "u", 120*second))
	table.Message("node-a", line("pod delete request, shutting down proxy", "u", 105*second), 105*second)
	assert.Empty(t, table.Waits("node-a", "u", 105*second))
}

func TestLoad(t *testing.T) {
	table := New()
	_, ok := table.Load("node-a")
	assert.False(t, ok)
	metric := pmetric.NewMetric()
	metric.SetName("process_open_fds")
	point := metric.SetEmptyGauge().DataPoints().AppendEmpty()
	point.SetTimestamp(10 * second)
	point.SetIntValue(70)
	table.Metric("node-a", metric, 10*second)
	load, ok := table.Load("node-a")
	assert.True(t, ok)
	assert.EqualValues(t, 70, load.Files)
}

// TestPast keeps the load of an hour, a point every 15 seconds.
func TestPast(t *testing.T) {
	table := New()
	for at := pcommon.Timestamp(1000); at < 6000; at += 5 {
		metric := pmetric.NewMetric()
		metric.SetName("process_open_fds")
		point := metric.SetEmptyGauge().DataPoints().AppendEmpty()
		point.SetTimestamp(at * second)
		point.SetIntValue(int64(at))
		table.Metric("node-a", metric, at*second)
	}
	past := table.Past("node-a", 0, 10_000*second)
	require.Len(t, past, maxPast)
	assert.EqualValues(t, 5980, past[maxPast-1].Files)
	assert.Equal(t, 15*second, past[1].At-past[0].At)
	assert.Len(t, table.Past("node-a", 5900*second, 5960*second), 4)
	assert.Empty(t, table.Past("node-a", 9000*second, 100*second))
	assert.Empty(t, table.Past("other", 0, 10_000*second))
}
