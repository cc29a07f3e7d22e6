package judge

import (
	"math"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

const (
	// usualSlots is how many slots of an edge must be known before its silence says anything.
	usualSlots = 12
	// latestSlots is how many slots show what was usual just before.
	latestSlots = 18
	// pastOfSilence is how much longer the past must be known than a silence lasts: what works now and then pauses for as long as it likes.
	// Of what was never silent before a shorter past says as much.
	pastOfSilence, pastOfBusy = 3, 2
	// beyondLull is how much longer than any before a silence must last.
	beyondLull = 2
	// giveUp is after how long a silence that says nothing is no longer watched.
	giveUp = time.Hour
)

// silences judges edges on which nothing happens any more.
type silences struct{ store *observe.Store }

func (j *silences) await(p *observe.Pair) {
	if rule := p.Rules.Get(rules.TrafficLoss); rule != nil {
		j.store.Edges.AwaitSilence(p, p.LastActive+int64(holdOf(rule, p)))
	}
}

func holdOf(rule *rules.Rule, p *observe.Pair) time.Duration {
	return max(rule.Hold, time.Duration(rule.MinIntervals)*p.Win.Length())
}

func (j *silences) judge(p *observe.Pair, now int64) {
	f := &p.Faults[observe.Silence]
	rule := p.Rules.Get(rules.TrafficLoss)
	if rule == nil {
		f.On = false
		return
	}
	p.Win.Advance(now)
	hold := holdOf(rule, p)
	if f.On {
		if p.LastActive > f.LastBad {
			f.Recovered = p.LastActive
			f.On = false
			j.store.Edges.Watch(p)
			return
		}
		f.Total = uint64(expected(p, silentSlots(p, now)))
		if !j.there(p, now) {
			// The source stopped or went away: its silence is no longer a loss.
			f.On = false
			j.store.Edges.Watch(p)
		}
		return
	}
	if now-p.LastActive < int64(hold) {
		j.await(p)
		return
	}
	told := j.told(p, now)
	slots := silentSlots(p, told)
	if slots < rule.MinIntervals || told-p.LastActive < beyondLull*p.Lull || !unlikely(p, slots, 1, rule.Chance) || !unlikely(p, slots, j.activity(p, now, told, slots), rule.Chance) {
		if now-p.LastActive < int64(max(giveUp, 10*p.Win.Length())) {
			// The longer it lasts, the less often it is looked at.
			j.store.Edges.AwaitSilence(p, now+max((now-p.LastActive)/4, int64(p.Win.Length())))
		}
		return
	}
	missing := expected(p, slots)
	*f = observe.Fault{
		On: true, Rule: rule, Since: p.LastActive, Fired: now, LastBad: p.LastActive, Kind: rule.Kind,
		Tally: observe.Tally{Failed: uint64(missing), Total: uint64(missing), Ratio: 1},
	}
	j.store.Edges.Watch(p)
}

// silentSlots is how many whole slots passed since anything happened; the newest may still be filling.
func silentSlots(p *observe.Pair, now int64) int {
	return int(max(now-p.LastActive, 0) / int64(p.Win.Length()))
}

// told is up to when an edge would have been heard of. What connections carry that are kept open shows in scrapes only, where no
// requests are known: since the last one of each of its nodes nobody could tell.
func (j *silences) told(p *observe.Pair, now int64) int64 {
	if p.Win.Ever(observe.Requests) > 0 || keptOpen(p) == 0 {
		return now
	}
	told, _ := j.scraped(p, now)
	return told
}

// scraped is when the node of an edge that was scraped longest ago was scraped last, now if that is not known, and the longest time
// between two scrapes of one.
func (j *silences) scraped(p *observe.Pair, now int64) (last, every int64) {
	last = now
	for _, w := range j.telling(p) {
		if n, ok := j.store.Nodes.ByName[w.Node]; ok {
			if src, ok := n.Sources[semconv.SourceMetrics]; ok && src.Sampled > 0 {
				last, every = min(last, src.Sampled), max(every, src.Every)
			}
		}
	}
	return last, every
}

// telling are the pods whose ztunnels tell of an edge: those of its source or, where that is not in the mesh, of its destination.
func (j *silences) telling(p *observe.Pair) []*mesh.Workload {
	pods := j.store.Mesh.Pods(p.Source.Name)
	if !slices.ContainsFunc(pods, (*mesh.Workload).InMesh) {
		pods = j.store.Mesh.Pods(p.Destination.Name)
	}
	return pods
}

// unlikely tells whether chance would hardly have kept the edge silent for that many slots: judged by how much used to happen in
// a slot, and by the share of slots that used to be active, of all the past and of the latest, which must not speak against it.
// Activity is how much the source does at present, as a share of what it did then.
func unlikely(p *observe.Pair, slots int, activity, chance float64) bool {
	w := &p.Win
	before := max(slots+1, w.Age(p.LastActive))
	known := w.NormalSlots(before)
	active := w.Normal(observe.Active, before)
	past := float64(pastOfSilence)
	if active >= known {
		past = pastOfBusy
	}
	if known < max(usualSlots, past*float64(slots)) {
		return false
	}
	active /= known + 1
	var latest, n float64
	var calls, bytes, shares moments
	for age := before; age < w.Known(); age++ {
		calls.add(float64(max(w.At(observe.Closed, age), w.At(observe.Requests, age))))
		bytes.add(float64(w.At(observe.Bytes, age)))
		if own, all := callsOf(p, age); all > 0 {
			shares.add(own / all)
		}
		n++
		if n <= latestSlots {
			latest += float64(w.At(observe.Active, age))
		}
	}
	if n >= usualSlots {
		active = min(active, latest/(min(n, latestSlots)+1))
	}
	silent := math.Pow(1-active, float64(slots))
	// Connections that stay open make no calls to be counted, but what they carry comes in portions all the same.
	// Where the source's calls come and go together, its share of them is even though their number is not.
	rate := max(calls.events(), bytes.events(), shares.events())
	if n == 0 {
		// The silence is all that the window shows: of what was before it is known only how often anything happened.
		rate = active
	}
	return silent <= math.Sqrt(chance) && stats.Silence(rate*activity*float64(slots)) <= chance
}

// callsOf is how many calls an edge made in a slot, and how many its source did in all.
func callsOf(p *observe.Pair, age int) (own, all float64) {
	for _, out := range p.Source.Out {
		if out.Win.Length() != p.Win.Length() {
			continue
		}
		then := out.Win.Age(p.Win.Start(age))
		if then >= out.Win.Known() {
			continue
		}
		n := float64(max(out.Win.At(observe.Closed, then), out.Win.At(observe.Requests, then)))
		if all += n; out == p {
			own = n
		}
	}
	if all == own {
		return 0, 0 // it is all that the source does
	}
	return own, all
}

// moments are a slot's mean and variance.
type moments struct{ n, sum, squares float64 }

func (m *moments) add(x float64) {
	m.n++
	m.sum += x
	m.squares += x * x
}

// events is the least number of independent events in a slot that explain how much its count varies: a sum of such events, each of any
// size, has a mean whose square is at most their number times its variance.
func (m *moments) events() float64 {
	if m.sum == 0 {
		return 0
	}
	mean := m.sum / m.n
	variance := m.squares/m.n - mean*mean
	if variance <= 0 {
		variance = mean // no count of independent events varies less
	}
	return min(mean*mean/variance, mostEvents)
}

// mostEvents bounds what the evenness of a count is taken for.
const mostEvents = 20

// expected is how many calls would have been made in that many slots. A long-lived connection makes none.
func expected(p *observe.Pair, slots int) float64 {
	known := p.Win.NormalSlots(slots + 1)
	if known == 0 {
		return 0
	}
	calls := max(p.Win.Normal(observe.Closed, slots+1), p.Win.Normal(observe.Requests, slots+1))
	return calls / known * float64(slots)
}

// activity is how much a silent edge's source does, as a share of what it usually does: is called without failing or, if nobody
// calls it, calls others. It is 0 where the source no longer reports, no longer exists or is kept from making the missing calls:
// only the silence of a source that works is a loss. What it did after the time up to which the silent edge is told of does not count.
func (j *silences) activity(p *observe.Pair, now, told int64, slots int) float64 {
	if !j.reports(p, now) || j.store.Removed(p.Source) || j.store.Removed(p.Destination) || j.rolledOut(p.Source, p.LastActive) {
		return 0
	}
	if hampered(p, slots) || quietened(p.Source, p.LastActive, now) {
		return 0
	}
	for _, in := range p.Destination.In {
		if in != p && failing(in, slots) {
			return 0
		}
	}
	busy := p.Source.In
	if len(busy) == 0 {
		busy = p.Source.Out
	}
	carried, called := 1.0, 0
	var seen, usual float64
	for _, other := range busy {
		if other == p {
			continue
		}
		if failing(other, slots) {
			return 0
		}
		other.Win.Advance(now)
		same := other.Win.SlotsFor(time.Duration(slots) * p.Win.Length())
		if other.Win.Total(observe.Requests) > 0 || keptOpen(other) == 0 {
			// The end of a connection that was opened long before is no call.
			done := func(lane observe.Lane) uint64 { return other.Win.Until(told, lane, same) }
			seen += float64(max(min(done(observe.Opened), done(observe.Closed)), done(observe.Requests)))
			usual += expected(other, same)
			continue
		}
		// Connections that stay open make no calls to be counted: what they carry shows life. Calls of one edge may carry much more
		// than those of another, so that each edge is compared with itself.
		if before := other.Win.Normal(observe.Bytes, same+1); before > 0 {
			then := float64(same) / other.Win.NormalSlots(same+1)
			// A scrape tells of what was since the one before.
			_, every := j.scraped(other, told)
			bytes, active := carriedSince(&other.Win, p.LastActive+every, told)
			carried = min(carried, share(bytes, before*then), share(active, other.Win.Normal(observe.Active, same+1)*then))
			called++
		}
	}
	switch {
	case usual >= leastSeen:
		return min(carried, share(seen, usual))
	case called > 0:
		return carried
	}
	return 0
}

// carriedSince is how many bytes, in how many slots, kept connections carried between two times.
func carriedSince(w *observe.Window, from, to int64) (bytes, active float64) {
	for age := w.Age(to); age < w.Known() && w.Start(age) >= from; age++ {
		bytes, active = bytes+float64(w.At(observe.Bytes, age)), active+float64(w.At(observe.Active, age))
	}
	return bytes, active
}

// leastActivity is the share of its usual activity below which a source does not count as working.
const leastActivity = 0.4

func share(seen, usual float64) float64 {
	if seen < leastActivity*usual {
		return 0
	}
	return min(seen/usual, 1)
}

// lagging is by how much the last signs of life of two edges may come apart that fell silent together.
const lagging = 30 * time.Second

// oddSilence is how unlikely a caller's silence must be to explain that of those it calls through others.
const oddSilence = 0.01

// quietened tells whether a caller of an app fell silent about when the app itself did: then the app is not asked to call.
func quietened(app *observe.App, since, now int64) bool {
	for _, in := range app.In {
		in.Win.Advance(now)
		length := int64(in.Win.Length())
		if in.LastActive < since-max(3*length, int64(lagging)) || in.LastActive > since+2*length {
			continue
		}
		if in.Faults[observe.Silence].On || unlikely(in, silentSlots(in, now), 1, oddSilence) {
			return true
		}
	}
	return false
}

// maxReach bounds how many edges are looked at for what hampers a source.
const maxReach = 200

// hampered tells whether anything that a silent edge's source calls, directly or through others, fails since then: the source may
// not get as far as to make the calls that are missing.
func hampered(p *observe.Pair, slots int) bool {
	seen := map[*observe.App]bool{p.Source: true}
	queue := []*observe.App{p.Source}
	for looked := 0; len(queue) > 0 && looked < maxReach; {
		app := queue[0]
		queue = queue[1:]
		for _, out := range app.Out {
			looked++
			if out != p && !out.Barred && failing(out, slots) && !failedBefore(out, p.LastActive) {
				return true
			}
			if !seen[out.Destination] {
				seen[out.Destination] = true
				queue = append(queue, out.Destination)
			}
		}
	}
	return false
}

// failedBefore tells whether all that is wrong with an edge was so well before a time.
func failedBefore(p *observe.Pair, t int64) bool {
	for family := range observe.Silence {
		if f := &p.Faults[family]; f.On && f.Since >= t-int64(time.Minute) {
			return false
		}
	}
	return p.Wrong()
}

// there tells whether both ends of a silent edge still exist and its source is not idle altogether.
func (j *silences) there(p *observe.Pair, now int64) bool {
	if !j.reports(p, now) || j.store.Removed(p.Source) || j.store.Removed(p.Destination) {
		return false
	}
	idle := int64(max(2*time.Minute, 3*p.Win.Length()))
	for _, edges := range [][]*observe.Pair{p.Source.In, p.Source.Out} {
		for _, other := range edges {
			if now-other.LastActive < idle {
				return true
			}
		}
	}
	return false
}

// leastSeen is how many calls show that a source works.
const leastSeen = 5

func failing(p *observe.Pair, slots int) bool {
	for family := range observe.Silence {
		if p.Faults[family].On {
			return true
		}
	}
	if p.Faults[observe.NoAnswer].On {
		return true
	}
	return worse(&p.Win, observe.Failed, observe.Closed, slots+2) || worse(&p.Win, observe.RequestsFailed, observe.Requests, slots+2)
}

// worse tells whether at least a fifth of what was tried lately failed, and twice as large a part as usual.
func worse(w *observe.Window, bad, total observe.Lane, slots int) bool {
	failed, all := w.Sum(bad, slots), w.Sum(total, slots)
	usual := w.Normal(bad, slots) / max(w.Normal(total, slots), 1)
	return failed >= 2 && 5*failed >= all && float64(failed) >= 2*usual*float64(all)
}

// reports tells whether the ztunnels that tell of an edge still deliver.
func (j *silences) reports(p *observe.Pair, now int64) bool {
	for _, w := range j.telling(p) {
		n, ok := j.store.Nodes.ByName[w.Node]
		if !ok {
			continue
		}
		if n.Down.On || n.Lost.On || j.store.Nodes.WithoutHeartbeat(n) {
			return false
		}
		for _, src := range n.Sources {
			if src.Worked && !src.Up {
				return false
			}
		}
	}
	return true
}

// rolledOut tells whether pods of an app came or went around a time.
func (j *silences) rolledOut(app *observe.App, around int64) bool {
	for i := range j.store.Mesh.Changes {
		c := &j.store.Mesh.Changes[i]
		if c.Pods && c.App == app.Name && c.Time > around-int64(time.Minute) {
			return true
		}
	}
	return false
}
