package spanjoin

import (
	"net/netip"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// side is the end of a connection that a span is of, as its ztunnel names it.
type side struct {
	node    string
	pod     naming.Pod
	address string // where there is no pod
}

func sideOf(resource pcommon.Resource) side {
	var s side
	for name, value := range resource.Attributes().All() {
		switch name {
		case semconv.AttrNodeName:
			s.node = naming.Intern(value.Str())
		case semconv.AttrPodName:
			s.pod.Name = naming.Intern(value.Str())
		case semconv.AttrNamespaceName:
			s.pod.Namespace = naming.Intern(value.Str())
		case semconv.AttrServiceName:
			s.address = naming.Intern(value.Str())
		}
	}
	return s
}

// workload finds who a side is, nil if the mesh's state does not know it.
func (t *Table) workload(s *side, at pcommon.Timestamp) *mesh.Workload {
	if s.pod.Name != "" {
		return t.names.Pod(s.pod.Namespace, s.pod.Name)
	}
	return t.names.Holders.At(s.node, s.address, at)
}

// mayBeNamed tells whether the mesh's state may still say who a side is.
func (t *Table) mayBeNamed(s *side, now pcommon.Timestamp) bool {
	return s.pod.Name != "" && t.workload(s, now) == nil && !t.names.Meshless(now)
}

// nameSide gives the spans of a side the names that its edges have.
func (t *Table) nameSide(s *side, at pcommon.Timestamp, attrs pcommon.Map) {
	w := t.workload(s, at)
	if w == nil {
		return
	}
	party := naming.PartyOf(w)
	attrs.PutStr(semconv.AttrServiceName, party.App)
	attrs.PutStr(semconv.AttrServiceNamespace, party.Namespace)
	attrs.PutStr(semconv.AttrNamespaceName, party.Namespace)
	attrs.PutStr(semconv.AttrPodName, w.Name)
	if party.Version != "" {
		attrs.PutStr(semconv.AttrServiceVersion, party.Version)
	}
}

// namePeer says which service a client's span went to.
func (t *Table) namePeer(f *flowSpan, span ptrace.Span) {
	if !f.outbound {
		return
	}
	peer := t.peer(f)
	name := peer.App
	if name == "" {
		name = peer.Workload
	}
	if name != "" {
		span.Attributes().PutStr(semconv.AttrPeerService, name)
	}
}

// peer is whom a client's connection went to: the service's workloads, also where a waypoint is between, and else the address.
func (t *Table) peer(f *flowSpan) edge.Party {
	w := t.names.Pod(f.destination.Namespace, f.destination.Name)
	if w == nil && f.destination.Name == "" && f.server.IsValid() {
		w = t.names.Holders.At(f.node, f.server.String(), f.end)
	}
	if w != nil && (f.service == "" || !t.names.IsWaypoint(w)) {
		return naming.PartyOf(w)
	}
	called := t.names.Service(f.service)
	if called == nil {
		called = t.names.Called(f.server)
	}
	switch {
	case called != nil:
		party, _ := t.names.ServiceParty(called, 0)
		return party
	case f.service != "":
		return edge.Party{Workload: f.service}
	case w != nil:
		return naming.PartyOf(w)
	case f.destination.Name != "":
		return edge.Party{Workload: f.destination.Name}
	}
	return edge.Party{Workload: text(f.server)}
}

func text(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// within moves the span's ends into the time of its parent if they stick out by no more than a measure's error: where more is
// missing, clocks differ, and whoever reads the spans has to say so.
func (f *flowSpan) within(start, end pcommon.Timestamp, slack time.Duration) {
	into := func(at pcommon.Timestamp) pcommon.Timestamp {
		switch {
		case at < start && signed(start, at) <= slack:
			return start
		case at > end && signed(at, end) <= slack:
			return end
		}
		return at
	}
	f.span.SetStartTimestamp(into(f.span.StartTimestamp()))
	f.span.SetEndTimestamp(into(f.span.EndTimestamp()))
}
