package flow

import (
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// recordID identifies an entry: the same entry of the same node read twice has the same id.
type recordID [16]byte

func (id recordID) String() string { return hex.EncodeToString(id[:]) }

// spanSeed sets the hash of a span's id apart from the halves of a record's.
const spanSeed = 0x6e657068696c6961

// newRecordID hashes node and entry; shift tells the rounds of a replay that repeats itself apart.
func newRecordID(node string, entry []byte, shift int64) recordID {
	var id recordID
	binary.BigEndian.PutUint64(id[:8], hashEntry(0, node, entry, shift))
	binary.BigEndian.PutUint64(id[8:], hashEntry(1, node, entry, shift))
	return id
}

func hashEntry(seed uint64, node string, entry []byte, shift int64) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(seed)
	_, _ = d.WriteString(node)
	var head [9]byte // a separator, and the shift
	binary.LittleEndian.PutUint64(head[1:], uint64(shift))
	_, _ = d.Write(head[:])
	_, _ = d.Write(entry)
	if h := d.Sum64(); h != 0 { // no id may be all zeros
		return h
	}
	return 1
}

// sampler chooses the connections that become spans: every failed or slow one, and a share of the others by a hash of what
// both sides of a connection know of it.
type sampler struct {
	// below is where the hashes of those that are taken end.
	below uint64
	all   bool
	slow  int64
	key   []byte
}

func newSampler(ratio float64, slow time.Duration) sampler {
	if ratio >= 1 {
		return sampler{all: true, slow: int64(slow)}
	}
	return sampler{below: uint64(ratio * (1 << 63) * 2), slow: int64(slow)}
}

// sampleWindow is the grid onto which both sides' closing times are rounded down; they close within
// milliseconds of each other.
const sampleWindow = int64(10 * time.Second)

func (s *sampler) take(rec *accesslog.Record) bool {
	if rec.Failed() || (s.slow > 0 && rec.HasDuration && rec.Duration >= s.slow) {
		return true
	}
	if s.all || s.below == 0 {
		return s.all
	}
	k := s.key[:0]
	k = append(k, rec.Src.Host...)
	k = append(k, 0)
	if len(rec.HBONE.Text) > 0 {
		k = append(k, rec.HBONE.Text...)
	} else {
		k = append(k, rec.Dst.Text...)
	}
	sent, received := clientBytes(rec)
	k = binary.LittleEndian.AppendUint64(k, sent)
	k = binary.LittleEndian.AppendUint64(k, received)
	k = binary.LittleEndian.AppendUint64(k, uint64(rec.Time/sampleWindow))
	s.key = k
	return xxhash.Sum64(k) < s.below
}

// spanBatch gathers spans by reporting side. It is bounded by the spans of one batch.
type spanBatch struct {
	traces   ptrace.Traces
	byParty  map[string]ptrace.SpanSlice // bounded by Config.MaxRecords
	partyKey []byte
	name     []byte
	count    int
}

// FlushSpans returns the spans since the last call.
func (p *Processor) FlushSpans() ptrace.Traces {
	defer p.report()
	traces := p.spans.traces
	if p.spans.count == 0 {
		traces = ptrace.NewTraces()
	}
	p.spans = spanBatch{partyKey: p.spans.partyKey, name: p.spans.name}
	return traces
}

// addSpan adds the span of p.rec.
func (p *Processor) addSpan(n *node, entry []byte) {
	b := &p.spans
	if b.count >= p.cfg.MaxRecords {
		p.counts[CountSpansDropped]++
		n.reading.dropped++
		return
	}
	b.count++
	rec := &p.rec
	span := p.spansOf(n).AppendEmpty()
	id := newRecordID(n.name, entry, p.shift)
	span.SetTraceID(pcommon.TraceID(id))
	var spanID pcommon.SpanID
	binary.BigEndian.PutUint64(spanID[:], hashEntry(spanSeed, n.name, entry, p.shift))
	span.SetSpanID(spanID)

	name, kind := semconv.DirectionOutbound, ptrace.SpanKindClient
	if rec.Direction == accesslog.DirectionInbound {
		name, kind = semconv.DirectionInbound, ptrace.SpanKindServer
	}
	span.SetKind(kind)
	span.SetName(b.spanName(&p.attrs.texts, name, peerName(rec)))
	span.SetStartTimestamp(pcommon.Timestamp(rec.Time - rec.Duration))
	span.SetEndTimestamp(pcommon.Timestamp(rec.Time))
	attrs := p.access(n, entry, networkAttributes)
	attrs.putNetwork(rec)
	attrs.UnsafeIntoMap(span.Attributes())
	if rec.Failed() {
		span.Status().SetCode(ptrace.StatusCodeError)
		span.Status().SetMessage(p.attrs.texts.get(rec.Error))
	}
}

