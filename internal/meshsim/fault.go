package meshsim

import (
	"math/rand/v2"
	"slices"
	"sort"
	"time"
)

// Fault is what goes wrong in a recording.
type Fault string

// The faults that the simulator knows. Their names are the kinds that a detector must report, but for the ones that
// say so.
const (
	FaultNone              Fault = ""
	FaultConnectionRefused Fault = "connection_refused"
	// FaultPartialRefused is one replica of several that refuses; its kind is connection_refused.
	FaultPartialRefused    Fault = "partial_refused"
	FaultConnectionTimeout Fault = "connection_timeout"
	FaultConnectionReset   Fault = "connection_reset"
	FaultPolicyDenied      Fault = "policy_denied"
	FaultNoHealthyUpstream Fault = "no_healthy_upstream"
	FaultTLSFailure        Fault = "tls_failure"
	FaultIdentityError     Fault = "identity_error"
	FaultNodeDown          Fault = "node_down"
	FaultControlPlaneDown  Fault = "control_plane_down"
	FaultHTTPErrors        Fault = "http_errors"
	FaultLatency           Fault = "latency"
	FaultTrafficLoss       Fault = "traffic_loss"
	FaultTelemetryLost     Fault = "telemetry_lost"
)

// Faults are all of them, in the order in which seeds choose.
var Faults = []Fault{
	FaultConnectionRefused, FaultPolicyDenied, FaultNodeDown, FaultHTTPErrors, FaultLatency, FaultPartialRefused,
	FaultConnectionTimeout, FaultConnectionReset, FaultNoHealthyUpstream, FaultTLSFailure, FaultIdentityError,
	FaultControlPlaneDown, FaultTrafficLoss, FaultTelemetryLost,
}

// NeedsSpans tells whether only spans can show the fault.
func (f Fault) NeedsSpans() bool { return f == FaultHTTPErrors || f == FaultLatency }

const (
	// Below this rate of calls nobody could tell a fault from chance within seconds.
	leastRate       = 0.5
	connectTimeout  = int64(10 * time.Second)
	policyNamespace = "no-callers"
	allowNobody     = "allow-backup"
)

// incident is the fault of one recording in place: what it hits, and from when to when.
type incident struct {
	fault       Fault
	target      *workload
	caller      *workload // of traffic_loss and policy_denied: the caller concerned
	pod         *pod      // of partial_refused
	node        string
	from, until int64
	factor      float64 // latency's multiple, http_errors' share
	other       string  // of partition: the other node
	drains      bool    // of node_down: a ztunnel that goes in an orderly way, for seconds
	// whole tells that it is all of it: of node_down the machine and not its ztunnel alone, of identity_error that nobody can open
	// a new tunnel to the workload either.
	whole bool
	// answer is what comes of questions for the target's name.
	answer result
}

// incidents are all that goes wrong in a recording.
type incidents []*incident

// at is the incident of a kind that goes on at a time, nil if there is none.
func (all incidents) at(t int64, fault Fault) *incident {
	for _, i := range all {
		if i.fault == fault && t >= i.from && t < i.until {
			return i
		}
	}
	return nil
}

// hits is the incident of a kind that a workload suffers at a time, nil if there is none.
func (all incidents) hits(t int64, fault Fault, w *workload) *incident {
	for _, i := range all {
		if i.fault == fault && i.target == w && t >= i.from && t < i.until {
			return i
		}
	}
	return nil
}

// nodeDead tells whether the node's ztunnel is gone at that time.
func (all incidents) nodeDead(t int64, node string) *incident {
	for _, i := range all {
		if i.stops(node) && t >= i.from && t < i.until {
			return i
		}
	}
	return nil
}

// nodeMute tells whether nothing is heard of the node although it works.
func (all incidents) nodeMute(t int64, node string) bool {
	i := all.at(t, FaultTelemetryLost)
	return i != nil && i.node == node
}

// silent tells whether nothing can be heard of a node.
func (all incidents) silent(t int64, node string) bool {
	return all.nodeDead(t, node) != nil || all.nodeMute(t, node)
}

// unmanaged tells whether nobody could hear of what comes or goes about a time: there is no istiod.
func (all incidents) unmanaged(at int64) bool {
	const longest = int64(time.Minute)
	for _, i := range all {
		if i.fault == FaultControlPlaneDown && at > i.from-longest && at < i.until {
			return true
		}
	}
	return false
}

// concern tells whether a workload has a part in any incident.
func (all incidents) concern(w *workload) bool {
	for _, i := range all {
		if i.target == w || i.caller == w {
			return true
		}
	}
	return false
}

// below tells whether a workload or anything that it calls, directly or through others, has a part in any incident.
func (all incidents) below(w *workload) bool {
	for _, i := range all {
		if i.target != nil && reaches(w, i.target) || i.caller != nil && reaches(w, i.caller) {
			return true
		}
	}
	return false
}

