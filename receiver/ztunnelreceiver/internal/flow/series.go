package flow

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// chunkSize is how many series share a chunk of a checkpoint.
const chunkSize = 256

// maxPorts bounds the ports of one flow that are told apart: a scan of all ports must not take the room of others. What exceeds it
// counts without a port.
const maxPorts = 1024

// maxPolicies bounds the policies that one series names; denials by further ones are counted without a name.
const maxPolicies = 16

// A flow key is a string of bytes: head, then texts of at most 255 bytes, each after its length.
//
//	node (4), reporter (1), security (1), destination port (2)
//	source pod, namespace, address, cluster; destination pod, namespace, address, service, cluster; source principal, if it is told
const (
	keyReporterAt = 4
	keySecurityAt = 5
	keyPortAt     = 6
	keyHead       = 8
	keyTexts      = 9
	maxText       = math.MaxUint8
)

const (
	reporterSource byte = iota
	reporterDestination
	// reporterOverflow is added to the reporter of an overflow series, whose key ends with its head.
	reporterOverflow byte = 0x80
)

const (
	securityUnknown byte = iota
	securityNone
	securityMutualTLS
)

var securityNames = [...]string{semconv.SecurityUnknown, semconv.SecurityNone, semconv.SecurityMutualTLS}

// hbonePort is where a ztunnel takes tunnels: never the port of an application.
const hbonePort = 15008

// failure counts the failed connections of one kind.
type failure struct {
	errorType string
	policy    string
	count     uint64
}

// series is everything known of one flow key.
type series struct {
	key      string
	start    int64 // 0 until the first boundary is known
	last     int64 // when it last had a record, by the receiver's time
	closed   uint64
	sent     uint64 // client to server
	received uint64
	// unanswered are connections that carried bytes to the server and none back.
	unanswered uint64
	failures   []failure
	duration   exphist.Histogram
	changed    bool
}

func (s *series) node() int            { return int(binary.LittleEndian.Uint32([]byte(s.key[:4]))) }
func (s *series) overflow() bool       { return s.key[keyReporterAt]&reporterOverflow != 0 }
func (s *series) reporter() byte       { return s.key[keyReporterAt] &^ reporterOverflow }
func (s *series) port() uint16         { return uint16(s.key[keyPortAt]) | uint16(s.key[keyPortAt+1])<<8 }
func (s *series) security() byte       { return s.key[keySecurityAt] }
func addSaturating(a, b uint64) uint64 { return min(a+b, math.MaxInt64) }

// fail counts one failed connection.
func (s *series) fail(errorType string, policy []byte) {
	policies := 0
	for i := range s.failures {
		f := &s.failures[i]
		if f.errorType == errorType && f.policy == string(policy) {
			f.count++
			return
		}
		if f.policy != "" {
			policies++
		}
	}
	if len(policy) > 0 && policies >= maxPolicies {
		s.fail(errorType, nil)
		return
	}
	s.failures = append(s.failures, failure{errorType: errorType, policy: string(policy), count: 1})
}

// seriesTable holds the series by key, in slots that stay where they are for as long as a series lives.
type seriesTable struct {
	max    int
	layout exphist.Layout
	// boundary is the last boundary, first the earliest time of any record before there was one; in nanoseconds, 0 when there is none.
	boundary, first int64

	index    map[string]uint32 // bounded by max and an overflow series per node
	ports    map[uint64]int    // how many series with a port there are of a flow, by portless; bounded by index
	slots    []*series
	free     []uint32
	overflow int // how many of the series are overflow ones
	changed  []uint32
	dirty    []bool // by chunk
	key      []byte
}

func (t *seriesTable) init(cfg *Config) {
	*t = seriesTable{
		max:    cfg.MaxSeries,
		layout: exphist.Layout{Scale: int32(cfg.Histogram.MaxScale), MaxBuckets: cfg.Histogram.MaxBuckets},
		index:  make(map[string]uint32),
		ports:  make(map[uint64]int),
		key:    make([]byte, 0, 512),
	}
}

func (t *seriesTable) len() int { return len(t.index) }

