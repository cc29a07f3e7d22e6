package datatime

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

var epoch = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func wallAt(s float64) time.Time { return epoch.Add(time.Duration(s * float64(time.Second))) }

func dataAt(s float64) pcommon.Timestamp { return stamp(wallAt(s)) }

// heard is a heartbeat at a time of the wall clock, and the clock afterwards; times are seconds.
type heard struct {
	wall float64
	node string
	at   float64
	want float64
}

func (h heard) apply(t *testing.T, c *Clock, i int) {
	wall := wallAt(h.wall)
	c.Hear(Beat{Node: h.node, Time: dataAt(h.at)}, wall)
	c.Advance(wall)
	assert.InDelta(t, h.want, c.Now().AsTime().Sub(epoch).Seconds(), 1e-9, "after beat %d (%+v)", i, h)
}

func TestClockFollowsTheSlowestNode(t *testing.T) {
	live := []heard{{1, "a", 1, 1}, {1, "b", 1, 1}, {2, "a", 2, 1}, {2, "b", 2, 2}}
	slow := slices.Concat(live, []heard{{60, "a", 60, 2}, {89, "b", 3, 3}})
	for at := 4.0; at <= 25; at++ {
		slow = append(slow, heard{89 + 4*(at-3), "b", at, at})
	}
	for name, tt := range map[string]struct {
		replay   bool
		restored map[string]float64
		beats    []heard
	}{
		"the slowest node is waited for": {beats: live},
		"but not for long":               {beats: append(live[:4:4], heard{6, "a", 6, 2}, heard{8, "a", 8, 8}, heard{9, "b", 3, 8})},
		"what belongs to no node has no say where there are nodes": {
			beats: append(live[:4:4], heard{9, "", 9, 2}, heard{3, "a", 3, 2}, heard{3, "b", 3, 3}),
		},
		"what belongs to no node drives time alone": {beats: []heard{{1, "", 1, 1}, {20, "", 20, 20}}},
		// The consumer is cut off from 2 to 60. Then each node sends what it kept, one after the other.
		"nodes that come back together are all waited for": {beats: append(live[:4:4],
			heard{60, "", 60, 2}, heard{60, "a", 3, 2}, heard{60, "a", 30, 2}, heard{60.5, "a", 60, 2},
			heard{80, "b", 3, 3}, heard{80.1, "b", 40, 40}, heard{80.2, "b", 80, 60}, heard{81, "a", 81, 80})},
		"who does not come back is not waited for": {beats: append(live[:4:4], heard{60, "a", 60, 2}, heard{80, "a", 80, 2}, heard{91, "a", 91, 91})},
		"who catches up is waited for longer": {beats: append(live[:4:4],
			heard{60, "a", 60, 2}, heard{89, "b", 3, 3}, heard{92, "a", 92, 3}, heard{93, "b", 40, 40}, heard{97, "b", 95, 92})},
		"but not for ever": {beats: append(slow, heard{179, "b", 26, 26}, heard{181, "b", 27, 60})},
		"a node that was lost before is not": {beats: append(live[:4:4],
			heard{5, "a", 5, 2}, heard{8, "a", 8, 8}, heard{60, "a", 9, 9})},
		"after a restart those before it are waited for": {
			restored: map[string]float64{"a": 2, "b": 2, "gone": 1},
			beats:    []heard{{10, "", 10, 2}, {10, "a", 3, 2}, {10, "a", 10, 2}, {14, "b", 3, 3}, {14, "b", 10, 10}},
		},
		"a slow replay is no interruption": {replay: true, beats: append(live[:4:4], heard{60, "a", 6, 2}, heard{120, "a", 8, 8})},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClock(5 * time.Second)
			if tt.replay {
				c.SetReplay()
			}
			for node, s := range tt.restored {
				c.Restore(node, dataAt(s))
				c.RestoreTime(max(c.Now(), dataAt(s)))
			}
			for i, b := range tt.beats {
				b.apply(t, c, i)
			}
		})
	}
}

const (
	hour = 3600.0
	day  = 24 * hour
)

