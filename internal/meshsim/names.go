package meshsim

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// asking is a name for which a workload asks its ztunnel, with each of its requests by chance.
type asking struct {
	name     string
	absolute bool // asked for as it is, without search domains
	// to is who has the name, and is called once it is known; nil of a name that nobody has.
	to          *call
	probability float64
}

// adopt gives a mesh hosts outside that are asked for and called, and names that nobody has. It draws nothing at random.
func (m *mesh) adopt() {
	var callers []*workload
	for _, w := range m.workloads {
		if w.layer > 0 && w.mesh && w.http && !w.hostNetwork && w.rate > 0 {
			callers = append(callers, w)
		}
	}
	slices.SortStableFunc(callers, func(a, b *workload) int { return cmp.Compare(b.rate, a.rate) })
	callers = callers[:min(len(callers), max(3, len(callers)/5))]
	for i := range min(8, max(2, len(callers)/2)) {
		host := &workload{
			app:  []string{"api.pay.test", "smtp.post.test", "maps.geo.test", "login.id.test", "push.phone.test", "rates.bank.test", "feed.news.test", "store.blob.test"}[i],
			http: true, port: 8443, behaviour: behaviour{serviceTime: 0.03},
		}
		host.outside = true
		host.pods = []*pod{{workload: host, until: always, podAddr: netip.AddrFrom4([4]byte{203, 0, 113, byte(10 + i)}), ip: fmt.Sprintf("203.0.113.%d", 10+i)}}
		m.outside = append(m.outside, host)
	}
	for i, w := range callers {
		ask := func(host *workload) {
			p := min(1, max(0.3, 1.5/w.rate))
			w.asks = append(w.asks, asking{
				name: host.app, absolute: i%5 == 4, probability: p,
				to: &call{to: host, critical: true, route: "/v1/{id}", sent: 220, recv: 660, rate: p * w.rate},
			})
		}
		ask(m.outside[i%len(m.outside)])
		if i%3 == 0 {
			ask(m.outside[(i+1)%len(m.outside)])
		}
		if i%3 == 1 {
			w.asks = append(w.asks, asking{name: w.app + "-rates.misspelt.svc", probability: 0.1})
		}
	}
}

// asksBelow tells whether a workload, or anything that it calls, asks for names.
func asksBelow(w *workload) bool {
	return len(w.asks) > 0 || slices.ContainsFunc(w.calls, func(c *call) bool { return asksBelow(c.to) })
}

// question is what a pod asks; its ztunnel's proxy keeps what it is answered.
type question struct {
	pod  *pod
	name string
	aaaa bool
}

func (q question) kind() string {
	if q.aaaa {
		return "AAAA"
	}
	return "A"
}

// answer is what came of a question, known from a time to another. Until from it is under way.
type answer struct {
	asked, from, until int64
	result             result
}

type result uint8

const (
	answered result = iota
	noRecords
	serverFailure
	timedOut
	answeredLate // and resolved or not as it would be in time
)

const (
	keeps = int64(15 * time.Second) // of a record, and of the lack of one
	// giveUp is how long an application waits for a name.
	giveUp = int64(2 * time.Second)
	tries  = int64(15 * time.Second)
)

// searches are the names that are asked for one after the other for a name with fewer than five dots.
func (a *asking) searches(namespace string) []string {
	if a.absolute {
		return []string{a.name}
	}
	return []string{a.name + "." + namespace + ".svc.cluster.local", a.name + ".svc.cluster.local", a.name + ".cluster.local", a.name}
}

// askOutside lets a pod ask for names and call who has them, for one request.
func (s *proxies) askOutside(p *pod, at int64, trace traceContext, instrumented bool) (end int64, ok bool) {
	for i := range p.workload.asks {
		a := &p.workload.asks[i]
		if s.random.Float64() >= a.probability {
			continue
		}
		client := s.spans.start(trace, p, instrumented && a.to != nil)
		start := at
		found := false
		if !s.cutOff(p, at) {
			at, found = s.resolve(p, a, at)
		}
		if a.to == nil {
			continue
		}
		if !found {
			client.finishUnresolved(a, start, at)
			return at, false
		}
		at = s.reach(p, a, at, start, client)
	}
	return at, true
}

// reach connects to a host outside.
func (s *proxies) reach(p *pod, a *asking, at, start int64, client *span) int64 {
	host := a.to.to.pods[0]
	conn := &connection{
		source: p, destination: host, to: a.to.to, opened: at, port: uint16(32768 + s.random.IntN(28000)),
		sent: a.to.sent + s.random.Int64N(32), recv: a.to.recv + s.random.Int64N(32),
	}
	at += int64(a.to.to.serviceTime * math.Exp(s.random.NormFloat64()*0.35) * 1e9)
	at += s.hindered(conn, at)
	s.open(conn)
	s.close(conn, at)
	client.finishOutside(a, host, start, at)
	return at
}

