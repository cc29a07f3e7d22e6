package meshsim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"
)

const always = math.MaxInt64

// Times are nanoseconds since Epoch.
type pod struct {
	name, ip, node, zone string
	workload             *workload
	from, until          int64 // ready in [from, until)
	deaf                 int64 // for how long before its end it listens no more
	podAddr              netip.Addr
	network              string
}

func (p *pod) ready(at int64) bool { return at >= p.from && at < p.until }

type workload struct {
	app, namespace, version string
	mesh                    bool
	instrumented            bool
	http                    bool
	port                    int
	vip                     netip.Addr
	pods                    []*pod
	calls                   []*call
	layer                   int
	behaviour
	adapted
	job *job // of what calls in runs, nil for all others
}

// behaviour is how a workload works.
type behaviour struct {
	serviceTime float64 // median, seconds
	errorRate   float64
	refusals    float64 // share of the connections to it that nobody accepts
	retries     bool    // tries a failed call once more
	rate        float64 // expected requests per second
}

// adapted is what traits make of a workload.
type adapted struct {
	hostNetwork bool
	waypoint    *pod // through which it is called
	sdk         int  // how its spans name it, 0 by its pod
	outside     bool // it is no part of the cluster
	asks        []asking
}

// job is when a workload works that is started now and then, as by a CronJob, and how many requests a second it makes then.
type job struct {
	every, runs int64
	rate        float64
}

func (j *job) on(at int64) bool { return j == nil || at%j.every < j.runs }

func (w *workload) name() string     { return w.app + "-" + w.version }
func (w *workload) host() string     { return w.app + "." + w.namespace + ".svc.cluster.local" }
func (w *workload) identity() string { return spiffe(w.namespace, w.app) }
func (w *workload) id() string       { return w.namespace + "/" + w.app }

func spiffe(namespace, account string) string {
	return "spiffe://cluster.local/ns/" + namespace + "/sa/" + account
}

type call struct {
	to          *workload
	probability float64
	keepAlive   bool
	critical    bool // its failure fails the caller's request
	frail       bool // some of its connections are cut, as happens everywhere
	route       string
	sent, recv  int64 // typical bytes
	rate        float64
	made        int // calls before anything went wrong
}

type mesh struct {
	nodes     []string
	workloads []*workload // roots first
	roots     []*workload
	waypoint  *workload // nil if there is none
	networks  int
	placed    map[int]int // pods by node, where there are two networks
	reuses    bool        // addresses of pods that are gone
	outside   []*workload
}

var words = [...]string{
	"accounts", "adverts", "audit", "basket", "billing", "booking", "catalog", "checkout", "consent", "currency",
	"delivery", "discounts", "fraud", "gateway", "geo", "images", "inventory", "invoices", "ledger", "loyalty",
	"mailer", "media", "menu", "notify", "orders", "parser", "payments", "prices", "profile", "quotes", "ratings",
	"recommend", "reports", "returns", "reviews", "routing", "search", "sessions", "shipping", "stock", "tax", "tokens",
	"tracking", "users", "vouchers", "wallet", "warehouse", "wishlist",
}

func newMesh(o Options, random *rand.Rand) *mesh {
	m := &mesh{}
	nodes := min(20, max(3, o.Workloads/12+random.IntN(3)))
	for i := range nodes {
		m.nodes = append(m.nodes, fmt.Sprintf("node-%c", 'a'+i))
	}
	namespaces := min(12, 2+o.Workloads/15)
	layers := min(8, 3+o.Workloads/40+random.IntN(3))
	roots := max(1, o.Workloads/40)
	jobs := o.Workloads / 40
	for i := range o.Workloads {
		w := &workload{
			app:       fmt.Sprintf("%s%s", words[i%len(words)], suffix(i/len(words))),
			namespace: fmt.Sprintf("team-%c", 'a'+random.IntN(namespaces)),
			version:   "v1",
			mesh:      true,
			http:      true,
			port:      8080,
			behaviour: behaviour{serviceTime: 0.002 * math.Exp(random.Float64()*2.2)},
			vip:       netip.AddrFrom4([4]byte{10, 96, byte(i / 250), byte(1 + i%250)}),
		}
		switch {
		case i < roots:
			w.app, w.namespace, w.layer = "loadgen"+suffix(i), "load", 0
		case i < roots+jobs:
			every := int64(2+random.IntN(12)) * int64(time.Minute)
			w.app, w.layer, w.mesh = "job"+suffix(i-roots), 0, random.IntN(2) == 0
			w.job = &job{every: every, runs: every/8 + random.Int64N(every/4), rate: 0.5 + 2*random.Float64()}
		default:
			w.layer = 1 + (i-roots)*(layers-1)/max(1, o.Workloads-roots)
		}
		// Some of what is called has not joined the mesh.
		if w.layer > 0 && random.Float64() < 0.08 {
			w.mesh = false
		}
		w.instrumented = random.Float64() < o.Instrumented
		if random.Float64() < 0.3 {
			w.errorRate = 0.004 * random.Float64()
		}
		if w.layer == layers-1 && random.Float64() < 0.5 {
			w.http, w.instrumented, w.port = false, false, []int{5432, 6379, 9092}[random.IntN(3)]
		}
		replicas := 1
		if w.layer > 0 && w.http {
			replicas = 1 + random.IntN(3)
		}
		for r := range replicas {
			w.addPod(m, random, i, r, 0)
		}
		m.workloads = append(m.workloads, w)
		if w.layer == 0 {
			m.roots = append(m.roots, w)
		}
	}
	m.connect(random)
	m.spread(o.RootRate)
	m.adapt(&o)
	m.reuses = o.has(TraitAddressReuse)
	return m
}

