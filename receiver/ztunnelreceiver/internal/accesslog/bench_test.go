package accesslog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

func BenchmarkParsePlain(b *testing.B) { benchmarkParse(b, accessEntries(b, false)) }
func BenchmarkParseJSON(b *testing.B)  { benchmarkParse(b, accessEntries(b, true)) }

func benchmarkParse(b *testing.B, entries [][]byte) {
	parser := accesslog.NewParser(0)
	var rec accesslog.Record
	size := 0
	for _, entry := range entries {
		size += len(entry)
	}
	b.SetBytes(int64(size / len(entries)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := parser.Parse(entries[i], &rec); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(entries) {
			i = 0
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

func TestParseDoesNotAllocate(t *testing.T) {
	parser := accesslog.NewParser(0)
	var rec accesslog.Record
	escaped := []byte("2026-11-23T21:18:51.657644Z\terror\taccess\tconnection complete\t" +
		`src.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 direction="outbound" error="a \"b\" \u{1f600}"`)
	for name, entries := range map[string][][]byte{
		"plain":   accessEntries(t, false)[:500],
		"json":    accessEntries(t, true)[:500],
		"escaped": {escaped},
	} {
		t.Run(name, func(t *testing.T) {
			require.Zero(t, testing.AllocsPerRun(5, func() {
				for _, entry := range entries {
					if _, err := parser.Parse(entry, &rec); err != nil {
						t.Fatal(err)
					}
				}
			}))
		})
	}
}
