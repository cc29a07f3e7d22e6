package meshsim

import (
	"math/rand/v2"
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
}

func (i *incident) at(t int64) bool { return i != nil && t >= i.from && t < i.until }

func (i *incident) hits(t int64, fault Fault, w *workload) bool {
	return i.at(t) && i.fault == fault && i.target == w
}

// nodeDead tells whether the node's ztunnel is gone at that time.
func (i *incident) nodeDead(t int64, node string) bool {
	return i.at(t) && i.fault == FaultNodeDown && i.node == node
}

// nodeMute tells whether nothing is heard of the node although it works.
func (i *incident) nodeMute(t int64, node string) bool {
	return i.at(t) && i.fault == FaultTelemetryLost && i.node == node
}

// newIncident picks a target on which the fault can be seen at all; nil if the mesh has none.
func newIncident(o Options, m *mesh, random *rand.Rand) *incident {
	if o.Fault == FaultNone {
		return nil
	}
	start := int64(90*time.Second) + random.Int64N(int64(20*time.Second))
	i := &incident{fault: o.Fault, from: start, until: start + int64(60*time.Second) + random.Int64N(int64(20*time.Second))}
	var targets []*workload
	for _, w := range m.workloads {
		if w.layer > 0 && w.rate >= 2*leastRate && suits(o.Fault, w, m) {
			targets = append(targets, w)
		}
	}
	switch o.Fault {
	case FaultNodeDown, FaultTelemetryLost:
		i.node = busiest(m, random)
		return i
	case FaultControlPlaneDown:
		return i
	}
	if len(targets) == 0 {
		return nil
	}
	i.target = targets[random.IntN(len(targets))]
	i.factor = 0.4 + 0.6*random.Float64()
	switch o.Fault {
	case FaultLatency:
		i.factor = 12 + 30*random.Float64()
	case FaultPartialRefused:
		i.pod = i.target.pods[random.IntN(len(i.target.pods))]
	case FaultTrafficLoss, FaultPolicyDenied:
		callers := callersOf(m, i.target, 4*leastRate)
		if o.Fault == FaultPolicyDenied {
			callers = callersOf(m, i.target, leastRate)
		}
		i.caller = callers[random.IntN(len(callers))]
	}
	return i
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
		return len(w.calls) > 0 && callRate(w) >= 2*leastRate
	default:
		return len(callersOf(m, w, leastRate)) > 0
	}
}

func callRate(w *workload) (rate float64) {
	for _, c := range w.calls {
		rate += c.rate
	}
	return rate
}

func callersOf(m *mesh, to *workload, least float64) []*workload {
	var callers []*workload
	for _, from := range m.workloads {
		for _, c := range from.calls {
			if c.to == to && c.rate >= least {
				callers = append(callers, from)
			}
		}
	}
	return callers
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
}

func (i *incident) expectation(m *mesh) *Expectation {
	if i == nil {
		return nil
	}
	e := &Expectation{Kind: string(i.fault), From: seconds(i.from), To: seconds(i.until), Edges: [][2]string{}, Within: 10}
	switch i.fault {
	case FaultNodeDown, FaultTelemetryLost:
		e.Root, e.Within = "node/"+i.node, 15
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
		for _, c := range i.target.calls {
			if c.rate >= 2*leastRate {
				e.Edges = append(e.Edges, [2]string{i.target.id(), c.to.id()})
			}
		}
		return e
	case FaultPartialRefused:
		e.Kind = string(FaultConnectionRefused)
	case FaultConnectionTimeout:
		e.Within = 10 + seconds(connectTimeout)
	case FaultHTTPErrors, FaultLatency:
		e.Within = 15
	}
	e.Root = i.target.id()
	for _, caller := range callersOf(m, i.target, 2*leastRate) {
		if i.fault == FaultPolicyDenied && caller != i.caller {
			continue
		}
		e.Edges = append(e.Edges, [2]string{caller.id(), i.target.id()})
	}
	return e
}

func seconds(nanos int64) float64 { return float64(nanos) / 1e9 }
