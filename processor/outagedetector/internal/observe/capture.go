package observe

import (
	"net/netip"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/cnilog"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/nodeload"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Proxy is a node's ztunnel as far as it says itself how it does.
type Proxy struct {
	// Load is how busy it is, Overload what is wrong with that; Late is what is wrong where only its connections tell.
	Load           nodeload.Tracker
	Busy           Busyness
	Overload, Late Fault
	// Pending are the pods whose proxy it cannot set up, by UID; bounded by maxPending.
	Pending map[string]*PendingPod
	// Ended is when it was last told to end, 0 if never.
	Ended int64
	// pods are the pods that it was told of, by UID; bounded by maxPending.
	pods map[string]podName
	// Unenrolled are the pods that the node's CNI agent could not hand over to it.
	Unenrolled cnilog.Pods
}

type podName struct{ namespace, name string }

// PendingPod is a pod whose proxy a ztunnel cannot set up.
type PendingPod struct {
	Namespace, Name string
	App             outage.Name
	// First and Last are when it failed, Tried when it was tried last.
	First, Last, Tried int64
	Evidence           outage.Evidence
}

const (
	maxPending = 1024
	// retryEvery is how far apart a ztunnel's attempts are, retryTakes how long one takes at most.
	retryEvery = int64(5 * time.Second)
	retryTakes = int64(2 * time.Second)
)

// Waits tells whether a pod's proxy is still not there: an attempt that succeeds leaves no trace but that no failure follows.
func (p *PendingPod) Waits(now int64) bool {
	if p.Tried > p.Last && now-p.Tried > retryTakes {
		return false
	}
	return now-p.Last <= retryEvery+2*retryTakes
}

// AllWait tells whether a ztunnel was told of several pods and can set up the proxy of none.
func (p *Proxy) AllWait(now int64) bool {
	for uid := range p.pods {
		if one, ok := p.Pending[uid]; !ok || !one.Waits(now) {
			return false
		}
	}
	return len(p.pods) > 1
}

// message takes over a line about pods that come, wait and go, and tells whether it was one.
func (p *Proxy) message(m *Mesh, record plog.LogRecord, body string, t int64, evidence outage.Evidence) bool {
	uid := strings.Trim(attr(record.Attributes(), semconv.AttrFieldPrefix+"uid"), `"`)
	switch {
	case strings.HasPrefix(body, "pod received"):
		if len(p.pods) < maxPending {
			if p.pods == nil {
				p.pods = map[string]podName{}
			}
			p.pods[strings.Clone(uid)] = podName{
				strings.Clone(attr(record.Attributes(), semconv.AttrFieldPrefix+"namespace")),
				strings.Clone(attr(record.Attributes(), semconv.AttrFieldPrefix+"name")),
			}
		}
	case strings.HasPrefix(body, "pod delete request"):
		delete(p.pods, uid)
		delete(p.Pending, uid)
	case strings.HasPrefix(body, "failed to start proxy"), strings.HasPrefix(body, "retrying workload failed"):
		p.fail(m, uid, t, evidence)
	case body == "retrying workload":
		if one, ok := p.Pending[uid]; ok {
			one.Tried = max(one.Tried, t)
		}
	case strings.HasPrefix(body, "received signal"), strings.HasPrefix(body, "drain requested"), strings.Contains(body, "drain requested"):
		p.Ended = max(p.Ended, t)
		clear(p.Pending)
		clear(p.pods) // it is told of all of them anew
	default:
		return false
	}
	return true
}

func (p *Proxy) fail(m *Mesh, uid string, t int64, evidence outage.Evidence) {
	one, ok := p.Pending[uid]
	if !ok {
		if len(p.Pending) >= maxPending {
			return
		}
		if p.Pending == nil {
			p.Pending = map[string]*PendingPod{}
		}
		one = &PendingPod{First: t}
		p.Pending[strings.Clone(uid)] = one
	}
	if !one.Waits(t) && one.Last > 0 {
		one.First = t
	}
	one.Last, one.Evidence = max(one.Last, t), evidence
	if one.Name != "" {
		return
	}
	name, ok := p.pods[uid]
	if !ok {
		name = m.podOf(uid)
	}
	one.Namespace, one.Name = name.namespace, name.name
}

// podOf is the pod of a UID, as config dumps tell.
func (m *Mesh) podOf(uid string) podName {
	for _, z := range m.state.Ztunnels() {
		if key, ok := z.PodUIDs[uid]; ok {
			namespace, name, _ := strings.Cut(key, "/")
			return podName{namespace, name}
		}
	}
	return podName{}
}

// AppOf is the app of a pod, and whether the mesh's state knows it.
func (m *Mesh) AppOf(namespace, pod string) (outage.Name, bool) {
	if w := m.state.Pod(namespace, pod); w != nil {
		return outage.Name{Namespace: w.Namespace, Name: w.App()}, true
	}
	return m.podName(namespace, pod), false
}

// Resolver is the service that ztunnels ask for the names that they do not know: that of the nameserver in their configuration, or
// else the one that clusters have.
func (m *Mesh) Resolver() outage.Name {
	for _, z := range m.state.Ztunnels() {
		for _, text := range z.Resolvers {
			if addr, err := netip.ParseAddr(text); err == nil {
				if service := m.state.VIP(addr); service != nil {
					return outage.Name{Namespace: service.Namespace, Name: service.Name}
				}
			}
		}
	}
	return outage.Name{Namespace: "kube-system", Name: "kube-dns"}
}

// Captured tells whether an app has pods whose traffic ztunnels carry.
func (m *Mesh) Captured(app outage.Name) bool {
	for _, w := range m.Pods(app) {
		if w.InMesh() {
			return true
		}
	}
	return false
}

// Waiting are a node's pods that a config dump calls pending, "namespace/pod", where the newest scrape says that there are any.
func (m *Mesh) Waiting(n *Node) []string {
	load, ok := n.Proxy.Load.Load()
	z := m.state.Ztunnel(n.Name)
	if !ok || load.Pending == 0 || z == nil {
		return nil
	}
	var pods []string
	for key, state := range z.Workloads {
		if state == mesh.ProxyPending {
			pods = append(pods, key)
		}
	}
	return pods
}

// Overloaded is what tells that it is too busy, by its scrapes or by its connections.
func (p *Proxy) Overloaded() *Fault {
	if !p.Overload.On && (p.Late.On || p.Late.Recovered > p.Overload.Recovered) {
		return &p.Late
	}
	return &p.Overload
}

// Busyness is how busy a ztunnel's threads were.
type Busyness struct {
	at     pcommon.Timestamp
	newest Busy
	known  int
	// Usual is what was normal, by a fading mean.
	Usual Busy
	// High is in how many scrapes in a row it was far busier than usual, HighSince since when.
	High      int
	HighSince int64
}

// Busy is the share of time in which a ztunnel's threads are busy, and for how many seconds each time before they have nothing to do: a
// thread that is kept from running is busy for long.
type Busy struct{ Share, Stretch float64 }

// Note takes over the newest scrape's; it is false if there is none since the last.
func (b *Busyness) Note(load nodeload.Load) bool {
	if load.Since == 0 || load.At <= b.at {
		return false
	}
	b.at = load.At
	b.newest = Busy{load.Busy, load.Busy * float64(max(load.Workers, 1)) / max(load.Parks, leastParks)}
	b.known++
	return true
}

// leastParks is how often a second threads have nothing to do at least.
const leastParks = 0.1

// Newest is that of the newest scrape, Known how many were noted.
func (b *Busyness) Newest() Busy { return b.newest }

// Known is how many scrapes were noted.
func (b *Busyness) Known() int { return b.known }

// Learn takes the newest scrape for usual.
func (b *Busyness) Learn() {
	const weight = 1.0 / 16
	weigh := max(weight, 1/float64(b.known))
	b.Usual.Share += (b.newest.Share - b.Usual.Share) * weigh
	b.Usual.Stretch += (b.newest.Stretch - b.Usual.Stretch) * weigh
}
