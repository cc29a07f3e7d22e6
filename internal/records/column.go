package records

import (
	"strings"
	"unsafe"
)

// maxColumns bounds the fields of a table that have a column of their own; the others are in FieldMore.
const maxColumns = 320

// column is the values of one field. One of its forms is in use; without any, all values are empty.
type column struct {
	ints []int64
	// dict and codes are texts: the value of a row is dict[codes[row]]. Rows beyond codes are empty.
	dict  []string
	codes []int32
	// data and ends are bytes of a row each. Rows beyond ends are empty.
	data []byte
	ends []int32
}

func (c *column) text(row int) string {
	switch {
	case row < len(c.codes):
		return c.dict[c.codes[row]]
	case row < len(c.ends):
		return string(c.bytes(row))
	}
	return ""
}

// bytes returns what must neither be changed nor kept.
func (c *column) bytes(row int) []byte {
	if row >= len(c.ends) {
		if row < len(c.codes) {
			s := c.dict[c.codes[row]]
			return unsafe.Slice(unsafe.StringData(s), len(s))
		}
		return nil
	}
	from := int32(0)
	if row > 0 {
		from = c.ends[row-1]
	}
	return c.data[from:c.ends[row]]
}

func (c *column) number(row int) int64 {
	if row < len(c.ints) {
		return c.ints[row]
	}
	return 0
}

// form is how a field's values are stored.
type form uint8

const (
	formText form = iota
	formInt
	formRaw
)

// buffer is the records in memory that are not yet in a file. Rows are only added, so that a copy of the columns' headers stays
// valid while more are.
type buffer struct {
	start    uint64
	arrived  int64 // unix nanoseconds, of the first record
	last     int64 // of the last
	low      int64
	count    int
	size     int
	min, max int64
	columns  map[string]*growing // bounded by maxColumns
}

type growing struct {
	column
	codeOf map[string]int32 // bounded by the rows
}

func newBuffer(start uint64) *buffer {
	return &buffer{start: start, columns: map[string]*growing{}}
}

// add adds a record that arrived at a time. form tells how a field is stored, and whether it has a column.
func (b *buffer) add(r *Record, arrived, oldest int64, form func(name string) (form, bool)) {
	if b.count == 0 {
		b.arrived, b.low, b.min, b.max = arrived, arrived, r.Time, r.Time
	}
	if r.Time >= oldest {
		b.low = min(b.low, r.Time)
	}
	b.last, b.min, b.max = arrived, min(b.min, r.Time), max(b.max, r.Time)
	b.put(fieldTime, formInt, "", r.Time)
	b.size += 16
	var more []Field
	for i := range r.Fields {
		f := &r.Fields[i]
		as, ok := form(f.Name)
		switch {
		case f.Text == "" && f.Number == 0:
		case !ok:
			more = append(more, *f)
		default:
			b.put(f.Name, as, f.Text, f.Number)
		}
	}
	if len(more) > 0 {
		b.put(FieldMore, formText, encodeMore(more), 0)
	}
	b.count++
}

func (b *buffer) put(name string, as form, text string, number int64) {
	c := b.columns[name]
	if c == nil {
		c = &growing{}
		b.columns[strings.Clone(name)] = c
	}
	switch as {
	case formInt:
		for len(c.ints) < b.count {
			c.ints = append(c.ints, 0)
		}
		if len(c.ints) == b.count {
			c.ints = append(c.ints, number)
		}
	case formRaw:
		for len(c.ends) < b.count {
			c.ends = append(c.ends, int32(len(c.data)))
		}
		if len(c.ends) == b.count {
			c.data = append(c.data, text...)
			c.ends = append(c.ends, int32(len(c.data)))
			b.size += len(text)
		}
	default:
		if c.codeOf == nil {
			c.dict, c.codeOf = []string{""}, map[string]int32{"": 0}
		}
		for len(c.codes) < b.count {
			c.codes = append(c.codes, 0)
		}
		code, known := c.codeOf[text]
		if !known {
			text = strings.Clone(text)
			code = int32(len(c.dict))
			c.dict = append(c.dict, text)
			c.codeOf[text] = code
			b.size += len(text) + 48
		}
		if len(c.codes) == b.count {
			c.codes = append(c.codes, code)
		}
		b.size += 4
	}
}

// part returns what the buffer holds now.
func (b *buffer) part() *bufferPart {
	p := &bufferPart{buffer: b, start: b.start, count: b.count, min: b.min, max: b.max, columns: make(map[string]column, len(b.columns))}
	for name, c := range b.columns {
		p.columns[name] = c.column
	}
	return p
}

// part is a run of records with consecutive sequence numbers.
type part interface {
	first() uint64
	rows() int
	// bounds are the smallest and the largest time.
	bounds() (from, to int64)
	names() []string
	// column returns the values of a field; one that no row has is empty.
	column(name string) (column, error)
	// mayHave tells whether a row may have a value of a field of Lookups.
	mayHave(name, value string) bool
	digest() []byte
}

// bufferPart is a buffer as it was at one moment.
type bufferPart struct {
	buffer   *buffer
	start    uint64
	count    int
	min, max int64
	columns  map[string]column // bounded by maxColumns
}

func (p *bufferPart) first() uint64                      { return p.start }
func (p *bufferPart) rows() int                          { return p.count }
func (p *bufferPart) bounds() (from, to int64)           { return p.min, p.max }
func (p *bufferPart) column(name string) (column, error) { return p.columns[name], nil }
func (p *bufferPart) mayHave(string, string) bool        { return true }
func (p *bufferPart) digest() []byte                     { return nil }

func (p *bufferPart) names() []string {
	names := make([]string, 0, len(p.columns))
	for name := range p.columns {
		names = append(names, name)
	}
	return names
}