// makeKey writes the record's flow key into t.key.
func (t *seriesTable) makeKey(node int, rec *accesslog.Record) {
	k := binary.LittleEndian.AppendUint32(t.key[:0], uint32(node))
	reporter := reporterSource
	if rec.Direction == accesslog.DirectionInbound {
		reporter = reporterDestination
	}
	k = append(k, reporter, securityOf(rec))
	address, port := destination(rec)
	k = binary.LittleEndian.AppendUint16(k, port)
	k = appendText(k, rec.Src.Workload)
	k = appendText(k, rec.Src.Namespace)
	k = appendText(k, ipOf(&rec.Src.Addr))
	k = appendText(k, rec.Src.Cluster)
	k = appendText(k, rec.Dst.Workload)
	k = appendText(k, rec.Dst.Namespace)
	k = appendText(k, address)
	k = appendText(k, rec.DstService)
	t.key = appendText(k, rec.Dst.Cluster)
	if principal := clientPrincipal(rec); len(principal) > 0 {
		t.key = appendText(t.key, principal)
	}
}

// clientPrincipal is the client's identity where a server's ztunnel knows the client by no more, or not for sure: a tunnel to a
// service that is named by its host came through a gateway of its network, whose pod's address the connection has.
func clientPrincipal(rec *accesslog.Record) []byte {
	if rec.Direction != accesslog.DirectionInbound || len(rec.Src.Identity) > maxText {
		return nil
	}
	if len(rec.Src.Workload) == 0 || len(rec.HBONE.Text) > 0 && !rec.HBONE.IsIP {
		return rec.Src.Identity
	}
	return nil
}

func appendText(k, text []byte) []byte {
	k = append(k, byte(len(text)))
	return append(k, text...)
}

func ipOf(addr *accesslog.Addr) []byte {
	if addr.IsIP {
		return addr.Host
	}
	return nil
}

// destination returns the address and the port that the client wanted: those inside the tunnel where there is
// one. A tunnel to a service that is named by its host leaves only the socket's address.
func destination(rec *accesslog.Record) (address []byte, port uint16) {
	if len(rec.HBONE.Text) > 0 {
		if rec.HBONE.IsIP {
			return rec.HBONE.Host, rec.HBONE.Port
		}
		return ipOf(&rec.Dst.Addr), rec.HBONE.Port
	}
	port = rec.Dst.Port
	if port == hbonePort && rec.Direction == accesslog.DirectionInbound {
		port = 0
	}
	return ipOf(&rec.Dst.Addr), port
}

func securityOf(rec *accesslog.Record) byte {
	switch {
	case len(rec.HBONE.Text) > 0 || len(rec.Src.Identity) > 0 || len(rec.Dst.Identity) > 0:
		return securityMutualTLS
	case rec.Event == accesslog.EventFailed:
		return securityUnknown
	}
	return securityNone
}

// clientBytes returns a connection's bytes from client to server and back: each side says what it sent.
func clientBytes(rec *accesslog.Record) (sent, received uint64) {
	if rec.Direction == accesslog.DirectionInbound {
		return rec.BytesRecv, rec.BytesSent
	}
	return rec.BytesSent, rec.BytesRecv
}

// fold says what a record's series does not tell for want of room.
type fold int

const (
	foldNothing fold = iota
	foldPort         // the port
	foldAll          // anything but node and reporter: the overflow series
)

// portless identifies a key without its port.
func portless(key []byte) uint64 {
	var h xxhash.Digest
	h.Reset()
	_, _ = h.Write(key[:keyPortAt]) // it never fails
	_, _ = h.Write(key[keyHead:])
	return h.Sum64()
}

// lookup returns the series of t.key, a new one if there is none and room for it, otherwise the flow's without a port or the overflow series.
func (t *seriesTable) lookup(start int64) (slot uint32, folded fold) {
	if slot, ok := t.index[string(t.key)]; ok {
		return slot, foldNothing
	}
	if t.key[keyPortAt]|t.key[keyPortAt+1] != 0 && t.ports[portless(t.key)] >= maxPorts {
		folded = foldPort
		t.key[keyPortAt], t.key[keyPortAt+1] = 0, 0
		if slot, ok := t.index[string(t.key)]; ok {
			return slot, folded
		}
	}
	if len(t.index)-t.overflow < t.max {
		return t.insert(&series{key: string(t.key), start: start}), folded
	}
	t.key = t.key[:keyHead]
	t.key[keyReporterAt] |= reporterOverflow
	t.key[keySecurityAt], t.key[keyPortAt], t.key[keyPortAt+1] = 0, 0, 0
	if slot, ok := t.index[string(t.key)]; ok {
		return slot, foldAll
	}
	return t.insert(&series{key: string(t.key), start: start}), foldAll
}

