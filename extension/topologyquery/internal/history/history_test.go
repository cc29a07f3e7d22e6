package history

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
)

const (
	second      = int64(1000)
	minute      = 60 * second
	origin      = int64(1_790_000_000_000)
	fiveMinutes = 5 * time.Minute
)

func open(t *testing.T, directory string) *Embedded {
	t.Helper()
	e, err := OpenEmbedded(nil, EmbeddedSettings{
		Directory: directory, Retention: 15 * 24 * time.Hour, OutOfOrderWindow: 24 * time.Hour,
		Lookback: fiveMinutes, QueryTimeout: time.Minute, MaxSamples: 10_000_000,
	})
	require.NoError(t, err)
	return e
}

func series(name string, pairs ...string) *Series {
	return NewSeries(labels.FromStrings(append([]string{model.MetricNameLabel, name, semconv.LabelSourceWorkload, "a", semconv.LabelDestinationWorkload, "b"}, pairs...)...))
}

// closed is the number of connections closed in a window.
func closed(t *testing.T, s *Store, start, end int64) (n uint64) {
	t.Helper()
	require.NoError(t, s.Window(t.Context(), start, end, func(_ *edge.Key, c *live.Counts) { n += c.Fields[live.Closed] }))
	return n
}

func TestCountersThatBeginAnew(t *testing.T) {
	e := open(t, t.TempDir())
	defer func() { require.NoError(t, e.Close()) }()
	w := NewWriter(e.Appendable(), second)
	s := series(NameClosed)
	// points are (time, value, began): the counter restarts twice, once to a value above the former one.
	write := func(at int64, value float64, zeroAt int64) {
		b := w.Batch(t.Context())
		b.Float(s, zeroAt, origin+at, value)
		require.NoError(t, b.Commit(origin+at, false))
	}
	write(10*second, 5, origin)
	write(20*second, 8, 0)
	write(30*second, 2, origin+25*second)
	write(60*second, 50, origin+55*second)
	write(40*minute, 60, 0)
	store := NewStore(e, Settings{Lookback: fiveMinutes})
	for _, test := range []struct {
		start, end int64
		want       uint64
	}{
		{0, 10 * second, 5},
		{0, 9999, 0},
		{10 * second, 20 * second, 3},
		{0, 30 * second, 10},
		{20 * second, 30 * second, 2},
		{0, 60 * second, 60},
		{20 * second, 60 * second, 52},
		{-minute, 50 * minute, 70},
		{60 * second, 50 * minute, 10},
		{41 * minute, 50 * minute, 0},
		{-20 * minute, 0, 0},
		{10 * second, 10 * second, 0},
	} {
		assert.Equal(t, test.want, closed(t, store, origin+test.start, origin+test.end), "%+v", test)
	}
}

func TestWindowsAfterAGapOfUnknownLength(t *testing.T) {
	e := open(t, t.TempDir())
	defer func() { require.NoError(t, e.Close()) }()
	w := NewWriter(e.Appendable(), second)
	s := series(NameClosed)
	for _, p := range [][2]int64{{0, 1000}, {minute, 1010}, {30 * minute, 1500}, {31 * minute, 1510}} {
		b := w.Batch(t.Context())
		b.Float(s, 0, origin+p[0], float64(p[1]))
		require.NoError(t, b.Commit(origin+p[0], false))
	}
	store := NewStore(e, Settings{Lookback: fiveMinutes})
	assert.EqualValues(t, 10, closed(t, store, origin+20*minute, origin+31*minute), "what happened in the gap is not known to be in the window")
	assert.EqualValues(t, 510, closed(t, store, origin, origin+31*minute))
}

func TestResolution(t *testing.T) {
	e := open(t, t.TempDir())
	defer func() { require.NoError(t, e.Close()) }()
	w := NewWriter(e.Appendable(), 5*second)
	s := series(NameClosed)
	for i := int64(1); i <= 23; i++ {
		b := w.Batch(t.Context())
		b.Float(s, map[bool]int64{true: origin, false: 0}[i == 1], origin+i*second, float64(i))
		require.NoError(t, b.Commit(origin+i*second, false))
	}
	assert.EqualValues(t, 5, w.Stored(), "an explicit zero and four slots; the fifth is open")
	store := NewStore(e, Settings{Lookback: fiveMinutes})
	assert.EqualValues(t, 20, closed(t, store, origin, origin+23*second))
	require.NoError(t, w.Batch(t.Context()).Commit(origin+23*second, true))
	assert.EqualValues(t, 23, closed(t, store, origin, origin+23*second))
}

