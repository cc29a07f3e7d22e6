package live

import (
	"encoding/binary"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/exphist"
)

// Scale is the scale of the live histograms: 16 buckets for each doubling, a relative error below 4.5 %.
const Scale = 4

// The live histograms cover 2^-20 s (1 µs) to 2^25 s (a year); what lies outside counts in the outermost bucket.
const (
	minBucket = -20 << Scale
	maxBucket = 25 << Scale
)

// bucketDelta is the growth of one bucket of a histogram of Scale.
type bucketDelta struct {
	index int32
	n     uint64
}

// histDelta is the growth of a histogram.
type histDelta struct {
	zero    uint64
	buckets []bucketDelta
}

func (d *histDelta) empty() bool { return d.zero == 0 && len(d.buckets) == 0 }

func (d *histDelta) add(index int32, n uint64) {
	index = min(max(index, minBucket), maxBucket)
	for i := range d.buckets {
		if d.buckets[i].index == index {
			d.buckets[i].n += n
			return
		}
	}
	d.buckets = append(d.buckets, bucketDelta{index, n})
}

// record is what happened on an edge in one slot of time, not yet packed.
type record struct {
	time      int64
	fields    [NumFields]uint64
	active    int64
	hasActive bool
	reasons   []reasonDelta
	conn, req histDelta
}

type reasonDelta struct {
	reason int
	n      uint64
}

func (r *record) reset() {
	r.time, r.fields, r.active, r.hasActive = 0, [NumFields]uint64{}, 0, false
	r.reasons = r.reasons[:0]
	r.conn.zero, r.conn.buckets = 0, r.conn.buckets[:0]
	r.req.zero, r.req.buckets = 0, r.req.buckets[:0]
}

func (r *record) addReason(reason int, n uint64) {
	for i := range r.reasons {
		if r.reasons[i].reason == reason {
			r.reasons[i].n += n
			return
		}
	}
	r.reasons = append(r.reasons, reasonDelta{reason, n})
}

// What a packed record holds, after its fields' bits.
const (
	hasActive = 1 << (iota + NumFields)
	hasReasons
	hasConn
	hasReq
)

// pack appends the record, without its time: a mask, then whatever is not zero, as varints.
func (r *record) pack(b []byte) []byte {
	var mask uint64
	for i, n := range r.fields {
		if n != 0 {
			mask |= 1 << i
		}
	}
	if r.hasActive {
		mask |= hasActive
	}
	if len(r.reasons) > 0 {
		mask |= hasReasons
	}
	if !r.conn.empty() {
		mask |= hasConn
	}
	if !r.req.empty() {
		mask |= hasReq
	}
	b = binary.AppendUvarint(b, mask)
	for _, n := range r.fields {
		if n != 0 {
			b = binary.AppendUvarint(b, n)
		}
	}
	if r.hasActive {
		b = binary.AppendVarint(b, r.active)
	}
	if len(r.reasons) > 0 {
		b = binary.AppendUvarint(b, uint64(len(r.reasons)))
		for _, reason := range r.reasons {
			b = binary.AppendUvarint(b, uint64(reason.reason))
			b = binary.AppendUvarint(b, reason.n)
		}
	}
	if !r.conn.empty() {
		b = r.conn.pack(b)
	}
	if !r.req.empty() {
		b = r.req.pack(b)
	}
	return b
}

func (d *histDelta) pack(b []byte) []byte {
	b = binary.AppendUvarint(b, d.zero)
	b = binary.AppendUvarint(b, uint64(len(d.buckets)))
	for _, bucket := range d.buckets {
		b = binary.AppendVarint(b, int64(bucket.index))
		b = binary.AppendUvarint(b, bucket.n)
	}
	return b
}

// unpackInto adds a packed record to a record and returns what follows it.
func unpackInto(b []byte, into *record) []byte {
	mask, b := uvarint(b)
	for i := range into.fields {
		if mask&(1<<i) != 0 {
			var n uint64
			n, b = uvarint(b)
			into.fields[i] += n
		}
	}
	if mask&hasActive != 0 {
		into.active, b = varint(b)
		into.hasActive = true
	}
	if mask&hasReasons != 0 {
		var count, reason, n uint64
		count, b = uvarint(b)
		for range count {
			reason, b = uvarint(b)
			n, b = uvarint(b)
			into.addReason(int(reason), n)
		}
	}
	if mask&hasConn != 0 {
		b = into.conn.unpack(b)
	}
	if mask&hasReq != 0 {
		b = into.req.unpack(b)
	}
	return b
}

func (d *histDelta) unpack(b []byte) []byte {
	zero, b := uvarint(b)
	d.zero += zero
	count, b := uvarint(b)
	for range count {
		var index int64
		var n uint64
		index, b = varint(b)
		n, b = uvarint(b)
		d.add(int32(index), n)
	}
	return b
}

// addPacked adds a packed record to counts; reasons names the edge's reasons.
func addPacked(b []byte, reasons []Reason, to *Counts) []byte {
	mask, b := uvarint(b)
	for i := range to.Fields {
		if mask&(1<<i) != 0 {
			var n uint64
			n, b = uvarint(b)
			to.Fields[i] += n
		}
	}
	if mask&hasActive != 0 {
		to.Active, b = varint(b)
	}
	if mask&hasReasons != 0 {
		var count, reason, n uint64
		count, b = uvarint(b)
		for range count {
			reason, b = uvarint(b)
			n, b = uvarint(b)
			to.AddReason(reasons[reason], n)
		}
	}
	if mask&hasConn != 0 {
		b = addPackedHistogram(b, &to.Connection)
	}
	if mask&hasReq != 0 {
		b = addPackedHistogram(b, &to.Request)
	}
	return b
}

func addPackedHistogram(b []byte, to *exphist.Histogram) []byte {
	zero, b := uvarint(b)
	to.AddZero(zero)
	count, b := uvarint(b)
	for range count {
		var index int64
		var n uint64
		index, b = varint(b)
		n, b = uvarint(b)
		to.Add(Scale, int32(index), n)
	}
	return b
}

func (r *record) addTo(reasons []Reason, to *Counts) {
	for i, n := range r.fields {
		to.Fields[i] += n
	}
	if r.hasActive {
		to.Active = r.active
	}
	for _, reason := range r.reasons {
		to.AddReason(reasons[reason.reason], reason.n)
	}
	r.conn.addTo(&to.Connection)
	r.req.addTo(&to.Request)
}

func (d *histDelta) addTo(to *exphist.Histogram) {
	to.AddZero(d.zero)
	for _, bucket := range d.buckets {
		to.Add(Scale, bucket.index, bucket.n)
	}
}

func uvarint(b []byte) (uint64, []byte) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:]
	}
	v, n := binary.Uvarint(b)
	return v, b[n:]
}

func varint(b []byte) (int64, []byte) {
	v, rest := uvarint(b)
	return int64(v>>1) ^ -int64(v&1), rest
}
