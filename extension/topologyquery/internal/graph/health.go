package graph

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
)

// leastFailed is how many connections or requests must have failed before that is a sign.
const leastFailed = 3

// tally counts what tells of the health of a party or an edge. Denials that stand are apart: they are somebody's will.
type tally struct {
	attempts, failed, denied uint64
	// noted failed on edges where requests decide.
	noted            uint64
	requests, errors uint64
	// turnedAway are requests that a policy denied, of which errors are those whose denial is new; by is one of these policies.
	turnedAway uint64
	by         string
	reasons    []live.ReasonCount
	alive      bool
}

// add counts an edge: of a server, only what is not its clients' doing.
func (t *tally) add(e *Edge, server bool) {
	c := e.Counts
	failed := c.Failed
	for _, r := range c.Reasons {
		reason := reasons.Of(r.Reason.ErrorType)
		switch {
		case reason.Kind == "" || server && reason.Fault == reasons.Client:
			failed -= min(r.Count, failed)
			continue
		case r.Reason.ErrorType == semconv.ErrorTypePolicyDenied && e.denied:
			failed -= min(r.Count, failed)
			t.denied += r.Count
		}
		t.addReason(r)
	}
	t.attempts += max(c.Fields[live.Closed], c.Failed)
	t.requests += c.Fields[live.Requests]
	t.errors += c.Fields[live.RequestsFailed]
	t.turnAway(e)
	t.alive = t.alive || !c.Empty()
	if c.Fields[live.Requests] > 0 {
		t.noted += failed
		return
	}
	t.failed += failed
	if e.Behind != nil {
		t.attempts += e.Behind.beyond
		if e.denied {
			t.denied += e.Behind.beyond
		} else {
			t.failed += e.Behind.beyond
		}
	}
}

// standsDenied tells whether most of what an edge tries is denied, and no outage says that this is new.
func (e *Edge) standsDenied() bool {
	var n uint64
	for _, r := range e.Counts.Reasons {
		if r.Reason.ErrorType == semconv.ErrorTypePolicyDenied {
			n += r.Count
		}
	}
	requests := e.Counts.Denied()
	return !e.outage.denial && (n >= leastFailed && 2*n >= max(e.Counts.Fields[live.Closed], e.Counts.Failed) ||
		requests >= leastFailed && 2*requests >= e.Counts.Fields[live.Requests])
}

// turnAway counts an edge's requests that policies denied: they fail where an outage says that this is new.
func (t *tally) turnAway(e *Edge) {
	most := uint64(0)
	for policy, n := range e.Counts.DeniedBy() {
		t.turnedAway += n.Requests
		if e.outage.denial {
			t.errors = min(t.errors+n.Requests, t.requests)
		}
		if n.Requests > most && policy != "" {
			t.by, most = policy, n.Requests
		}
	}
}

// requestsText says how many of the requests failed or were denied, and by whom most were.
func (t *tally) requestsText(n uint64, denied bool) string {
	text := percentOf(n, t.requests) + " requests"
	switch {
	case !denied && 2*t.turnedAway < n:
		return text + " failed"
	case t.by != "":
		return text + " denied by " + t.by
	}
	return text + " denied"
}

func (t *tally) addReason(r live.ReasonCount) {
	for i := range t.reasons {
		if t.reasons[i].Reason == r.Reason {
			t.reasons[i].Count += r.Count
			return
		}
	}
	t.reasons = append(t.reasons, r)
}

// merge adds another tally.
func (t *tally) merge(other *tally) {
	t.attempts += other.attempts
	t.failed += other.failed
	t.denied += other.denied
	t.noted += other.noted
	t.requests += other.requests
	t.errors += other.errors
	t.turnedAway += other.turnedAway
	t.by = cmp.Or(t.by, other.by)
	t.alive = t.alive || other.alive
	for _, r := range other.reasons {
		t.addReason(r)
	}
}

