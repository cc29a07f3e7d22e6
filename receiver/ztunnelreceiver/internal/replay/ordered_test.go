package replay

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// timesSource gives parts at these times; 0 is a part without one.
type timesSource struct{ times []int64 }

func (s *timesSource) next(part *Part) error {
	if len(s.times) == 0 {
		return io.EOF
	}
	part.own, s.times = s.times[0], s.times[1:]
	return nil
}

type countingReport struct{ outliers, unreadable int }

func (r *countingReport) ClockOutlier(_ Kind, _ string, n int)         { r.outliers += n }
func (r *countingReport) Unreadable(_ Kind, _ string, _ bool, _ error) { r.unreadable++ }
func (r *countingReport) UnknownFiles(string, []string)                {}

var began = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)

func at(s float64) int64 { return began.Add(time.Duration(s * float64(time.Second))).UnixNano() }

func TestOrdered(t *testing.T) {
	const (
		past   = int64(1)
		future = int64(4_102_444_800_000_000_000) // 2100
	)
	tests := map[string]struct {
		jitter   time.Duration
		in, want []int64
		outliers int
	}{
		"in order":                        {0, []int64{at(1), at(2), at(2), at(3)}, []int64{at(1), at(2), at(2), at(3)}, 0},
		"a little out of order":           {time.Second, []int64{at(1), at(1.5), at(1.2), at(3), at(2.5)}, []int64{at(1), at(1.2), at(1.5), at(2.5), at(3)}, 0},
		"without time":                    {0, []int64{at(1), 0, at(2), 0}, []int64{at(1), at(1), at(2), at(2)}, 0},
		"backwards":                       {time.Second, []int64{at(100), at(5), at(101)}, []int64{at(100), at(100), at(101)}, 1},
		"1970 and 2100":                   {0, []int64{at(1), past, at(2), future, at(3)}, []int64{at(1), at(1), at(2), at(2), at(3)}, 2},
		"2100 first":                      {0, []int64{future, at(1), at(2), at(3)}, []int64{at(1), at(1), at(2), at(3)}, 1},
		"1970 last":                       {0, []int64{at(1), at(2), past}, []int64{at(1), at(2), at(2)}, 1},
		"two hours ahead, alone":          {0, []int64{at(1), at(7200), at(2), at(3)}, []int64{at(1), at(1), at(2), at(3)}, 1},
		"two hours ahead, and goes on":    {0, []int64{at(1), at(7200), at(7201)}, []int64{at(1), at(7200), at(7201)}, 0},
		"a quarter of an hour apart":      {0, []int64{at(0), at(900), at(1800), at(2700), at(3600), at(4500)}, []int64{at(0), at(900), at(1800), at(2700), at(3600), at(4500)}, 0},
		"two hours ahead, several, alone": {0, []int64{at(1), at(7200), 0, at(2)}, []int64{at(1), at(1), at(1), at(2)}, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			report := &countingReport{}
			o := &ordered{src: &timesSource{test.in}, jitter: int64(test.jitter), report: report}
			anchor := o.anchor()
			o.start(at(10), anchor)
			var got []int64
			for o.peek() != nil {
				part := o.pop()
				got = append(got, part.own)
				o.recycle(part)
			}
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.outliers, report.outliers)
		})
	}
}

