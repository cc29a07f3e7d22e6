package judge

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// Unresolved is who does not resolve names, or only late, and for whom.
type Unresolved struct {
	Root outage.Subject
	// Former is the root by which the same was known before more was told, nil if there is none.
	Former *outage.Subject
	Fault  observe.Fault
	// Apps ask in vain or wait, bounded by the askers; Everyone tells that it is all who ask, also those outside the mesh.
	Apps     map[outage.Name]bool
	Everyone bool
	// Disturbed are those of whom some queries are in vain or wait while others get a cache's answers; bounded by the askers.
	Disturbed map[outage.Name]bool
	// Wide tells that single lookups of names in several hands were in vain.
	Wide bool
	// Edges are who asks whom, with the queries that were in vain or late, and who reaches nobody; Nodes are where they ask.
	Edges    []outage.Edge
	Nodes    []string
	Evidence []outage.Evidence

	// worst is the greatest share of answers that were late.
	worst float64
}

// Names judges whether names are resolved.
type Names struct {
	All []*Unresolved

	store *observe.Store
	// well is since when names are resolved again: what was slow before says nothing more.
	well int64
}

const (
	// searched is how many queries one lookup costs at most that walks through search domains: of those of one type at most one succeeds.
	searched = 4
	// learnt is how many successes must be known before their absence says anything, and in how many slots, or over how many slots in all.
	learnt, learntSlots = 3, 8
	// surest bounds how sure it is that a lookup succeeds.
	surest = 0.98
	// goesOn is which share of what is usually asked for, beside what usually fails, must still be asked for.
	goesOn = 0.5
)

// pool is what several askers did lately.
type pool struct{ ended, slow, late, succeeded uint64 }

func (p *pool) add(o pool) {
	p.ended, p.slow, p.late, p.succeeded = p.ended+o.ended, p.slow+o.slow, p.late+o.late, p.succeeded+o.succeeded
}

// answers are what several askers were answered lately, and what was usual before.
type answers struct {
	pool
	usual struct{ slow, ended, succeeded float64 }
	// longer is what they were answered over more time: how often whom slowly, in which slots, and in how many of these is enough.
	longer struct {
		pool
		times, enough int
		slots         uint64
	}
}

const (
	// leastSlow is which share of answers is slow at least where ztunnels' caches give most of them, slowTimes how often that was seen, in
	// slowSlots slots: queries for one name wait for one answer, so that many are slow when one is.
	leastSlow, slowTimes, slowSlots = 0.02, 4, 3
)

// slow tells whether answers take longer than chance explains.
func (a *answers) slow(rule *rules.Rule) bool {
	usual := max(rule.Noise, (a.usual.slow+1)/(a.usual.ended+100))
	excess := func(p *pool, share float64) bool {
		return p.slow >= rule.MinCount && stats.WilsonLower(p.slow, p.ended) >= share && stats.BinomialTail(p.slow, p.ended, min(usual, 0.9)) <= rule.Chance
	}
	longer := &a.longer
	return excess(&a.pool, rule.MinRatio/2) ||
		longer.times >= slowTimes && bits.OnesCount64(longer.slots) >= longer.enough && excess(&longer.pool, leastSlow)
}

// gone tells whether they are so late, or so often missing, that the names count as not resolved.
func (a *answers) gone() bool {
	return a.late >= 2 && 3*a.late >= a.pool.slow || a.succeeded == 0 && a.usual.ended > 0 && a.usual.succeeded/a.usual.ended*float64(a.ended) >= learnt
}

// inquiry is what all askers did lately.
type inquiry struct {
	all     answers
	byNode  map[string]*answers      // bounded by the askers
	byApp   map[outage.Name]*answers // bounded by the askers
	counted []*observe.Asker         // of whom counters tell, vain those of them who ask in vain
	vain    []*observe.Asker
	single  []*observe.Asker // names of which single lookups tell, names those of them that used to be resolved and are not
	names   []*observe.Asker
}

func (j *Names) judge(now int64) {
	rule := j.store.Catalogue.Base().Get(rules.NamesInVain)
	if rule == nil {
		j.All = nil
		return
	}
	q := j.inquire(rule)
	found := j.ofSlow(&q, rule, now)
	if len(found) == 0 {
		found = j.ofVain(&q, rule, now)
	}
	j.follow(found, rule, now)
}

// every is how far apart the scrapes of an asker's node are, 0 where that is not known.
func (j *Names) every(a *observe.Asker) int64 {
	if n, ok := j.store.Nodes.ByName[a.Node]; ok && a.Name == "" {
		if src, ok := n.Sources[semconv.SourceMetrics]; ok {
			return src.Every
		}
	}
	return 0
}

