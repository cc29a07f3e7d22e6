// Package judge decides what is wrong with each edge, pod, node and the control plane: one file per family of rules,
// thresholds from the catalogue. It says what fails, not why; that is package cause.
package judge

import (
	"math"
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// Judge looks at what changed since the last boundary.
type Judge struct {
	store *observe.Store
	// ControlPlane is what is wrong with the control plane, Certificates with identities.
	ControlPlane ControlPlane
	Certificates []Certificate
	pairs        []*observe.Pair
	endpoints    []*observe.Endpoint
	silent       []*observe.Pair
	checkedCerts int64
	checkedSLOs  int64
}

// New returns a judge of a store.
func New(store *observe.Store) *Judge { return &Judge{store: store} }

// Round judges everything that changed, at the store's present boundary. It returns the number of edges judged.
func (j *Judge) Round() int {
	now := j.store.Now
	j.pairs = j.store.TakeDirty(j.pairs)
	for _, p := range j.pairs {
		j.pair(p, now)
	}
	j.endpoints = j.store.TakeDirtyEndpoints(j.endpoints)
	for _, e := range j.endpoints {
		j.endpoint(e, now)
	}
	j.silent = j.store.Silent(j.silent)
	for _, p := range j.silent {
		j.silence(p, now)
	}
	j.nodes(now)
	j.controlPlane(now)
	j.certificates(now)
	j.budgets(now)
	return len(j.pairs)
}

func (j *Judge) pair(p *observe.Pair, now int64) {
	w := &p.Win
	w.Advance(now)
	if p.Succeeded() {
		p.LastSuccess = now
	}
	j.connections(p, now)
	j.requestErrors(p, now)
	j.latency(p, now)
	j.stalled(p, now)
	if p.Faults[observe.Silence].On {
		j.silence(p, now)
	} else if p.LastActive == now {
		j.awaitSilence(p)
	}
	p.Mark()
	j.store.Watch(p)
}

// span is a run of newest slots in which too much is bad.
type span struct {
	slots      int
	bad, total uint64
}

// noise is the share of bad events that is normal for what is older than some slots: what the past shows, but no less than
// the rule's, and the less the past shows the closer to one in a hundred.
func noise(w *observe.Window, rule *rules.Rule, bad, total observe.Lane, age int) float64 {
	past := (w.Normal(bad, age) + 1) / (w.Normal(total, age) + 100)
	return min(max(rule.Noise, past), 0.9)
}

// lately tells whether anything bad was counted just now: a fault begins when something fails, not because time has passed since.
func lately(w *observe.Window, bad observe.Lane) bool { return w.At(bad, 0) > 0 || w.At(bad, 1) > 0 }

// excess looks for the run of newest slots that chance explains least.
func excess(w *observe.Window, rule *rules.Rule, bad, total observe.Lane) (span, bool) {
	if rule == nil || w.Total(bad) < rule.MinCount || w.Total(bad) == 0 {
		return span{}, false
	}
	var s span
	hit := 0
	slots := w.SlotsFor(max(rule.Window, time.Duration(rule.MinIntervals)*w.Length()))
	for age := range min(slots, w.Since(bad)) {
		n := w.At(bad, age)
		s.bad += n
		s.total += max(w.At(total, age), n)
		s.slots = age + 1
		if n == 0 {
			continue
		}
		hit++
		enough := hit >= rule.MinIntervals || w.Length() >= time.Minute
		if !enough || s.bad < rule.MinCount || stats.WilsonLower(s.bad, s.total) < rule.MinRatio {
			continue
		}
		if stats.BinomialTail(s.bad, s.total, noise(w, rule, bad, total, age+1)) <= rule.Chance {
			return extend(w, bad, total, s), true
		}
	}
	return span{}, false
}

// extend takes in older slots that belong to the same trouble: up to two in a row without anything bad may lie between.
func extend(w *observe.Window, bad, total observe.Lane, s span) span {
	grown, clean := s, 0
	for age := s.slots; age < w.Since(bad) && clean < 2; age++ {
		grown.slots = age + 1
		grown.bad += w.At(bad, age)
		grown.total += max(w.At(total, age), w.At(bad, age))
		if w.At(bad, age) == 0 {
			clean++
			continue
		}
		clean = 0
		s = grown
	}
	return s
}

// open begins a fault of an edge, as exactly as is known when.
func open(f *observe.Fault, p *observe.Pair, rule *rules.Rule, s span, bad, total observe.Lane, now int64) {
	start(f, &p.Win, rule, s, bad, total, now)
	if began, before, ok := p.Began(bad, f.Since, now); ok {
		f.Since, f.Base = began, before
	}
	follow(f, &p.Win, bad, total, p.LastBad(bad), now)
}

func start(f *observe.Fault, w *observe.Window, rule *rules.Rule, s span, bad, total observe.Lane, now int64) {
	*f = observe.Fault{
		On: true, Rule: rule, Since: w.Start(s.slots - 1), Fired: now, Kind: rule.Kind,
		Base: [2]uint64{w.Ever(bad) - s.bad, w.Ever(total) - min(s.total, w.Ever(total))},
	}
}

// shut ends a fault: what was bad has been dealt with, only what comes now counts.
func shut(f *observe.Fault, w *observe.Window, bad observe.Lane, now int64) {
	f.On = false
	if f.Recovered == 0 {
		f.Recovered = now
	}
	f.Ended = now
	w.Forgive(bad, f.LastBad)
}

// follow keeps an open fault's figures up to date; last is when something bad was counted last, 0 if only the slot is known.
func follow(f *observe.Fault, w *observe.Window, bad, total observe.Lane, last, now int64) {
	// What goes well after the last failure is not part of it.
	if failed := w.Ever(bad) - f.Base[0]; failed != f.Failed || f.Total == 0 {
		f.Failed = failed
		f.Total = max(w.Ever(total)-min(f.Base[1], w.Ever(total)), f.Failed)
	}
	if f.Total > 0 {
		f.Ratio = max(float64(f.Failed)/float64(f.Total), recentRatio(w, bad, total))
	}
	well := w.Ever(total) - min(w.Ever(bad), w.Ever(total))
	newestBad := -1
	for age := range min(w.Known(), observe.Slots) {
		if w.At(bad, age) > 0 {
			newestBad = age
			break
		}
	}
	if newestBad >= 0 {
		ended := min(w.Start(newestBad)+int64(w.Length()), now)
		if last >= w.Start(newestBad) {
			ended = min(ended, last)
		}
		if ended > f.LastBad {
			f.LastBad, f.Recovered, f.WellBase = ended, 0, well
		}
	}
	f.Well = well - min(f.WellBase, well)
	if f.Recovered == 0 && (f.Well > 0 || w.At(bad, 0) == 0 && tried(w, total, 0) > 0) {
		f.Recovered = now
	}
	attempts := uint64(0)
	for age := range max(newestBad, 0) {
		attempts += tried(w, total, age)
	}
	f.Quiet = attempts == 0 && now-f.LastBad >= int64(max(12*time.Second, w.Length()))
	w.MarkBad(f.Since)
}

// tried is how much was tried in a slot. A connection that was opened and stays open has not ended, but it went well so far.
func tried(w *observe.Window, total observe.Lane, age int) uint64 {
	n := w.At(total, age)
	if total == observe.Closed {
		n = max(n, w.At(observe.Opened, age), w.At(observe.Active, age))
	}
	return n
}

func recentRatio(w *observe.Window, bad, total observe.Lane) float64 {
	k, n := w.Sum(bad, 3), w.Sum(total, 3)
	if n < 5 {
		return 0
	}
	return min(float64(k)/float64(n), 1)
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

// recovered tells whether what is seen speaks for health: the likelihood of the newest slots at the usual share of failures
// against their likelihood at the fault's.
func recovered(f *observe.Fault, w *observe.Window, rule *rules.Rule, bad, total observe.Lane, now int64) bool {
	usual := noise(w, rule, bad, total, observe.Slots)
	faulty := min(max(f.Ratio, 0.05, 2*usual), 0.98)
	usual = min(usual, faulty/2)
	first := 2
	if w.Length() > settleTime {
		first = 1
	}
	var k, n, attempts uint64
	for age := range min(patience, w.Known()) {
		if w.Start(age)+int64(w.Length()) <= f.Since {
			break
		}
		k += w.At(bad, age)
		n += max(w.At(total, age), w.At(bad, age))
		attempts += tried(w, total, age)
		if age+1 < first || attempts == 0 && n == 0 {
			continue
		}
		if k > 0 {
			// What was opened may still fail: only what has ended speaks against what has failed.
			attempts = n
		}
		ratio := stats.LikelihoodRatio(k, max(n, attempts), usual, faulty)
		if k == 0 && now-f.LastBad >= int64(max(settleTime, min(w.Length(), 5*time.Minute))) && ratio >= math.Log(sureClean) {
			return true
		}
		if k > 0 && ratio >= math.Log(sureMixed) {
			return true
		}
	}
	return false
}
