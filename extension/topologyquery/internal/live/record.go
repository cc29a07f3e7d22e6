package live

import "encoding/binary"

// Scale is the scale of the live histograms: 16 buckets for each doubling, a relative error below 4.5 %.
const Scale = 4

// The live histograms cover 2^-20 s (1 µs) to 2^25 s (a year); what lies outside counts in the outermost bucket.
const (
	minBucket = -20<<Scale - 1
	maxBucket = 25<<Scale - 1
)

// dense is a histogram of Scale with a counter for each bucket between the lowest and the highest that was hit. An edge holds four,
// so that it has no more than it needs; exphist.Histogram is what leaves.
type dense struct {
	zero   uint64
	offset int32
	counts []uint64
}

func (d *dense) reset() { d.zero, d.offset, d.counts = 0, 0, d.counts[:0] }

func (d *dense) empty() bool { return d.zero == 0 && len(d.counts) == 0 }

func (d *dense) add(index int32, n uint64) {
	index = min(max(index, minBucket), maxBucket)
	d.cover(index, index)
	d.counts[index-d.offset] += n
}

// cover makes room for the buckets from low to high.
func (d *dense) cover(low, high int32) {
	if len(d.counts) == 0 {
		d.offset = low
	}
	if low < d.offset {
		grow, length := int(d.offset-low), len(d.counts)
		for range grow {
			d.counts = append(d.counts, 0)
		}
		copy(d.counts[grow:], d.counts[:length])
		clear(d.counts[:grow])
		d.offset = low
	}
	for int32(len(d.counts)) <= high-d.offset {
		d.counts = append(d.counts, 0)
	}
}

// subtract takes away an earlier state of the same histogram.
func (d *dense) subtract(earlier *dense) {
	d.zero -= min(d.zero, earlier.zero)
	if len(earlier.counts) == 0 || len(d.counts) == 0 {
		return
	}
	shift := earlier.offset - d.offset
	for i, n := range earlier.counts {
		if at := int(shift) + i; at >= 0 && at < len(d.counts) {
			d.counts[at] -= min(d.counts[at], n)
		}
	}
}

// pack appends the histogram: the zeros, the number of buckets, the lowest one's index, then the counts; a zero count
// is followed by how many more of them follow.
func (d *dense) pack(b []byte) []byte {
	low, high := 0, len(d.counts)
	for low < high && d.counts[low] == 0 {
		low++
	}
	for low < high && d.counts[high-1] == 0 {
		high--
	}
	b = binary.AppendUvarint(b, d.zero)
	b = binary.AppendUvarint(b, uint64(high-low))
	if low == high {
		return b
	}
	b = binary.AppendVarint(b, int64(d.offset)+int64(low))
	for i := low; i < high; {
		b = binary.AppendUvarint(b, d.counts[i])
		i++
		if d.counts[i-1] == 0 {
			from := i
			for d.counts[i] == 0 {
				i++
			}
			b = binary.AppendUvarint(b, uint64(i-from))
		}
	}
	return b
}

// unpack adds a packed histogram and returns what follows it.
func (d *dense) unpack(b []byte) []byte {
	zero, b := uvarint(b)
	d.zero += zero
	length, b := uvarint(b)
	if length == 0 {
		return b
	}
	offset, b := varint(b)
	d.cover(int32(offset), int32(offset)+int32(length)-1)
	counts := d.counts[int32(offset)-d.offset:][:length]
	for i := 0; i < len(counts); i++ {
		if len(b) > 0 && b[0] < 0x80 && b[0] != 0 {
			counts[i] += uint64(b[0])
			b = b[1:]
			continue
		}
		var n uint64
		n, b = uvarint(b)
		if n == 0 {
			n, b = uvarint(b)
			i += int(n)
			continue
		}
		counts[i] += n
	}
	return b
}

// state is what happened on an edge: in one slot, or since it began.
type state struct {
	fields [NumFields]uint64
	// reasons and responses are counts by the edge's numbers of them.
	reasons   numbered
	responses numbered
	conn, req dense
	// active is the number of open connections; hasActive tells that it was stated.
	active    int64
	hasActive bool
}