// resolve asks until there is an address, as Go's resolver does: A and AAAA at once, again after a server failure.
func (s *proxies) resolve(p *pod, a *asking, at int64) (end int64, found bool) {
	deadline := at + giveUp
	for _, name := range a.searches(p.workload.namespace) {
		for range 2 {
			first, got := s.query(question{p, name, false}, at)
			second, other := s.query(question{p, name, true}, at)
			at = max(first, second)
			if at > deadline {
				return deadline, false
			}
			if got == answered {
				return at, true
			}
			if got != serverFailure && other != serverFailure {
				break
			}
		}
	}
	return at, false
}

// query is one that a ztunnel forwards.
func (s *proxies) query(q question, at int64) (end int64, what result) {
	known, has := s.known[q]
	switch {
	case has && at >= known.asked && at < known.from:
		end, what = known.from, known.result // it shares the one that is under way
	case has && at >= known.from && at < known.until:
		end, what = at+50_000+s.random.Int64N(400_000), known.result
	default:
		what = noRecords
		if !q.aaaa && slices.ContainsFunc(s.mesh.outside, func(host *workload) bool { return host.app == q.name }) {
			what = answered
		}
		end = at + 1_000_000 + s.random.Int64N(1_000_000)
		switch ill := s.incidents.illness(q, at); ill {
		case serverFailure, timedOut:
			healthy := what
			what = ill
			if end += 1_500_000; ill == timedOut {
				end, what = s.tried(q, at, end-at, healthy)
			}
		case answeredLate:
			end = at + int64(1200*time.Millisecond) + s.random.Int64N(int64(800*time.Millisecond))
		case noRecords:
			what = ill
		}
		a := answer{asked: at, from: end, until: end + keeps, result: what}
		if what == serverFailure || what == timedOut {
			a.until = end
		}
		s.known[q] = a
	}
	s.tell(q, at, end, what)
	return end, what
}

// tried is when a question ends that is not answered at once: it is asked again every five seconds, three times in all.
func (s *proxies) tried(q question, at, takes int64, healthy result) (end int64, what result) {
	for again := at + tries/3; again < at+tries; again += tries / 3 {
		if s.incidents.illness(q, again) == answered {
			return again + takes, healthy
		}
	}
	return at + tries, timedOut
}

// illness is what is wrong with the answers to a question; answered if nothing is.
func (all incidents) illness(q question, at int64) result {
	for _, i := range all {
		if at < i.from || at >= i.until {
			continue
		}
		switch i.fault {
		case FaultResolverDown:
			return timedOut
		case FaultResolverFails:
			return serverFailure
		case FaultNamesSlow:
			return answeredLate
		case FaultZone:
			if q.name == i.target.app {
				return i.answer
			}
		case FaultNodeNames:
			if q.pod.node == i.node {
				return timedOut
			}
		}
	}
	return answered
}

// asker is who asks as a ztunnel's series tell it.
type asker struct {
	app, version string
	aaaa         bool
}

type asked struct {
	queries, forwarded, failed int64
	seconds                    float64
	buckets                    [len(bounds) + 1]int64
}

var bounds = [...]float64{0.0005, 0.001, 0.01, 0.1, 1, 5}

func (o *own) asked(q question) *asked {
	key := asker{q.pod.workload.app, q.pod.workload.version, q.aaaa}
	a, ok := o.askers[key]
	if !ok {
		a = &asked{}
		o.askers[key] = a
		o.order = append(o.order, key)
	}
	return a
}

// tell lets the ztunnel count a query that it forwards, and write of it.
func (s *proxies) tell(q question, at, end int64, what result) {
	z := s.ztunnels[q.pod.node]
	if z.own == nil {
		return
	}
	run := -1
	s.queue.schedule(at, func() {
		if s.incidents.nodeDead(at, z.node) == nil {
			run = z.own.run
			a := z.own.asked(q)
			a.queries++
			a.forwarded++
		}
	})
	s.queue.schedule(end, func() {
		if run != z.own.run || s.incidents.nodeDead(end, z.node) != nil {
			return
		}
		a := z.own.asked(q)
		took := float64(end-at) / 1e9
		a.seconds += took
		slot, _ := slices.BinarySearch(bounds[:], took)
		a.buckets[slot]++
		if what != answered {
			a.failed++
		}
		if s.debug {
			z.lookup(end, q, what)
		}
	})
}

// named lets a client's ztunnel count that it answered for the name that a connection is made to.
func (s *proxies) named(conn *connection) {
	if !s.tells || !conn.source.workload.mesh || conn.to.outside {
		return
	}
	z := s.ztunnels[conn.source.node]
	at := conn.opened
	s.queue.schedule(at, func() {
		if z.own == nil || s.incidents.nodeDead(at, z.node) != nil || s.cutOff(conn.source, at) {
			return
		}
		for _, aaaa := range []bool{false, true} {
			q := question{conn.source, conn.to.host(), aaaa}
			z.own.asked(q).queries++
			if s.debug {
				z.local(at, q)
			}
		}
	})
}

