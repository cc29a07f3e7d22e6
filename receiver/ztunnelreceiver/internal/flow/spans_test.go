package flow

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// TestBothSidesSampleTheSameConnections pairs outbound and inbound entries by what they share and compares what
// is decided on each.
func TestBothSidesSampleTheSameConnections(t *testing.T) {
	type shared struct {
		client, target string
		sent, received uint64
	}
	for _, folder := range recordingFolders(t) {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			const n = 10
			s := newSampler(1.0/n, 0)
			parser := accesslog.NewParser(0)
			var rec accesslog.Record
			outbound := map[shared]map[int64]bool{} // by time
			type side struct {
				shared
				at    int64
				taken bool
			}
			var inbound []side
			taken, healthy := 0, 0
			for _, l := range readRecording(t, folder) {
				kind, err := parser.Parse([]byte(l.line), &rec)
				require.NoError(t, err)
				if kind != accesslog.KindAccess || rec.Failed() || len(rec.HBONE.Text) == 0 {
					continue
				}
				sent, received := clientBytes(&rec)
				k := shared{string(rec.Src.Host), string(rec.HBONE.Text), sent, received}
				decision := s.take(&rec)
				healthy++
				if decision {
					taken++
				}
				if rec.Direction == accesslog.DirectionInbound {
					inbound = append(inbound, side{k, rec.Time, decision})
					continue
				}
				if outbound[k] == nil {
					outbound[k] = map[int64]bool{}
				}
				outbound[k][rec.Time] = decision
			}
			pairs, agree := 0, 0
			for _, in := range inbound {
				best, distance := false, int64(time.Second)
				for at, decision := range outbound[in.shared] {
					if d := max(at-in.at, in.at-at); d < distance {
						best, distance = decision, d
					}
				}
				if distance < int64(time.Second) {
					pairs++
					if best == in.taken {
						agree++
					}
				}
			}
			require.Greater(t, pairs, 500)
			assert.GreaterOrEqual(t, float64(agree)/float64(pairs), 0.99, "%d of %d", agree, pairs)
			assert.InDelta(t, 1.0/n, float64(taken)/float64(healthy), 0.05)
		})
	}
}

func TestSampling(t *testing.T) {
	for _, tt := range []struct {
		name      string
		n         float64
		threshold time.Duration
		more      string
		want      bool
	}{
		{"healthy", 0, 0, "", false},
		{"every one", 1, 0, "", true},
		{"failed", 0, 0, `error="x"`, true},
		{"drained", 0, 0, `error="connection closed due to connection drain"`, false},
		{"slow", 0, time.Second, `duration="1000ms"`, true},
		{"not slow", 0, time.Second, `duration="999ms"`, false},
		{"no threshold", 0, 0, `duration="999999ms"`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := New(Config{RecordSpans: true, SamplingRatio: tt.n, SlowThreshold: tt.threshold}, nil)
			p.Entry("n", line(after(0), "a", "s", tt.more), after(0))
			assert.Equal(t, tt.want, p.FlushSpans().SpanCount() == 1)
		})
	}
}

func TestRecordsReadTwiceHaveTheSameIDs(t *testing.T) {
	read := func() ptrace.Traces {
		p := New(Config{RecordSpans: true, SamplingRatio: 1}, nil)
		for i := range 100 {
			p.Entry(fmt.Sprintf("node-%d", i%2), line(after(0), "a", "s", fmt.Sprintf("n=%d", i/2)), after(0))
		}
		return p.FlushSpans()
	}
	first, second := read(), read()
	assert.Equal(t, first, second)
	seen := map[any]bool{}
	for _, rs := range first.ResourceSpans().All() {
		for _, span := range rs.ScopeSpans().At(0).Spans().All() {
			require.False(t, span.TraceID().IsEmpty())
			require.False(t, span.SpanID().IsEmpty())
			seen[span.TraceID()], seen[span.SpanID()] = true, true
		}
	}
	assert.Len(t, seen, 200, "another node or another entry is another span")
}
