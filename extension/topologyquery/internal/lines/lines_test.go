package lines

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/semconv"
)

var origin = time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)

func line(n int, event, level, message string, fields map[string]string) plog.LogRecord {
	r := plog.NewLogRecord()
	r.SetEventName(event)
	r.SetTimestamp(pcommon.NewTimestampFromTime(origin.Add(time.Duration(n) * time.Second)))
	r.SetSeverityText(level)
	r.Body().SetStr(message)
	r.Attributes().PutStr(semconv.AttrRecordUID, strconv.Itoa(n))
	r.Attributes().PutStr(semconv.AttrScope, "xds::client")
	for name, value := range fields {
		r.Attributes().PutStr(semconv.AttrFieldPrefix+name, value)
	}
	return r
}

func TestLines(t *testing.T) {
	kept, err := records.Open(records.Settings{
		Directory: t.TempDir(), MaxBytes: 1 << 30, Retention: time.Hour, Now: time.Now, Logger: zap.NewNop(),
	}, Kind)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, kept.Close()) })
	s := NewStore(kept.Table(KindName))
	var b Batch
	b.Add("node-a", line(0, semconv.EventZtunnelLog, "WARN", "XDS client connection error", map[string]string{"id": "7", "who": "istiod"}))
	b.Add("node-b", line(1, semconv.EventZtunnelLog, "info", "Stream established", nil))
	b.Add("node-a", line(2, semconv.EventCNILog, "error", "failed to send "+strings.Repeat("x", 2*maxText), map[string]string{"name": "pod-1"}))
	s.Add(b)
	s.Add(b)

	for name, tt := range map[string]struct {
		filter Filter
		want   []int
	}{
		"all":               {Filter{}, []int{2, 1, 0}},
		"a node's":          {Filter{Node: "node-a"}, []int{2, 0}},
		"a source's":        {Filter{Source: SourceCNI}, []int{2}},
		"a level":           {Filter{Level: "warn"}, []int{0}},
		"part of a message": {Filter{Text: "STREAM"}, []int{1}},
		"part of a field":   {Filter{Text: "istiod"}, []int{0}},
		"a time":            {Filter{Since: origin.Add(time.Second), Until: origin.Add(2 * time.Second)}, []int{1}},
		"none":              {Filter{Node: "node-c"}, []int{}},
	} {
		t.Run(name, func(t *testing.T) {
			list, next, err := s.List(t.Context(), tt.filter, 0, 10)
			require.NoError(t, err)
			assert.Zero(t, next)
			found := []int{}
			for _, one := range list {
				found = append(found, int(one.Time.Sub(origin)/time.Second))
				assert.LessOrEqual(t, len(one.Message), maxText)
			}
			assert.Equal(t, tt.want, found)
		})
	}
	list, next, err := s.List(t.Context(), Filter{}, 0, 2)
	require.NoError(t, err)
	assert.Len(t, list, 2)
	list, _, err = s.List(t.Context(), Filter{}, next, 2)
	require.NoError(t, err)
	assert.Equal(t, []Line{{
		Cursor: 1, Time: origin, Node: "node-a", Source: SourceZtunnel, Level: "warn", Scope: "xds::client", Message: "XDS client connection error",
		Fields: map[string]string{"id": "7", "who": "istiod"},
	}}, list)
}
