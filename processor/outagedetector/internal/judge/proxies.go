package judge

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/cnilog"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Uncaptured is an app, or a whole node, whose pods a ztunnel does not serve.
type Uncaptured struct {
	Root     outage.Subject
	Fault    observe.Fault
	Node     string
	Apps     map[outage.Name]bool // bounded by the node's pods
	Pods     []string
	Evidence []outage.Evidence
}

// Proxies judges what ztunnels say of themselves: pods that they cannot serve, and threads that are busy.
type Proxies struct {
	// Uncaptured are those that wait, and those that did until a short while ago.
	Uncaptured []*Uncaptured
	// Late is on which nodes all connections last longer than usual.
	Late Late

	store *observe.Store
}

// Remembered is for how long what is over is known: what followed from it may be seen to end later.
const Remembered = int64(time.Minute)

func (j *Proxies) judge(now int64) {
	j.Late.judge(now)
	base := j.store.Catalogue.Base()
	former := j.Uncaptured
	j.Uncaptured = nil
	pending, overload := base.Get(rules.CapturePending), base.Get(rules.ZtunnelOverloaded)
	for _, name := range j.store.Nodes.Names() {
		n := j.store.Nodes.ByName[name]
		if name == "" {
			continue
		}
		if pending != nil {
			j.capture(n, pending, former, now)
		}
		j.load(n, overload, now)
	}
	for _, old := range former {
		i := slices.IndexFunc(j.Uncaptured, func(u *Uncaptured) bool { return u.Root == old.Root })
		switch {
		case i >= 0 && old.Fault.On:
			j.Uncaptured[i].Fault.Since, j.Uncaptured[i].Fault.Fired = old.Fault.Since, old.Fault.Fired
		case i < 0 && old.Fault.On:
			old.Fault.On, old.Fault.Recovered = false, now
			j.Uncaptured = append(j.Uncaptured, old)
		case i < 0 && now-old.Fault.Recovered < Remembered:
			j.Uncaptured = append(j.Uncaptured, old)
		}
	}
}

// capture finds the pods of a node that wait for their proxy.
func (j *Proxies) capture(n *observe.Node, rule *rules.Rule, former []*Uncaptured, now int64) {
	byApp := map[outage.Name]*Uncaptured{}
	add := func(namespace, pod string, since int64, evidence outage.Evidence) {
		app, known := j.store.Mesh.AppOf(namespace, pod)
		if !known {
			return // deleted meanwhile: what still says that it waits is stale
		}
		u, ok := byApp[app]
		if !ok {
			u = &Uncaptured{
				Root: outage.Subject{Type: "workload", Namespace: app.Namespace, Name: app.Name}, Node: n.Name, Apps: map[outage.Name]bool{app: true},
				Fault: observe.Fault{On: true, Rule: rule, Kind: rule.Kind, Since: since, Fired: now, LastBad: now, Tally: observe.Tally{Ratio: 1}},
			}
			byApp[app] = u
		}
		u.Fault.Since = min(u.Fault.Since, since)
		u.Pods = append(u.Pods, pod)
		if len(u.Evidence) < 3 && evidence.Text != "" {
			u.Evidence = append(u.Evidence, evidence)
		}
	}
	told := map[string]bool{}
	for uid, p := range n.Proxy.Pending {
		told[p.Namespace+"/"+p.Name] = true
		if !p.Waits(now) {
			if now-p.Last > int64(time.Minute) {
				delete(n.Proxy.Pending, uid)
			}
			continue
		}
		add(p.Namespace, p.Name, p.First, p.Evidence)
	}
	for _, key := range j.store.Mesh.Waiting(n) {
		if namespace, pod, _ := strings.Cut(key, "/"); !told[key] {
			load, _ := n.Proxy.Load.Load()
			add(namespace, pod, int64(load.At), outage.Evidence{
				Time: load.At.AsTime(), Text: "the proxy of " + key + " is pending", Source: "ztunnel " + n.Name, Kind: outage.EvidenceObservation,
			})
		}
	}
	if !n.Down.On {
		n.Proxy.Unenrolled.Waiting(pcommon.Timestamp(now), func(namespace, pod string, p *cnilog.Pod) {
			if !told[namespace+"/"+pod] {
				add(namespace, pod, int64(p.First), outage.Evidence{
					Time: p.First.AsTime(), Text: namespace + "/" + pod + ": " + p.Text, Source: "istio-cni-node " + n.Name, Kind: outage.EvidenceLog,
				})
			}
		})
	}
	var found []*Uncaptured
	for _, u := range byApp {
		slices.Sort(u.Pods)
		found = append(found, u)
	}
	slices.SortFunc(found, func(a, b *Uncaptured) int {
		return cmp.Or(cmp.Compare(a.Root.Namespace, b.Root.Namespace), cmp.Compare(a.Root.Name, b.Root.Name))
	})
	root := outage.Subject{Type: "node", Name: n.Name}
	goesOn := slices.ContainsFunc(former, func(u *Uncaptured) bool { return u.Root == root && u.Fault.On })
	if len(found) > 1 && (n.Proxy.AllWait(now) || j.startsNone(n, found)) || len(found) > 0 && goesOn {
		// All pods that came since wait: it is the node's doing, also while one after the other is served again.
		whole := found[0]
		whole.Root = root
		for _, u := range found[1:] {
			whole.Fault.Since = min(whole.Fault.Since, u.Fault.Since)
			whole.Pods = append(whole.Pods, u.Pods...)
			whole.Evidence = append(whole.Evidence, u.Evidence...)
			for app := range u.Apps {
				whole.Apps[app] = true
			}
		}
		found = found[:1]
	}
	j.Uncaptured = append(j.Uncaptured, found...)
}