// TestClockDoesNotBelieveEverything has node a always right, unless the wall clock steps.
func TestClockDoesNotBelieveEverything(t *testing.T) {
	year2100 := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Sub(epoch).Seconds()
	right := func(from, to float64, nodes ...string) (beats []heard) {
		for at := from; at <= to; at++ {
			for i, node := range nodes {
				want := at
				if i < len(nodes)-1 && at > 1 {
					want = at - 1
				}
				beats = append(beats, heard{at, node, at, want})
			}
		}
		return beats
	}
	join := func(parts ...[]heard) (all []heard) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	// off has b off by some seconds while a is right: b neither moves the time nor is waited for, after the first seconds.
	off := func(from, to, by float64) (beats []heard) {
		for at := from; at <= to; at++ {
			beats = append(beats, heard{at, "b", at + by, at - 1}, heard{at, "a", at, at})
		}
		return beats
	}
	for name, tt := range map[string]struct {
		replay   bool
		restored float64
		beats    []heard
		problems string
		ahead    uint64
	}{
		"ahead once": {
			beats: join(right(1, 3, "a", "b"), []heard{{4, "b", 604, 3}}, []heard{{4, "a", 4, 4}}, right(5, 9, "b", "a")[1:]),
			ahead: 1,
		},
		"ahead for ever": {
			beats: join([]heard{{1, "a", 1, 1}}, off(2, 99, 600)), ahead: 98, problems: "b clock_ahead 10m0s",
		},
		"ahead by less than what is believed": {
			beats: join([]heard{{1, "a", 1, 1}}, off(2, 9, 20)),
		},
		"the first ever is ahead": {
			beats: []heard{{1, "b", 601, math.NaN()}, {1, "a", 1, 1}, {2, "a", 2, 2}}, ahead: 1, problems: "b clock_ahead 10m0s",
		},
		"behind": {
			beats:    join(right(1, 3, "a", "b"), []heard{{4, "b", -596, 3}, {4, "a", 4, 3}, {9, "b", -591, 3}, {9, "a", 9, 9}}, off(10, 40, -600)),
			problems: "b clock_behind -10m0s",
		},
		"behind, and right again": {
			beats: join([]heard{{1, "a", 1, 1}}, off(2, 9, -600), []heard{{10, "b", 10, 9}, {10, "a", 10, 10}}, right(11, 14, "a", "b")),
		},
		"back after a day": {
			beats: join(right(1, 3, "a", "b"), []heard{{hour, "a", hour, 3}, {hour + 60, "a", hour + 60, hour + 60}},
				[]heard{{day + hour, "a", day + hour, day + hour}, {day + hour + 31, "a", day + hour + 31, day + hour + 31}},
				[]heard{{day + hour + 32, "b", 4, day + hour + 31}, {day + hour + 32, "a", day + hour + 32, day + hour + 32}},
				[]heard{{day + hour + 33, "b", day + hour + 33, day + hour + 32}, {day + hour + 33, "a", day + hour + 33, day + hour + 33}}),
		},
		"gone": {
			beats: join(right(1, 3, "a", "b"), []heard{{4, "a", 4, 3}, {5, "a", 5, 3}, {9, "a", 9, 9}, {10, "a", 10, 10}}),
		},
		"the wall clock steps back and stays": {
			beats: join(right(1, 3, "a", "b"), []heard{
				{3 - hour, "a", 3 - hour, 3 - hour},
				{3 - hour, "b", 3 - hour, 3 - hour},
				{4 - hour, "a", 4 - hour, 3 - hour},
				{4 - hour, "b", 4 - hour, 4 - hour},
				{5 - hour, "a", 5 - hour, 4 - hour},
				{5 - hour, "b", 5 - hour, 5 - hour},
			}),
		},
		"the wall clock alone steps back, and is put right": {
			beats: join(right(1, 3, "a", "b"), []heard{{4 - hour, "a", 4, 4 - hour}, {4 - hour, "b", 4, 4 - hour}},
				[]heard{{5, "a", 5, 5}, {5, "b", 5, 5}}, right(6, 9, "a", "b")),
			ahead: 2,
		},
		"the wall clock alone steps forward, and is put right": {
			beats: join(right(1, 3, "a", "b"), []heard{{4 + hour, "a", 4, 3}, {4 + hour, "b", 4, 4}, {5 + hour, "a", 5, 4}, {5 + hour, "b", 5, 5}},
				right(6, 9, "a", "b")),
		},
		"year 2100": {
			beats:    join(right(1, 3, "a", "b"), []heard{{4, "b", year2100, 3}, {4, "a", 4, 4}, {5, "a", 5, 5}}),
			problems: "b clock_ahead " + time.Duration((year2100-4)*1e9).Round(time.Second).String(),
		},
		"year 1970": {
			beats: join(right(1, 3, "a", "b"), []heard{{4, "b", -epoch.Sub(time.Unix(1, 0)).Seconds(), 3}}, []heard{{4, "a", 4, 3}, {4, "b", 4, 4}}),
		},
		"restored from what was written ahead": {
			restored: 3 * day,
			beats:    []heard{{1, "a", 1, 1}, {1, "b", 1, 1}, {2, "a", 2, 1}, {2, "b", 2, 2}},
		},
		"a replay may be of any time": {
			replay: true,
			beats:  []heard{{1, "a", year2100, year2100}, {1, "b", year2100, year2100}, {2, "a", year2100 + 1, year2100}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClock(5 * time.Second)
			if tt.replay {
				c.SetReplay()
			}
			if tt.restored != 0 {
				c.Restore("a", dataAt(tt.restored))
				c.Restore("b", dataAt(tt.restored))
				c.RestoreTime(dataAt(tt.restored))
			}
			var last float64
			for i, b := range tt.beats {
				if math.IsNaN(b.want) {
					c.Hear(Beat{Node: b.node, Time: dataAt(b.at)}, wallAt(b.wall))
					c.Advance(wallAt(b.wall))
					require.Zero(t, c.Now())
					continue
				}
				b.apply(t, c, i)
				last = b.wall
			}
			var problems string
			for _, p := range c.Problems(wallAt(last)) {
				problems += fmt.Sprint(p.Node, " ", p.Kind, " ", p.Offset)
				assert.Contains(t, p.Sentence(), "node b")
			}
			assert.Equal(t, tt.problems, problems)
			assert.Equal(t, tt.ahead, c.Count(Ahead))
			assert.Empty(t, c.Problems(wallAt(last+hour)), "a node that is not heard any more is no longer listed")
		})
	}
}

