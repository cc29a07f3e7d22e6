package records

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"
)

const (
	// groupRows is how many rows a row group has at most: what is searched and checked at a time.
	groupRows = 64 << 10
	// pageRows is how many rows of a column a page has at most: what is read at least. pageSize bounds its bytes.
	pageRows = 4 << 10
	pageSize = 128 << 10
)

// Keys of a file's metadata, unix nanoseconds each: when its first and last record arrived, and from which time on it has records, those
// apart that are older than anything kept. metaDigest and a row group's number are its digest, in base64.
const (
	metaArrived = "arrived"
	metaLast    = "last"
	metaLow     = "low"
	metaDigest  = "digest."
)

// info is what is known of a file without reading its columns.
type info struct {
	first   uint64
	rows    int
	arrived int64
	last    int64
	low     int64
}

// fileName has the sequence number of the first record and the number of records.
func (i *info) fileName() string { return fmt.Sprintf("%016x-%08x.parquet", i.first, i.rows) }

func parseFileName(name string) (first uint64, rows int, ok bool) {
	base, found := strings.CutSuffix(name, ".parquet")
	from, count, both := strings.Cut(base, "-")
	first, err := strconv.ParseUint(from, 16, 64)
	n, countErr := strconv.ParseUint(count, 16, 31)
	return first, int(n), found && both && err == nil && countErr == nil && n > 0
}

// file is a Parquet file of a table.
type file struct {
	info
	path   string
	bytes  int64
	handle *os.File
	parts  []*filePart
	// users are the snapshots that hold the file, and the table; the last one closes it.
	users atomic.Int32
	// gone tells that the table does not list it any more.
	gone atomic.Bool
}

func (f *file) release() {
	if f.users.Add(-1) == 0 {
		_ = f.handle.Close()
	}
}

// filePart is a row group of a file.
type filePart struct {
	file     *file
	start    uint64
	group    parquet.RowGroup
	count    int
	min, max int64
	columns  map[string]int // by name, where; bounded by the file's columns
	encoded  string         // the digest
}

func (p *filePart) first() uint64            { return p.start }
func (p *filePart) rows() int                { return p.count }
func (p *filePart) bounds() (from, to int64) { return p.min, p.max }

// digest is what Kind.Digest made of the records, nil without.
func (p *filePart) digest() []byte {
	decoded, err := base64.RawStdEncoding.DecodeString(p.encoded)
	if err != nil {
		return nil
	}
	return decoded
}

func (p *filePart) names() []string {
	names := make([]string, 0, len(p.columns))
	for name := range p.columns {
		names = append(names, name)
	}
	return names
}

