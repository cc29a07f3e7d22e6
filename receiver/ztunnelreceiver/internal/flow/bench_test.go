package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

func recordedAccess(tb testing.TB, folder string) []recorded {
	tb.Helper()
	var rec accesslog.Record
	parser := accesslog.NewParser(0)
	var access []recorded
	for _, l := range readRecording(tb, folder) {
		if kind, _ := parser.Parse([]byte(l.line), &rec); kind == accesslog.KindAccess {
			access = append(access, l)
		}
	}
	require.NotEmpty(tb, access)
	return access
}

// BenchmarkAggregate takes the time of the aggregation alone: the parsed record into its series.
func BenchmarkAggregate(b *testing.B) {
	lines := recordedAccess(b, recordings+"/policy-deny")
	p := New(Config{RecordMetrics: true}, nil)
	recs := make([]accesslog.Record, len(lines))
	parsers := make([]*accesslog.Parser, len(lines))
	for i, l := range lines {
		p.Entry(l.node, []byte(l.line), l.at)
		parsers[i] = accesslog.NewParser(0)
		_, err := parsers[i].Parse([]byte(l.line), &recs[i])
		require.NoError(b, err)
	}
	n := p.node(lines[0].node)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		p.aggregate(n, &recs[i])
		if i++; i == len(recs) {
			i = 0
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// BenchmarkEntry takes the whole way from an entry to what was asked for, flushes included.
func BenchmarkEntry(b *testing.B) {
	for name, cfg := range map[string]Config{
		"metrics": {RecordMetrics: true},
		"spans":   {RecordMetrics: true, RecordSpans: true, SampleRatioN: 100},
		"all":     {RecordMetrics: true, RecordSpans: true, RecordLogs: true, SampleRatioN: 1},
	} {
		for _, recording := range []string{"policy-deny", "payment-refused"} {
			b.Run(name+"/"+recording, func(b *testing.B) {
				lines := recordedAccess(b, recordings+"/"+recording)
				entries := make([][]byte, len(lines))
				for i, l := range lines {
					entries[i] = []byte(l.line)
				}
				p := New(cfg, nil)
				b.ReportAllocs()
				i, n, at := 0, 0, lines[len(lines)-1].at
				for b.Loop() {
					p.Entry(lines[i].node, entries[i], lines[i].at)
					if i++; i == len(lines) {
						i = 0
					}
					if n++; n == 20_000 {
						n, at = 0, at.Add(time.Second)
						p.FlushMetrics(at, false)
						p.FlushLogs()
						p.FlushSpans()
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
			})
		}
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
			s := sampler{n: 1 << 62, key: make([]byte, 0, 256)}
			for range lines {
				s.take(&p.rec)
			}
		})-1) // the sampler's buffer
	}
}