func TestHeartbeatsOutOfOrder(t *testing.T) {
	c := NewClock(5 * time.Second)
	beat := func(at float64, start, sequence int) Beat {
		return Beat{Node: "a", Time: dataAt(at), Start: pcommon.Timestamp(start), Sequence: uint64(sequence)}
	}
	for i, step := range []struct {
		beat Beat
		want Verdict
		node float64 // the node's time afterwards
	}{
		{beat(1, 7, 1), Taken, 1},
		{beat(2, 7, 2), Taken, 2},
		{beat(2, 7, 2), Repeated, 2},   // a batch that was sent twice
		{beat(4, 7, 4), Taken, 4},      // one is missing,
		{beat(3, 7, 3), OutOfOrder, 4}, // and comes late
		{beat(2, 7, 5), Taken, 2},      // the node's clock was set back
		{beat(3, 9, 1), Taken, 3},      // the sender began anew
		{beat(2, 0, 0), Repeated, 3},   // without a sequence nothing is known of the order
		{beat(4, 0, 0), Taken, 4},
	} {
		assert.Equal(t, step.want, c.Hear(step.beat, wallAt(10)), "beat %d", i)
		at, known := c.NodeTime("a")
		assert.True(t, known)
		assert.Equal(t, dataAt(step.node), at, "beat %d", i)
	}
	assert.EqualValues(t, 1, c.Count(OutOfOrder))
}

func TestSilentNodesDoNotAge(t *testing.T) {
	c := NewClock(5 * time.Second)
	hear := func(wall float64, node string, at float64) {
		c.Hear(Beat{Node: node, Time: dataAt(at)}, wallAt(wall))
		c.Advance(wallAt(wall))
	}
	for at := 1.0; at <= 100; at++ {
		hear(at, "a", at)
		hear(at, "behind", at-60)
		hear(at, "ahead", at+600)
		if at == 10 {
			hear(at, "silent", at)
			c.Settle()
		}
	}
	for node, want := range map[string]time.Duration{"a": 0, "behind": 0, "ahead": 0, "silent": 90 * time.Second} {
		silence, known := c.Silence(node)
		assert.True(t, known)
		assert.Equal(t, want, silence, node)
	}
	assert.Equal(t, dataAt(10), c.Settled("silent"))
	assert.Equal(t, pcommon.Timestamp(math.MaxUint64), c.Settled("nobody"))
	_, known := c.NodeTime("ahead")
	assert.False(t, known, "never believed")
	c.Forget("silent")
	_, known = c.Silence("silent")
	assert.False(t, known)
}