// TestLateWithinASlot stores a slot before all that belongs to it has come, as when one node's heartbeat is ahead of what waits
// for another's, or when the clock of before a restart was.
func TestLateWithinASlot(t *testing.T) {
	e := open(t, t.TempDir())
	defer func() { require.NoError(t, e.Close()) }()
	s := series(NameClosed)
	var w *Writer
	write := func(at, clock int64, value float64, zeroAt int64) {
		b := w.Batch(t.Context())
		b.Float(s, zeroAt, origin+at, value)
		require.NoError(t, b.Commit(origin+clock, false))
	}
	restart := func() {
		w, s = NewWriter(e.Appendable(), 5*second), series(NameClosed)
		if _, newest, ok := e.Bounds(); ok {
			w.Resume(newest)
		}
	}
	restart()
	write(2*second, 6*second, 7, origin)
	write(3*second, 6*second, 9, 0)
	write(4*second, 6*second, 12, 0)
	restart()
	write(5*second, 6*second, 20, 0)
	write(5*second, 6*second, 3, origin+5*second) // began anew
	restart()
	write(5*second, 6*second, 4, 0)
	assert.Empty(t, w.Dropped())
	store := NewStore(e, Settings{Lookback: fiveMinutes})
	assert.EqualValues(t, 24, closed(t, store, origin, origin+10*second))
}

func TestNames(t *testing.T) {
	namer := NewNamer()
	for name, want := range map[string]string{
		semconv.MetricEdgeOpened: NameOpened, semconv.MetricEdgeClosed: NameClosed, semconv.MetricEdgeFailed: NameFailed, semconv.MetricEdgeUnanswered: NameUnanswered,
		semconv.MetricEdgeActive: NameActive, semconv.MetricEdgeIO: NameIO, semconv.MetricEdgeConnectionDuration: NameConnectionDuration,
		semconv.MetricEdgeRequests: NameRequests, semconv.MetricEdgeRequestsFailed: NameRequestsFailed, semconv.MetricEdgeRequestDuration: NameRequestDuration,
		semconv.MetricEndpointClosed: NameEndpointClosed, semconv.MetricEndpointFailed: NameEndpointFailed,
		semconv.MetricEndpointRequests: NameEndpointRequests, semconv.MetricEndpointRequestsFailed: NameEndpointRequestsFailed,
		semconv.MetricSourceUp: NameSourceUp,
	} {
		for _, unit := range []string{"", map[string]string{NameIO: "By", NameConnectionDuration: "s", NameRequestDuration: "s"}[want], "{connection}"} {
			if (want == NameIO || want == NameConnectionDuration || want == NameRequestDuration) && unit == "{connection}" {
				continue
			}
			metric := pmetric.NewMetric()
			metric.SetName(name)
			metric.SetUnit(unit)
			switch want {
			case NameSourceUp:
				metric.SetEmptyGauge()
			case NameActive:
				metric.SetEmptySum()
			case NameConnectionDuration, NameRequestDuration:
				metric.SetEmptyExponentialHistogram()
			default:
				metric.SetEmptySum().SetIsMonotonic(true)
			}
			l, err := namer.Labels(pcommon.NewMap(), metric, pcommon.NewMap())
			require.NoError(t, err)
			assert.Equal(t, want, l.Get(model.MetricNameLabel), "%s in %q", name, unit)
		}
	}
}

// TestKillNine writes in a process that is killed in the middle, and reads what it had said was safe.
func TestKillNine(t *testing.T) {
	if directory := os.Getenv("NEPHILIA_TEST_DIRECTORY"); directory != "" {
		writeForever(t, directory)
	}
	directory := t.TempDir()
	command := exec.Command(os.Args[0], "-test.run=^TestKillNine$") //nolint:gosec // This very test.
	command.Env = append(os.Environ(), "NEPHILIA_TEST_DIRECTORY="+directory)
	out, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	safe := 0
	for safe < 500 {
		_, err := fmt.Fscanln(out, &safe)
		require.NoError(t, err)
	}
	require.NoError(t, command.Process.Kill())
	_ = command.Wait()
	e := open(t, directory)
	defer func() { require.NoError(t, e.Close()) }()
	store := NewStore(e, Settings{Lookback: fiveMinutes})
	assert.GreaterOrEqual(t, closed(t, store, origin, origin+int64(safe)*second), uint64(safe))
	_, newest, ok := e.Bounds()
	require.True(t, ok)
	assert.GreaterOrEqual(t, newest, origin+int64(safe)*second)
}

func writeForever(t *testing.T, directory string) {
	w := NewWriter(open(t, directory).Appendable(), second)
	s := series(NameClosed)
	for i := int64(1); ; i++ {
		b := w.Batch(context.Background())
		b.Float(s, map[bool]int64{true: origin, false: 0}[i == 1], origin+i*second, float64(i))
		require.NoError(t, b.Commit(origin+i*second, false))
		fmt.Println(i)
	}
}

