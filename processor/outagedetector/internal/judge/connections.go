package judge

import (
	"time"

	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// connections judges failed connections: by their share, and by reasons that the edge never had.
type connections struct{ store *observe.Store }

func (j *connections) judge(p *observe.Pair, now int64) {
	f := &p.Faults[observe.Connections]
	if !f.On && !lately(&p.Win, observe.Failed) {
		return
	}
	c := connectionsOf(p)
	if f.On {
		c.follow(f, now)
		name(p, f)
		if c.recovered(f, now) || j.admitted(f, now) || j.leftBehind(p, observe.Failed) {
			shut(p, c, f, now)
		}
		return
	}
	rule, reason := dominant(p, p.Win.Start(observe.Slots-1))
	if rule == nil || j.store.FailuresOnly(p) || j.leftBehind(p, observe.Failed) {
		return
	}
	s, found := c.excess(rule)
	if !found {
		if rule, s, found = newFailure(p, c); !found {
			if rule, s, found = j.newDenial(p, c, now); !found {
				return
			}
		}
	}
	if j.untold(p, p.Win.Start(s.slots-1)) {
		return
	}
	p.Barred = reason.Type == semconv.ErrorTypePolicyDenied && j.alwaysDenied(p, reason)
	if p.Barred {
		return
	}
	c.open(f, p, rule, s, now)
	name(p, f)
}

// untold tells whether counters alone tell of an edge's failures since a time, without a reason, while a log goes on that has a line of every
// connection: ztunnel's counters call failed what is cut while it is closed, too, and of some connections the line may have been lost, but hardly of all.
func (j *connections) untold(p *observe.Pair, since int64) bool {
	for i := range p.Reasons {
		r := &p.Reasons[i]
		if hits, _ := r.Recent(p, since); hits > 0 && r.Type != semconv.ErrorTypeConnectFailed || r.RecordsSince(since) > 0 {
			return false
		}
	}
	return j.store.Logged(p, since)
}

// shut ends an edge's fault, also for the pods that it leads to: what failed there with it no longer speaks for one of them alone.
func shut(p *observe.Pair, c counts, f *observe.Fault, now int64) {
	c.shut(f, now)
	for _, e := range p.Destination.Endpoints {
		e.Win.Forgive(c.bad, f.LastBad)
	}
}

// alwaysDenied tells whether an edge was denied ever since it was first seen, or never got through, and no policy changed that: then the
// denial is as it should be.
func (j *connections) alwaysDenied(p *observe.Pair, reason *observe.Reason) bool {
	// A waypoint keeps its connections: before they are replaced and denied, its clients' requests may tell that they work.
	for _, client := range p.Clients() {
		if client.LastSuccess != 0 && reason.First-client.FirstSeen > int64(firstSight) {
			return false
		}
	}
	if named := namedDenial(p, reason); named != nil {
		if j.store.Mesh.PolicyChanged(named.Policy) != 0 {
			return false
		}
		if named.First-p.FirstSeen <= int64(firstSight) {
			return true
		}
	}
	// Connections that are kept open have not ended: that they were let through shows in what they carry, and in that they are open.
	if reason.First-p.FirstSeen > int64(firstSight) && (p.Connections > 0 || p.Win.Ever(observe.Requests) > p.Win.Ever(observe.RequestsFailed)) {
		return false
	}
	// A few that seem to get through are failures whose reason is not known yet: of the newest connections, that is, which are many
	// of those that are known soon after a restart.
	closed := p.Win.Ever(observe.Closed) - p.Win.At(observe.Closed, 0)
	through := closed - min(p.Win.Ever(observe.Failed), closed)
	return p.LastSuccess == 0 || 50*through <= p.Win.Ever(observe.Closed)
}

// newPolicy is for how long after a policy changed a single denial by it is taken for its doing.
const newPolicy = 5 * time.Minute

// newDenial looks for a denial by a policy that has just changed, or by none of those that admit after one of them has: the change says what few
// failures could not.
func (j *connections) newDenial(p *observe.Pair, c counts, now int64) (*rules.Rule, span, bool) {
	rule := p.Rules.Get(rules.PolicyDenied)
	if rule == nil {
		return nil, span{}, false
	}
	for i := range p.Reasons {
		r := &p.Reasons[i]
		if r.Type != semconv.ErrorTypePolicyDenied || r.Policy != "" && j.store.Mesh.Policy(r.Policy) == nil {
			continue
		}
		changed := j.policyChanged(p, r)
		if changed == 0 || r.Last < changed || r.Last-changed > int64(newPolicy) {
			continue
		}
		slots := min(p.Win.SlotsFor(time.Duration(now-changed)+p.Win.Length()), p.Win.Since(observe.Failed))
		if failed := p.Win.Sum(observe.Failed, slots); failed > 0 {
			var total uint64
			for age := range min(slots, p.Win.Known()) {
				total += c.all(age)
			}
			return rule, span{slots: slots, bad: failed, total: max(total, failed)}, true
		}
	}
	return nil, span{}, false
}

// policyChanged is when a policy changed last that is behind a denial; 0 if none did.
func (j *connections) policyChanged(p *observe.Pair, denial *observe.Reason) int64 {
	if denial.Policy == "" {
		return j.store.Mesh.AdmissionChanged(p.Destination.Name)
	}
	return j.store.Mesh.PolicyChanged(denial.Policy)
}

// admitted tells whether the policy that denied is gone, or says something else, and nothing has been denied since.
func (j *connections) admitted(f *observe.Fault, now int64) bool {
	if f.Kind != rules.KindPolicyDenied || f.Policy == "" || now-f.LastBad < int64(settleTime) {
		return false
	}
	changed := j.store.Mesh.PolicyChanged(f.Policy)
	return changed > f.Since && now-changed >= int64(settleTime) && f.LastBad < changed+int64(settleTime)
}

// leftBehindFor is how long nothing but pods that are gone must have failed.
const leftBehindFor = 20 * time.Second

// leftBehind tells whether all that went wrong on an edge lately was sent to pods that are gone, while others serve in their place: who goes
// on calling an address that nobody has any more is not failed by the workload.
func (j *connections) leftBehind(p *observe.Pair, bad observe.Lane) bool {
	wrong := p.Win.Sum(bad, p.Win.SlotsFor(leftBehindFor))
	if wrong == 0 || p.Win.Length() > leftBehindFor {
		return false
	}
	var gone uint64
	for _, e := range p.Destination.Endpoints {
		e.Win.Advance(j.store.Now)
		failed := e.Win.Sum(observe.Failed, e.Win.SlotsFor(leftBehindFor))
		if failed > 0 && !j.store.Gone(e) {
			return false
		}
		gone += failed
	}
	return gone >= wrong
}

// firstSight is within what time of its beginning an edge shows what always was.
const firstSight = 15 * time.Second

// namedDenial is a denial that says which policy denies: the reason itself or, as only the server's side knows, another one.
func namedDenial(p *observe.Pair, reason *observe.Reason) *observe.Reason {
	if reason.Policy != "" {
		return reason
	}
	var named *observe.Reason
	for i := range p.Reasons {
		if r := &p.Reasons[i]; r.Type == reason.Type && r.Policy != "" && (named == nil || r.Last > named.Last) {
			named = r
		}
	}
	return named
}

// dominant is the reason that explains most of an edge's failures since a time, and the rule that judges it. What the
// server's side says goes before the client's, which only knows that the tunnel was refused.
func dominant(p *observe.Pair, since int64) (*rules.Rule, *observe.Reason) {
	var best *observe.Reason
	var most uint64
	for i := range p.Reasons {
		r := &p.Reasons[i]
		weight, _ := r.Recent(p, since)
		weight = max(weight, r.RecordsSince(since))
		if weight == 0 {
			continue
		}
		if reasons.Of(r.Type).Vague {
			// One that is told counts for more than any number that are not.
			weight = 0
		}
		if best == nil || weight > most {
			best, most = r, weight
		}
	}
	if best == nil {
		return nil, nil
	}
	return p.Rules.Get(rules.ForReason(best.Type)), best
}

// name keeps a fault's kind and policy as the newest reasons tell them.
func name(p *observe.Pair, f *observe.Fault) {
	_, reason := dominant(p, f.Since)
	if reason == nil {
		return
	}
	rule := p.Rules.Get(rules.ForReason(reason.Type))
	if rule == nil {
		return
	}
	f.Kind, f.Policy = rule.Kind, reason.Policy
	// What began small stays what it was called until most of it fails.
	if f.Rule.ID != rules.NewFailure && f.Rule.ID != rules.PartialOutage || f.Ratio >= 0.5 {
		f.Rule = rule
	}
}

// pastNeeded is how long an edge must have been known before a reason can be new to it.
const pastNeeded = 2 * time.Minute

// newFailure looks for a reason that an edge with a past never had.
func newFailure(p *observe.Pair, c counts) (*rules.Rule, span, bool) {
	rule := p.Rules.Get(rules.NewFailure)
	if rule == nil {
		return nil, span{}, false
	}
	window := max(rule.Window, time.Duration(rule.MinIntervals)*p.Win.Length())
	slots := min(p.Win.SlotsFor(window), p.Win.Since(observe.Failed))
	if slots == 0 {
		return nil, span{}, false
	}
	since := p.Win.Start(slots - 1)
	for i := range p.Reasons {
		r := &p.Reasons[i]
		if r.First < since || r.First-p.FirstSeen < int64(pastNeeded) || r.Hits < rule.MinCount {
			continue
		}
		hits, intervals := r.Recent(p, since)
		var total uint64
		for age := range min(slots, p.Win.Known()) {
			total += c.all(age)
		}
		bad, all := c.normal(slots)
		if hits >= rule.MinCount && intervals >= rule.MinIntervals &&
			stats.BinomialTail(hits, max(total, hits), max(rule.Noise, bad/max(all, 1))) <= rule.Chance {
			failed := p.Win.Sum(observe.Failed, slots)
			return rule, span{slots: slots, bad: failed, total: max(total, failed)}, true
		}
	}
	return nil, span{}, false
}

// judgeCounts judges what one rule decides on alone.
func judgeCounts(p *observe.Pair, family observe.Family, rule *rules.Rule, c counts, now int64) {
	f := &p.Faults[family]
	if f.On {
		c.follow(f, now)
		if family == observe.RequestErrors {
			denied(p, f)
		}
		if c.recovered(f, now) {
			shut(p, c, f, now)
		}
		return
	}
	if !lately(c.w, c.bad) {
		return
	}
	if s, found := c.excess(rule); found && c.workedBefore(s) {
		c.open(f, p, rule, s, now)
		switch {
		case family == observe.RequestErrors:
			denied(p, f)
		case family == observe.NoAnswer && p.Lasted >= waits:
			f.Kind = rules.KindConnectionTimeout
		}
	}
}

// waits is for how many seconds a connection lasts whose client waited in vain.
const waits = 1

// denied names requests' failures by the policy that denied most of them, if one did.
func denied(p *observe.Pair, f *observe.Fault) {
	rule := p.Rules.Get(rules.PolicyDenied)
	for i := range p.Denied {
		if r := &p.Denied[i]; rule != nil && 2*r.RecordsSince(f.Since) > f.Failed {
			f.Kind, f.Policy, f.Rule = rule.Kind, r.Policy, rule
		}
	}
}

// leastWell is how much must have gone well before for what goes wrong to be no standing condition.
const leastWell = 3

// workedBefore tells whether anything went well before a run of slots: what always failed is as it always was. Where most goes well
// from the beginning on, and points tell of it twice a minute or more often, what fails of it is told once.
func (c counts) workedBefore(s span) bool {
	bad, all := c.w.Ever(c.bad)-s.bad, c.w.Ever(c.total)-c.w.Sum(c.total, s.slots)
	if all >= bad+leastWell {
		return true
	}
	told := 0
	for age := range min(c.w.SlotsFor(time.Minute), c.w.Known()) {
		if c.w.At(c.total, age) > 0 {
			told++
		}
	}
	return told > 1 && c.w.Ever(c.total) >= 2*c.w.Ever(c.bad)+leastWell
}
