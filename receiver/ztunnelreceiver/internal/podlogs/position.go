package podlogs

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

const (
	second = int64(time.Second)
	// maxTaken bounds the lines of a window. Beyond it, the window begins later, within a second.
	maxTaken = 1 << 16
	// maxHashed is how much of a line tells it from others of the same time.
	maxHashed = 1024
)

// position says which lines of a pod's log were taken: all before from, and those of the window that begins there.
type position struct {
	// from is in nanoseconds since the epoch; 0 is the log's beginning.
	from int64
	// newest is the time of the newest line taken, or from.
	newest int64
	// taken are the lines at or after from, in the order in which they came.
	taken []taken
}

type taken struct {
	at   int64
	hash uint64
}

// startAt is the position before the first line from a time on.
func startAt(at int64) position {
	from := at - at%second
	return position{from: from, newest: from}
}

// hashOf tells lines apart.
func hashOf(at int64, text []byte) uint64 {
	if len(text) > maxHashed {
		text = text[:maxHashed]
	}
	return xxhash.Sum64(text) ^ uint64(at)*0x9e3779b97f4a7c15
}

// add notes that a line was taken.
func (p *position) add(at int64, hash uint64) {
	p.taken = append(p.taken, taken{at, hash})
	if at > p.newest {
		p.newest = at
		p.begin(at - at%second - second)
	}
	if len(p.taken) > maxTaken {
		last := int64(math.MinInt64)
		for _, t := range p.taken[:maxTaken/2] {
			last = max(last, t.at)
		}
		p.begin(last + 1)
	}
}

// has tells whether a line is one of those of the window that were taken.
func (p *position) has(at int64, hash uint64) bool { return slices.Contains(p.taken, taken{at, hash}) }

// begin moves the window's beginning.
func (p *position) begin(from int64) {
	if from > p.from {
		p.from = from
		p.taken = slices.DeleteFunc(p.taken, func(t taken) bool { return t.at < from })
	}
}

// since is the time from which a stream has to begin; zero is the log's beginning.
func (p *position) since() time.Time {
	if p.from == 0 {
		return time.Time{}
	}
	return time.Unix(0, p.from).UTC()
}

// overlap tells, at the beginning of a stream, lines that were taken before from those that were not.
type overlap struct {
	from, until int64
	expected    map[uint64]int // bounded by maxTaken
	// repeated counts the lines that were found again.
	repeated int
	over     bool
}

// overlap is that of a stream that begins at the position.
func (p *position) overlap() overlap {
	o := overlap{from: p.from, until: p.newest, expected: make(map[uint64]int, len(p.taken))}
	for _, t := range p.taken {
		o.expected[t.hash]++
	}
	return o
}

// repeats tells whether a line was taken before. What is newer than everything before ends the overlap.
func (o *overlap) repeats(at int64, hash uint64) bool {
	switch {
	case o.over:
		return false
	case at > o.until:
		o.over, o.expected = true, nil
		return false
	case at < o.from:
		return true
	case o.expected[hash] > 0:
		o.expected[hash]--
		o.repeated++
		return true
	}
	return false
}

// stateVersion is the version of the stored form; state of another one is refused.
const stateVersion = 1

var errState = errors.New("damaged position in a pod's log")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendState appends the position and the entry that waits for lines that continue it.
func (p *position) appendState(held []byte) []byte {
	b := make([]byte, 5, 5+4*binary.MaxVarintLen64+len(p.taken)*(binary.MaxVarintLen32+8)+len(held))
	b = binary.AppendVarint(b, p.from)
	b = binary.AppendVarint(b, p.newest)
	b = binary.AppendUvarint(b, uint64(len(p.taken)))
	before := p.from
	for _, t := range p.taken {
		b = binary.AppendVarint(b, t.at-before)
		b = binary.LittleEndian.AppendUint64(b, t.hash)
		before = t.at
	}
	b = append(b, held...)
	b[0] = stateVersion
	binary.LittleEndian.PutUint32(b[1:], crc32.Checksum(b[5:], castagnoli))
	return b
}

// readState reads what appendState gave.
func readState(b []byte) (p position, held []byte, err error) {
	if len(b) < 5 || b[0] != stateVersion || crc32.Checksum(b[5:], castagnoli) != binary.LittleEndian.Uint32(b[1:]) {
		return position{}, nil, errState
	}
	b = b[5:]
	varint := func() int64 {
		v, n := binary.Varint(b)
		if n <= 0 {
			err = errState
			return 0
		}
		b = b[n:]
		return v
	}
	p.from, p.newest = varint(), varint()
	count, n := binary.Uvarint(b)
	if err != nil || n <= 0 || count > maxTaken+1 {
		return position{}, nil, errState
	}
	b = b[n:]
	at := p.from
	for range count {
		at += varint()
		if err != nil || len(b) < 8 {
			return position{}, nil, errState
		}
		p.taken = append(p.taken, taken{at, binary.LittleEndian.Uint64(b)})
		b = b[8:]
	}
	return p, b, nil
}