func (t *tally) ratio() float64 {
	var ratio float64
	if t.attempts > 0 {
		ratio = float64(t.failed+t.noted+t.denied) / float64(t.attempts)
	}
	if t.requests > 0 {
		ratio = max(ratio, float64(max(t.errors, t.turnedAway))/float64(t.requests))
	}
	return ratio
}

// FailureRatio is the share of the node's inbound connections or requests that failed, whichever is larger.
func (n *Node) FailureRatio() float64 {
	var in tally
	for _, w := range n.wards {
		in.merge(&w.in)
	}
	return in.ratio()
}

// verdict is a health, and a clause that says why.
type verdict struct{ health, reason string }

// ranks order healths: the worst of some stands for all.
var ranks = map[string]int{Idle: 1, Healthy: 2, Denied: 3, Unknown: 4, Degraded: 5, Failing: 6}

// Worse tells whether a health is worse than another one.
func Worse(a, b string) bool { return ranks[a] > ranks[b] }

func (v *verdict) worsen(other verdict) {
	if Worse(other.health, v.health) {
		*v = other
	}
}

// level is what a number of failures says: nothing before they are enough to tell that so many of all fail.
func (o *Options) level(bad, all uint64) string {
	least := wilson(bad, all)
	switch {
	case bad < leastFailed || least < o.DegradedAt:
		return Healthy
	case least < o.FailingAt:
		return Degraded
	}
	return Failing
}

// wilson is the lower bound of the share that so many of so many show, at 95 %.
func wilson(bad, all uint64) float64 {
	if bad == 0 || all == 0 {
		return 0
	}
	const z = 1.96
	n, share := float64(all), min(float64(bad)/float64(all), 1)
	return (share + z*z/(2*n) - z*math.Sqrt((share*(1-share)+z*z/(4*n))/n)) / (1 + z*z/n)
}

// judge is what a tally says. Where requests are seen they decide, and what failed of their connections is a note.
func (o *Options) judgeTally(t *tally) verdict {
	v := verdict{health: Healthy}
	if t.denied >= leastFailed && 2*t.denied >= t.attempts {
		v = verdict{Denied, t.connections(t.denied, true)}
	}
	if t.turnedAway >= leastFailed && 2*t.turnedAway >= t.requests {
		v.worsen(verdict{Denied, t.requestsText(t.turnedAway, true)})
	}
	if level := o.level(t.failed, t.attempts); level != Healthy {
		v.worsen(verdict{level, t.connections(t.failed, false)})
	}
	if level := o.level(t.errors, t.requests); level != Healthy {
		v.worsen(verdict{level, t.requestsText(t.errors, false)})
	}
	if v.reason == "" {
		v.reason = t.notes()
	}
	return v
}

// notes say what went wrong without being a sign.
func (t *tally) notes() string {
	var notes []string
	if t.errors > 0 {
		notes = append(notes, t.requestsText(t.errors, false))
	} else if t.turnedAway > 0 {
		notes = append(notes, t.requestsText(t.turnedAway, true))
	}
	if t.failed+t.noted > 0 {
		notes = append(notes, t.connections(t.failed+t.noted, false))
	}
	if t.denied > 0 {
		notes = append(notes, t.connections(t.denied, true))
	}
	return strings.Join(notes, "; ")
}

// connections say how many of the connections failed, or were denied, for what most of them did.
func (t *tally) connections(n uint64, denied bool) string {
	var most live.ReasonCount
	for _, r := range t.reasons {
		isDenial := r.Reason.ErrorType == semconv.ErrorTypePolicyDenied
		if (!denied || isDenial) && r.Count > most.Count && (denied || t.denied == 0 || !isDenial) {
			most = r
		}
	}
	text := percentOf(n, t.attempts) + " connections"
	switch {
	case most.Reason.ErrorType == semconv.ErrorTypePolicyDenied && most.Reason.Policy != "":
		return text + " denied by " + most.Reason.Policy
	case denied || most.Reason.ErrorType == semconv.ErrorTypePolicyDenied:
		return text + " denied"
	case most.Count == 0:
		return text + " failed"
	}
	return text + " failed (" + reasons.Label(most.Reason.ErrorType) + ")"
}