// startsNone tells whether a node serves no pod that does not wait.
func (j *Proxies) startsNone(n *observe.Node, waiting []*Uncaptured) bool {
	load, ok := n.Proxy.Load.Load()
	if !ok {
		return false
	}
	pods := 0
	for _, u := range waiting {
		pods += len(u.Pods)
	}
	return load.Active == 0 || load.Pending >= uint64(pods) && load.Pending > load.Active
}

// load judges how busy a node's ztunnel is.
func (j *Proxies) load(n *observe.Node, rule *rules.Rule, now int64) {
	load, ok := n.Proxy.Load.Load()
	if !ok {
		return
	}
	b, f := &n.Proxy.Busy, &n.Proxy.Overload
	if rule == nil {
		f.On, n.Proxy.Late.On = false, false
		return
	}
	if !b.Note(load) {
		if f.On && now-f.LastBad > int64(time.Minute) {
			f.On = false // it is no longer scraped
		}
		return
	}
	newest, enough := b.Newest(), rule.MinIntervals
	high := b.Known() > usualScrapes && newest.Share >= rule.MinRatio && newest.Share >= rule.Factor*b.Usual.Share
	// One that is kept from running is busy for far longer before it rests: with few threads at work, or after few scrapes, that tells.
	if b.Known() > leastScrapes && newest.Share >= max(rule.MinRatio*starvedShare, b.Usual.Share*starvedFactor) && newest.Stretch >= starvedStretch*b.Usual.Stretch {
		high = true
		if time.Duration(load.At-load.Since) >= surelyLong {
			enough = 1
		}
	}
	switch {
	case !high && f.On && load.Busy >= rule.MinRatio/2:
		f.LastBad = now // it wavers
	case !high:
		b.High = 0
		b.Learn()
		if f.On {
			f.On, f.Recovered = false, int64(load.Since)
		}
	default:
		if b.High == 0 {
			b.HighSince = int64(load.Since)
		}
		b.High++
		if !f.On && b.High >= enough {
			*f = observe.Fault{On: true, Rule: rule, Kind: rule.Kind, Since: b.HighSince, Fired: now, Tally: observe.Tally{Ratio: load.Busy}}
		}
		if f.On {
			f.LastBad, f.Ratio = now, max(f.Ratio, load.Busy)
		}
	}
}

const (
	// usualScrapes is how many scrapes must have shown what is usual, leastScrapes how many where much speaks for it.
	usualScrapes, leastScrapes = 6, 2
	// starvedShare is which part of the rule's busy share is enough of a ztunnel that is kept from running, starvedFactor how many times as
	// busy as usual it is, starvedStretch how many times as long it is busy before it rests.
	starvedShare, starvedFactor, starvedStretch = 0.4, 3, 8
	// surelyLong is over what time one scrape tells enough.
	surelyLong = 10 * time.Second
)

// LoadEvidence says how busy a node's ztunnel is, or how long its connections last.
func LoadEvidence(n *observe.Node) outage.Evidence {
	if f := n.Proxy.Overloaded(); f == &n.Proxy.Late {
		return outage.Evidence{
			Time: time.Unix(0, f.Since).UTC(), Source: "ztunnel " + n.Name, Kind: outage.EvidenceObservation,
			Text: fmt.Sprintf("connections to and from all pods of %s last %.0f times as long as usual, those of other nodes do not", n.Name, f.Times),
		}
	}
	return outage.Evidence{
		Time: time.Unix(0, n.Proxy.Overload.Since).UTC(), Source: "scrape " + n.Name, Kind: outage.EvidenceScrape,
		Text: fmt.Sprintf("the ztunnel's threads are busy for %.0f %% of the time, usually %.0f %%",
			100*n.Proxy.Overload.Ratio, 100*n.Proxy.Busy.Usual.Share),
	}
}