// newIncidents picks targets on which the faults can be seen at all; nil if the mesh has none.
func newIncidents(o Options, m *mesh, random *rand.Rand) incidents {
	if o.Fault == FaultNone {
		return nil
	}
	first := newIncident(o.Fault, m, random, nil)
	if first != nil && o.FaultFor > 0 {
		first.from, first.until = int64(o.FaultFrom), int64(o.FaultFrom+o.FaultFor)
	}
	if first == nil || o.And == FaultNone {
		return some(first)
	}
	second := newIncident(o.And, m, random, first)
	if second == nil {
		return nil
	}
	return incidents{first, second}
}

func some(i *incident) incidents {
	if i == nil {
		return nil
	}
	return incidents{i}
}

// newIncident places one fault; beside another one it must neither cause nor feel that.
func newIncident(fault Fault, m *mesh, random *rand.Rand, other *incident) *incident {
	start := int64(90*time.Second) + random.Int64N(int64(20*time.Second))
	i := &incident{fault: fault, from: start, until: start + int64(60*time.Second) + random.Int64N(int64(20*time.Second))}
	i.whole = random.IntN(2) == 0
	if slices.Contains(ProxyFaults, fault) {
		return newProxyIncident(i, m, random)
	}
	switch fault {
	case FaultNodeDown, FaultTelemetryLost:
		i.node = busiest(m, random)
		return i
	case FaultPartition:
		return m.part(i, random)
	case FaultControlPlaneDown:
		return i
	}
	var targets []*workload
	for _, w := range m.workloads {
		if w.layer > 0 && w.rate >= 2*leastRate && suits(fault, w, m) && (other == nil || m.apart(w, other.target)) {
			targets = append(targets, w)
		}
	}
	if len(targets) == 0 {
		return nil
	}
	i.target = targets[random.IntN(len(targets))]
	i.factor = 0.4 + 0.6*random.Float64()
	switch fault {
	case FaultLatency, FaultSlowDatabase:
		i.factor = 12 + 30*random.Float64()
	case FaultPartialRefused:
		i.pod = i.target.pods[random.IntN(len(i.target.pods))]
	case FaultTrafficLoss:
		callers := callersOf(m, i.target, 4*leastRate)
		i.caller = callers[random.IntN(len(callers))]
	case FaultPolicyDenied:
		callers := meshed(callersOf(m, i.target, leastRate))
		i.caller = callers[random.IntN(len(callers))]
	}
	return i
}

// apart tells whether neither workload calls the other, directly or through others, and nobody but where requests come from calls
// both: one that failed would starve the other.
func (m *mesh) apart(a, b *workload) bool {
	if b == nil || reaches(a, b) || reaches(b, a) {
		return false
	}
	for _, w := range m.workloads {
		if w.layer > 0 && reaches(w, a) && reaches(w, b) {
			return false
		}
	}
	return true
}

func (w *workload) callTo(to *workload) *call {
	for _, c := range w.calls {
		if c.to == to {
			return c
		}
	}
	return nil
}

func reaches(from, to *workload) bool {
	if from == to {
		return true
	}
	for _, c := range from.calls {
		if reaches(c.to, to) {
			return true
		}
	}
	return false
}

func suits(fault Fault, w *workload, m *mesh) bool {
	switch fault {
	case FaultHTTPErrors, FaultLatency:
		return w.instrumented && w.http && len(callersOf(m, w, leastRate)) > 0
	case FaultPartialRefused:
		return len(w.pods) > 1 && w.rate >= 6*leastRate
	case FaultTrafficLoss:
		// The caller must be seen to work: it has other callees.
		for _, caller := range callersOf(m, w, 4*leastRate) {
			if len(caller.calls) > 1 {
				return len(callersOf(m, w, 4*leastRate)) == 1
			}
		}
		return false
	case FaultIdentityError:
		return w.mesh && len(tunnelled(w.calls, 2*leastRate)) > 0
	case FaultSlowDatabase:
		// Only its callers can tell.
		return !w.http && slices.ContainsFunc(callersOf(m, w, 2*leastRate), func(c *workload) bool { return c.instrumented })
	case FaultPolicyDenied, FaultTLSFailure, FaultNoHealthyUpstream, FaultConnectionReset, FaultAllowList:
		return w.mesh && len(meshed(callersOf(m, w, leastRate))) > 0
	default:
		return len(callersOf(m, w, leastRate)) > 0
	}
}

func meshed(workloads []*workload) []*workload {
	var in []*workload
	for _, w := range workloads {
		if w.mesh {
			in = append(in, w)
		}
	}
	return in
}

// tunnelled are the calls of at least a rate that stay inside the mesh.
func tunnelled(calls []*call, least float64) []*call {
	var in []*call
	for _, c := range calls {
		if c.to.mesh && c.rate >= least {
			in = append(in, c)
		}
	}
	return in
}

// callersOf are the workloads that call another at least that often, so that a ztunnel sees it.
func callersOf(m *mesh, to *workload, least float64) []*workload {
	var callers []*workload
	for _, from := range m.workloads {
		for _, c := range from.calls {
			if c.to == to && c.rate >= least && (from.mesh || to.mesh) {
				callers = append(callers, from)
			}
		}
	}
	return callers
}