// slots is how many of an asker's slots are lately: enough for two scrapes.
func (j *Names) slots(a *observe.Asker, within time.Duration) int {
	return a.Win.SlotsFor(max(within, 2*time.Duration(j.every(a))))
}

func (j *Names) inquire(rule *rules.Rule) inquiry {
	q := inquiry{byNode: map[string]*answers{}, byApp: map[outage.Name]*answers{}}
	j.store.DNS.All(func(a *observe.Asker) {
		lately := j.slots(a, rule.Window)
		j.vain(a, rule, lately)
		if a.Name != "" {
			q.single = append(q.single, a)
			if a.InVain != 0 {
				q.names = append(q.names, a)
			}
			return
		}
		q.counted = append(q.counted, a)
		if a.InVain != 0 {
			q.vain = append(q.vain, a)
		}
		newest, longer, slow := pool{}, pool{}, uint64(0)
		for age := range lately {
			if a.Win.Start(age) < j.well {
				break
			}
			one := answered(a, age)
			longer.add(one)
			if age < max(lately/2, 1) {
				newest.add(one)
			}
			if one.slow > 0 {
				slow |= 1 << age
			}
		}
		scrapes := int(int64(lately) * int64(a.Win.Length()) / max(j.every(a), int64(a.Win.Length())))
		for _, to := range []*answers{&q.all, answersOf(q.byNode, a.Node), answersOf(q.byApp, a.App)} {
			to.add(newest)
			to.longer.add(longer)
			to.longer.slots |= slow
			to.longer.times += bits.OnesCount64(slow)
			to.longer.enough = max(to.longer.enough, min(scrapes, slowSlots))
			ended := a.Win.Normal(observe.Closed, lately)
			to.usual.ended += ended
			to.usual.slow += a.Win.Normal(observe.Slow, lately)
			to.usual.succeeded += ended - a.Win.Normal(observe.Failed, lately)
		}
	})
	for _, list := range [][]*observe.Asker{q.counted, q.vain, q.single, q.names} {
		slices.SortFunc(list, compareAskers)
	}
	return q
}

// answered is what an asker was answered in the slot that many slots before the newest.
func answered(a *observe.Asker, age int) pool {
	return pool{a.Win.At(observe.Closed, age), a.Win.At(observe.Slow, age), a.Win.At(observe.Timed, age), observe.Succeeded(&a.Win, age)}
}

func compareAskers(a, b *observe.Asker) int {
	return cmp.Or(observe.CompareNames(a.App, b.App), strings.Compare(a.Node, b.Node), strings.Compare(a.Query, b.Query), strings.Compare(a.Name, b.Name))
}

func answersOf[K comparable](pools map[K]*answers, key K) *answers {
	p, ok := pools[key]
	if !ok {
		p = &answers{}
		pools[key] = p
	}
	return p
}

// vain tells an asker since when nothing succeeds that used to, as long as it goes on asking.
func (j *Names) vain(a *observe.Asker, rule *rules.Rule, lately int) {
	w := &a.Win
	silent, ended, first, newest := 0, uint64(0), 0, -1
	for silent < w.Known() && observe.Succeeded(w, silent) == 0 {
		if n := w.At(observe.Closed, silent); n > 0 {
			ended += n
			first = silent
			if newest < 0 {
				newest = silent
			}
		}
		silent++
	}
	was := a.InVain
	a.InVain = 0
	if newest < 0 || newest >= lately || silent == w.Known() && was == 0 && w.Normal(observe.Closed, silent) == 0 {
		return
	}
	closed := w.Normal(observe.Closed, silent)
	good := closed - w.Normal(observe.Failed, silent)
	if good < learnt || w.NormalSlots(silent) < learntSlots && goodSlots(w, silent) < learnt {
		return
	}
	group := min(max(math.Round(closed/good), 1), searched)
	if a.Name != "" {
		group = 1
	}
	// Who no longer asks for what used to succeed fails with all the rest as before.
	usually := closed / w.NormalSlots(silent) * float64(max(first-newest+1, int(j.every(a)/int64(w.Length()))))
	share := min(good/closed*group, 1)
	if was == 0 && float64(ended) < usually*(1-goesOn*share) {
		return
	}
	lookups := float64(ended) / group
	if lookups < float64(rule.MinCount) || math.Pow(1-min(share, surest), math.Floor(lookups)) > rule.Chance {
		return
	}
	a.InVain, a.Ill = w.Start(first), j.store.Now
	w.MarkBad(a.InVain)
}