func TestEntryTime(t *testing.T) {
	for entry, want := range map[string]string{
		"2026-11-23T21:24:37.454227Z\tinfo\tztunnel\tx":                                            "2026-11-23T21:24:37.454227Z",
		"2026-11-23T21:24:37+01:00 x":                                                              "2026-11-23T21:24:37+01:00",
		`{"level":"info","time":"2026-11-23T21:24:37Z","scope":"a"}`:                               "2026-11-23T21:24:37Z",
		`{"level":"info", "time" : "2026-11-23T21:24:37Z"}`:                                        "2026-11-23T21:24:37Z",
		`{"message":"time","x":"\"time\":\"1970-01-01T00:00:00Z\"","time":"2026-11-23T21:24:37Z"}`: "2026-11-23T21:24:37Z",
		"": "", "x": "", "2026-13-45T99:99:99Z x": "", "0001-01-01T00:00:00Z x": "", `{"time":5}`: "", `{"time"`: "", "2026-11-23T21:24:37": "",
	} {
		t.Run(entry, func(t *testing.T) {
			nanos, where := entryTime([]byte(entry))
			require.Equal(t, want != "", nanos != 0)
			if want == "" {
				return
			}
			assert.Equal(t, want, entry[where.from:where.to])
			parsed, err := time.Parse(time.RFC3339, want)
			require.NoError(t, err)
			assert.Equal(t, parsed.UnixNano(), nanos)
			changed := string(setEntryTime(nil, []byte(entry), where, at(1)))
			assert.Equal(t, strings.Replace(entry, want, "2026-11-23T21:00:01.000000Z", 1), changed)
		})
	}
}

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	read := func(over longLines) (all []string, errs int) {
		r := newLineReader(strings.NewReader("a\r\n\n"+long+"\nb\n"+long), 80_000, over)
		for {
			line, err := r.next()
			switch {
			case errors.Is(err, io.EOF):
				return all, errs
			case errors.Is(err, errTooLong):
				errs++
			default:
				require.NoError(t, err)
				all = append(all, string(line))
			}
		}
	}
	all, errs := read(cutLong)
	assert.Equal(t, []string{"a", "", long[:80_000], "b", long[:80_000]}, all)
	assert.Zero(t, errs)
	all, errs = read(skipLong)
	assert.Equal(t, []string{"a", "", "b"}, all)
	assert.Equal(t, 2, errs)
}

func TestScrapes(t *testing.T) {
	s := &scrapeSource{lines: newLineReader(strings.NewReader(
		"before the first\n## scrape 2026-11-23T21:00:00Z ok\na 1\n## scrape 2026-11-23T21:00:05Z failed\nignored\n"+
			"## scrape nonsense\n## scrape 2026-11-23T21:00:10Z ok\n"+strings.Repeat("b 2\n", 100)), 200, skipLong), limit: 200}
	type scrape struct {
		own    int64
		failed bool
		raw    string
	}
	var got []scrape
	for part := (&Part{}); s.next(part) == nil; {
		got = append(got, scrape{part.own, part.Failed, string(part.Raw)})
	}
	assert.Equal(t, []scrape{
		{at(0), false, "a 1\n"}, {at(5), true, ""}, {0, true, ""}, {at(10), true, ""},
	}, got, "a body that is too large is a failed scrape")
}

func TestNamesOfFiles(t *testing.T) {
	for name, want := range map[string]struct {
		kind Kind
		node string
	}{
		"ztunnel-a.b.log.gz":     {KindEntry, "a.b"},
		"ztunnel-a.log":          {KindEntry, "a"},
		"metrics-x.prom":         {KindScrape, "x"},
		"config_dump-x.jsonl.gz": {KindConfigDump, "x"},
		"xds.jsonl":              {KindXDS, ""},
		"xds.binpb.gz":           {KindXDS, ""},
		"otlp-traces.jsonl":      {KindSpans, ""},
	} {
		got, ok := parseName(name)
		require.True(t, ok, name)
		assert.Equal(t, want.kind, got.kind)
		assert.Equal(t, want.node, got.node)
		assert.Equal(t, name, got.name)
	}
	for _, name := range []string{"truth.json", "ztunnel-.log", "ztunnel-a.log.bz2", "metrics-a.log", "", ".gz", "xds.json"} {
		_, ok := parseName(name)
		assert.False(t, ok, name)
	}
}

// BenchmarkNext merges the parts of a recording.
func BenchmarkNext(b *testing.B) {
	b.ReportAllocs()
	parts := 0
	for b.Loop() {
		recording, err := Open("../../../../recordings/policy-deny", Limits{Entry: 64 << 10, Part: 64 << 20}, &countingReport{})
		require.NoError(b, err)
		for {
			if _, err := recording.Next(0); err != nil {
				break
			}
			parts++
		}
		require.NoError(b, recording.Close())
	}
	b.ReportMetric(float64(parts)/b.Elapsed().Seconds(), "parts/s")
}
