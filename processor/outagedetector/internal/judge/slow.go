package judge

import (
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// slowRule is the rule by which an edge is slow: where it is not known how long requests take its connections tell, if they are short, end well, and
// are as slow for all who call the same.
func slowRule(p *observe.Pair, now int64) *rules.Rule {
	if p.RequestsTimed() {
		return p.Rules.Get(rules.SlowRequests)
	}
	f := &p.Faults[observe.Latency]
	if !f.On && p.Win.At(observe.Slow, 0) == 0 {
		return nil
	}
	broken := brokenLately(p, now)
	if f.On {
		if broken || WellForOthers(p, now) {
			slowOf(p).shut(f, now)
		}
		return nil
	}
	if broken || keptOpen(p) > 0 || WellForOthers(p, now) || waitsForBroken(p.Destination, now) {
		return nil
	}
	return p.Rules.Get(rules.SlowConnections)
}

// backlog is for how long after an edge's connections failed those end that have waited meanwhile.
const backlog = 30 * time.Second

// deepest is over how many calls a wait is passed on.
const deepest = 4

// waitsForBroken tells whether an app calls what fails or hangs, or what may wait for something that hangs further down: how long its own connections
// last says nothing of it then. What waits itself need not show it yet, since it has not ended.
// Each app is looked at once, however many ways lead to it.
func waitsForBroken(app *observe.App, now int64) bool {
	seen := map[*observe.App]bool{app: true}
	callers := []*observe.App{app}
	for calls := 1; calls <= deepest; calls++ {
		var called []*observe.App
		for _, caller := range callers {
			for _, out := range caller.Out {
				if hungLately(out, now) || calls == 1 && brokenLately(out, now) {
					return true
				}
				if !seen[out.Destination] {
					seen[out.Destination] = true
					called = append(called, out.Destination)
				}
			}
		}
		callers = called
	}
	return false
}

// hungLately tells whether a connection of an edge ended lately that had waited in vain, be it too few for a fault.
func hungLately(p *observe.Pair, now int64) bool {
	for i := range p.Reasons {
		if r := &p.Reasons[i]; hangs(r.Type) && now-r.Last < int64(backlog) {
			return true
		}
	}
	return false
}

// brokenLately tells whether an edge's connections fail, hang or are not answered, or did just now: then their lives say nothing more.
func brokenLately(p *observe.Pair, now int64) bool {
	for _, family := range [...]observe.Family{observe.Connections, observe.Stalled, observe.NoAnswer} {
		if f := &p.Faults[family]; f.On || f.Ended > 0 && now-f.Ended < int64(backlog) {
			return true
		}
	}
	return false
}

const (
	// wellCount is how many connections of another caller show that it is served as ever, wellShare how many of them may be slow.
	wellCount, wellShare = 4, 0.1
	// wellWindow is over what time they are looked at.
	wellWindow = 30 * time.Second
	// othersAwaited is for how long others are awaited.
	othersAwaited = 15 * time.Second
)

// WellForOthers tells whether another caller of the same is served as fast as ever: then the callee is not slow, but the way to it. For a while
// those are awaited of whom nothing is known.
func WellForOthers(p *observe.Pair, now int64) bool {
	began, _, _ := p.Began(observe.Slow, now-int64(wellWindow), now)
	for _, in := range p.Destination.In {
		if in == p || in.Source == p.Source {
			continue
		}
		in.Win.Advance(now)
		slots := in.Win.SlotsFor(wellWindow / 3)
		timed := in.Win.Sum(observe.Timed, slots)
		if timed < wellCount && now-began < int64(othersAwaited) && in.Win.Normal(observe.Timed, slots) >= wellCount ||
			timed >= wellCount && float64(in.Win.Sum(observe.Slow, slots)) <= wellShare*float64(timed) {
			return true
		}
	}
	return false
}
