// Package records keeps records on disk: spans, connections and whatever else has a time and fields.
//
// Each kind of record has a table. A table is a list of Parquet files in the order in which its records arrived, and a buffer in memory
// in front of them, which becomes a file every two seconds. Files never change; small neighbours are merged into larger ones. A record's
// place in that order is its sequence number.
//
// Order and age are those of the arrival, never of the records' own times, which anybody may choose. docs/adr/0010 says why Parquet.
package records

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Kind says what the records of a kind consist of. Fields that it does not name are texts.
type Kind struct {
	Name string
	// Ints are the fields that are whole numbers.
	Ints []string
	// Raw are the fields that differ in nearly every record, such as ids. They are bytes.
	Raw []string
	// Binary are those of Raw that are no texts.
	Binary []string
	// Lookups are those fields of Raw by which single records are looked up.
	Lookups []string
	// Identity are the fields that tell a record from all others: one that comes again is not stored again. A record that has none of
	// them is taken for new.
	Identity []string
	// Share is the part of the size that the kind is sure of; those of all kinds add up to at most 1.
	Share float64
	// Ageless records leave by size alone.
	Ageless bool
	// Digest, unless nil, makes of records that are written together what is to be known of them without reading them.
	Digest func(blocks []*Block) []byte
}

// Field is a field of a record. Number is the value of those that are Ints.
type Field struct {
	Name   string
	Text   string
	Number int64
}

// Record is a time in unix nanoseconds and fields. A text that is empty is as good as none.
type Record struct {
	Time   int64
	Fields []Field
}

// Names of fields that every table has.
const (
	fieldTime = "time"
	// FieldMore is a text with the fields for which there was no column: a JSON object of texts.
	FieldMore = "more"
)

// ID hashes the fields that tell a record from all others, 0 where it has none.
func (k *Kind) ID(r *Record) uint64 {
	var d xxhash.Digest
	d.Reset()
	known := false
	var size [4]byte
	for _, name := range k.Identity {
		i := slices.IndexFunc(r.Fields, func(f Field) bool { return f.Name == name })
		var value string
		if i >= 0 {
			value = r.Fields[i].Text
		}
		known = known || value != ""
		binary.LittleEndian.PutUint32(size[:], uint32(len(value)))
		_, _ = d.Write(size[:])
		_, _ = d.WriteString(value)
	}
	if !known {
		return 0
	}
	return d.Sum64() | 1
}

// recent remembers the newest identities, between one and two times as many as size.
type recent struct {
	size int
	now  map[uint64]struct{} // bounded by runSize
	// newer and older are sorted, which takes a fifth of a map's memory; bounded by size.
	newer, older []uint64
}

// runSize is how many identities are sorted at a time.
const runSize = 64 << 10

func newRecent(size int) *recent { return &recent{size: size, now: map[uint64]struct{}{}} }

// add remembers an identity and tells whether it is new.
func (s *recent) add(id uint64) bool {
	if id == 0 {
		return true
	}
	if _, known := s.now[id]; known {
		return false
	}
	for _, sorted := range [...][]uint64{s.newer, s.older} {
		if _, known := slices.BinarySearch(sorted, id); known {
			return false
		}
	}
	if s.now[id] = struct{}{}; len(s.now) == min(runSize, s.size) {
		if len(s.newer)+len(s.now) > s.size {
			s.newer, s.older = s.older[:0], s.newer
		}
		s.newer = merge(s.newer, slices.Sorted(maps.Keys(s.now)))
		clear(s.now)
	}
	return true
}

// fill remembers what was known before, in any order.
func (s *recent) fill(ids []uint64) {
	slices.Sort(ids)
	s.older = slices.Compact(ids)
}

// merge adds sorted numbers to others.
func merge(to, run []uint64) []uint64 {
	i, j := len(to)-1, len(run)-1
	to = append(to, run...)
	for at := len(to) - 1; j >= 0; at-- {
		if i >= 0 && to[i] > run[j] {
			to[at], i = to[i], i-1
		} else {
			to[at], j = run[j], j-1
		}
	}
	return to
}