// goodSlots is in how many slots before one anything succeeded.
func goodSlots(w *observe.Window, age int) (good int) {
	for ; age < w.Known(); age++ {
		if observe.Succeeded(w, age) > 0 {
			good++
		}
	}
	return good
}

// follow keeps what was found before: it begins when it began, and ends once who asked in vain gets answers again, or asks no more.
func (j *Names) follow(found []*Unresolved, rule *rules.Rule, now int64) {
	for _, old := range j.All {
		if !old.Fault.On {
			if now-old.Fault.Recovered < Remembered {
				found = append(found, old)
			}
			continue
		}
		i := slices.IndexFunc(found, func(u *Unresolved) bool { return u.Fault.On && (u.Root == old.Root || overlap(u.Apps, old.Apps)) })
		if i >= 0 && found[i].Fault.Kind == rules.KindDNSFailure && j.revived(old) {
			j.well = now
			old.Fault.On, old.Fault.Recovered = false, now
			found[i] = old
			continue
		}
		if i >= 0 {
			u := found[i]
			u.worst = old.worst
			if u.Former == nil && old.Root != u.Root {
				former := old.Root
				u.Former = &former
			}
			if !u.Everyone && u.Root == j.resolver() && old.Root.Type == "workload" {
				// The counters do not know yet what single lookups have told.
				u.Root, u.Edges, u.Former = old.Root, old.Edges, old.Former
			}
			if old.Wide && u.Root.Type == "workload" {
				// The others got addresses first.
				u.Root, u.Former, u.Everyone, u.Wide = old.Root, old.Former, true, true
			}
			if u.Root == old.Root {
				u.Evidence = old.Evidence // what began it says enough
			}
			u.Fault.Since, u.Fault.Fired = min(u.Fault.Since, old.Fault.Since), old.Fault.Fired
			if old.Fault.Kind == rules.KindDNSFailure {
				u.Fault.Kind, u.Fault.Rule = old.Fault.Kind, old.Fault.Rule
			}
			continue
		}
		if now-old.Fault.LastBad >= int64(rule.Hold) || j.recovered(old) {
			old.Fault.On, old.Fault.Recovered = false, now
		}
		found = append(found, old)
	}
	j.All = found
}

// stillSlow is within what time an answer was slow where names are resolved slowly.
const stillSlow = 15 * time.Second

// recovered tells whether any of those who asked in vain, or waited, got an answer in time since.
func (j *Names) recovered(u *Unresolved) (well bool) {
	slow := false
	defer func() { well = well && !slow }()
	j.store.DNS.All(func(a *observe.Asker) {
		if !u.Apps[a.App] || a.Name != "" && !under(a.Name, u.Root.Name) {
			return
		}
		// Most answers are a cache's: that some are in time says nothing while others are not.
		slow = slow || u.Fault.Kind == rules.KindDNSSlow && a.Win.Sum(observe.Slow, a.Win.SlotsFor(stillSlow)) > 0
		for age := range min(3, a.Win.Known()) {
			if a.Win.Start(age) >= u.Fault.LastBad-a.Win.Start(0)+a.Win.Start(1) && observe.Succeeded(&a.Win, age) > a.Win.At(observe.Slow, age) {
				well = true
			}
		}
	})
	return well
}

const (
	// mostLate is which share of answers is late where a resolver gives none, fewLate which part of that share is left where it gives them
	// again.
	mostLate, fewLate = 0.5, 0.25
)

// revived tells whether names are resolved again as they used to be, though answers that were late before are still among the newest.
func (j *Names) revived(u *Unresolved) bool {
	var newest pool
	usual := struct{ ended, succeeded float64 }{}
	j.store.DNS.All(func(a *observe.Asker) {
		if a.Name != "" {
			return
		}
		w := &a.Win
		for age := 0; age < w.Known() && w.Start(age) >= u.Fault.Since; age++ {
			if one := answered(a, age); one.ended > 0 {
				newest.add(one)
				ended := w.Normal(observe.Closed, w.Age(u.Fault.Since))
				usual.ended += ended
				usual.succeeded += ended - w.Normal(observe.Failed, w.Age(u.Fault.Since))
				return
			}
		}
	})
	late := float64(newest.slow) / float64(max(newest.ended, 1))
	u.worst = max(u.worst, late)
	return u.worst >= mostLate && late <= fewLate*u.worst && float64(newest.succeeded)*usual.ended >= float64(newest.ended)*usual.succeeded/2 && newest.succeeded > 0
}

func overlap(a, b map[outage.Name]bool) bool {
	for name := range a {
		if b[name] {
			return true
		}
	}
	return false
}

func earliest(a, b int64) int64 {
	if a == 0 {
		return b
	}
	return min(a, b)
}
