//go:build unix

package flow

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

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
	n := p.nodes.get(lines[0].node)
	b.ReportAllocs()
	i := 0
	start := cpuTime(b)
	for b.Loop() {
		p.aggregate(n, &recs[i])
		if i++; i == len(recs) {
			i = 0
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(b.N)/(cpuTime(b)-start).Seconds(), "lines/cpu-s")
}

// cpuTime is what the process has used: on a busy machine, the elapsed time says little.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkEntry takes the whole way from an entry to what was asked for, flushes included.
func BenchmarkEntry(b *testing.B) {
	for name, cfg := range map[string]Config{
		"metrics": {RecordMetrics: true},
		"spans":   {RecordMetrics: true, RecordSpans: true, SamplingRatio: 1.0 / 100},
		"all":     {RecordMetrics: true, RecordSpans: true, RecordLogs: true, SamplingRatio: 1},
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
				start := cpuTime(b)
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
				b.ReportMetric(float64(b.N)/(cpuTime(b)-start).Seconds(), "lines/cpu-s")
			})
		}
	}
}
