package judge

import (
	"math"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// nodes judges which nodes are down and of which nothing is known any more.
type nodes struct{ store *observe.Store }

func (j *nodes) judge(now int64) {
	base := j.store.Catalogue.Base()
	downRule, lostRule := base.Get(rules.NodeDown), base.Get(rules.TelemetryLost)
	for _, n := range j.store.Nodes.ByName {
		if downRule != nil && n.Name != "" {
			j.down(n, downRule, now)
		}
		if lostRule != nil {
			j.telemetryLost(n, lostRule, now)
		}
	}
}

func (j *nodes) down(n *observe.Node, rule *rules.Rule, now int64) {
	metrics := n.Sources[semconv.SourceMetrics]
	scrapeFails := metrics != nil && metrics.Worked && !metrics.Up
	gone := j.store.Nodes.WithoutHeartbeat(n)
	if n.Down.On {
		j.up(n, metrics, scrapeFails || gone, now)
		return
	}
	silent := silentRecords(n, now)
	// Cheap first: a node that scrapes well and logs is up, whatever fails on it.
	if !scrapeFails && !gone && (silent > rule.Chance || metrics != nil && metrics.Sampled > now-int64(10*time.Second)) {
		return
	}
	// What goes well after the node was seen to fail speaks against it; what failed just before may have been the first sign.
	since, well := now-int64(rule.Window), now-int64(10*time.Second)
	switch {
	case scrapeFails:
		since, well = metrics.Changed-int64(10*time.Second), metrics.Changed
	case gone:
		since, well = n.LastBeat-int64(10*time.Second), n.LastBeat
	}
	on := j.affected(n.Name, since, well)
	// The heartbeat of a live agent makes the silence of the log a sign of its own; without it the agent may be what died.
	evident := on.failed >= rule.MinCount && on.failedPods > 0 && on.wellPods == 0
	quiet := !gone && silent <= rule.Chance && on.wellPods == 0 && j.othersTell(n)
	switch {
	case (scrapeFails || gone) && evident:
	case scrapeFails && quiet && now-metrics.Changed >= int64(settleTime) && metrics.Failures != 1:
		// A scrape may fail by itself, and where they are rare a node that little is asked of may be silent until the next one.
	case !scrapeFails && !gone && quiet && evident && on.apps >= 2 && on.failed >= surelyFailed:
	default:
		return
	}
	began := on.first
	if began == 0 || n.LastRecord > began {
		began = n.LastRecord
	}
	if scrapeFails {
		began = min(began, metrics.Changed)
	}
	began = max(began, since)
	n.Down = observe.Fault{On: true, Rule: rule, Since: began, Fired: now, LastBad: now, Kind: rule.Kind, Tally: observe.Tally{Ratio: 1}}
}

// othersTell tells whether the logs of other nodes have grown since a node's last did: where all fall silent nothing was asked of any.
func (j *nodes) othersTell(n *observe.Node) bool {
	for _, other := range j.store.Nodes.ByName {
		if other != n && other.LastRecord > n.LastRecord+int64(settleTime) {
			return true
		}
	}
	return len(j.store.Nodes.ByName) == 1
}

// surelyFailed is how many failures show that a node is gone whose scrape does not tell yet: what runs there may have some of its own
// while its log happens to stand still.
const surelyFailed = 5

// surelyWell is how many good connections show that a node works: a few may have been under way when it went.
const surelyWell = 5

func (j *nodes) up(n *observe.Node, metrics *observe.Source, still bool, now int64) {
	f := &n.Down
	on := j.affected(n.Name, now-int64(settleTime), now-int64(settleTime))
	if !still || on.failed > 0 || on.good < surelyWell || now-f.Since <= int64(settleTime) {
		n.Doubted = 0
	} else if n.Doubted == 0 {
		n.Doubted = now
	} else if now-n.Doubted >= int64(2*settleTime) {
		// Others reach what runs there for longer than a scrape may lag behind: it was the telemetry that was lost.
		f.On, f.Recovered, n.Doubted = false, 0, 0
		return
	}
	if !still && n.Proxy.AllWait(now) {
		// Its ztunnel is back and cannot serve its pods, which is another outage.
		f.On, f.Recovered = false, now
		return
	}
	if still || on.failed > 0 && on.wellPods == 0 {
		f.LastBad, f.Recovered = now, 0
		return
	}
	if f.Recovered == 0 {
		f.Recovered = now
		if metrics != nil && metrics.Up && metrics.Changed > f.Since {
			f.Recovered = max(metrics.Changed, f.LastBad)
		}
	}
	if now-f.LastBad >= int64(settleTime) && (n.LastRecord > f.LastBad || now-f.LastBad >= int64(2*settleTime) || on.wellPods > 0) {
		f.On = false
		j.forgive(n.Name, f.LastBad)
	}
}

// forgive ends what a node's outage explains, also on edges on which too little failed for a fault of their own.
func (j *nodes) forgive(node string, until int64) {
	for _, e := range j.store.Endpoints.On(node) {
		for _, edges := range [][]*observe.Pair{e.App.In, e.App.Out} {
			for _, p := range edges {
				if !p.Wrong() {
					p.Win.Forgive(observe.Failed, until)
					p.Win.Forgive(observe.RequestsFailed, until)
				}
			}
		}
	}
}

// silentRecords is the chance that a node's log does not grow for as long as it has not.
func silentRecords(n *observe.Node, now int64) float64 {
	if n.Records.Length() == 0 {
		return 1
	}
	n.Records.Advance(now)
	silent := 0
	for silent < n.Records.Known() && n.Records.At(observe.Active, silent) == 0 {
		silent++
	}
	// The newest slot may still be filling.
	silent--
	if silent <= 0 || n.Records.NormalSlots(silent+1) < usualSlots/2 {
		return 1
	}
	active := n.Records.Normal(observe.Active, silent+1) / (n.Records.NormalSlots(silent+1) + 1)
	return math.Pow(1-active, float64(silent))
}

// affected is how what runs on a node does.
type affected struct {
	failed               uint64
	failedPods, wellPods int
	apps                 int
	// good is how much went well.
	good  uint64
	first int64
}

// affected looks at a node's pods: failures count since one time, what goes well since another.
func (j *nodes) affected(node string, since, well int64) affected {
	var a affected
	var last outage.Name
	for _, e := range j.store.Endpoints.On(node) {
		e.Win.Advance(j.store.Now)
		var failed, good uint64
		first := int64(0)
		for age := 0; age < e.Win.Known() && e.Win.Start(age) >= since; age++ {
			bad := e.Win.At(observe.Failed, age)
			if bad > 0 {
				failed += bad
				first = e.Win.Start(age)
			}
			if all := max(e.Win.At(observe.Closed, age), e.Win.At(observe.Requests, age)); e.Win.Start(age) >= well && all > bad {
				good += all - bad
			}
		}
		switch {
		case failed > 0 && failed >= good && reasons.Of(e.Reason).Lost:
			a.failed += failed
			a.failedPods++
			if a.first == 0 || first < a.first {
				a.first = first
			}
			if e.App.Name != last {
				a.apps++
				last = e.App.Name
			}
		case good > 0:
			a.wellPods++
			a.good += good
		}
	}
	if a.failedPods+a.wellPods == 0 {
		return j.affectedApps(node, since, well)
	}
	return a
}

// affectedApps looks at the apps all of whose pods run on a node, where nothing tells of single pods.
func (j *nodes) affectedApps(node string, since, well int64) affected {
	var a affected
	for _, name := range j.store.Mesh.AppsOn(node) {
		app, ok := j.store.Edges.Apps[name]
		if !ok {
			continue
		}
		var failed, good uint64
		for _, p := range app.In {
			p.Win.Advance(j.store.Now)
			for age := 0; age < p.Win.Known() && p.Win.Start(age) >= since; age++ {
				bad := p.Win.At(observe.Failed, age)
				failed += bad
				if bad > 0 && (a.first == 0 || p.Win.Start(age) < a.first) {
					a.first = p.Win.Start(age)
				}
				if all := max(p.Win.At(observe.Closed, age), p.Win.At(observe.Requests, age)); p.Win.Start(age) >= well && all > bad {
					good += all - bad
				}
			}
		}
		switch {
		case failed > 0 && failed >= good:
			a.failed += failed
			a.failedPods++
			a.apps++
		case good > 0:
			a.wellPods++
			a.good += good
		}
	}
	return a
}

// telemetryLost judges sources that fail or whose heartbeats stopped.
func (j *nodes) telemetryLost(n *observe.Node, rule *rules.Rule, now int64) {
	f := &n.Lost
	var since int64
	var which string
	names := make([]string, 0, len(n.Sources))
	for name := range n.Sources {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		src := n.Sources[name]
		if n.Name == "" && name != semconv.SourceXDS || name == semconv.SourceCNILog {
			continue
		}
		if src.Worked && !src.Up && (since == 0 || src.Changed < since) {
			since, which = src.Changed, name
		}
	}
	if j.store.Nodes.WithoutHeartbeat(n) {
		since, which = n.LastBeat, "agent"
	}
	if which == "" || n.Down.On {
		if f.On {
			f.On = false
			f.Recovered = now
		}
		return
	}
	hold := max(int64(rule.Hold), int64(rule.MinCount)*j.store.Interval)
	if j.affected(n.Name, since, since).good >= surelyWell {
		// Others reach what runs there, so only the telemetry can be gone.
		hold = max(hold/3, int64(rule.MinCount)*j.store.Interval)
	}
	if src, ok := n.Sources[which]; ok && src.Every > 0 {
		// One scrape that fails is none: the next must as well.
		hold = max(hold, src.Every+j.store.Interval)
	}
	if f.On {
		f.LastBad = now
	} else if now-since >= hold {
		*f = observe.Fault{On: true, Rule: rule, Since: since, Fired: now, LastBad: now, Kind: rule.Kind, Source: which, Tally: observe.Tally{Ratio: 1}}
	}
}
