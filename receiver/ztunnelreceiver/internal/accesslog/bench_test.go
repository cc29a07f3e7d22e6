//go:build unix

package accesslog_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

func BenchmarkParsePlain(b *testing.B) { benchmarkParse(b, accessEntries(b, false)) }
func BenchmarkParseJSON(b *testing.B)  { benchmarkParse(b, accessEntries(b, true)) }

// benchmarkParse goes round recorded entries, about 1 MiB of them: in real life they were read from a file just
// before, so they lie in the processor's cache.
func benchmarkParse(b *testing.B, entries [][]byte) {
	b.Helper()
	entries = entries[:2000]
	parser := accesslog.NewParser(0)
	var rec accesslog.Record
	size := 0
	for _, entry := range entries {
		size += len(entry)
	}
	b.SetBytes(int64(size / len(entries)))
	b.ReportAllocs()
	i := 0
	start := cpuTime(b)
	for b.Loop() {
		if _, err := parser.Parse(entries[i], &rec); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(entries) {
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

func BenchmarkUnwrapBare(b *testing.B) { benchmarkUnwrap(b, "") }
func BenchmarkUnwrapCRI(b *testing.B)  { benchmarkUnwrap(b, criTime+"stdout F ") }

func benchmarkUnwrap(b *testing.B, before string) {
	b.Helper()
	line := []byte(before + outboundPlain)
	u, n := accesslog.NewUnwrapper(accesslog.Style{}, 0), 0
	b.ReportAllocs()
	for b.Loop() {
		u.Line(line, func([]byte) { n++ })
	}
}
