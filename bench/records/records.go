package main

import (
	"cmp"
	"context"
	"log"
	"math"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/records"
)

// spanKind is how the topology_query extension keeps spans, so that a collector can be started over what was written here.
var spanKind = records.Kind{
	Name: "spans", Ints: []string{"duration"}, Raw: []string{"trace_id", "span_id", "parent_id"},
	Lookups: []string{"trace_id"}, Identity: []string{"trace_id", "span_id"}, Share: 0.5,
}

// recordsEngine is the one that was chosen: internal/records.
type recordsEngine struct {
	store   *records.Store
	table   *records.Table
	arrived int64
}

func init() { engines["records"] = &recordsEngine{} }

func (e *recordsEngine) open(dir string) {
	var err error
	e.store, err = records.Open(records.Settings{
		Directory: filepath.Join(dir, "records"), MaxBytes: 64 << 30, Retention: 7 * 24 * time.Hour, Logger: zap.NewNop(),
		Now: func() time.Time { return time.Unix(0, e.arrived) },
	}, spanKind)
	if err != nil {
		log.Fatal(err)
	}
	e.table = e.store.Table(spanKind.Name)
}

func (e *recordsEngine) add(batch []span) {
	list := make([]records.Record, 0, len(batch))
	for i := range batch {
		s := &batch[i]
		e.arrived = max(e.arrived, s.Time)
		list = append(list, records.Record{Time: s.Time, Fields: []records.Field{
			{Name: "service", Text: s.Service}, {Name: "name", Text: s.Name}, {Name: "status", Text: s.Status}, {Name: "layer", Text: "l7"},
			{Name: "kind", Text: s.Kind}, {Name: "namespace", Text: s.Namespace}, {Name: "pod", Text: s.Pod}, {Name: "node", Text: s.Node},
			{Name: "status_message", Text: s.Message}, {Name: "trace_id", Text: string(s.Trace[:])}, {Name: "span_id", Text: string(s.ID[:])},
			{Name: "parent_id", Text: parentOf(s)}, {Name: "duration", Number: s.Duration}, {Name: "attr.http.route", Text: s.Route},
			{Name: "attr.http.response.status_code", Text: codes[s.Code == 200]}, {Name: "attr.network.peer.address", Text: s.IP},
		}})
	}
	for len(list) > 0 {
		added := e.table.Append(list)
		if list = list[added:]; len(list) > 0 || e.table.Status().Records%flushRows < uint64(added) {
			if err := e.store.Flush(); err != nil {
				log.Fatal(err)
			}
		}
	}
}

// flushRows is how many spans become a file.
const flushRows = 64 << 10

var codes = map[bool]string{true: "200", false: "503"}

func parentOf(s *span) string {
	if s.Parent == [8]byte{} {
		return ""
	}
	return string(s.Parent[:])
}

func (e *recordsEngine) close() {
	if err := e.store.Close(); err != nil {
		log.Fatal(err)
	}
}

func (e *recordsEngine) blocks(from, to int64, visit func(b *records.Block), where ...records.Clause) {
	if err := records.Blocks(context.Background(), e.table, &records.Query{From: from, Until: to, Where: where}, func(b *records.Block, _ int64) bool {
		visit(b)
		return true
	}); err != nil {
		log.Fatal(err)
	}
}

func (e *recordsEngine) byTrace(id [16]byte) (n int) {
	err := records.Find(context.Background(), e.table, &records.Query{Where: []records.Clause{{{Field: "trace_id", Equals: string(id[:])}}}}, func(r records.Row) bool {
		for _, name := range r.Fields() {
			_ = r.Text(name)
		}
		n++
		return true
	})
	if err != nil {
		log.Fatal(err)
	}
	return n
}

func is(field, value string) records.Clause { return records.Clause{{Field: field, Equals: value}} }

func (e *recordsEngine) errorsOf(service string, from, to int64) (n int) {
	e.blocks(from, to, func(b *records.Block) { n += len(b.Rows) }, is("service", service), is("status", "error"))
	return n
}

func (e *recordsEngine) slowest(service string, from, to int64, limit int) (top []int64) {
	least := int64(math.MinInt64)
	e.blocks(from, to, func(b *records.Block) {
		durations := b.Numbers("duration")
		for _, row := range b.Rows {
			if durations[row] > least {
				top = append(top, durations[row])
			}
		}
		slices.SortFunc(top, func(a, b int64) int { return cmp.Compare(b, a) })
		if len(top) >= limit {
			top = top[:limit]
			least = top[limit-1]
		}
	}, is("service", service))
	return top
}

func (e *recordsEngine) heat(from, to int64) int {
	cells := map[[2]int64]int{}
	e.blocks(from, to, func(b *records.Block) {
		times, durations := b.Times(), b.Numbers("duration")
		for _, row := range b.Rows {
			cells[[2]int64{times[row] / 9e11, durations[row] / 1e7}]++
		}
	})
	return len(cells)
}

func (e *recordsEngine) countBy(from, to int64) int {
	cells := map[[2]string]int{}
	e.blocks(from, to, func(b *records.Block) {
		services, serviceOf := b.Codes("service")
		names, nameOf := b.Codes("name")
		counts := map[[2]int32]int{}
		for _, row := range b.Rows {
			counts[[2]int32{serviceOf[row], nameOf[row]}]++
		}
		for codes, n := range counts {
			cells[[2]string{services[codes[0]], names[codes[1]]}] += n
		}
	})
	return len(cells)
}
