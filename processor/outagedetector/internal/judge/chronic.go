package judge

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// Chronic finds the edges of which a part always fails, as large as would be an outage if it were not usual. It is told once and apart;
// that part is normal there. It ends when the edge does well.
type Chronic struct {
	store    *observe.Store
	standing map[chronicKey]*Condition // bounded by maxChronic
	// changed are the conditions of which there is news.
	changed []*Condition
	// Overflowed counts those that are not told because there are too many.
	Overflowed uint64
}

type chronicKey struct {
	pair   *observe.Pair
	family observe.Family
}

// Condition is what always fails on an edge.
type Condition struct {
	Pair *observe.Pair
	// Family is Connections or RequestErrors.
	Family       observe.Family
	Kind, Policy string
	// Since is when the first of it is known to have failed, Ended when the edge did well again or was no longer used; 0 while it stands.
	Since, Ended int64
	// Failed of Total are those in the newest Window, as of Updated.
	Failed, Total uint64
	Window        time.Duration
	Updated       int64

	rule *rules.Rule
	// share is what part failed as it was found.
	share float64
	// failed is how much had ever failed, and total how much had been tried when that was so first.
	failed, total uint64
}

const (
	maxChronic = 1000
	// chronicSlots and chronicAfter are how long a condition must have stood, chronicHits in how many slots something must have failed.
	chronicSlots, chronicHits = 12, 8
	chronicAfter              = 2 * time.Minute
	// chronicOutage is how long an outage lasts that began with the first that was seen of its edge before it is how the edge is; most must
	// go well there.
	chronicOutage, chronicShare = 10 * time.Minute, 0.5
	// chronicRefresh is how often a condition whose figures change is told again.
	chronicRefresh = time.Minute
	// chronicUnused is how long nothing must have been tried for a condition to be over.
	chronicUnused = 6 * time.Hour
)

// chronicFamilies are the families of faults that can be how an edge always is: a protocol that never answers is no failure.
var chronicFamilies = [...]observe.Family{observe.Connections, observe.RequestErrors}

func countsOf(p *observe.Pair, family observe.Family) counts {
	if family == observe.Connections {
		return connectionsOf(p)
	}
	return requestsOf(p)
}

// note looks for what always fails on an edge that changed.
func (j *Chronic) note(p *observe.Pair, now int64) {
	for _, family := range chronicFamilies {
		c := countsOf(p, family)
		if c.w.Total(c.bad) < chronicHits || j.standing[chronicKey{p, family}] != nil {
			continue
		}
		rule, policy := j.ruleOf(p, family, c)
		f := &p.Faults[family]
		if rule == nil || f.On && !fromTheFirst(p, f, now) || !steady(c, rule, f.On) || j.store.FailuresOnly(p) {
			continue
		}
		if len(j.standing) >= maxChronic {
			j.Overflowed++
			continue
		}
		if f.On {
			f.Chronic = true
			shut(p, c, f, now)
			c.w.Accept()
		}
		condition := &Condition{Pair: p, Family: family, Kind: rule.Kind, Policy: policy, Since: max(firstBad(c), p.FirstSeen), rule: rule}
		condition.count(c, now)
		condition.share = float64(condition.Failed) / float64(max(condition.Total, 1))
		j.standing[chronicKey{p, family}] = condition
		j.changed = append(j.changed, condition)
	}
}

// ruleOf is the rule by which what fails on an edge would be an outage, and the policy that denies it.
func (j *Chronic) ruleOf(p *observe.Pair, family observe.Family, c counts) (rule *rules.Rule, policy string) {
	if family == observe.Connections {
		rule, reason := dominant(p, c.w.Start(c.w.Known()-1))
		if rule == nil {
			return nil, ""
		}
		return rule, reason.Policy
	}
	for i := range p.Denied {
		if r := &p.Denied[i]; 2*r.RecordsSince(c.w.Start(c.w.Known()-1)) > c.w.Total(c.bad) {
			return p.Rules.Get(rules.PolicyDenied), r.Policy
		}
	}
	return p.Rules.Get(rules.HTTPErrors), ""
}

// steady tells whether a part fails all the time: in both halves of what is known, and for long enough. Outages that ended do not count.
func steady(c counts, rule *rules.Rule, faulty bool) bool {
	known := c.w.Known()
	if known < chronicSlots || time.Duration(known)*c.w.Length() < chronicAfter {
		return false
	}
	var bad, all [2]uint64
	hits := 0
	for age := range known {
		if !faulty && !c.w.Usual(age) {
			continue
		}
		half := 2 * age / known
		bad[half], all[half] = bad[half]+c.w.At(c.bad, age), all[half]+c.all(age)
		if c.w.At(c.bad, age) > 0 {
			hits++
		}
	}
	return hits >= chronicHits && stats.WilsonLower(bad[0]+bad[1], all[0]+all[1]) >= rule.MinRatio &&
		min(stats.WilsonLower(bad[0], all[0]), stats.WilsonLower(bad[1], all[1])) >= rule.MinRatio/2
}

