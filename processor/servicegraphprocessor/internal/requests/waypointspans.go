package requests

import (
	"net/netip"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// Attributes of a waypoint's spans, as Envoy writes them.
const (
	attrNodeID          = "node_id" // "waypoint~IP~POD.NAMESPACE~…"
	attrResponseFlags   = "response_flags"
	attrUpstreamCluster = "upstream_cluster" // "inbound-vip|PORT|PROTOCOL|HOST"

	waypointNodeID = "waypoint~"
)

func isWaypointSpan(span ptrace.Span) bool {
	id, ok := span.Attributes().Get(attrNodeID)
	return ok && strings.HasPrefix(id.Str(), waypointNodeID)
}

// applyWaypointSpan joins what lies on either side of a waypoint: the request of its span's parent is that of its span's
// child. The waypoint itself is neither the request's client nor its server, but where it could not reach the server it is who
// tells that the request failed.
func (t *Table) applyWaypointSpan(span ptrace.Span, arrival moment.Arrival) {
	if span.ParentSpanID().IsEmpty() || span.ParentSpanID() == span.SpanID() {
		return
	}
	at := arrival.Of(span.EndTimestamp())
	front := t.exchange(idOf(span.TraceID(), span.ParentSpanID()), at)
	if front == nil || front.behind != nil {
		return
	}
	behind := t.exchange(idOf(span.TraceID(), span.SpanID()), at)
	if behind == nil {
		return
	}
	front.behind = behind
	t.passOn(front, arrival.Now)
	if behind.hasServer {
		return
	}
	if server := readWaypointSpan(t.names, span); server.backend != nil {
		behind.server, behind.ends, behind.hasServer = server, arrival.End(server.end), true
		t.answered(behind, arrival.Now)
	}
}

// passOn hands a request's client to what lies behind the waypoints on its way.
func (t *Table) passOn(x *Exchange, now pcommon.Timestamp) {
	for ; x.behind != nil && x.hasClient && !x.behind.hasClient; x = x.behind {
		x.behind.client, x.behind.hasClient = x.client, true
		if x.behind.hasServer {
			t.meet(x.behind, now)
		}
	}
}

// readWaypointSpan reads an error that a waypoint answered with itself, in the place of the only backend of the service that
// was called. There is no backend in what it returns if it answered nothing itself, or it is not known which it stands for.
func readWaypointSpan(names *naming.Directory, span ptrace.Span) serverSpan {
	attrs := span.Attributes()
	flags, status := stringOf(attrs, attrResponseFlags), stringOf(attrs, attrHTTPStatusOld)
	if flags == "" || flags == "-" || !strings.HasPrefix(status, "5") {
		return serverSpan{}
	}
	_, node, _ := strings.Cut(stringOf(attrs, attrNodeID), "~")
	node, _, _ = strings.Cut(node, "~")
	address, err := netip.ParseAddr(node)
	if err != nil {
		return serverSpan{}
	}
	cluster := strings.TrimSuffix(stringOf(attrs, attrUpstreamCluster), ";")
	hostname := cluster[strings.LastIndexByte(cluster, '|')+1:]
	hop := names.MergeHop(nil, names.Holder(address), hostname, "")
	if hop.Kind != naming.HopThrough || len(hop.Backends) != 1 || !names.SpeaksFor(hop.Waypoint, hostname, naming.PartyOf(hop.Backends[0])) {
		return serverSpan{}
	}
	code, _ := strconv.ParseUint(status, 10, 16)
	return serverSpan{
		backend: hop.Backends[0], client: address, status: uint16(code), failed: true, start: span.StartTimestamp(), end: span.EndTimestamp(),
	}
}