// guarded calls what reads a file: a damaged one may make the library panic.
func guarded(path string, read func() error) (err error) {
	defer func() {
		if failure := recover(); failure != nil {
			err = fmt.Errorf("reading %s: %v", path, failure)
		}
	}()
	if err := read(); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

func (p *filePart) mayHave(name, value string) bool {
	at, ok := p.columns[name]
	if !ok {
		return false
	}
	may := true
	// What cannot be read is read again as a column, which says so.
	_ = guarded(p.file.path, func() error {
		if filter := p.group.ColumnChunks()[at].BloomFilter(); filter != nil {
			found, err := filter.Check(parquet.ByteArrayValue([]byte(value)))
			may = found || err != nil
		}
		return nil
	})
	return may
}

func (p *filePart) column(name string) (c column, err error) {
	at, ok := p.columns[name]
	if !ok {
		return column{}, nil
	}
	err = guarded(p.file.path, func() error {
		pages := p.group.ColumnChunks()[at].Pages()
		defer pages.Close()
		for {
			page, err := pages.ReadPage()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			c.take(page, p.count)
			parquet.Release(page)
		}
		if n := max(len(c.ints), len(c.codes), len(c.ends)); n != p.count {
			return fmt.Errorf("column %q has %d rows, not %d", name, n, p.count)
		}
		return nil
	})
	return c, err
}

// take adds a page's values to a column of so many rows.
func (c *column) take(page parquet.Page, rows int) {
	data := page.Data()
	switch {
	case page.Dictionary() != nil:
		if len(c.dict) == 0 {
			c.dict = dictionary(page.Dictionary())
		}
		if c.codes == nil {
			c.codes = codesMemory.get(rows)
		}
		for _, code := range data.Int32() {
			if code < 0 || int(code) >= len(c.dict) {
				panic(fmt.Sprintf("a value is number %d of %d", code, len(c.dict)))
			}
			c.codes = append(c.codes, code)
		}
	case data.Kind() == encoding.Int64:
		if c.ints == nil {
			c.ints = numbersMemory.get(rows)
		}
		c.ints = append(c.ints, data.Int64()...)
	default:
		bytes, offsets := data.ByteArray()
		bytes = bytes[offsets[0]:offsets[len(offsets)-1]]
		if c.ends == nil {
			c.ends = codesMemory.get(rows)
			// Pages are about alike.
			c.data = bytesMemory.get(len(bytes) * (rows/max(len(offsets)-1, 1) + 1))
		}
		base := int32(len(c.data)) - int32(offsets[0])
		c.data = append(c.data, bytes...)
		for _, end := range offsets[1:] {
			c.ends = append(c.ends, int32(end)+base)
		}
	}
}

// memory keeps what columns were read into for the next ones.
type memory[T any] struct{ pool sync.Pool }

var (
	numbersMemory memory[int64]
	codesMemory   memory[int32]
	bytesMemory   memory[byte]
)

func (m *memory[T]) get(size int) []T {
	if one, _ := m.pool.Get().(*[]T); one != nil && cap(*one) >= size {
		return (*one)[:0]
	}
	return make([]T, 0, size)
}

func (m *memory[T]) put(one []T) {
	if cap(one) > 0 {
		m.pool.Put(&one)
	}
}

// release gives back what a column of a file was read into.
func (c *column) release() {
	numbersMemory.put(c.ints)
	codesMemory.put(c.codes)
	codesMemory.put(c.ends)
	bytesMemory.put(c.data)
	*c = column{}
}

func dictionary(d parquet.Dictionary) []string {
	data := d.Page().Data()
	bytes, offsets := data.ByteArray()
	all := string(bytes)
	texts := make([]string, 0, d.Len())
	for i := range d.Len() {
		texts = append(texts, all[offsets[i]:offsets[i+1]])
	}
	return texts
}

// openFile opens a file and checks all of it but its columns' pages.
func openFile(path string) (f *file, err error) {
	f = &file{path: path}
	var named bool
	if f.first, f.rows, named = parseFileName(filepath.Base(path)); !named {
		return nil, fmt.Errorf("reading %s: not a name of a file of records", path)
	}
	if f.handle, err = os.Open(path); err != nil {
		return nil, fmt.Errorf("opening a file of records: %w", err)
	}
	f.users.Store(1)
	if err = guarded(path, f.read); err != nil {
		f.release()
		return nil, err
	}
	return f, nil
}

func (f *file) read() error {
	stat, err := f.handle.Stat()
	if err != nil {
		return err
	}
	f.bytes = stat.Size()
	opened, err := parquet.OpenFile(f.handle, f.bytes, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	for key, to := range map[string]*int64{metaArrived: &f.arrived, metaLast: &f.last, metaLow: &f.low} {
		text, _ := opened.Lookup(key)
		if *to, err = strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Errorf("metadata %q: %w", key, err)
		}
	}
	columns := map[string]int{}
	for i, path := range opened.Schema().Columns() {
		columns[path[0]] = i
	}
	at, ok := columns[fieldTime]
	if !ok {
		return errors.New("records have no time")
	}
	start := f.first
	for i, group := range opened.RowGroups() {
		p := &filePart{file: f, start: start, group: group, count: int(group.NumRows()), columns: columns}
		bounds := opened.Metadata().RowGroups[i].Columns[at].MetaData.Statistics
		if err := f.withinFile(&opened.Metadata().RowGroups[i]); err != nil {
			return err
		}
		if len(bounds.MinValue) != 8 || len(bounds.MaxValue) != 8 {
			return errors.New("a row group has no bounds of its times")
		}
		p.encoded, _ = opened.Lookup(metaDigest + strconv.Itoa(i))
		p.min, p.max = parquet.Int64.Value(bounds.MinValue).Int64(), parquet.Int64.Value(bounds.MaxValue).Int64()
		f.parts = append(f.parts, p)
		start += uint64(p.count)
	}
	if start != f.first+uint64(f.rows) {
		return fmt.Errorf("it has %d records, not %d", start-f.first, f.rows)
	}
	return nil
}

// withinFile checks that a row group's columns lie within the file.
func (f *file) withinFile(group *format.RowGroup) error {
	for i := range group.Columns {
		c := &group.Columns[i].MetaData
		from := c.DataPageOffset
		if c.DictionaryPageOffset > 0 {
			from = min(from, c.DictionaryPageOffset)
		}
		if from < 0 || c.TotalCompressedSize < 0 || from+c.TotalCompressedSize > f.bytes {
			return fmt.Errorf("column %v ends beyond the file", c.PathInSchema)
		}
	}
	return nil
}

// writeFile writes parts, which follow each other, to a file in a directory. It is there as a whole or not at all.
func writeFile(directory string, kind *Kind, parts []part, about info) (f *file, err error) {
	path := filepath.Join(directory, about.fileName())
	temporary := path + ".tmp"
	out, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("making a file of records: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary)
		}
	}()
	buffered := bufio.NewWriterSize(out, 256<<10)
	err = guarded(temporary, func() error { return encode(buffered, kind, parts, about) })
	if err = errors.Join(err, buffered.Flush(), out.Sync(), out.Close()); err != nil {
		return nil, fmt.Errorf("writing a file of records: %w", err)
	}
	if err = os.Rename(temporary, path); err != nil {
		return nil, fmt.Errorf("naming a file of records: %w", err)
	}
	syncDirectory(directory)
	return openFile(path)
}