// fromTheFirst tells whether a fault that goes on began with what was first seen of its edge, while most of it goes well: then nobody knows the
// edge otherwise. An outage that is known from before a restart is none of these.
func fromTheFirst(p *observe.Pair, f *observe.Fault, now int64) bool {
	first := p.FirstSeen + max(int64(firstSight), int64(p.Win.Length()))
	return !f.Attributed && f.Since <= first && now-f.Since >= int64(chronicOutage) && f.Ratio < chronicShare &&
		(f.Began == 0 || f.Began >= p.FirstSeen-int64(p.Win.Length()))
}

// firstBad is when the oldest slot began that is known and in which something failed.
func firstBad(c counts) int64 {
	for age := c.w.Known() - 1; age > 0; age-- {
		if c.w.At(c.bad, age) > 0 {
			return c.w.Start(age)
		}
	}
	return c.w.Start(0)
}

func (s *Condition) count(c counts, now int64) {
	s.Failed, s.Total = c.w.Total(c.bad), 0
	for age := range c.w.Known() {
		s.Total += c.all(age)
	}
	s.Window, s.Updated = time.Duration(c.w.Known())*c.w.Length(), now
}

// judge ends the conditions of edges that do well, and tells of the others now and then.
func (j *Chronic) judge(now int64) {
	for key, s := range j.standing {
		p := s.Pair
		p.Win.Advance(now)
		c := countsOf(p, s.Family)
		switch {
		case j.store.Edges.Find(p.Source.Name, p.Destination.Name) != p || now-max(p.LastActive, c.last) > int64(chronicUnused):
			s.Ended = now
		case s.healed(c):
			s.Ended = now
			if p.Rows == nil {
				// Of few points a run without failures may be chance: their normal forgets by itself.
				c.w.Forget(c.bad, now)
			}
		case now-s.Updated < int64(chronicRefresh):
			continue
		}
		failed, total := s.Failed, s.Total
		s.count(c, now)
		if s.Ended != 0 {
			delete(j.standing, key)
		} else if failed == s.Failed && total == s.Total {
			continue
		}
		j.changed = append(j.changed, s)
	}
}

// chronicClean is how many times better health must explain what has gone well without any failure than the condition does.
const chronicClean = 100

// healed tells whether what went well since something failed last, or the newest slots, show health rather than the part that always failed.
func (s *Condition) healed(c counts) bool {
	faulty := min(s.share, 0.98)
	usual := min(max(s.rule.Noise, faulty/4), faulty/2)
	if failed := c.w.Ever(c.bad); failed != s.failed {
		s.failed, s.total = failed, c.w.Ever(c.total)
	}
	if stats.LikelihoodRatio(0, c.w.Ever(c.total)-s.total, usual, faulty) >= math.Log(chronicClean) {
		return true
	}
	var bad, all uint64
	for age := range c.w.Known() {
		bad, all = bad+c.w.At(c.bad, age), all+c.all(age)
		if bad > 0 && stats.LikelihoodRatio(bad, all, usual, faulty) >= math.Log(sureMixed) {
			return true
		}
	}
	return false
}

// Stands tells whether what fails on an edge is a condition that stands, and how much failed of it since a time.
func (j *Chronic) Stands(p *observe.Pair, family observe.Family, since int64) (failed uint64, ok bool) {
	if len(j.standing) == 0 || j.standing[chronicKey{p, family}] == nil {
		return 0, false
	}
	c := countsOf(p, family)
	return c.w.Sum(c.bad, c.w.SlotsFor(time.Duration(j.store.Now-since)+c.w.Length())), true
}

// Len is how many conditions stand.
func (j *Chronic) Len() int { return len(j.standing) }

// Standing are the conditions that stand, in a stable order.
func (j *Chronic) Standing() []*Condition {
	all := make([]*Condition, 0, len(j.standing))
	for _, s := range j.standing {
		all = append(all, s)
	}
	sortConditions(all)
	return all
}

// TakeChanged hands out the conditions of which there is news, those that ended among them.
func (j *Chronic) TakeChanged() []*Condition {
	changed := j.changed
	j.changed = nil
	sortConditions(changed)
	return changed
}

func sortConditions(list []*Condition) {
	slices.SortStableFunc(list, func(a, b *Condition) int {
		return cmp.Or(observe.CompareNames(a.Pair.Source.Name, b.Pair.Source.Name), observe.CompareNames(a.Pair.Destination.Name, b.Pair.Destination.Name),
			cmp.Compare(a.Family, b.Family))
	})
}