func (z *ztunnel) lookup(at int64, q question, what result) {
	text, endpoints := "forwarded", 1
	if what != answered {
		endpoints = 0
	}
	switch what {
	case noRecords:
		text = fmt.Sprintf("forwarding failed (net error: DNS error: no records found for Query { name: Name(%q), query_type: %s, query_class: IN })", q.name+".", q.kind())
	case serverFailure:
		text = "forwarding failed (net error: DNS error: error response: Server Failure)"
	case timedOut:
		text = "forwarding failed (net error: request timed out)"
	}
	z.query(at, q, text, endpoints)
}

func (z *ztunnel) local(at int64, q question) {
	if q.aaaa {
		z.query(at, q, "no records", 0)
		return
	}
	z.query(at, q, "success", 1)
}

// query writes a line of the DNS proxy, which has no message.
func (z *ztunnel) query(at int64, q question, text string, endpoints int) {
	if z.quiet {
		return
	}
	var b strings.Builder
	if z.json {
		fmt.Fprintf(&b, `{"level":"debug","time":"%s","scope":"dns","src.workload":%q,"src.namespace":%q,"query":%q,"domain":%q,"result":%q,"endpoints":%d}`,
			stamp(at), q.pod.name, q.pod.workload.namespace, q.kind(), q.name+".", text, endpoints)
	} else {
		fmt.Fprintf(&b, "%s\tdebug\tdns\tsrc.workload=%q src.namespace=%q query=%q domain=%q result=%q endpoints=%d",
			stamp(at), q.pod.name, q.pod.workload.namespace, q.kind(), q.name+".", text, endpoints)
	}
	b.WriteByte('\n')
	z.log.text(b.String())
}

// names writes the series of the DNS proxy.
func (o *own) names(out *part) {
	labels := func(k asker) string {
		kind := "a"
		if k.aaaa {
			kind = "aaaa"
		}
		return fmt.Sprintf(`request_query_type="%s",request_protocol="udp",source_canonical_service=%q,source_canonical_revision=%q`, kind, k.app, k.version)
	}
	for _, family := range []struct {
		name, help string
		value      func(*asked) int64
	}{
		{"istio_dns_requests", "Total number of DNS requests (unstable).", func(a *asked) int64 { return a.queries }},
		{"istio_dns_upstream_requests", "Total number of DNS requests forwarded to upstream (unstable).", func(a *asked) int64 { return a.forwarded }},
		{"istio_dns_upstream_failures", "Total number of DNS requests that failed to forward upstream (unstable).", func(a *asked) int64 { return a.failed }},
	} {
		header := false
		for _, k := range o.order {
			if v := family.value(o.askers[k]); v > 0 {
				if !header {
					header = true
					out.print("# HELP %s %s\n# TYPE %s counter\n", family.name, family.help, family.name)
				}
				out.print("%s_total{%s} %d\n", family.name, labels(k), v)
			}
		}
	}
	const duration = "istio_dns_upstream_request_duration_seconds"
	header := false
	for _, k := range o.order {
		a := o.askers[k]
		var count int64
		for _, n := range a.buckets {
			count += n
		}
		if count == 0 {
			continue
		}
		if !header {
			header = true
			out.print("# HELP %s Total time in seconds Istio takes to get DNS response from upstream (unstable).\n# TYPE %s histogram\n# UNIT %s seconds\n", duration, duration, duration)
		}
		out.print("%s_sum{%s} %s\n%s_count{%s} %d\n", duration, labels(k), strconv.FormatFloat(a.seconds, 'g', -1, 64), duration, labels(k), count)
		count = 0
		for i, n := range a.buckets {
			le := "+Inf"
			if i < len(bounds) {
				if le = strconv.FormatFloat(bounds[i], 'f', -1, 64); bounds[i] >= 1 {
					le += ".0"
				}
			}
			count += n
			out.print("%s_bucket{le=%q,%s} %d\n", duration, le, labels(k), count)
		}
	}
}

// finishOutside ends a span of a call to a host outside.
func (sp *span) finishOutside(a *asking, host *pod, start, end int64) {
	if sp == nil {
		return
	}
	sp.write("GET "+a.to.route, 3, start, end, fmt.Sprintf(`{"key":"server.address","value":{"stringValue":%q}},{"key":"http.request.method","value":{"stringValue":"GET"}},`+
		`{"key":"url.template","value":{"stringValue":%q}},{"key":"network.peer.address","value":{"stringValue":"%s:%d"}}`,
		a.name, a.to.route, host.ip, host.workload.port), 200, false, true)
}

// finishUnresolved ends a span of a call to somebody whose address is not known.
func (sp *span) finishUnresolved(a *asking, start, end int64) {
	if sp == nil {
		return
	}
	sp.write("GET "+a.to.route, 3, start, end, fmt.Sprintf(`{"key":"server.address","value":{"stringValue":%q}},{"key":"http.request.method","value":{"stringValue":"GET"}},`+
		`{"key":"url.template","value":{"stringValue":%q}}`, a.name, a.to.route), 0, true, true)
}
