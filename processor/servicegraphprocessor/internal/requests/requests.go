// Package requests counts each request once: from the spans of the applications, and from what waypoints' own metrics tell
// beyond those.
package requests

import (
	"cmp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/identity"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// maxLinks bounds the messages that one consumer's span tells of.
const maxLinks = 128

// Config bounds what is held and says how long.
type Config struct {
	// Wait is how long a server span waits for its client span where its address does not tell the client, a client span for
	// its server span, and a waypoint's count for the spans of the same requests.
	Wait time.Duration
	// MaxSpans bounds the client spans remembered, the server spans waiting, and the requests whose end is still to come, each.
	MaxSpans int
	// ConnectionWait is how long a connection's span waits for the request that used it; with 0 none does.
	ConnectionWait time.Duration
}

// Exchange is what was asked with one span, by that span's id. The spans may come in any order, and any of them never.
type Exchange struct {
	id      appspan.ID
	arrived pcommon.Timestamp
	// origin is who wrote the span, nil until it came; call is what it says, nil unless it is a client's or a producer's.
	origin   *appspan.Origin
	call     *appspan.Call
	requests []*request // those that were answered
	answered naming.Pod
	between  *edges.Service // where the client's duration belongs, once a request is counted
	observed bool           // the client's duration is counted
	outer    bool           // the same process made the call with a client's span below this one
	lone     bool           // counted by what the client says
	behind   *Exchange      // that of the span of a waypoint which passed the request on
	waypoint string         // the waypoint that wrote the span
}

// Client is when the client's span began and ended.
func (x *Exchange) Client() (start, end pcommon.Timestamp) { return x.call.Start, x.call.End }

// Answered is the pod that answered; the zero Pod if that is not known.
func (x *Exchange) Answered() naming.Pod { return x.answered }

// Span is the client's span.
func (x *Exchange) Span() (pcommon.TraceID, pcommon.SpanID) {
	return pcommon.TraceID(x.id[:16]), pcommon.SpanID(x.id[16:])
}

// request is one request or message that was answered. It is counted once the graph's clock has passed its end.
type request struct {
	origin  *appspan.Origin // who answered; nil of a waypoint
	backend *mesh.Workload  // for whom a waypoint answered; not the pod, which nobody knows
	arrived pcommon.Timestamp
	counted bool
	waits   bool
	*details
}

// details are what is known of a request until it is added to its edge.
type details struct {
	asked   *Exchange // nil if nobody's span is known to have asked
	answer  appspan.Answer
	message bool
	end     pcommon.Timestamp // when the answer ended, as far as that can be right

	key     edge.Key
	server  *mesh.Workload // the pod, or one of its party's, by which the service is found
	pod     *mesh.Workload // nil if it is not known
	guessed bool           // the service, without what the client's span tells
	lone    bool           // only the client's span tells
}

// meshKnowledge is what decides whether a request has to wait for the mesh's state.
type meshKnowledge struct {
	version  uint64
	meshless bool
	learnt   uint64
}

// Table joins the two spans of a request and holds those that cannot be counted yet.
type Table struct {
	// Sent are the requests by who sent them.
	Sent *Sent

	cfg       Config
	names     *naming.Directory
	telemetry *telemetry.Telemetry
	who       *identity.Resolver
	parties   *parties
	ledger    ledger
	voices    identity.Voices

	byID map[appspan.ID]*Exchange // bounded by MaxSpans
	// order holds the exchanges in the order of arrival, waiting the requests that are not counted.
	order   queue[*Exchange]
	waiting queue[*request]
	lonely  []*Exchange // calls since the last look whose peers may have no spans
	seen    seenSpans
	// triedAt is what was known when all that wait were last looked at.
	triedAt meshKnowledge
}

// seenSpans are those of servers and consumers that came lately, those that neither ask nor answer, and those above a client's.
type seenSpans struct{ answered, inside, below appspan.Writers }

// NewTable returns an empty table that adds to the edges of a store what waypoints do not tell already.
func NewTable(cfg Config, names *naming.Directory, store *edges.Store, waypoints *Waypoints, t *telemetry.Telemetry) *Table {
	who := identity.NewResolver(names, t)
	between := &parties{names, who}
	return &Table{
		Sent: newSent(cfg.MaxSpans, cfg.ConnectionWait),
		cfg:  cfg, names: names, telemetry: t, who: who, parties: between,
		ledger: ledger{parties: between, max: cfg.MaxSpans, wait: cfg.Wait, store: store, waypoints: waypoints, telemetry: t},
		voices: identity.NewVoices(cfg.MaxSpans),
		byID:   map[appspan.ID]*Exchange{},
		seen:   seenSpans{appspan.NewWriters(cfg.MaxSpans), appspan.NewWriters(cfg.MaxSpans), appspan.NewWriters(cfg.MaxSpans)},
	}
}

// Held are the requests that wait, for their client or for the clock, and the client spans that are remembered.
func (t *Table) Held() (servers, clients int) {
	return t.waiting.len() + len(t.ledger.ready), len(t.byID)
}

// Apply takes over an application's span.
func (t *Table) Apply(o *appspan.Origin, span ptrace.Span, arrival moment.Arrival) {
	proxy, o := o.Proxy(span)
	id := appspan.IDOf(span.TraceID(), span.SpanID())
	switch kind := span.Kind(); {
	case proxy == appspan.Waypoint:
		t.applyWaypointSpan(o, span, arrival)
	case kind == ptrace.SpanKindConsumer, kind == ptrace.SpanKindClient && span.Links().Len() > 0 && appspan.Receives(span):
		if t.answers(id, o, arrival.Now) {
			t.applyConsumer(o, span, arrival)
		}
	case kind == ptrace.SpanKindServer:
		if t.answers(id, o, arrival.Now) {
			t.applyServer(o, span, arrival)
		}
	case kind == ptrace.SpanKindClient, kind == ptrace.SpanKindProducer:
		t.applyCall(id, o, span, arrival)
	default:
		t.seen.inside.Add(id, o)
		t.asks(id, o, arrival.Now)
	}
}

// answers takes over the span of a server or a consumer; false means that it is known already.
func (t *Table) answers(id appspan.ID, o *appspan.Origin, now pcommon.Timestamp) bool {
	if !t.seen.answered.Add(id, o) {
		t.telemetry.Dropped(telemetry.DroppedDuplicate, 1)
		return false
	}
	t.asks(id, o, now)
	return true
}

// asks takes over who wrote a span that others wait for.
func (t *Table) asks(id appspan.ID, o *appspan.Origin, now pcommon.Timestamp) {
	if x, ok := t.byID[id]; ok && x.origin == nil {
		x.origin = o
		t.meet(x, now)
	}
}

func (t *Table) applyCall(id appspan.ID, o *appspan.Origin, span ptrace.Span, arrival moment.Arrival) {
	x := t.exchange(id, arrival.Of(span.EndTimestamp()))
	if x == nil || x.call != nil {
		return
	}
	call := appspan.ReadCall(span)
	x.origin, x.call = o, &call
	t.who.Learn(o, t.names.Holder(call.Local))
	if inner := t.seen.below.Of(id); inner != nil && t.who.Same(inner, o) {
		x.outer = true
	}
	if !span.ParentSpanID().IsEmpty() && !call.Message {
		t.madeBelow(appspan.IDOf(span.TraceID(), span.ParentSpanID()), o)
	}
	if t.cfg.ConnectionWait > 0 {
		t.addSent(x)
	}
	t.meet(x, arrival.Now)
	t.lonely = append(t.lonely, x)
}

// madeBelow notes of a span that a client's one is below it: if both are a client's of one process, they are of one call.
func (t *Table) madeBelow(id appspan.ID, o *appspan.Origin) {
	t.seen.below.Add(id, o)
	if above, ok := t.byID[id]; ok && above.call != nil && t.who.Same(above.origin, o) {
		above.outer = true
	}
}

func (t *Table) applyServer(o *appspan.Origin, span ptrace.Span, arrival moment.Arrival) {
	r := t.newRequest(o, span, arrival)
	if !span.ParentSpanID().IsEmpty() {
		r.asked = t.exchange(appspan.IDOf(span.TraceID(), span.ParentSpanID()), r.arrived)
	}
	if x := r.asked; x != nil {
		if len(x.requests) > 0 && x.requests[0].backend != nil {
			return // a waypoint has answered already
		}
		if x.lone {
			t.voices.Hear(t.who.Of(o).Party, x.call.Host, arrival.Now)
			return
		}
		x.requests = append(x.requests, r)
	}
	t.countOrWait(r, arrival.Now)
}

// applyConsumer takes over the span of a consumer: a message of each producer that it is linked to, else of the one above it.
func (t *Table) applyConsumer(o *appspan.Origin, span ptrace.Span, arrival moment.Arrival) {
	var producers []appspan.ID
	for i, link := range span.Links().All() {
		if id := appspan.IDOf(link.TraceID(), link.SpanID()); i < maxLinks && !link.SpanID().IsEmpty() && !slices.Contains(producers, id) {
			producers = append(producers, id)
		}
	}
	receives := appspan.Receives(span)
	if len(producers) == 0 && !span.ParentSpanID().IsEmpty() && !receives {
		producers = append(producers, appspan.IDOf(span.TraceID(), span.ParentSpanID()))
	}
	if len(producers) == 0 {
		if r := t.newRequest(o, span, arrival); !receives && r.answer.Called.Known() {
			r.message = true
			t.countOrWait(r, arrival.Now)
		}
		return
	}
	for _, id := range producers {
		r := t.newRequest(o, span, arrival)
		r.message = true
		if x := t.exchange(id, r.arrived); x != nil {
			if slices.ContainsFunc(x.requests, func(other *request) bool { return other.origin != nil && t.who.Same(other.origin, o) }) {
				continue // the same message, received and then processed
			}
			r.asked = x
			x.requests = append(x.requests, r)
		}
		t.countOrWait(r, arrival.Now)
	}
}

func (t *Table) newRequest(o *appspan.Origin, span ptrace.Span, arrival moment.Arrival) *request {
	r := &request{origin: o, details: &details{answer: appspan.ReadAnswer(span)}}
	r.arrived, r.end = arrival.Of(r.answer.End), arrival.End(r.answer.End)
	t.who.Learn(o, t.names.Holder(r.answer.Local))
	return r
}

// countOrWait counts a request that was answered, or lets it wait for who asked.
func (t *Table) countOrWait(r *request, now pcommon.Timestamp) {
	if t.count(r, now, false) || r.waits {
		return
	}
	if t.waiting.len() >= t.cfg.MaxSpans {
		t.telemetry.Dropped(telemetry.DroppedSpanLimit, 1)
		t.count(r, now, true)
		return
	}
	r.waits = true
	t.waiting.push(r)
}

// meet goes on with what waits for a span that came.
func (t *Table) meet(x *Exchange, now pcommon.Timestamp) {
	for _, r := range x.requests {
		if !r.counted {
			t.countOrWait(r, now)
		}
	}
	t.ledger.observeClient(x, now)
	t.passOn(x, now)
}

// count counts a request if it is known between whom it was; false means that it is worth waiting. With final nothing is waited for.
func (t *Table) count(r *request, now pcommon.Timestamp, final bool) bool {
	if t.parties.nested(r) {
		r.counted, r.details = true, nil
		return true
	}
	by, ok := t.parties.between(r, now, final)
	if !ok {
		return false
	}
	if !r.message {
		host := ""
		if r.asked != nil && r.asked.call != nil {
			host = r.asked.call.Host
		}
		t.voices.Hear(r.key.Destination, host, now)
	}
	t.ledger.enter(r, by, now)
	return true
}

// Settle adds the requests that ended before now to their edges.
func (t *Table) Settle(m moment.Moment) { t.ledger.settle(m) }

// exchange finds or creates the exchange of a span; nil if there is no room.
func (t *Table) exchange(id appspan.ID, at pcommon.Timestamp) *Exchange {
	if x, ok := t.byID[id]; ok {
		return x
	}
	if len(t.byID) >= t.cfg.MaxSpans {
		t.telemetry.Dropped(telemetry.DroppedSpanLimit, 1)
		return nil
	}
	x := &Exchange{id: id, arrived: at, origin: cmp.Or(t.seen.answered.Of(id), t.seen.inside.Of(id))}
	t.byID[id] = x
	t.order.push(x)
	return x
}

// Retry looks again at the requests that wait, and gives up on those that waited long enough.
func (t *Table) Retry(m moment.Moment) {
	q := &t.waiting
	asOf := meshKnowledge{t.names.Version(), t.names.Meshless(m.Now), t.who.Learnt()}
	if m.Final || asOf != t.triedAt {
		for n := q.len(); n > 0; n-- {
			if r := q.pop(); !r.counted && !t.count(r, m.Now, false) {
				q.push(r)
			}
		}
		asOf.learnt = t.who.Learnt()
		t.triedAt = asOf
	}
	for q.len() > 0 && (q.first().counted || m.Final || m.Past(q.first().arrived, t.cfg.Wait)) {
		if r := q.pop(); !r.counted {
			t.count(r, m.Now, true)
		}
	}
	for _, x := range t.lonely {
		t.unanswered(x, m.Now, false)
	}
	clear(t.lonely)
	t.lonely = t.lonely[:0]
	keep := max(t.cfg.Wait, t.cfg.ConnectionWait)
	for q := &t.order; q.len() > 0; {
		x := q.first()
		if !m.Final && !m.Past(x.arrived, keep) {
			break
		}
		q.pop()
		t.unanswered(x, m.Now, true)
		delete(t.byID, x.id)
	}
	t.voices.Sweep(m.Now - min(m.Now, pcommon.Timestamp(instrumentedFor)))
}

// Rewind takes note that the graph's clock went back to a time: nothing arrived later.
func (t *Table) Rewind(now pcommon.Timestamp) {
	for x := range t.order.all() {
		(*x).arrived = min((*x).arrived, now)
	}
	for r := range t.waiting.all() {
		(*r).arrived = min((*r).arrived, now)
	}
	t.ledger.rewind(now)
	t.voices.Rewind(now)
	t.Sent.rewind(now)
}