// part cuts a node off from another one on which it calls several workloads, nil if there is none: of a single one nobody could tell that it is
// not its own fault.
func (m *mesh) part(i *incident, random *rand.Rand) *incident {
	rate := map[[2]string]float64{}
	called := map[[2]string]map[*workload]bool{}
	for _, w := range m.workloads {
		for _, c := range w.calls {
			if !w.mesh || !c.to.mesh {
				continue
			}
			for _, from := range w.pods {
				for _, to := range c.to.pods {
					if from.node != to.node {
						pair, rated := [2]string{from.node, to.node}, c.rate/float64(len(w.pods)*len(c.to.pods))
						rate[pair] += rated
						if called[pair] == nil {
							called[pair] = map[*workload]bool{}
						}
						if rated >= leastRate {
							called[pair][c.to] = true
						}
					}
				}
			}
		}
	}
	var pairs [][2]string
	for _, a := range m.nodes {
		for _, b := range m.nodes {
			if rate[[2]string{a, b}] >= 4*leastRate && len(called[[2]string{a, b}]) > 1 {
				pairs = append(pairs, [2]string{a, b})
			}
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	pair := pairs[random.IntN(len(pairs))]
	i.node, i.other = pair[0], pair[1]
	return i
}

func busiest(m *mesh, random *rand.Rand) string {
	rate := map[string]float64{}
	for _, w := range m.workloads {
		if w.layer == 0 {
			continue
		}
		for _, p := range w.pods {
			rate[p.node] += w.rate / float64(len(w.pods))
		}
	}
	nodes := append([]string(nil), m.nodes...)
	sort.Slice(nodes, func(a, b int) bool {
		return rate[nodes[a]] > rate[nodes[b]] || rate[nodes[a]] == rate[nodes[b]] && nodes[a] < nodes[b]
	})
	return nodes[random.IntN(max(1, len(nodes)/2))]
}

// Expectation is what a good detector reports; its JSON is that of truth.json's scenario.expect.
type Expectation struct {
	Root   string      `json:"root"`
	Kind   string      `json:"kind"`
	From   float64     `json:"from_s"`
	To     float64     `json:"to_s"`
	Edges  [][2]string `json:"edges"`
	Within float64     `json:"within_s"`
	// Optional tells that it may be found and need not be.
	Optional bool `json:"optional,omitempty"`
	// Roots are several where each of them is right.
	Roots []string `json:"roots,omitempty"`
}

func (i *incident) expectation(m *mesh) *Expectation {
	if e := i.expects(); e != nil {
		return e
	}
	e := &Expectation{Kind: string(i.fault), From: seconds(i.from), To: seconds(i.until), Edges: [][2]string{}, Within: 10, Optional: i.drains}
	if kind, ok := kinds[i.fault]; ok {
		e.Kind = kind
	}
	if i.fault.waits() {
		e.Within = 40
	}
	switch i.fault {
	case FaultPartition:
		e.Root, e.Roots = "node/"+i.node, []string{"node/" + i.other}
		return e
	case FaultNodeDown, FaultTelemetryLost:
		e.Root, e.Within = "node/"+i.node, 15
		if i.drains {
			e.Within = 30
		}
		if i.fault == FaultNodeDown && i.whole {
			// Who calls what ran there waits for an answer first.
			e.Within = 10 + seconds(connectTimeout)
		}
		return e
	case FaultControlPlaneDown:
		e.Root, e.Within = "istio-system/istiod", 30
		return e
	case FaultTrafficLoss:
		e.Root, e.Within = i.caller.id(), 30
		e.Edges = append(e.Edges, [2]string{i.caller.id(), i.target.id()})
		return e
	case FaultIdentityError:
		e.Root = i.target.id()
		for _, c := range tunnelled(i.target.calls, 2*leastRate) {
			e.Edges = append(e.Edges, [2]string{i.target.id(), c.to.id()})
		}
		return e
	case FaultAllowList:
		e.Within = 25
	case FaultUnanswered, FaultCrashLoop, FaultSlowDatabase:
		e.Within = 25
	case FaultConnectionTimeout:
		e.Within = 10 + seconds(connectTimeout)
	case FaultHTTPErrors, FaultLatency:
		e.Within = 15
	}
	e.Root = i.target.id()
	for _, caller := range callersOf(m, i.target, 2*leastRate) {
		if float64(caller.callTo(i.target).made) < leastRate*seconds(i.from) {
			continue // it seldom gets as far
		}
		if i.fault == FaultPolicyDenied && caller != i.caller || !caller.mesh && i.tunnelOnly() {
			continue
		}
		e.Edges = append(e.Edges, [2]string{caller.id(), i.target.id()})
	}
	return e
}

// tunnelOnly tells whether the fault concerns what comes through the mesh only.
func (i *incident) tunnelOnly() bool {
	switch i.fault {
	case FaultTLSFailure, FaultConnectionReset, FaultAllowList:
		return true
	}
	return false
}

func seconds(nanos int64) float64 { return float64(nanos) / 1e9 }
