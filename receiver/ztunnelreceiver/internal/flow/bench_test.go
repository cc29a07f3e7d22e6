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

// BenchmarkMessages takes the whole way of lines that are none of the access log: of ztunnels' own, and of names that pods ask for, which come
// with dns=debug only.
func BenchmarkMessages(b *testing.B) {
	for name, lines := range map[string][]string{
		"own": {
			`2026-11-27T09:39:20.016899Z	info	proxy::inbound	listener established	address=[::]:15008 component="inbound" transparent=true`,
			`2026-11-27T09:40:22.053787Z	info	drain:proxy{wl=billing/payment-66cd-c2}	shutdown complete	component="inbound"`,
			`2026-11-27T09:39:20.017126Z	info	readiness	Task 'dns proxy' complete (3.191837ms), still awaiting 3 tasks	`,
		},
		"names": {
			`2026-11-27T09:33:12.231807Z	debug	dns	src.workload="payment-1" src.namespace="billing" query="A" domain="catalog.shop.svc.cluster.local." result="success" endpoints=1`,
			`2026-11-27T09:33:13.231807Z	debug	dns	src.workload="payment-1" src.namespace="billing" query="A" domain="api.stripe.test." result="forwarded" endpoints=1`,
			`2026-11-27T09:33:14.231807Z	debug	dns	src.workload="payment-1" src.namespace="billing" query="AAAA" domain="api.stripe.test.cluster.local." result="forwarding failed (net error: DNS error: no records found for Query { name: Name(\"api.stripe.test.cluster.local.\"), query_type: AAAA, query_class: IN })" endpoints=0`,
		},
	} {
		b.Run(name, func(b *testing.B) {
			p := New(Config{RecordMetrics: true, RecordLogs: true}, nil)
			entries := make([][]byte, len(lines))
			for i, line := range lines {
				entries[i] = []byte(line)
			}
			at := time.Date(2026, 11, 27, 9, 41, 0, 0, time.UTC)
			b.ReportAllocs()
			n := 0
			start := cpuTime(b)
			for b.Loop() {
				p.Entry("node-a", entries[n%len(entries)], at)
				if n++; n%20_000 == 0 {
					p.FlushMetrics(at.Add(time.Duration(n)), false)
					p.FlushLogs()
				}
			}
			b.ReportMetric(float64(b.N)/(cpuTime(b)-start).Seconds(), "lines/cpu-s")
		})
	}
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
