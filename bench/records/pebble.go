package main

import (
	"bytes"
	"encoding/binary"
	"log"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"
)

// pebbleEngine keeps a span at its time, and for each trace and service where its spans are, as Jaeger's Badger does.
type pebbleEngine struct{ db *pebble.DB }

func init() { engines["pebble"] = &pebbleEngine{} }

func (p *pebbleEngine) open(dir string) {
	o := &pebble.Options{DisableWAL: true, Cache: pebble.NewCache(64 << 20)}
	o.Logger = quiet{}
	for i := range o.Levels {
		o.Levels[i].Compression = func() *block.CompressionProfile { return block.ZstdCompression }
		o.Levels[i].BlockSize = 64 << 10
	}
	db, err := pebble.Open(dir, o)
	if err != nil {
		log.Fatal(err)
	}
	p.db = db
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(f string, a ...any) { log.Printf(f, a...) }
func (quiet) Fatalf(f string, a ...any) { log.Fatalf(f, a...) }

func (p *pebbleEngine) add(batch []span) {
	b := p.db.NewBatch()
	for i := range batch {
		s := &batch[i]
		key := append(be([]byte{'s'}, s.Time), s.ID[:]...)
		v := binary.AppendVarint(nil, s.Duration)
		v = append(append(v, s.Trace[:]...), s.Parent[:]...)
		for _, t := range []string{s.Service, s.Name, s.Status, s.Namespace, s.Pod, s.Node, s.Kind, s.Route, s.IP, s.Message} {
			v = str(v, t)
		}
		v = binary.AppendVarint(v, s.Code)
		_ = b.Set(key, v, nil)
		_ = b.Set(append(be(append([]byte{'t'}, s.Trace[:]...), s.Time), s.ID[:]...), nil, nil)
		_ = b.Set(append(be(str([]byte{'v'}, s.Service), s.Time), s.ID[:]...), binary.AppendVarint(nil, s.Duration), nil)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		log.Fatal(err)
	}
}
func (p *pebbleEngine) close() { _ = p.db.Flush(); _ = p.db.Close() }
func (p *pebbleEngine) scan(prefix []byte, from, to []byte, f func(k, v []byte)) {
	it, _ := p.db.NewIter(&pebble.IterOptions{LowerBound: append(slices.Clone(prefix), from...), UpperBound: append(slices.Clone(prefix), to...)})
	for it.First(); it.Valid(); it.Next() {
		f(it.Key(), it.Value())
	}
	_ = it.Close()
}

func (p *pebbleEngine) byTrace(id [16]byte) (n int) {
	var keys [][]byte
	p.scan(append([]byte{'t'}, id[:]...), nil, bytes.Repeat([]byte{0xff}, 8), func(k, v []byte) { keys = append(keys, append([]byte{'s'}, k[17:]...)) })
	for _, k := range keys {
		if _, c, err := p.db.Get(k); err == nil {
			n++
			_ = c.Close()
		}
	}
	return n
}
func (p *pebbleEngine) errorsOf(service string, from, to int64) (n int) {
	p.scan(str([]byte{'v'}, service), be(nil, from), be(nil, to), func(k, _ []byte) {
		if v, c, err := p.db.Get(append([]byte{'s'}, k[len(k)-16:]...)); err == nil {
			if string(field(v, 2)) == "error" {
				n++
			}
			_ = c.Close()
		}
	})
	return n
}
func (p *pebbleEngine) slowest(service string, from, to int64, limit int) (top []int64) {
	p.scan(str([]byte{'v'}, service), be(nil, from), be(nil, to), func(_, v []byte) {
		d, _ := binary.Varint(v)
		top = append(top, d)
	})
	slices.Sort(top)
	return top[max(0, len(top)-limit):]
}
func (p *pebbleEngine) heat(from, to int64) int {
	cells := map[[2]int64]int{}
	p.scan([]byte{'s'}, be(nil, from), be(nil, to), func(k, v []byte) {
		d, _ := binary.Varint(v)
		cells[[2]int64{int64(binary.BigEndian.Uint64(k[1:])) / 9e11, d / 1e7}]++
	})
	return len(cells)
}
func (p *pebbleEngine) countBy(from, to int64) int {
	cells := map[string]int{}
	p.scan([]byte{'s'}, be(nil, from), be(nil, to), func(_, v []byte) { cells[string(field(v, 0))+"\x00"+string(field(v, 1))]++ })
	return len(cells)
}