func (s *state) reset() {
	s.fields, s.active, s.hasActive = [NumFields]uint64{}, 0, false
	s.reasons, s.responses = s.reasons[:0], s.responses[:0]
	s.conn.reset()
	s.req.reset()
}

// subtract takes away an earlier state of the same edge.
func (s *state) subtract(earlier *state) {
	for i, n := range earlier.fields {
		s.fields[i] -= min(s.fields[i], n)
	}
	s.reasons.subtract(earlier.reasons)
	s.responses.subtract(earlier.responses)
	s.conn.subtract(&earlier.conn)
	s.req.subtract(&earlier.req)
}

// What a packed state holds, after its fields' bits.
const (
	hasActive = 1 << (iota + NumFields)
	hasReasons
	hasConn
	hasReq
	hasResponses
)

// pack appends the state: a mask, then whatever is not zero, as varints.
func (s *state) pack(b []byte) []byte {
	var mask uint64
	for i, n := range s.fields {
		if n != 0 {
			mask |= 1 << i
		}
	}
	if s.hasActive {
		mask |= hasActive
	}
	if !s.reasons.empty() {
		mask |= hasReasons
	}
	if !s.responses.empty() {
		mask |= hasResponses
	}
	if !s.conn.empty() {
		mask |= hasConn
	}
	if !s.req.empty() {
		mask |= hasReq
	}
	b = binary.AppendUvarint(b, mask)
	for _, n := range s.fields {
		if n != 0 {
			b = binary.AppendUvarint(b, n)
		}
	}
	if s.hasActive {
		b = binary.AppendVarint(b, s.active)
	}
	if mask&hasReasons != 0 {
		b = s.reasons.pack(b)
	}
	if mask&hasConn != 0 {
		b = s.conn.pack(b)
	}
	if mask&hasReq != 0 {
		b = s.req.pack(b)
	}
	if mask&hasResponses != 0 {
		b = s.responses.pack(b)
	}
	return b
}

// unpack adds a packed state and returns what follows it.
func (s *state) unpack(b []byte) []byte {
	mask, b := uvarint(b)
	for i := range s.fields {
		if mask&(1<<i) != 0 {
			var n uint64
			n, b = uvarint(b)
			s.fields[i] += n
		}
	}
	if mask&hasActive != 0 {
		s.active, b = varint(b)
		s.hasActive = true
	}
	if mask&hasReasons != 0 {
		b = s.reasons.unpack(b)
	}
	if mask&hasConn != 0 {
		b = s.conn.unpack(b)
	}
	if mask&hasReq != 0 {
		b = s.req.unpack(b)
	}
	if mask&hasResponses != 0 {
		b = s.responses.unpack(b)
	}
	return b
}

// addState adds another state.
func (s *state) addState(other *state) {
	for i, n := range other.fields {
		s.fields[i] += n
	}
	s.reasons.addAll(other.reasons)
	s.responses.addAll(other.responses)
	if other.hasActive {
		s.active, s.hasActive = other.active, true
	}
	s.conn.addDense(&other.conn)
	s.req.addDense(&other.req)
}

func (d *dense) addDense(other *dense) {
	d.zero += other.zero
	if len(other.counts) == 0 {
		return
	}
	d.cover(other.offset, other.offset+int32(len(other.counts))-1)
	counts := d.counts[other.offset-d.offset:]
	for i, n := range other.counts {
		counts[i] += n
	}
}

// counts writes the state to counts, with the names that the edge has for its numbers.
func (s *state) counts(names *names, to *Counts) {
	to.Fields = s.fields
	to.Active = max(s.active, 0)
	for reason, n := range s.reasons {
		to.AddReason(names.reasons[reason], n)
	}
	for response, n := range s.responses {
		to.AddResponse(names.responses[response], n)
	}
	to.Connection.Set(Scale, s.conn.offset, s.conn.counts, s.conn.zero)
	to.Request.Set(Scale, s.req.offset, s.req.counts, s.req.zero)
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
