package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"sort"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding"
)

type parquetEngine struct {
	dir    string
	schema *parquet.Schema
	rows   []parquet.Row
	files  []*parquet.File
	n      int
}

const rowsPerFile = 256 << 10

var columns = []string{"code", "duration", "id", "ip", "kind", "message", "name", "namespace", "node", "parent", "pod", "route", "service", "status", "time", "trace"}

func (p *parquetEngine) open(dir string) {
	_ = os.MkdirAll(dir, 0o755)
	g := parquet.Group{}
	for _, c := range columns {
		switch c {
		case "code", "duration", "time":
			g[c] = parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)
		case "trace", "id", "parent":
			g[c] = parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.DeltaLengthByteArray)
		default:
			g[c] = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
		}
	}
	p.schema = parquet.NewSchema("span", g)
	p.dir = dir
	names, _ := filepath.Glob(dir + "/*.parquet")
	sort.Strings(names)
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			log.Fatal(err)
		}
		st, _ := f.Stat()
		file, err := parquet.OpenFile(f, st.Size())
		if err != nil {
			log.Fatal(err)
		}
		p.files = append(p.files, file)
	}
}

func (p *parquetEngine) add(batch []span) {
	for i := range batch {
		s := &batch[i]
		t := func(v string) parquet.Value { return parquet.ByteArrayValue([]byte(v)) }
		b := func(v []byte) parquet.Value { return parquet.ByteArrayValue(bytes.Clone(v)) }
		n := parquet.Int64Value
		row := parquet.Row{n(s.Code), n(s.Duration), b(s.ID[:]), t(s.IP), t(s.Kind), t(s.Message), t(s.Name), t(s.Namespace), t(s.Node), b(s.Parent[:]), t(s.Pod), t(s.Route),
			t(s.Service), t(s.Status), n(s.Time), b(s.Trace[:])}
		for c := range row {
			row[c] = row[c].Level(0, 0, c)
		}
		p.rows = append(p.rows, row)
	}
	if len(p.rows) >= rowsPerFile {
		p.flush()
	}
}

func (p *parquetEngine) flush() {
	if len(p.rows) == 0 {
		return
	}
	f, err := os.Create(filepath.Join(p.dir, fmt.Sprintf("%06d.parquet", p.n)))
	if err != nil {
		log.Fatal(err)
	}
	p.n++
	w := parquet.NewWriter(f, p.schema, parquet.Compression(&zstd.Codec{}), parquet.MaxRowsPerRowGroup(64<<10), parquet.BloomFilters(parquet.SplitBlockFilter(10, "trace")), parquet.PageBufferSize(64<<10))
	if _, err := w.WriteRows(p.rows); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	_ = f.Close()
	p.rows = p.rows[:0]
}
func (p *parquetEngine) close() { p.flush() }

func col(name string) int { return slices.Index(columns, name) }

// codes calls f with each page's dictionary codes; want maps the dictionary.
func pages(rg parquet.RowGroup, name string, f func(page parquet.Page)) {
	ps := rg.ColumnChunks()[col(name)].Pages()
	defer ps.Close()
	for {
		page, err := ps.ReadPage()
		if err != nil {
			return
		}
		f(page)
		parquet.Release(page)
	}
}
func ints(rg parquet.RowGroup, name string) (out []int64) {
	pages(rg, name, func(page parquet.Page) { out = append(out, dataOf(page).Int64()...) })
	return out
}
func matches(rg parquet.RowGroup, name, want string) (out []bool) {
	pages(rg, name, func(page parquet.Page) {
		d := page.Dictionary()
		if d == nil {
			log.Fatal("no dictionary")
		}
		code := int32(-1)
		for i := range d.Len() {
			if string(d.Index(int32(i)).ByteArray()) == want {
				code = int32(i)
			}
		}
		for _, c := range dataOf(page).Int32() {
			out = append(out, c == code)
		}
	})
	return out
}
func (p *parquetEngine) byTrace(id [16]byte) (n int) {
	for _, f := range p.files {
		for _, rg := range f.RowGroups() {
			if ok, err := rg.ColumnChunks()[col("trace")].BloomFilter().Check(parquet.ByteArrayValue(id[:])); err == nil && !ok {
				continue
			}
			at := int64(0)
			var found []int64
			pages(rg, "trace", func(page parquet.Page) {
				data, offsets := dataOf(page).ByteArray()
				for i := range len(offsets) - 1 {
					if bytes.Equal(data[offsets[i]:offsets[i+1]], id[:]) {
						found = append(found, at)
					}
					at++
				}
			})
			if len(found) == 0 {
				continue
			}
			rows := rg.Rows()
			_ = rows.SeekToRow(found[0])
			buf := make([]parquet.Row, found[len(found)-1]-found[0]+1)
			k, _ := rows.ReadRows(buf)
			n += min(k, len(found))
			_ = rows.Close()
		}
	}
	return n
}
func (p *parquetEngine) each(from, to int64, f func(rg parquet.RowGroup)) {
	for _, file := range p.files {
		for _, rg := range file.RowGroups() {
			ix, err := rg.ColumnChunks()[col("time")].ColumnIndex()
			if err == nil && from != 0 {
				if ix.MaxValue(ix.NumPages()-1).Int64() < from || ix.MinValue(0).Int64() >= to {
					continue
				}
			}
			f(rg)
		}
	}
}
func (p *parquetEngine) errorsOf(service string, from, to int64) (n int) {
	p.each(from, to, func(rg parquet.RowGroup) {
		s, e, t := matches(rg, "service", service), matches(rg, "status", "error"), ints(rg, "time")
		for i := range s {
			if s[i] && e[i] && t[i] >= from && t[i] < to {
				n++
			}
		}
	})
	return n
}
func (p *parquetEngine) slowest(service string, limit int) (top []int64) {
	p.each(0, 0, func(rg parquet.RowGroup) {
		s, d := matches(rg, "service", service), ints(rg, "duration")
		for i := range s {
			if s[i] {
				top = append(top, d[i])
			}
		}
		slices.Sort(top)
		top = top[max(0, len(top)-limit):]
	})
	return top
}
func (p *parquetEngine) heat() int {
	cells := map[[2]int64]int{}
	p.each(0, 0, func(rg parquet.RowGroup) {
		t, d := ints(rg, "time"), ints(rg, "duration")
		for i := range t {
			cells[[2]int64{t[i] / 9e11, d[i] / 1e7}]++
		}
	})
	return len(cells)
}
func (p *parquetEngine) countBy() int {
	cells := map[string]int{}
	p.each(0, 0, func(rg parquet.RowGroup) {
		var s []string
		pages(rg, "service", func(page parquet.Page) {
			for _, c := range dataOf(page).Int32() {
				s = append(s, string(page.Dictionary().Index(c).ByteArray()))
			}
		})
		i := 0
		pages(rg, "name", func(page parquet.Page) {
			for _, c := range dataOf(page).Int32() {
				cells[s[i]+"\x00"+string(page.Dictionary().Index(c).ByteArray())]++
				i++
			}
		})
	})
	return len(cells)
}

func dataOf(page parquet.Page) *encoding.Values { d := page.Data(); return &d }