func TestRemoteAnswersThatAreNone(t *testing.T) {
	for name, test := range map[string]struct {
		status      int
		body, wants string
	}{
		"html":          {200, "<html>", "bad_response"},
		"error":         {422, `{"status":"error","errorType":"execution","error":"too many samples"}`, "too many samples"},
		"no number":     {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}`, "invalid syntax"},
		"odd histogram": {200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"sum":"1","buckets":[[0,"1","1.7","3"]]}]}]}}`, "bucket"},
		"empty":         {200, ``, "bad_response"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				_, _ = w.Write([]byte(test.body))
			}))
			defer server.Close()
			client := server.Client()
			defer client.CloseIdleConnections()
			_, err := NewRemote(client, server.URL+"/", nil).Instant(t.Context(), "up", time.Now())
			require.ErrorContains(t, err, test.wants)
		})
	}
}

func TestRemoteAnswersAreBoundedInMemory(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}` + strings.Repeat(" ", 10_000)))
	}))
	defer server.Close()
	client := server.Client()
	defer client.CloseIdleConnections()
	memory := budget.New(100_000)
	remote := NewRemote(client, server.URL, memory)
	results, err := remote.Instant(t.Context(), "scalar(up)", time.Now())
	require.NoError(t, err)
	assert.Equal(t, []Result{{Points: []Point{{Time: 1000, Value: 2}}}}, results)
	assert.Zero(t, memory.Used())
	memory.Charge(80_000)
	_, err = remote.Instant(t.Context(), "scalar(up)", time.Now())
	require.ErrorIs(t, err, budget.ErrExceeded)
	assert.EqualValues(t, 80_000, memory.Used())
}

// Most queries reserve a small part of what one may take; a large one takes it all, if nobody else has it.
func TestQueriesAreBoundedInMemoryTogether(t *testing.T) {
	const most = 800
	memory := budget.New(most * SampleBytes)
	e, err := OpenEmbedded(nil, EmbeddedSettings{
		Directory: t.TempDir(), Retention: time.Hour, OutOfOrderWindow: time.Hour, Lookback: fiveMinutes,
		QueryTimeout: time.Minute, MaxSamples: most, Memory: memory,
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	w := NewWriter(e.Appendable(), second)
	b := w.Batch(t.Context())
	for i := range 200 {
		b.Float(series(NameClosed, "pod", strconv.Itoa(i)), origin, origin+second, 1)
	}
	require.NoError(t, b.Commit(origin+second, false))
	ask := func(selector string) (int, error) {
		results, err := e.Instant(t.Context(), selector, at(origin+2*second))
		return len(results), err
	}
	few, many := NameClosed+`{pod="7"}`, NameClosed
	for selector, want := range map[string]int{few: 1, many: 200} {
		n, err := ask(selector)
		require.NoError(t, err, selector)
		assert.Equal(t, want, n, selector)
	}
	assert.Zero(t, memory.Used())
	memory.Charge(most * SampleBytes / 2)
	_, err = ask(few)
	require.NoError(t, err)
	_, err = ask(many)
	require.ErrorIs(t, err, budget.ErrExceeded)
	assert.EqualValues(t, most*SampleBytes/2, memory.Used())
}

func TestRandomCountersAgreeWithPlainSums(t *testing.T) {
	e := open(t, t.TempDir())
	defer func() { require.NoError(t, e.Close()) }()
	random := rand.New(rand.NewPCG(7, 7))
	w := NewWriter(e.Appendable(), second)
	type step struct {
		at    int64
		added uint64
	}
	var log []step
	s, value, at := series(NameClosed), uint64(0), origin
	for i := range 400 {
		at += second * (1 + random.Int64N(40))
		zero, added := int64(0), random.Uint64N(20)
		if i == 0 || random.IntN(50) == 0 {
			zero, value = at-500, 0
		}
		value += added
		log = append(log, step{at, added})
		b := w.Batch(t.Context())
		b.Float(s, zero, at, float64(value))
		require.NoError(t, b.Commit(at, false))
	}
	store := NewStore(e, Settings{Lookback: fiveMinutes})
	for range 60 {
		start := origin + random.Int64N(at-origin)
		end := start + random.Int64N(at-start+minute)
		var want uint64
		for _, one := range log {
			if one.at > start && one.at <= end {
				want += one.added
			}
		}
		require.Equal(t, want, closed(t, store, start, end), "%d %d", start-origin, end-origin)
	}
}