func suffix(i int) string {
	if i == 0 {
		return ""
	}
	return fmt.Sprintf("-%d", i+1)
}

func (w *workload) addPod(m *mesh, random *rand.Rand, index, replica int, from int64) *pod {
	node := random.IntN(len(m.nodes))
	p := &pod{
		name:     fmt.Sprintf("%s-%04x-%c%d", w.app, random.IntN(1<<16), 'a'+node, replica),
		node:     m.nodes[node],
		zone:     "eu-west-1" + string(rune('a'+node%3)),
		workload: w,
		from:     from,
		until:    always,
		podAddr:  netip.AddrFrom4([4]byte{10, byte(100 + node), byte(index / 25), byte(1 + index%25*10 + replica)}),
	}
	m.place(p)
	if m.reuses && from > 0 && !w.hostNetwork {
		m.reuse(p)
	}
	w.pods = append(w.pods, p)
	return p
}

func (m *mesh) podsOn(node string) []*pod {
	var pods []*pod
	for _, w := range m.workloads {
		for _, p := range w.pods {
			if p.node == node {
				pods = append(pods, p)
			}
		}
	}
	return pods
}

// connect gives every workload callees in deeper layers and lets nobody below the first be without a caller.
func (m *mesh) connect(random *rand.Rand) {
	called := map[*workload]bool{}
	add := func(from, to *workload) {
		for _, c := range from.calls {
			if c.to == to {
				return
			}
		}
		called[to] = true
		c := &call{
			to: to, probability: 0.3 + 0.7*random.Float64(), critical: random.Float64() < 0.7,
			keepAlive: random.Float64() < 0.2, frail: random.Float64() < 0.2, route: fmt.Sprintf("/%s/{id}", to.app),
			sent: 100 + random.Int64N(700), recv: 100 + random.Int64N(6000),
		}
		if !to.http {
			c.critical = true
		}
		if from.layer == 0 {
			c.critical = false // its calls are pages of their own
		}
		from.calls = append(from.calls, c)
	}
	for _, from := range m.workloads {
		if !from.http {
			continue
		}
		// Few call many.
		fanOut := 1
		for fanOut < 10 && random.Float64() < 0.55 {
			fanOut++
		}
		for range fanOut {
			to := m.workloads[random.IntN(len(m.workloads))]
			if to.layer == from.layer+1 || (to.layer > from.layer && from.layer > 0 && random.Float64() < 0.3) {
				add(from, to)
			}
		}
	}
	for _, to := range m.workloads {
		if to.layer == 0 || called[to] {
			continue
		}
		var candidates []*workload
		for _, from := range m.workloads {
			if from.layer == to.layer-1 && from.http {
				candidates = append(candidates, from)
			}
		}
		if len(candidates) == 0 {
			candidates = m.roots
		}
		add(candidates[random.IntN(len(candidates))], to)
	}
}

// spread works out the rates to expect. A tree of calls that multiplies too much is thinned.
func (m *mesh) spread(rootRate float64) {
	for range 12 {
		for _, w := range m.workloads {
			w.rate = 0
		}
		loads := 0
		for _, root := range m.roots {
			if root.job == nil {
				loads++
			}
		}
		for _, root := range m.roots {
			// What jobs do comes and goes: it is nothing to expect.
			if root.job == nil {
				root.rate = rootRate / float64(loads)
			}
		}
		var total float64
		for layer := range 8 {
			for _, w := range m.workloads {
				if w.layer != layer {
					continue
				}
				for _, c := range w.calls {
					c.rate = w.rate * c.probability
					c.to.rate += c.rate
					total += c.rate
				}
			}
		}
		if total <= rootRate*9 {
			return
		}
		for _, w := range m.workloads {
			if w.layer == 0 {
				continue
			}
			for _, c := range w.calls {
				c.probability *= 0.8
			}
		}
	}
}