// syncDirectory makes names in a directory last; a file system that cannot is none where records outlive a power cut.
func syncDirectory(directory string) {
	if d, err := os.Open(directory); err == nil {
		_ = d.Sync()
		_ = d.Close()
	}
}

// schemaOf has the fields that any of the parts has.
func schemaOf(kind *Kind, parts []part) *parquet.Schema {
	group := parquet.Group{}
	for _, p := range parts {
		for _, name := range p.names() {
			if group[name] != nil {
				continue
			}
			switch kind.form(name) {
			case formInt:
				group[name] = parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked)
			case formRaw:
				group[name] = parquet.Encoded(parquet.Leaf(parquet.ByteArrayType), &parquet.DeltaLengthByteArray)
			default:
				group[name] = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
			}
		}
	}
	return parquet.NewSchema(kind.Name, group)
}

func (k *Kind) form(name string) form {
	switch {
	case name == fieldTime || slices.Contains(k.Ints, name):
		return formInt
	case slices.Contains(k.Raw, name):
		return formRaw
	}
	return formText
}

func encode(out io.Writer, kind *Kind, parts []part, about info) error {
	schema := schemaOf(kind, parts)
	options := []parquet.WriterOption{
		schema, parquet.Compression(codec), parquet.CreatedBy("nephilia", "", ""), parquet.PageBufferSize(pageSize),
		parquet.KeyValueMetadata(metaArrived, strconv.FormatInt(about.arrived, 10)),
		parquet.KeyValueMetadata(metaLast, strconv.FormatInt(about.last, 10)),
		parquet.KeyValueMetadata(metaLow, strconv.FormatInt(about.low, 10)),
	}
	var filters []parquet.BloomFilterColumn
	for _, name := range kind.Lookups {
		filters = append(filters, parquet.SplitBlockFilter(10, name))
	}
	options = append(options, parquet.BloomFilters(filters...))
	for _, path := range schema.Columns() {
		if path[0] != fieldTime {
			options = append(options, parquet.SkipPageBounds(path[0]))
		}
	}
	writer := parquet.NewGenericWriter[any](out, options...)
	values := make([]parquet.Value, 0, 1024)
	for n := 0; len(parts) > 0; n++ {
		together, rows := 1, parts[0].rows()
		for together < len(parts) && rows+parts[together].rows() <= groupRows {
			rows += parts[together].rows()
			together++
		}
		blocks := make([]*Block, 0, together)
		for _, p := range parts[:together] {
			blocks = append(blocks, newBlock(p))
		}
		if kind.Digest != nil {
			writer.SetKeyValueMetadata(metaDigest+strconv.Itoa(n), base64.RawStdEncoding.EncodeToString(kind.Digest(blocks)))
		}
		group := writer.BeginRowGroup()
		for i, path := range schema.Columns() {
			paged := &pageWriter{to: group.ColumnWriters()[i], column: i, values: values}
			for _, b := range blocks {
				c := b.column(path[0])
				if b.err != nil {
					return b.err
				}
				if err := paged.write(c, b.Len(), kind.form(path[0])); err != nil {
					return err
				}
				b.release(path[0])
			}
		}
		if _, err := group.Commit(); err != nil {
			return err
		}
		parts = parts[together:]
	}
	return writer.Close()
}

// pageWriter writes a column in pages.
type pageWriter struct {
	to     *parquet.ColumnWriter
	column int
	values []parquet.Value // memory to use
	rows   int             // of the page
}

func (w *pageWriter) write(c *column, rows int, as form) error {
	for from := 0; from < rows; {
		until := min(from+cap(w.values), from+pageRows-w.rows, rows)
		w.values = w.values[:0]
		for row := from; row < until; row++ {
			value := parquet.Int64Value(c.number(row))
			if as != formInt {
				value = parquet.ByteArrayValue(c.bytes(row))
			}
			w.values = append(w.values, value.Level(0, 0, w.column))
		}
		if _, err := w.to.WriteRowValues(w.values); err != nil {
			return err
		}
		if w.rows += until - from; w.rows == pageRows {
			if err := w.to.Flush(); err != nil {
				return err
			}
			w.rows = 0
		}
		from = until
	}
	return nil
}