func TestRestoredIsWhatChanged(t *testing.T) {
	c, again := NewClock(5*time.Second), NewClock(5*time.Second)
	store := func(all bool) (names []string) {
		c.Changed(all, func(name string, at pcommon.Timestamp) {
			names = append(names, name)
			again.Restore(name, at)
		})
		return names
	}
	c.Hear(Beat{Node: "a", Time: dataAt(1)}, wallAt(1))
	c.Hear(Beat{Node: "b", Time: dataAt(year)}, wallAt(1))
	assert.Equal(t, []string{"a"}, store(false), "what was never believed is not stored")
	assert.Empty(t, store(false))
	assert.Len(t, store(true), 1)
	at, known := again.NodeTime("a")
	assert.True(t, known)
	assert.Equal(t, dataAt(1), at)
	assert.True(t, again.Named())
	assert.False(t, again.Heard())
}

const year = 365 * day

func TestBeliefIsBounded(t *testing.T) {
	c := NewClock(5 * time.Second)
	assert.Equal(t, dataAt(35), c.Believed(dataAt(35), wallAt(0)))
	assert.Equal(t, dataAt(0), c.Believed(dataAt(36), wallAt(0)))
	assert.Equal(t, dataAt(-year), c.Believed(dataAt(-year), wallAt(0)))
	assert.False(t, c.Announce("a", dataAt(36), wallAt(0)))
	assert.True(t, c.Announce("a", dataAt(35), wallAt(0)))
	for i := range MaxNodes + 10 {
		c.Hear(Beat{Node: fmt.Sprint(i), Time: dataAt(1)}, wallAt(1))
	}
	assert.EqualValues(t, 10, c.Count(NodeLimit))
	assert.Equal(t, NodeLimit.String(), c.Hear(Beat{Node: "one more", Time: dataAt(1)}, wallAt(1)).String())
	c.SetReplay()
	assert.Equal(t, dataAt(year), c.Believed(dataAt(year), wallAt(0)))

	for at, want := range map[pcommon.Timestamp][2]bool{
		0: {}, 1: {false, true}, math.MaxInt64: {false, true}, math.MaxInt64 + 1: {}, math.MaxUint64: {},
		dataAt(0): {true, true}, dataAt(day): {true, true}, dataAt(day + 1): {false, true}, stamp(minTime): {true, true}, stamp(minTime) - 1: {false, true},
	} {
		assert.Equal(t, want, [2]bool{Plausible(at, wallAt(0), false), Plausible(at, wallAt(0), true)}, "%d", at)
	}
}

// FuzzClock has any heartbeats at any times of the wall clock: the mesh's time is never ahead of the wall clock by more than what is
// believed, and nothing panics.
func FuzzClock(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6})
	f.Fuzz(func(t *testing.T, data []byte) {
		c := NewClock(5 * time.Second)
		wall := epoch
		for ; len(data) >= 3; data = data[3:] {
			wall = wall.Add(time.Duration(int8(data[0])) * time.Duration(data[1]) * time.Second)
			at := stamp(wall) + pcommon.Timestamp(int64(int8(data[1]))*int64(data[2])*1e9)
			if data[0] == 0xff {
				at = pcommon.Timestamp(data[2]) << 56
			}
			c.Announce(fmt.Sprint(data[2]%8), at, wall)
			c.Hear(Beat{Node: fmt.Sprint(data[2] % 8), Time: at, Sequence: uint64(data[1])}, wall)
			c.Withdraw(fmt.Sprint(data[2] % 8))
			c.Advance(wall)
			c.Admitted()
			if ahead := c.Now().AsTime().Sub(wall); c.Now() > 0 && ahead > 35*time.Second {
				t.Fatal("the time is ahead by", ahead)
			}
		}
	})
}

// BenchmarkHear has thousands of nodes speak once a second each.
func BenchmarkHear(b *testing.B) {
	const nodes = 5000
	c := NewClock(5 * time.Second)
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprint("node-", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		second := float64(i / nodes)
		c.Hear(Beat{Node: names[i*2503%nodes], Time: dataAt(second)}, wallAt(second))
		c.Advance(wallAt(second))
	}
}
