package judge

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// beatless tells whether a node's heartbeats stopped while others' go on.
func (j *Judge) beatless(n *observe.Node, now int64) bool {
	return n.LastBeat > 0 && now-n.LastBeat > 3*max(j.store.Interval, int64(observe.MinSlot))
}

// nodes judges which nodes are down and of which nothing is known any more.
func (j *Judge) nodes(now int64) {
	base := j.store.Catalogue().Base()
	downRule, lostRule := base.Get(rules.NodeDown), base.Get(rules.TelemetryLost)
	for _, n := range j.store.Nodes {
		if downRule != nil && n.Name != "" {
			j.nodeDown(n, downRule, now)
		}
		if lostRule != nil {
			j.telemetryLost(n, lostRule, now)
		}
	}
}

func (j *Judge) nodeDown(n *observe.Node, rule *rules.Rule, now int64) {
	metrics := n.Sources[semconv.SourceMetrics]
	scrapeFails := metrics != nil && metrics.Worked && !metrics.Up
	gone := j.beatless(n, now)
	if n.Down.On {
		j.nodeUp(n, metrics, scrapeFails || gone, now)
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
	hurt := j.hurt(n.Name, since, well)
	// The heartbeat of a live agent makes the silence of the log a sign of its own; without it the agent may be what died.
	evident := hurt.failed >= rule.MinCount && hurt.failedPods > 0 && hurt.wellPods == 0
	quiet := !gone && silent <= rule.Chance && hurt.wellPods == 0 && j.othersTell(n)
	switch {
	case (scrapeFails || gone) && evident:
	case scrapeFails && quiet && now-metrics.Changed >= int64(settleTime) && metrics.Failures != 1:
		// A scrape may fail by itself, and where they are rare a node that little is asked of may be silent until the next one.
	case !scrapeFails && !gone && quiet && evident && hurt.apps >= 2 && hurt.failed >= surelyFailed:
	default:
		return
	}
	began := hurt.first
	if began == 0 || n.LastRecord > began {
		began = n.LastRecord
	}
	if scrapeFails {
		began = min(began, metrics.Changed)
	}
	began = max(began, since)
	n.Down = observe.Fault{On: true, Rule: rule, Since: began, Fired: now, LastBad: now, Kind: rule.Kind, Ratio: 1}
}

// othersTell tells whether the logs of other nodes have grown since a node's last did: where all fall silent nothing was asked of any.
func (j *Judge) othersTell(n *observe.Node) bool {
	for _, other := range j.store.Nodes {
		if other != n && other.LastRecord > n.LastRecord+int64(settleTime) {
			return true
		}
	}
	return len(j.store.Nodes) == 1
}

// surelyFailed is how many failures show that a node is gone whose scrape does not tell yet: what runs there may have some of its own
// while its log happens to stand still.
const surelyFailed = 5

// surelyWell is how many good connections show that a node works: a few may have been under way when it went.
const surelyWell = 5

func (j *Judge) nodeUp(n *observe.Node, metrics *observe.Source, still bool, now int64) {
	f := &n.Down
	hurt := j.hurt(n.Name, now-int64(settleTime), now-int64(settleTime))
	if !still || hurt.failed > 0 || hurt.good < surelyWell || now-f.Since <= int64(settleTime) {
		n.Doubted = 0
	} else if n.Doubted == 0 {
		n.Doubted = now
	} else if now-n.Doubted >= int64(2*settleTime) {
		// Others reach what runs there for longer than a scrape may lag behind: it was the telemetry that was lost.
		f.On, f.Recovered, n.Doubted = false, 0, 0
		return
	}
	if still || hurt.failed > 0 && hurt.wellPods == 0 {
		f.LastBad, f.Recovered = now, 0
		return
	}
	if f.Recovered == 0 {
		f.Recovered = now
		if metrics != nil && metrics.Up && metrics.Changed > f.Since {
			f.Recovered = max(metrics.Changed, f.LastBad)
		}
	}
	if now-f.LastBad >= int64(settleTime) && (n.LastRecord > f.LastBad || now-f.LastBad >= int64(2*settleTime) || hurt.wellPods > 0) {
		f.On = false
		j.forgive(n.Name, f.LastBad)
	}
}

// forgive ends what a node's outage explains, also on edges on which too little failed for a fault of their own.
func (j *Judge) forgive(node string, until int64) {
	for _, e := range j.store.EndpointsOn(node) {
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

// injury is how what runs on a node does.
type injury struct {
	failed               uint64
	failedPods, wellPods int
	apps                 int
	// good is how much went well.
	good  uint64
	first int64
}

// hurt looks at a node's pods: failures count since one time, what goes well since another.
func (j *Judge) hurt(node string, since, well int64) injury {
	var h injury
	var last outage.Name
	for _, e := range j.store.EndpointsOn(node) {
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
			h.failed += failed
			h.failedPods++
			if h.first == 0 || first < h.first {
				h.first = first
			}
			if e.App.Name != last {
				h.apps++
				last = e.App.Name
			}
		case good > 0:
			h.wellPods++
			h.good += good
		}
	}
	if h.failedPods+h.wellPods == 0 {
		return j.hurtApps(node, since, well)
	}
	return h
}

// hurtApps looks at the apps all of whose pods run on a node, where nothing tells of single pods.
func (j *Judge) hurtApps(node string, since, well int64) injury {
	var h injury
	for _, name := range j.store.AppsOn(node) {
		app, ok := j.store.Apps[name]
		if !ok {
			continue
		}
		var failed, good uint64
		for _, p := range app.In {
			p.Win.Advance(j.store.Now)
			for age := 0; age < p.Win.Known() && p.Win.Start(age) >= since; age++ {
				bad := p.Win.At(observe.Failed, age)
				failed += bad
				if bad > 0 && (h.first == 0 || p.Win.Start(age) < h.first) {
					h.first = p.Win.Start(age)
				}
				if all := max(p.Win.At(observe.Closed, age), p.Win.At(observe.Requests, age)); p.Win.Start(age) >= well && all > bad {
					good += all - bad
				}
			}
		}
		switch {
		case failed > 0 && failed >= good:
			h.failed += failed
			h.failedPods++
			h.apps++
		case good > 0:
			h.wellPods++
			h.good += good
		}
	}
	return h
}

// telemetryLost judges sources that fail or whose heartbeats stopped.
func (j *Judge) telemetryLost(n *observe.Node, rule *rules.Rule, now int64) {
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
		if n.Name == "" && name != semconv.SourceXDS {
			continue
		}
		if src.Worked && !src.Up && (since == 0 || src.Changed < since) {
			since, which = src.Changed, name
		}
	}
	if j.beatless(n, now) {
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
	if j.hurt(n.Name, since, since).good >= surelyWell {
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
		*f = observe.Fault{On: true, Rule: rule, Since: since, Fired: now, LastBad: now, Kind: rule.Kind, Ratio: 1, Source: which}
	}
}

// ControlPlane is what is wrong with the control plane.
type ControlPlane struct {
	Fault observe.Fault
	// Nodes are the ztunnels that cannot reach it.
	Nodes    []string
	Evidence []outage.Evidence
}

func (j *Judge) controlPlane(now int64) {
	rule := j.store.Catalogue().Base().Get(rules.ControlPlaneDown)
	if rule == nil {
		return
	}
	c := &j.ControlPlane
	var nodes []string
	var evidence []outage.Evidence
	alive, first := 0, int64(0)
	var attempts uint64
	for _, name := range j.nodeNames() {
		n := j.store.Nodes[name]
		if name == "" || n.Down.On || j.beatless(n, now) {
			continue
		}
		alive++
		if n.XDS.Failing(now, rule.Window) && int(n.XDS.Count) >= rule.MinIntervals {
			nodes = append(nodes, name)
			attempts += n.XDS.Count
			if n.XDS.Evidence.Text != "" && len(evidence) < 3 {
				evidence = append(evidence, n.XDS.Evidence)
			}
			if first == 0 || n.XDS.First < first {
				first = n.XDS.First
			}
		}
	}
	needed := min(int(rule.MinCount), max(alive, 1))
	bad := len(nodes) >= needed && 2*len(nodes) >= alive && (alive > 1 || attempts > rule.MinCount)
	if bad {
		c.Nodes, c.Evidence = nodes, evidence
	}
	f := &c.Fault
	switch {
	case bad && !f.On && now-first >= int64(rule.Hold):
		*f = observe.Fault{On: true, Rule: rule, Since: first, Fired: now, LastBad: now, Kind: rule.Kind, Ratio: 1, Failed: attempts, Total: attempts}
	case bad && f.On:
		f.LastBad, f.Recovered = now, 0
		f.Failed, f.Total = attempts, attempts
	case f.On && len(nodes) == 0:
		if f.Recovered == 0 {
			f.Recovered = now
		}
		if now-f.Recovered >= int64(4*time.Second) {
			f.On = false
		}
	}
}

func (j *Judge) nodeNames() []string {
	names := make([]string, 0, len(j.store.Nodes))
	for name := range j.store.Nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Certificate is an identity that is in trouble.
type Certificate struct {
	Root  outage.Subject
	Fault observe.Fault
	Nodes []string
	// Text says what is wrong; Evidence is the kind of evidence that it is.
	Text, Evidence string
}

const certificatesEvery = int64(30 * time.Second)

// certificates judges identities: those about to expire, and ztunnels that cannot get any.
func (j *Judge) certificates(now int64) {
	if now-j.checkedCerts < certificatesEvery && len(j.Certificates) == 0 && j.checkedCerts != 0 {
		return
	}
	j.checkedCerts = now
	j.Certificates = j.Certificates[:0]
	base := j.store.Catalogue().Base()
	if rule := base.Get(rules.CertificateExpiry); rule != nil {
		j.expiring(rule, now)
	}
	if rule := base.Get(rules.CertificateFailures); rule != nil {
		for _, name := range j.nodeNames() {
			n := j.store.Nodes[name]
			if name == "" || !n.Certificates.Failing(now, rule.Window) || n.Certificates.Count < rule.MinCount {
				continue
			}
			j.Certificates = append(j.Certificates, Certificate{
				Root: outage.Subject{Type: "node", Name: name}, Nodes: []string{name}, Text: n.Certificates.Evidence.Text, Evidence: outage.EvidenceLog,
				Fault: observe.Fault{
					On: true, Rule: rule, Since: n.Certificates.First, Fired: now, LastBad: now, Kind: rule.Kind, Ratio: 1,
					Failed: n.Certificates.Count, Total: n.Certificates.Count,
				},
			})
		}
	}
}

func (j *Judge) expiring(rule *rules.Rule, now int64) {
	found := map[string]*Certificate{}
	at := time.Unix(0, now)
	for _, z := range j.store.State.Ztunnels() {
		for _, c := range z.Certificates {
			if c.NotAfter.IsZero() || c.NotBefore.IsZero() || !at.After(c.NotBefore) {
				continue
			}
			life := c.NotAfter.Sub(c.NotBefore)
			due := c.NotAfter.Add(-time.Duration(float64(life) * rule.MinRatio))
			if at.Before(due) {
				continue
			}
			entry, ok := found[c.Identity]
			if !ok {
				entry = &Certificate{
					Root:     j.identityOwner(c.Identity),
					Evidence: outage.EvidenceObservation,
					Text:     "certificate of " + c.Identity + " expires at " + c.NotAfter.UTC().Format(time.RFC3339),
					Fault: observe.Fault{
						On: true, Rule: rule, Since: due.UnixNano(), Fired: now, LastBad: now, Kind: rule.Kind, Ratio: 0.1,
					},
				}
				found[c.Identity] = entry
			}
			if !slices.Contains(entry.Nodes, z.Node) {
				entry.Nodes = append(entry.Nodes, z.Node)
			}
			if !at.Before(c.NotAfter) {
				entry.Fault.Ratio = 1
			}
		}
	}
	identities := make([]string, 0, len(found))
	for identity := range found {
		identities = append(identities, identity)
	}
	slices.Sort(identities)
	for _, identity := range identities {
		slices.Sort(found[identity].Nodes)
		j.Certificates = append(j.Certificates, *found[identity])
	}
}

// identityOwner is the workload behind spiffe://domain/ns/NAMESPACE/sa/ACCOUNT.
func (j *Judge) identityOwner(identity string) outage.Subject {
	var namespace, account string
	parts := strings.Split(identity, "/")
	for i := 0; i+1 < len(parts); i++ {
		switch parts[i] {
		case "ns":
			namespace = parts[i+1]
		case "sa":
			account = parts[i+1]
		}
	}
	var owner *mesh.Workload
	for _, w := range j.store.State.Workloads() {
		if w.Namespace == namespace && w.ServiceAccount == account && (owner == nil || w.App() < owner.App()) {
			owner = w
		}
	}
	if owner != nil {
		return outage.Subject{Type: "workload", Namespace: namespace, Name: owner.App()}
	}
	return outage.Subject{Type: "workload", Namespace: namespace, Name: account}
}
