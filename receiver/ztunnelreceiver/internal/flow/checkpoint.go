package flow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strings"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/reasons"
)

// Keys of a checkpoint. Series are stored in chunks of chunkSize slots, so that a checkpoint writes only what
// changed.
const (
	keyHeader      = "flow/header"
	keyHeld        = "flow/held"
	keySeriesChunk = "flow/series/%d"
)

// checkpointVersion is the format's version; state of another one is refused.
const checkpointVersion = 2

// withoutUnanswered is the version before unanswered connections were counted.
const withoutUnanswered = 1

// Bounds of what a checkpoint may claim to hold.
const (
	maxRestoredChunks   = 1 << 16
	maxRestoredFailures = 256
)

// ErrCheckpoint is wrapped by every error of Restore that the stored state is to blame for.
var ErrCheckpoint = errors.New("damaged flow state")

var errShort = errors.New("unexpected end")

// Checkpoint returns the parts of the state that changed since the last call, by key; store all of them in one
// transaction, together with the offsets up to which the files were read. Log records and spans are not part of
// it: flush them before. The next call leaves out what this one returned, so after a failed write call
// MarkDirty.
func (p *Processor) Checkpoint() map[string][]byte {
	out := map[string][]byte{keyHeader: seal(p.appendHeader(nil))}
	if p.held.dirty {
		out[keyHeld] = seal(p.held.data)
		p.held.dirty = false
	}
	t := &p.series
	for chunk, dirty := range t.dirty {
		if dirty {
			out[fmt.Sprintf(keySeriesChunk, chunk)] = seal(t.appendChunk(nil, chunk))
			t.dirty[chunk] = false
		}
	}
	return out
}

// MarkDirty makes the next Checkpoint return everything.
func (p *Processor) MarkDirty() {
	p.held.dirty = true
	for chunk := range p.series.dirty {
		p.series.dirty[chunk] = true
	}
}

// Restore replaces the state by what Checkpoint gave; get returns the value of a key, nil when there is none.
// Without any stored state the processor stays as new. On an error it does as well, and the error wraps
// ErrCheckpoint unless it comes from get.
func (p *Processor) Restore(get func(key string) ([]byte, error)) error {
	header, _, err := load(get, keyHeader)
	if err != nil || header == nil {
		return err
	}
	q := New(p.cfg, p.obs)
	q.shift = p.shift
	chunks, err := q.readHeader(header)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCheckpoint, keyHeader, err)
	}
	held, _, err := load(get, keyHeld)
	if err != nil {
		return err
	}
	if !validHeld(held, &q.nodes) {
		return fmt.Errorf("%w: %s", ErrCheckpoint, keyHeld)
	}
	q.held.data = append([]byte(nil), held...)
	for chunk := range chunks {
		key := fmt.Sprintf(keySeriesChunk, chunk)
		data, version, err := load(get, key)
		if err != nil {
			return err
		}
		if data == nil {
			return fmt.Errorf("%w: %s is missing", ErrCheckpoint, key)
		}
		if err := q.series.readChunk(data, version, chunk, &q.nodes); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrCheckpoint, key, err)
		}
	}
	q.series.finishRestore()
	*p = *q
	return nil
}

