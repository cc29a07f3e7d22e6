package observe

import (
	"iter"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Clock is the time that the data has reached, and how far its boundaries are apart. All times are in ns.
type Clock struct {
	// Now is the newest boundary that is judged; Interval is the distance between boundaries.
	Now, Interval int64
	// Begin is the time of the first observation.
	Begin int64
	// Resumed tells that an earlier process watched over the same mesh, so that what was before Begin is no news.
	Resumed bool
	// ReplayDone tells that a replay has delivered everything; Replaying that one was seen.
	Replaying, ReplayDone bool

	heartbeats *datatime.Clock
	// wall is the wall clock as the present batch arrived: in live mode nothing is believed that lies far ahead of it. Up to
	// sure a time needs no second look.
	wall       time.Time
	sure       pcommon.Timestamp
	boundaries [4]int64
	// reached is the time before which the service graph is complete; 0 where it does not say.
	reached int64
	drops   *Drops
}

// patience is how far nodes' heartbeats may come apart.
const patience = 30 * time.Second

func newClock(drops *Drops) Clock {
	return Clock{heartbeats: datatime.NewClock(patience), drops: drops}
}

// Advance moves on to a boundary and learns the distance between boundaries.
func (c *Clock) Advance(t int64) {
	if t <= c.Now {
		return
	}
	c.Now = t
	copy(c.boundaries[:], c.boundaries[1:])
	c.boundaries[len(c.boundaries)-1] = t
	shortest := int64(0)
	for i := 1; i < len(c.boundaries); i++ {
		if c.boundaries[i-1] > 0 {
			if d := c.boundaries[i] - c.boundaries[i-1]; shortest == 0 || d < shortest {
				shortest = d
			}
		}
	}
	if shortest > 0 {
		c.Interval = shortest
	}
}

// slotLength is that of what the service graph tells of.
func (c *Clock) slotLength() time.Duration { return max(MinSlot, time.Duration(c.Interval)) }

// No telemetry of an ambient mesh was made before or will be made after; what times are computed with stays in range.
var (
	firstTime = pcommon.NewTimestampFromTime(time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC))
	lastTime  = pcommon.NewTimestampFromTime(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
)

// ahead is how much newer than the heartbeats a point may be.
const ahead = pcommon.Timestamp(time.Minute)

// arrive notes that a batch arrives at a time of the wall clock.
func (c *Clock) arrive(wall time.Time) {
	c.wall, c.sure = wall, c.heartbeats.Believed(lastTime, wall)
	if newest := c.heartbeats.Newest(); newest > 0 {
		c.sure = min(c.sure, newest+ahead)
	}
}

// at is when a point or record was made; ok is false, and it is counted, if that cannot be. Nothing can be much newer than the
// wall clock or, where there are some, than the heartbeats: such a point was stamped by another clock and counts as of now.
func (c *Clock) at(stamp pcommon.Timestamp) (t int64, ok bool) {
	if stamp < firstTime || stamp > lastTime {
		c.drops.Implausible++
		return 0, false
	}
	if stamp > c.sure {
		stamp = c.heartbeats.Believed(stamp, c.wall)
		if newest := c.heartbeats.Newest(); newest > 0 && stamp > newest+ahead {
			stamp = newest
		}
	}
	t = int64(stamp)
	if c.Begin == 0 || t < c.Begin {
		c.Begin = t
	}
	return t, true
}

// each hands out points with their times, and returns the newest.
func each[P interface{ Timestamp() pcommon.Timestamp }](c *Clock, points iter.Seq2[int, P], take func(point P, t int64)) (newest int64) {
	for _, point := range points {
		if t, ok := c.at(point.Timestamp()); ok {
			newest = max(newest, t)
			take(point, t)
		}
	}
	return newest
}

// hear takes over a heartbeat. It returns up to when its node has said all. A node whose clock is ahead is alive all the same.
func (c *Clock) hear(beat datatime.Beat) (t int64, ok bool) {
	if c.heartbeats.Hear(beat, c.wall) == datatime.Implausible {
		c.drops.Implausible++
		return 0, false
	}
	return c.at(beat.Time)
}

// firstMinute is the time within which every series that exists has been reported once.
const firstMinute = int64(65 * time.Second)

// grace is for how long before the first observation a series may begin under our eyes: what starts together does not start at one moment.
const grace = int64(10 * time.Second)

// fromZero tells whether a series' first point counts from zero: it began under our eyes.
func (c *Clock) fromZero(start pcommon.Timestamp, t int64) bool {
	from := c.Begin
	if !c.Resumed {
		from -= max(c.Interval, grace)
	}
	return t-c.Begin > firstMinute || start != 0 && int64(start) >= from
}

// graphTime takes over how far the service graph is.
func (c *Clock) graphTime(metric pmetric.Metric) {
	list, _ := points(metric)
	for i := range list.Len() {
		if stamp := list.At(i).Timestamp(); stamp < firstTime || stamp > lastTime {
			c.drops.Implausible++
		} else {
			c.reached = max(c.reached, int64(c.heartbeats.Believed(stamp, c.wall)))
		}
	}
}

// replay takes over where a replay stands: the wall clock has no say in one.
func (c *Clock) replay(metric pmetric.Metric) {
	replay, ok := datatime.ReplayOf(metric)
	if !ok {
		return
	}
	c.Replaying = true
	c.ReplayDone = c.ReplayDone || semconv.ReplayEnded(replay.State)
	c.heartbeats.SetReplay()
}