// enter indexes a series.
func (t *seriesTable) enter(s *series, slot uint32) {
	t.index[s.key] = slot
	switch {
	case s.overflow():
		t.overflow++
	case s.port() != 0:
		t.ports[portless([]byte(s.key))]++
	}
}

// leave is the inverse of enter.
func (t *seriesTable) leave(s *series) {
	delete(t.index, s.key)
	switch {
	case s.overflow():
		t.overflow--
	case s.port() != 0:
		if id := portless([]byte(s.key)); t.ports[id] > 1 {
			t.ports[id]--
		} else {
			delete(t.ports, id)
		}
	}
}

func (t *seriesTable) insert(s *series) uint32 {
	var slot uint32
	if n := len(t.free); n > 0 {
		slot, t.free = t.free[n-1], t.free[:n-1]
		t.slots[slot] = s
	} else {
		slot = uint32(len(t.slots))
		t.slots = append(t.slots, s)
		if int(slot)/chunkSize == len(t.dirty) {
			t.dirty = append(t.dirty, true)
		}
	}
	t.enter(s, slot)
	return slot
}

// touch notes that a series changed since the last flush and the last checkpoint.
func (t *seriesTable) touch(slot uint32, s *series) {
	if !s.changed {
		s.changed = true
		t.changed = append(t.changed, slot)
	}
	t.dirty[slot/chunkSize] = true
}

// expire drops the series without a record since before, and returns how many.
func (t *seriesTable) expire(before int64) int64 {
	n := int64(0)
	for slot, s := range t.slots {
		if s == nil || s.last >= before || s.changed {
			continue
		}
		t.leave(s)
		t.slots[slot] = nil
		t.free = append(t.free, uint32(slot))
		t.dirty[slot/chunkSize] = true
		n++
	}
	return n
}

// patience is how long a client waits at least for an answer: one that leaves before does not tell that none would have come.
const patience = time.Second

// gaveUp tells whether the client left a connection after it had waited.
func gaveUp(rec *accesslog.Record) bool {
	return rec.Failure.Type == semconv.ErrorTypeClientAborted && (!rec.HasDuration || time.Duration(rec.Duration) >= patience)
}

// aggregate counts a record in its series.
func (p *Processor) aggregate(n *node, rec *accesslog.Record) {
	t := &p.series
	if t.boundary != 0 && rec.Time < t.boundary {
		p.counts[CountLate]++
	} else if t.boundary == 0 && (t.first == 0 || rec.Time < t.first) {
		t.first = rec.Time
	}
	t.makeKey(n.id, rec)
	slot, folded := t.lookup(t.boundary)
	if folded != foldNothing {
		p.counts[CountOverflow]++
	}
	if folded == foldAll {
		n.reading.dropped++
	}
	s := t.slots[slot]
	s.last = max(s.last, rec.Time, t.boundary)
	s.closed++
	sent, received := clientBytes(rec)
	s.sent = addSaturating(s.sent, sent)
	s.received = addSaturating(s.received, received)
	switch {
	case rec.Failed():
		policy := rec.Failure.Policy
		if folded == foldAll {
			policy = nil
		}
		s.fail(rec.Failure.Type, policy)
	case rec.Failure.Drained:
		p.counts[CountDrained]++
	case rec.Failure.Closing:
		p.counts[CountClosing]++
	}
	if sent > 0 && received == 0 && !rec.Failure.Drained && (!rec.Failed() || gaveUp(rec)) {
		s.unanswered++
	}
	if rec.HasDuration {
		s.duration.Add(t.layout, float64(rec.Duration)/1e9, 1)
	}
	t.touch(slot, s)
}