// putNetwork writes what OpenTelemetry calls the ends of a connection: the server's address is the service's, its port the
// application's, and the peer is the other end of the socket.
func (a *attributes) putNetwork(rec *accesslog.Record) {
	server, port := destination(rec)
	peer := &rec.Dst.Addr
	if rec.Direction == accesslog.DirectionInbound {
		peer = &rec.Src.Addr
	}
	if len(rec.DstService) > 0 {
		server = rec.DstService
	}
	a.put(semconv.AttrServerAddress, server)
	if port != 0 {
		a.putInt(semconv.AttrServerPort, int64(port))
	}
	a.putStr(semconv.AttrNetworkTransport, semconv.ProtocolTCP)
	a.putAddr(peer, semconv.AttrNetworkPeerAddress, semconv.AttrNetworkPeerPort)
}

func (b *spanBatch) spanName(texts *textCache, direction string, peer []byte) string {
	name := b.name[:0]
	name = append(name, direction...)
	name = append(name, ' ')
	name = append(name, peer...)
	b.name = name
	return texts.get(name)
}

// peerName is what the connection was opened to: the service, else the pod, else the address.
func peerName(rec *accesslog.Record) []byte {
	switch {
	case len(rec.DstService) > 0:
		return rec.DstService
	case len(rec.Dst.Workload) > 0:
		return rec.Dst.Workload
	}
	address, _ := destination(rec)
	return address
}

// spansOf returns the spans of the reporting side of p.rec.
func (p *Processor) spansOf(n *node) ptrace.SpanSlice {
	b, rec := &p.spans, &p.rec
	pod, namespace, address := rec.Src.Workload, rec.Src.Namespace, rec.Src.Host
	if rec.Direction == accesslog.DirectionInbound {
		pod, namespace = rec.Dst.Workload, rec.Dst.Namespace
		address, _ = destination(rec)
	}
	k := binary.LittleEndian.AppendUint32(b.partyKey[:0], uint32(n.id))
	k = append(k, pod...)
	k = append(k, 0)
	k = append(k, namespace...)
	if len(pod) == 0 {
		k = append(k, 0)
		k = append(k, address...)
	}
	b.partyKey = k
	if b.byParty == nil {
		b.traces = ptrace.NewTraces()
		b.byParty = make(map[string]ptrace.SpanSlice)
	}
	if spans, ok := b.byParty[string(k)]; ok {
		return spans
	}
	rs := b.traces.ResourceSpans().AppendEmpty()
	attrs := rs.Resource().Attributes()
	name := pod
	if len(name) == 0 {
		name = address
	}
	p.attrs.texts.put(attrs, semconv.AttrServiceName, name)
	p.attrs.texts.put(attrs, semconv.AttrServiceNamespace, namespace)
	p.attrs.texts.put(attrs, semconv.AttrPodName, pod)
	p.attrs.texts.put(attrs, semconv.AttrNamespaceName, namespace)
	attrs.PutStr(semconv.AttrNodeName, n.name)
	attrs.PutStr(semconv.AttrHostName, n.name)
	putNonEmpty(attrs, semconv.AttrClusterName, p.cfg.Cluster)
	ss := rs.ScopeSpans().AppendEmpty()
	ss.Scope().SetName(semconv.ScopeReceiver)
	b.byParty[string(k)] = ss.Spans()
	return ss.Spans()
}
