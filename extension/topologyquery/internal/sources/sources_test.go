package sources

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/semconv"
)

var epoch = time.Date(2026, 3, 2, 2, 0, 0, 0, time.UTC)

func ms(seconds int64) int64 { return epoch.UnixMilli() + seconds*1000 }

// world is a tracker with a wall clock that shows what is told.
type world struct {
	*Tracker
	wall time.Time
}

func newWorld() *world {
	w := &world{Tracker: New(), wall: epoch}
	w.Wall = func() time.Time { return w.wall }
	return w
}

// hear has a node say at a second of the data's clock whether its access log is up.
func (w *world) hear(node string, second int64, up bool) datatime.Verdict {
	at := pcommon.Timestamp(ms(second)) * 1e6
	return w.Heartbeat(node, datatime.Beat{Node: node, Time: at, Sources: []datatime.Source{
		{Name: semconv.SourceAccessLog, Up: up, LastSeen: at}, {Name: semconv.SourceXDS, Up: false},
	}})
}

// until lets nodes say each second of a span that they are up, as the wall clock goes on.
func (w *world) until(from, to int64, nodes ...string) {
	for second := from; second <= to; second++ {
		w.wall = time.UnixMilli(ms(second))
		for _, node := range nodes {
			w.hear(node, second, true)
		}
	}
}

func (w *world) seconds() (first, now int64) {
	first, now = w.Clock()
	return (first - ms(0)) / 1000, (now - ms(0)) / 1000
}

func TestClock(t *testing.T) {
	w := newWorld()
	first, now := w.Clock()
	assert.Equal(t, [2]int64{}, [2]int64{first, now})
	w.until(1, 10, "a", "b")
	assert.Equal(t, datatime.Ahead, w.hear("b", 610, true))
	first, now = w.seconds()
	assert.Equal(t, [2]int64{1, 10}, [2]int64{first, now}, "one node that is ahead does not move the clock")
	problems := w.Problems()
	require.Len(t, problems, 1)
	assert.Equal(t, datatime.Problem{Node: "b", Kind: datatime.ClockAhead, Offset: 10 * time.Minute}, problems[0])
	assert.Equal(t, map[string]bool{"a": true, "b": true}, w.Delivering(ms(10), 30_000), "it delivers nevertheless")

	assert.True(t, w.Advance(ms(11)), "an edge")
	assert.False(t, w.Advance(ms(100)), "an edge of the future")
	w.until(12, 13, "a", "b")
	assert.Empty(t, w.Problems(), "its clock is right again")
	_, now = w.seconds()
	assert.EqualValues(t, 13, now)
}

// TestClockHeals restores what was written while a clock was ahead, and sets the wall clock back.
func TestClockHeals(t *testing.T) {
	w := newWorld()
	year2100 := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	w.Restore(ms(-100), year2100)
	first, now := w.seconds()
	assert.Equal(t, [2]int64{-100, 0}, [2]int64{first, now})
	w.until(1, 3, "a")
	w.wall = epoch.Add(-time.Hour)
	w.hear("a", -3600, true)
	first, now = w.seconds()
	assert.Equal(t, [2]int64{-3600, -3600}, [2]int64{first, now})
	w.hear("a", -3599, true)
	assert.Equal(t, ms(-3599), w.Nodes()[0].Sources[0].Heartbeat)
}

func TestReplayHasATimeOfItsOwn(t *testing.T) {
	w := newWorld()
	w.SetReplaying()
	first, last := w.Bounds()
	assert.Less(t, first, last)
	assert.Equal(t, datatime.Taken, w.hear("a", 1_000_000, true))
	_, now := w.seconds()
	assert.EqualValues(t, 1_000_000, now)
	_, ok := w.Replay()
	assert.False(t, ok)
	w.SetReplay(Replay{State: semconv.ReplayRunning, Position: 1})
	r, ok := w.Replay()
	assert.True(t, ok)
	assert.Equal(t, Replay{State: semconv.ReplayRunning, Position: 1}, r)
}

