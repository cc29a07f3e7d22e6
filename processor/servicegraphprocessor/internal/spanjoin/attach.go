package spanjoin

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/requests"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// attachSlack is how far apart a request and the connection made for it begin and end, on one node's clock.
const attachSlack = 5 * time.Millisecond

// attachAll looks for the requests of the connections whose time has come, and makes them leave.
func (t *Table) attachAll(now pcommon.Timestamp, force bool) {
	left := t.attaching[:0]
	for _, f := range t.attaching {
		if !force && f.attachUntil > now {
			left = append(left, f)
			continue
		}
		if x := t.requestOf(f); x != nil {
			t.telemetry.FlowSpan(telemetry.FlowSpanAttached)
			trace, parent := x.Span()
			f.span.SetTraceID(trace)
			f.span.SetParentSpanID(parent)
			start, end := x.Client()
			f.within(start, end, attachSlack+rounding)
		}
		f.done(t)
	}
	clear(t.attaching[len(left):])
	t.attaching = left
}

// requestOf finds the one request that a connection was made for: nil if there is none, or more than one could be it.
func (t *Table) requestOf(f *flowSpan) *requests.Exchange {
	if !f.outbound {
		return nil
	}
	var only *requests.Exchange
	n := 0
	targets := [2]string{f.service, ""}
	if f.server.IsValid() {
		targets[1] = f.server.String()
	}
	for _, target := range targets {
		if target == "" {
			continue
		}
		t.sent.Around(f.source, target, f.start, func(x *requests.Exchange) {
			if t.madeFor(f, x) {
				only = x
				n++
			}
		})
	}
	if n != 1 {
		return nil
	}
	return only
}

// madeFor tells whether a connection began and ended with a request and went to the pod that answered it.
func (t *Table) madeFor(f *flowSpan, x *requests.Exchange) bool {
	start, end := x.Client()
	if absolute(signed(f.start, start)) > attachSlack+rounding || absolute(signed(f.end, end)) > attachSlack {
		return false
	}
	answered := x.Answered()
	if answered == (naming.Pod{}) || f.destination.Name == "" {
		return true
	}
	return answered == f.destination || t.names.IsWaypoint(t.names.Pod(f.destination.Namespace, f.destination.Name))
}