// isDark tells that no pod's machine delivers telemetry, though some of them are known to.
func (o *Options) isDark(pods []*mesh.Workload) bool {
	known := false
	for _, pod := range pods {
		if !pod.InMesh() {
			continue
		}
		delivering, ok := o.Delivering[pod.Node]
		if delivering || !ok {
			return false
		}
		known = true
	}
	return known
}

// isPartial tells that of some pod only what failed is told.
func (o *Options) isPartial(pods []*mesh.Workload) bool {
	return slices.ContainsFunc(pods, func(pod *mesh.Workload) bool { return pod.InMesh() && o.Partial[pod.Node] })
}

const (
	reasonDark    = "no telemetry of its nodes arrives"
	reasonPartial = "only what fails is logged, so that nobody knows its share"
)

// judgeEdge judges an edge.
func (o *Options) judgeEdge(e *Edge) verdict {
	v := o.judgeTally(&e.tally)
	switch {
	case e.outage.open != "":
		v.worsen(verdict{e.outage.open, e.outage.summary})
	case e.seen.partial && e.tally.requests == 0:
		// A share of what failed alone says nothing.
		return verdict{Unknown, reasonPartial}
	case v.health != Healthy || e.tally.alive && (e.tally.attempts > 0 || e.tally.requests > 0):
	case e.seen.dark || !e.tally.alive && e.seen.half:
		return verdict{Unknown, reasonDark}
	case !e.tally.alive:
		return verdict{health: Idle}
	}
	return v
}

// judgeWard judges a party by all of its edges, whatever the graph shows.
func (o *Options) judgeWard(w *ward) verdict {
	v := o.judgeTally(&w.in)
	if out := o.judgeTally(&w.out); v.health == Healthy && out.health != Healthy {
		if out.health == Failing || out.health == Denied {
			v = verdict{out.health, "of its calls, " + out.reason}
		}
		if v.health == Failing {
			v.health = Degraded
		}
	}
	root := verdict{}
	for i := range o.Outages {
		if one := &o.Outages[i]; one.Open() != "" && one.rootOf(w) {
			root.worsen(verdict{one.Open(), one.clause()})
		}
	}
	switch {
	case root.health != "":
		v.worsen(root)
	case w.partial && w.in.requests == 0:
		return verdict{Unknown, reasonPartial}
	case v.health == Failing || v.health == Degraded || v.health == Denied:
	case w.dark:
		return verdict{Unknown, reasonDark}
	case !w.in.alive && !w.out.alive:
		return verdict{health: Idle}
	}
	return v
}

// judge judges edges by themselves and nodes by the worst that they stand for.
func (b *Builder) judge() {
	g := &b.graph
	for _, e := range g.Edges {
		v := b.options.judgeEdge(e)
		e.Health, e.Reason = v.health, v.reason
	}
	for _, nodes := range [...][]Node{g.Nodes, g.Waypoints} {
		b.options.judgeNodes(nodes)
	}
}

func (o *Options) judgeNodes(nodes []Node) {
	for i := range nodes {
		n := &nodes[i]
		worst, at, alike := verdict{health: Idle}, -1, 0
		for j, w := range n.wards {
			if w.verdict.health == "" {
				w.verdict = o.judgeWard(w)
			}
			switch {
			case at < 0 || Worse(w.verdict.health, worst.health):
				worst, at, alike = w.verdict, j, 1
			case w.verdict.health == worst.health:
				alike++
				if compareWards(w, n.wards[at]) < 0 {
					worst, at = w.verdict, j
				}
			}
		}
		n.Health, n.Reason = worst.health, worst.reason
		if n.Type != string(ByWorkload) && worst.health != Healthy && worst.reason != "" && len(n.wards) > 1 {
			n.Reason = n.wards[at].name() + ": " + worst.reason + others(alike-1)
		} else if worst.health == Healthy && len(n.wards) > 1 {
			n.Reason = ""
		}
	}
}