func TestDelivering(t *testing.T) {
	w := newWorld()
	w.until(0, 100, "a", "gap", "down")
	w.hear("down", 101, false)
	w.hear("down", 110, true)
	w.until(111, 220, "a", "down")
	w.until(221, 300, "a", "gap", "down")
	w.until(301, 340, "a", "gap")
	w.Heartbeat("ztunnel", datatime.Beat{Time: pcommon.Timestamp(ms(340)) * 1e6, Sources: []datatime.Source{{Name: semconv.SourceXDS, Up: true}}})
	for second, want := range map[int64]map[string]bool{
		50:  {"a": true, "gap": true, "down": true},
		105: {"a": true, "gap": true, "down": false},
		125: {"a": true, "gap": true, "down": true}, // patience
		150: {"a": true, "gap": false, "down": true},
		220: {"a": true, "gap": false, "down": true},
		221: {"a": true, "gap": true, "down": true},
		340: {"a": true, "gap": true, "down": false}, // silent now
	} {
		assert.Equal(t, want, w.Delivering(ms(second), 30_000), "at %d", second)
	}
}

func TestNodesThatLeaveAreForgotten(t *testing.T) {
	w := newWorld()
	w.until(0, 10, "a", "left", "silent")
	w.Forget("left")
	names := func() (names []string) {
		for _, n := range w.Nodes() {
			names = append(names, n.Name)
		}
		return names
	}
	assert.Equal(t, []string{"a", "silent"}, names())
	assert.NotContains(t, w.Delivering(ms(10), 30_000), "left")
	const day = 24 * 3600
	w.until(day, day+5, "a")
	assert.Equal(t, []string{"a", "silent"}, names(), "silence is not leaving")
	w.until(day+100, day+100, "a")
	assert.Equal(t, []string{"a"}, names(), "but for a day")
}

func TestBounds(t *testing.T) {
	w := newWorld()
	for i := range maxSources + 5 {
		w.Heartbeat("a", datatime.Beat{Node: "a", Time: pcommon.Timestamp(ms(0)) * 1e6, Sources: []datatime.Source{
			{Name: fmt.Sprint(i), Up: true, LastSeen: pcommon.Timestamp(ms(3600)) * 1e6},
		}})
	}
	nodes := w.Nodes()
	require.Len(t, nodes, 1)
	assert.Len(t, nodes[0].Sources, maxSources)
	assert.EqualValues(t, 5, w.Rejected())
	assert.Equal(t, ms(0), nodes[0].Sources[0].LastSeen, "a record cannot be newer than now")

	for i := range 2 * maxTransitions {
		w.wall = time.UnixMilli(ms(int64(20 * i)))
		w.hear("b", int64(20*i), i%2 == 0)
	}
	all, _ := w.nodes.Get("b")
	assert.Len(t, all[semconv.SourceAccessLog].transitions, maxTransitions)
	assert.Len(t, all[semconv.SourceAccessLog].gaps, maxTransitions)
	for i := range datatime.MaxNodes + 3 {
		w.hear(fmt.Sprint("n", i), 6000, true)
	}
	assert.Len(t, w.Nodes(), datatime.MaxNodes)
}

func TestProblems(t *testing.T) {
	w := newWorld()
	w.until(0, 10, "a", "b")
	say := func(node, problem string, metrics bool) {
		at := pcommon.Timestamp(ms(11)) * 1e6
		w.wall = time.UnixMilli(ms(11))
		w.Heartbeat(node, datatime.Beat{Node: node, Time: at, Sources: []datatime.Source{
			{Name: semconv.SourceAccessLog, Up: true, Problem: problem, Detail: "A sentence."}, {Name: semconv.SourceMetrics, Up: metrics},
		}})
	}
	problems := func() map[string]string {
		out := map[string]string{}
		for _, n := range w.Nodes() {
			for _, s := range n.Sources {
				if s.Problem != "" {
					assert.NotEmpty(t, s.Detail)
					out[n.Name+" "+s.Name] = s.Problem
				}
			}
		}
		return out
	}
	assert.Empty(t, problems())
	say("a", semconv.ProblemNotUnderstood, true)
	say("b", semconv.ProblemLevelTooLow, false)
	assert.Equal(t, map[string]string{"a access_log": semconv.ProblemNotUnderstood, "b access_log": semconv.ProblemLevelTooLow}, problems())
	assert.Equal(t, map[string]bool{"b": true}, w.Partial())
	assert.False(t, w.Delivering(ms(11), 30_000)["a"], "who is not understood tells nothing")
	say("b", semconv.ProblemLevelTooLow, true)
	assert.Empty(t, w.Partial(), "the metrics have what succeeds")

	w.until(12, 12, "a", "b")
	assert.Empty(t, problems()["a access_log"])
	w.until(13, 60, "b")
	assert.Equal(t, semconv.ProblemSilent, problems()["a access_log"])
	w.hear("b", 600, true)
	assert.Equal(t, semconv.ProblemClockAhead, problems()["b xds"])
}
