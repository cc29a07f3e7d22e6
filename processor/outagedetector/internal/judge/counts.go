package judge

import (
	"math"
	"time"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// counts are the bad events of a window, and all of them.
type counts struct {
	w          *observe.Window
	bad, total observe.Lane
	// last is when something bad was counted last, 0 if only the slot is known.
	last int64
	// kept is how many connections stay open; 0 where they are short.
	kept uint64
}

func connectionsOf(p *observe.Pair) counts {
	return counts{w: &p.Win, bad: observe.Failed, total: observe.Closed, last: p.LastBad(observe.Failed), kept: keptOpen(p)}
}

func requestsOf(p *observe.Pair) counts {
	return counts{w: &p.Win, bad: observe.RequestsFailed, total: observe.Requests, last: p.LastBad(observe.RequestsFailed)}
}

func unansweredOf(p *observe.Pair) counts {
	return counts{w: &p.Win, bad: observe.Unanswered, total: observe.Closed, last: p.LastBad(observe.Unanswered), kept: keptOpen(p)}
}

func slowOf(p *observe.Pair) counts {
	return counts{w: &p.Win, bad: observe.Slow, total: observe.Timed, last: p.LastBad(observe.Slow)}
}

const (
	// keptRequests is how many requests a connection carries that is kept for more than one.
	keptRequests = 3
	// keptShare is the share of active slots in which no connection came or went that shows that they are kept.
	keptShare = 0.3
	// shortPast is up to how many slots show too little of what is usual.
	shortPast = 6
	// lastingSlots is for how many slots a connection is open that is kept.
	lastingSlots = 3
)

// keptOpen is how many connections an edge keeps open, 0 if its connections are short. Few of them end, so that those that end say
// little about how the edge does: what the others carry says as much.
func keptOpen(p *observe.Pair) uint64 {
	w := &p.Win
	open := uint64(max(p.Connections, 1))
	if w.Total(observe.Requests) > keptRequests*w.Total(observe.Closed) {
		return open
	}
	if p.Connections > 0 && (w.Known() <= shortPast || uint64(p.Connections)*uint64(w.Known()) >= lastingSlots*w.Total(observe.Closed)) {
		// So many are open for the few that end that they last for long; where too little is known to tell, they may.
		return open
	}
	active, carried := 0, 0
	for age := range w.Known() {
		if w.At(observe.Active, age) == 0 {
			continue
		}
		active++
		if w.At(observe.Bytes, age) > 0 && w.At(observe.Opened, age) == 0 && w.At(observe.Closed, age) == 0 {
			carried++
		}
	}
	if float64(carried) > keptShare*float64(active) {
		return open
	}
	return 0
}

// all is how many events there were in a slot. What connections carry that are kept counts as what goes well.
func (c counts) all(age int) uint64 {
	n := max(c.w.At(c.total, age), c.w.At(c.bad, age))
	if c.kept == 0 {
		return n
	}
	if requests := c.w.At(observe.Requests, age); requests > 0 {
		return n + requests - min(requests, c.w.At(observe.RequestsFailed, age))
	}
	if c.w.At(observe.Bytes, age) > 0 {
		return n + c.kept
	}
	return n
}

// normal is how many events there were before a slot while nothing was wrong.
func (c counts) normal(age int) (bad, all float64) {
	bad, all = c.w.Normal(c.bad, age), c.w.Normal(c.total, age)
	if c.kept == 0 {
		return bad, all
	}
	if requests := c.w.Normal(observe.Requests, age); requests > 0 {
		return bad, all + requests
	}
	return bad, all + c.w.Normal(observe.Active, age)*float64(c.kept)
}

// span is a run of newest slots in which too much is bad.
type span struct {
	slots      int
	bad, total uint64
}

// noise is the share of bad events that is normal for what is older than some slots: what the past shows, but no less than
// the rule's, and the less the past shows the closer to one in a hundred. What is sure to fail more often always did.
func (c counts) noise(rule *rules.Rule, age int) float64 {
	bad, all := c.normal(age)
	return min(max(rule.Noise, (bad+1)/(all+100), stats.WilsonLower(uint64(bad), uint64(all))), 0.9)
}

// lately tells whether anything bad was counted just now: a fault begins when something fails, not because time has passed since.
func lately(w *observe.Window, bad observe.Lane) bool { return w.At(bad, 0) > 0 || w.At(bad, 1) > 0 }

// excess looks for the run of newest slots that chance explains least.
func (c counts) excess(rule *rules.Rule) (span, bool) {
	w := c.w
	if rule == nil || w.Total(c.bad) < rule.MinCount || w.Total(c.bad) == 0 {
		return span{}, false
	}
	var s span
	hit := 0
	slots := w.SlotsFor(max(rule.Window, time.Duration(rule.MinIntervals)*w.Length()))
	for age := range min(slots, w.Since(c.bad)) {
		n := w.At(c.bad, age)
		s.bad += n
		s.total += c.all(age)
		s.slots = age + 1
		if n == 0 {
			continue
		}
		hit++
		enough := hit >= rule.MinIntervals || w.Length() >= time.Minute
		if !enough || s.bad < rule.MinCount || stats.WilsonLower(s.bad, s.total) < rule.MinRatio {
			continue
		}
		if stats.BinomialTail(s.bad, s.total, c.noise(rule, age+1)) <= rule.Chance {
			return c.extend(s), true
		}
	}
	return span{}, false
}

// extend takes in older slots that belong to the same trouble: up to two in a row may lie between that are not as bad.
func (c counts) extend(s span) span {
	grown, clean := s, 0
	for age := s.slots; age < c.w.Since(c.bad) && clean < 2; age++ {
		bad, all := c.w.At(c.bad, age), c.all(age)
		grown.slots = age + 1
		grown.bad += bad
		grown.total += all
		if 2*bad*s.total < s.bad*all || bad == 0 {
			clean++
			continue
		}
		clean = 0
		s = grown
	}
	return s
}

// tried is how much was tried in a slot. A connection that was opened and stays open has not ended, but it went well so far.
func (c counts) tried(age int) uint64 {
	n := c.w.At(c.total, age)
	if c.total == observe.Closed {
		n = max(n, c.w.At(observe.Opened, age), c.w.At(observe.Active, age))
	}
	return n
}

// recentRatio is the share of bad events in the newest slots.
func (c counts) recentRatio() float64 {
	var k, n uint64
	for age := range min(3, c.w.Known()) {
		k += c.w.At(c.bad, age)
		n += c.all(age)
	}
	if n < 5 {
		return 0
	}
	return min(float64(k)/float64(n), 1)
}

// open begins a fault of an edge, as exactly as is known when.
func (c counts) open(f *observe.Fault, p *observe.Pair, rule *rules.Rule, s span, now int64) {
	c.start(f, rule, s, now)
	if began, before, ok := p.Began(c.bad, f.Since, now); ok {
		f.Since, f.Base = began, before
	}
	c.follow(f, now)
}

func (c counts) start(f *observe.Fault, rule *rules.Rule, s span, now int64) {
	w := c.w
	*f = observe.Fault{
		On: true, Rule: rule, Since: w.Start(s.slots - 1), Fired: now, Kind: rule.Kind,
		Tally: observe.Tally{Base: [2]uint64{w.Ever(c.bad) - s.bad, w.Ever(c.total) - w.Sum(c.total, s.slots)}},
	}
}

// after is how many events there were in a slot since a fault began; what went well before in the same slot is not among them.
func (c counts) after(f *observe.Fault, age int) uint64 {
	if c.w.Start(age) < f.Since {
		return c.w.At(c.bad, age)
	}
	return c.all(age)
}

// shareSince is the share of bad events from a fault's beginning to its newest bad slot.
func (c counts) shareSince(f *observe.Fault, newest int) float64 {
	var bad, all uint64
	for age := newest; age < c.w.Known() && c.w.Start(age)+int64(c.w.Length()) > f.Since; age++ {
		bad, all = bad+c.w.At(c.bad, age), all+c.after(f, age)
	}
	return min(float64(bad)/float64(max(all, 1)), 1)
}

// shut ends a fault: what was bad has been dealt with, only what comes now counts.
func (c counts) shut(f *observe.Fault, now int64) {
	f.On = false
	if f.Recovered == 0 {
		f.Recovered = now
	}
	f.Ended = now
	c.w.Forgive(c.bad, f.LastBad)
}

// follow keeps an open fault's figures up to date.
func (c counts) follow(f *observe.Fault, now int64) {
	w := c.w
	// What goes well after the last failure is not part of it.
	if failed := w.Ever(c.bad) - f.Base[0]; failed != f.Failed || f.Total == 0 {
		f.Failed = failed
		f.Total = max(w.Ever(c.total)-min(f.Base[1], w.Ever(c.total)), f.Failed)
	}
	if f.Total > 0 {
		f.Ratio = max(float64(f.Failed)/float64(f.Total), c.recentRatio())
	}
	well := w.Ever(c.total) - min(w.Ever(c.bad), w.Ever(c.total))
	if c.bad == observe.Failed {
		// What kept connections carry goes well although none of them ends.
		well = max(well, w.Ever(observe.Requests)-min(w.Ever(observe.RequestsFailed), w.Ever(observe.Requests)))
	}
	newestBad := -1
	for age := range min(w.Known(), observe.Slots) {
		if w.At(c.bad, age) > 0 {
			newestBad = age
			break
		}
	}
	if newestBad >= 0 {
		ended := min(w.Start(newestBad)+int64(w.Length()), now)
		if c.last >= w.Start(newestBad) {
			ended = min(ended, c.last)
		}
		if ended > f.LastBad {
			f.LastBad, f.Recovered, f.WellBase = ended, 0, well
		}
	}
	if c.kept > 0 {
		f.Ratio = c.shareSince(f, max(newestBad, 0))
	}
	f.Well = well - min(f.WellBase, well)
	if f.Recovered == 0 && (f.Well > 0 || w.At(c.bad, 0) == 0 && c.tried(0) > 0) {
		f.Recovered = now
	}
	attempts := uint64(0)
	for age := range max(newestBad, 0) {
		attempts += c.tried(age)
	}
	f.Quiet = attempts == 0 && now-f.LastBad >= int64(max(12*time.Second, w.Length()))
	w.MarkBad(f.Since)
}

const (
	// settleTime is how long an edge must do well before it counts as well.
	settleTime = 8 * time.Second
	// sureClean and sureMixed are how many times better health must explain what is seen than the fault does.
	sureClean = 20
	sureMixed = 1e4
	// patience is over how many slots the evidence of health may be gathered.
	patience = 12
)

// hangs tells whether connections that fail for a reason, or in an outage of that kind, are open for long before they do.
func hangs(reason string) bool {
	return reason == semconv.ErrorTypeConnectionTimeout || reason == semconv.ErrorTypeHBONEBlocked
}

// recovered tells whether what is seen speaks for health: the likelihood of the newest slots at the usual share of failures
// against their likelihood at the fault's.
func (c counts) recovered(f *observe.Fault, now int64) bool {
	w := c.w
	usual := c.noise(f.Rule, observe.Slots)
	faulty := min(max(f.Ratio, 0.05, 2*usual), 0.98)
	usual = min(usual, faulty/2)
	first, settled := 2, settleTime
	if hangs(f.Kind) {
		settled *= 2 // a ztunnel gives up after ten seconds: the next failure may still be on its way
	}
	if w.Length() > settleTime {
		first = 1
	}
	var k, n, attempts uint64
	for age := range min(patience, w.Known()) {
		if w.Start(age)+int64(w.Length()) <= f.Since {
			break
		}
		k += w.At(c.bad, age)
		n += c.after(f, age)
		if w.Start(age) >= f.Since {
			attempts += c.tried(age)
		}
		if age+1 < first || attempts == 0 && n == 0 {
			continue
		}
		if k > 0 || hangs(f.Kind) {
			// What was opened may still fail: only what has ended speaks against what has failed.
			attempts = n
		}
		ratio := stats.LikelihoodRatio(k, max(n, attempts), usual, faulty)
		if k == 0 && now-f.LastBad >= int64(max(settled, min(w.Length(), 5*time.Minute))) && ratio >= math.Log(sureClean) {
			return true
		}
		if k > 0 && ratio >= math.Log(sureMixed) {
			return true
		}
	}
	return false
}
