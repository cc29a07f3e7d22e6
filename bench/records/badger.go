package main

import (
	"encoding/binary"
	"log"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Prefixes of keys, as Jaeger's Badger storage has them.
const (
	keySpan      = 0x80
	keyService   = 0x81
	keyOperation = 0x82
	keyTag       = 0x83
	keyDuration  = 0x84
)

// badgerEngine keeps spans as Jaeger's all-in-one does on disk: a span at its trace, and an index entry each for its service, its
// operation, its duration and its tags, by time.
type badgerEngine struct{ db *badger.DB }

func init() { engines["badger"] = &badgerEngine{} }

func (e *badgerEngine) open(dir string) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithLoggingLevel(badger.ERROR).WithSyncWrites(false))
	if err != nil {
		log.Fatal(err)
	}
	e.db = db
}

func (e *badgerEngine) close() {
	if err := e.db.Close(); err != nil {
		log.Fatal(err)
	}
}

// indexKey is a value, the time in microseconds and the trace.
func indexKey(prefix byte, value string, at int64, trace []byte) []byte {
	key := append([]byte{prefix}, value...)
	return append(be(key, at/1000), trace...)
}

func (e *badgerEngine) add(batch []span) {
	w := e.db.NewWriteBatch()
	set := func(key, value []byte) {
		if err := w.Set(key, value); err != nil {
			log.Fatal(err)
		}
	}
	for i := range batch {
		s := &batch[i]
		v := binary.AppendVarint(nil, s.Duration)
		v = append(append(v, s.Trace[:]...), s.Parent[:]...)
		for _, t := range []string{s.Service, s.Name, s.Status, s.Namespace, s.Pod, s.Node, s.Kind, s.Route, s.IP, s.Message, codes[s.Code == 200]} {
			v = str(v, t)
		}
		set(append(be(append([]byte{keySpan}, s.Trace[:]...), s.Time/1000), s.ID[:]...), v)
		set(indexKey(keyService, s.Service, s.Time, s.Trace[:]), nil)
		set(indexKey(keyOperation, s.Service+s.Name, s.Time, s.Trace[:]), nil)
		set(indexKey(keyDuration, string(be(nil, s.Duration/1000)), s.Time, s.Trace[:]), nil)
		for _, tag := range [...][2]string{
			{"namespace", s.Namespace}, {"pod", s.Pod}, {"node", s.Node}, {"span.kind", s.Kind}, {"http.route", s.Route}, {"ip", s.IP},
			{"http.response.status_code", codes[s.Code == 200]}, {"error", s.Status}, {"message", s.Message},
		} {
			if tag[1] != "" {
				set(indexKey(keyTag, s.Service+tag[0]+tag[1], s.Time, s.Trace[:]), nil)
			}
		}
	}
	if err := w.Flush(); err != nil {
		log.Fatal(err)
	}
}

// be and str append a number and a text to a key or a value.
func be(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }
func str(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// field is the nth text of a span's value.
func field(v []byte, n int) []byte {
	_, l := binary.Varint(v)
	v = v[l+24:]
	for ; ; n-- {
		size, l := binary.Uvarint(v)
		if n == 0 {
			return v[l : l+int(size)]
		}
		v = v[l+int(size):]
	}
}

// scan visits the keys of a prefix from one key on to another, and the values where they are wanted.
func (e *badgerEngine) scan(prefix, from, to []byte, values bool, visit func(key, value []byte)) {
	err := e.db.View(func(tx *badger.Txn) error {
		o := badger.DefaultIteratorOptions
		o.PrefetchValues, o.Prefix = values, prefix
		it := tx.NewIterator(o)
		defer it.Close()
		for it.Seek(append(slices.Clone(prefix), from...)); it.Valid(); it.Next() {
			item := it.Item()
			key := item.Key()
			if to != nil && string(key[len(prefix):]) >= string(to) {
				break
			}
			var value []byte
			if values {
				var err error
				if value, err = item.ValueCopy(nil); err != nil {
					return err
				}
			}
			visit(key, value)
		}
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}

func (e *badgerEngine) byTrace(id [16]byte) (n int) {
	e.scan(append([]byte{keySpan}, id[:]...), nil, nil, true, func(_, _ []byte) { n++ })
	return n
}

// traces are those of an index's entries.
func (e *badgerEngine) traces(prefix []byte, from, to int64) [][16]byte {
	found := map[[16]byte]struct{}{}
	e.scan(prefix, be(nil, from/1000), be(nil, to/1000), false, func(key, _ []byte) {
		if len(key) == len(prefix)+24 {
			found[[16]byte(key[len(key)-16:])] = struct{}{}
		}
	})
	ids := make([][16]byte, 0, len(found))
	for id := range found {
		ids = append(ids, id)
	}
	return ids
}

func (e *badgerEngine) errorsOf(service string, from, to int64) (n int) {
	for _, id := range e.traces(append([]byte{keyTag}, service+"errorerror"...), from, to) {
		n += e.byTrace(id)
	}
	return n
}

// slowest reads all traces of the service: no index is by duration and service.
func (e *badgerEngine) slowest(service string, from, to int64, limit int) (top []int64) {
	for _, id := range e.traces(append([]byte{keyService}, service...), from, to) {
		e.scan(append([]byte{keySpan}, id[:]...), nil, nil, true, func(_, value []byte) {
			if string(field(value, 0)) == service {
				d, _ := binary.Varint(value)
				top = append(top, d)
			}
		})
	}
	slices.Sort(top)
	return top[max(0, len(top)-limit):]
}

func (e *badgerEngine) heat(from, to int64) int {
	cells := map[[2]int64]int{}
	e.scan([]byte{keyDuration}, nil, nil, false, func(key, _ []byte) {
		if at := int64(binary.BigEndian.Uint64(key[9:])) * 1000; at >= from && at < to {
			cells[[2]int64{at / 9e11, int64(binary.BigEndian.Uint64(key[1:])) / 1e4}]++
		}
	})
	return len(cells)
}

func (e *badgerEngine) countBy(from, to int64) int {
	cells := map[[2]string]int{}
	e.scan([]byte{keySpan}, nil, nil, true, func(key, value []byte) {
		if at := int64(binary.BigEndian.Uint64(key[17:])) * 1000; at >= from && at < to {
			cells[[2]string{string(field(value, 0)), string(field(value, 1))}]++
		}
	})
	return len(cells)
}