func load(get func(key string) ([]byte, error), key string) (data []byte, version byte, err error) {
	raw, err := get(key)
	if err != nil {
		return nil, 0, fmt.Errorf("read flow state %s: %w", key, err)
	}
	if raw == nil {
		return nil, 0, nil
	}
	data, version, ok := unseal(raw)
	if !ok {
		return nil, 0, fmt.Errorf("%w: %s: wrong version or checksum", ErrCheckpoint, key)
	}
	return data, version, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts version and checksum before data.
func seal(data []byte) []byte {
	out := make([]byte, 5, 5+len(data))
	out[0] = checkpointVersion
	binary.LittleEndian.PutUint32(out[1:], crc32.Checksum(data, castagnoli))
	return append(out, data...)
}

func unseal(raw []byte) (data []byte, version byte, ok bool) {
	if len(raw) < 5 || raw[0] < withoutUnanswered || raw[0] > checkpointVersion {
		return nil, 0, false
	}
	data = raw[5:]
	return data, raw[0], crc32.Checksum(data, castagnoli) == binary.LittleEndian.Uint32(raw[1:])
}

func (p *Processor) appendHeader(b []byte) []byte {
	b = binary.AppendVarint(b, p.series.boundary)
	b = binary.AppendVarint(b, p.held.horizon)
	b = binary.AppendVarint(b, p.series.first)
	b = p.nodes.appendState(b)
	return binary.AppendUvarint(b, uint64(len(p.series.dirty)))
}

func (p *Processor) readHeader(data []byte) (chunks int, err error) {
	r := reader{data: data}
	p.series.boundary, p.held.horizon, p.series.first = r.varint(), r.varint(), r.varint()
	nodes := r.uvarint()
	for range nodes {
		name, lastSeen := r.string(), r.varint()
		if r.err != nil {
			return 0, r.err
		}
		if !p.nodes.restore(name, lastSeen, max(lastSeen, p.series.boundary)) {
			return 0, errors.New("a node occurs twice")
		}
	}
	n := r.uvarint()
	if err := r.finish(); err != nil {
		return 0, err
	}
	if n > maxRestoredChunks {
		return 0, errors.New("too many series")
	}
	return int(n), nil
}

func (t *seriesTable) appendChunk(b []byte, chunk int) []byte {
	first := chunk * chunkSize
	for slot := first; slot < min(first+chunkSize, len(t.slots)); slot++ {
		s := t.slots[slot]
		if s == nil {
			continue
		}
		b = binary.AppendUvarint(b, uint64(slot-first))
		b = appendString(b, s.key)
		b = binary.AppendVarint(b, s.start)
		b = binary.AppendVarint(b, s.last)
		b = binary.AppendUvarint(b, s.closed)
		b = binary.AppendUvarint(b, s.sent)
		b = binary.AppendUvarint(b, s.received)
		b = binary.AppendUvarint(b, s.unanswered)
		b = binary.AppendUvarint(b, uint64(len(s.failures)))
		for i := range s.failures {
			f := &s.failures[i]
			b = appendString(b, f.errorType)
			b = appendString(b, f.policy)
			b = binary.AppendUvarint(b, f.count)
		}
		h := &s.duration
		b = binary.AppendUvarint(b, h.Count)
		b = binary.AppendUvarint(b, h.Zero)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(h.Sum))
		b = binary.AppendVarint(b, int64(h.Scale))
		b = binary.AppendVarint(b, int64(h.Offset))
		b = binary.AppendUvarint(b, uint64(len(h.Counts)))
		for _, n := range h.Counts {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

func (t *seriesTable) readChunk(data []byte, version byte, chunk int, nodes *nodeTable) error {
	first := chunk * chunkSize
	for len(t.slots) < first+chunkSize {
		t.slots = append(t.slots, nil)
	}
	t.dirty = append(t.dirty, false)
	r := reader{data: data}
	for len(r.data) > 0 && r.err == nil {
		slot := r.uvarint()
		s := &series{key: r.string()}
		s.start, s.last = r.varint(), r.varint()
		s.closed, s.sent, s.received = r.count(), r.count(), r.count()
		if version > withoutUnanswered {
			s.unanswered = r.count()
		}
		r.failures(s)
		r.histogram(&s.duration)
		if r.err != nil {
			break
		}
		if slot >= chunkSize || t.slots[first+int(slot)] != nil {
			return errors.New("a slot occurs twice or lies outside of its chunk")
		}
		if !validKey(s.key, nodes) {
			return errors.New("invalid flow key")
		}
		if _, ok := t.index[s.key]; ok {
			return errors.New("a flow key occurs twice")
		}
		at := uint32(first) + uint32(slot)
		s.duration.Fit(t.layout)
		t.slots[at] = s
		t.enter(s, at)
		s.changed = true
		t.changed = append(t.changed, at)
	}
	return r.err
}

// finishRestore rebuilds the list of free slots.
func (t *seriesTable) finishRestore() {
	for slot := len(t.slots) - 1; slot >= 0; slot-- {
		if t.slots[slot] == nil {
			t.free = append(t.free, uint32(slot))
		}
	}
}

// validKey checks a flow key that did not come from makeKey.
func validKey(key string, nodes *nodeTable) bool {
	if len(key) < keyHead || !nodes.known(binary.LittleEndian.Uint32([]byte(key[:4]))) ||
		int(key[keySecurityAt]) >= len(securityNames) || key[keyReporterAt]&^reporterOverflow > reporterDestination {
		return false
	}
	rest := key[keyHead:]
	if key[keyReporterAt]&reporterOverflow != 0 {
		return rest == ""
	}
	for i := range keyTexts + 1 {
		if i == keyTexts && rest == "" {
			break
		}
		if rest == "" || len(rest)-1 < int(rest[0]) {
			return false
		}
		rest = rest[1+int(rest[0]):]
	}
	return rest == ""
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// reader reads what the append functions wrote; after an error it returns zeros.
type reader struct {
	data []byte
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.data = nil
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail(errShort)
		return 0
	}
	r.data = r.data[n:]
	return v
}

// count reads a number that fits into a data point.
func (r *reader) count() uint64 {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.fail(errors.New("count out of range"))
		return 0
	}
	return v
}

func (r *reader) string() string {
	n := r.uvarint()
	if n > uint64(len(r.data)) {
		r.fail(errShort)
		return ""
	}
	s := string(r.data[:n])
	r.data = r.data[n:]
	return s
}

func (r *reader) failures(s *series) {
	n := r.uvarint()
	if n > maxRestoredFailures {
		r.fail(errors.New("too many kinds of failures"))
		return
	}
	for range n {
		f := failure{errorType: knownErrorType(r.string()), policy: strings.ToValidUTF8(r.string(), "\uFFFD"), count: r.count()}
		if r.err != nil {
			return
		}
		s.failures = append(s.failures, f)
	}
}

func (r *reader) histogram(h *exphist.Histogram) {
	h.Count, h.Zero = r.count(), r.count()
	if len(r.data) < 8 {
		r.fail(errShort)
		return
	}
	h.Sum = math.Float64frombits(binary.LittleEndian.Uint64(r.data))
	r.data = r.data[8:]
	scale, offset, n := r.varint(), r.varint(), r.uvarint()
	if n > maxBuckets || scale < -10 || scale > maxHistogramScale || offset < math.MinInt16 || offset > math.MaxInt16 ||
		math.IsNaN(h.Sum) || math.IsInf(h.Sum, 0) {
		r.fail(errors.New("histogram out of range"))
		return
	}
	h.Scale, h.Offset = int32(scale), int32(offset)
	for range n {
		h.Counts = append(h.Counts, r.count())
	}
}

func (r *reader) finish() error {
	if r.err == nil && len(r.data) > 0 {
		return errors.New("unexpected rest")
	}
	return r.err
}

// knownErrorType returns the registry's own string, so that a restored series holds no copy.
func knownErrorType(s string) string { return reasons.Of(s).Name }
