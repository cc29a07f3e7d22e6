package records

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// Test tells whether a field has a wanted value. One of Equals, In, Text and Number is set.
type Test struct {
	// Field is a field's name, or AnyText.
	Field  string
	Equals string
	In     map[string]struct{} // bounded by who asks
	// Text judges a text or bytes, which it must not keep, and always says the same of the same. Number judges a whole number.
	Text   func(value string) bool
	Number func(value int64) bool
}

// maxLookups is how many values are looked up in a filter; more are looked for at once in all rows.
const maxLookups = 64

// AnyText as the field of a Test is every text of a record.
const AnyText = "*"

// Clause is fulfilled if any of its tests is.
type Clause []Test

// Order is the order of records and blocks.
type Order uint8

// Orders.
const (
	Newest Order = iota // the last that arrived first
	Oldest              // the first that arrived first
	Latest              // blocks with the largest times first; records within one as in Newest
)

// Query selects records.
type Query struct {
	// From and Until bound the time in unix nanoseconds, Until excluded; 0 does not.
	From, Until int64
	// Before and After bound the sequence number, both excluded; 0 does not.
	Before, After uint64
	// Where are clauses that must all be fulfilled.
	Where []Clause
	Order Order
}

// Row is a record that was found, valid until the visit ends.
type Row struct {
	*Block
	row int
}

// Sequence is the record's number in the order of arrival, from 1 on.
func (r Row) Sequence() uint64 { return r.sequence(r.row) }

// Text returns a text or bytes, empty if the record has none.
func (r Row) Text(field string) string {
	c, at := r.cell(field, r.row)
	return c.text(at)
}

// Number returns a whole number, 0 if the record has none.
func (r Row) Number(field string) int64 {
	c, at := r.cell(field, r.row)
	return c.number(at)
}

// Time is the record's time in unix nanoseconds.
func (r Row) Time() int64 { return r.Number(fieldTime) }

// More returns the fields that have no column, nil without any.
func (r Row) More() map[string]string { return decodeMore(r.Text(FieldMore)) }

// Fields returns the names of the fields that any record near this one has.
func (r Row) Fields() []string { return r.names }

// Record returns a copy of the record.
func (r Row) Record() Record {
	out := Record{Time: r.Time()}
	for _, name := range r.names {
		if name == fieldTime || name == FieldMore {
			continue
		}
		if c, at := r.cell(name, r.row); c.ints != nil {
			out.Fields = append(out.Fields, Field{Name: name, Number: c.number(at)})
		} else if text := c.text(at); text != "" {
			out.Fields = append(out.Fields, Field{Name: name, Text: strings.Clone(text)})
		}
	}
	for name, value := range r.More() {
		out.Fields = append(out.Fields, Field{Name: name, Text: value})
	}
	return out
}

// Block is up to groupRows records in the order of arrival.
type Block struct {
	part    part
	names   []string
	columns map[string]*column // bounded by maxColumns
	paged   map[string]*pages  // bounded by maxColumns
	// numbers are the sequence numbers where those of a part do not follow each other.
	numbers []uint64
	err     error
	// Rows are those that were selected, in the order of arrival.
	Rows []int32
}

func newBlock(p part) *Block { return &Block{part: p, names: p.names(), columns: map[string]*column{}} }

// NewBlock makes a block of records of a kind, given with their sequence numbers in the order of arrival.
func NewBlock(kind *Kind, list []Record, numbers []uint64) *Block {
	buffer := newBuffer(1)
	for i := range list {
		buffer.add(&list[i], 0, 0, func(name string) (form, bool) { return kind.form(name), true })
	}
	b := newBlock(buffer.part())
	b.numbers = numbers
	return b
}

func (b *Block) sequence(row int) uint64 {
	if b.numbers != nil {
		return b.numbers[row]
	}
	return b.part.first() + uint64(row)
}

// Digest is what Kind.Digest made of the block's records when they were written, empty for those in memory.
func (b *Block) Digest() []byte { return b.part.digest() }

// ID names what never changes, such as part of a file; it is empty for records in memory.
func (b *Block) ID() string {
	if p, ok := b.part.(*filePart); ok {
		return p.file.path + "#" + strconv.FormatUint(p.start, 16)
	}
	return ""
}

// Len is how many records the block has, selected or not.
func (b *Block) Len() int { return b.part.rows() }

// Bounds are the smallest and the largest time of the block's records, in unix nanoseconds.
func (b *Block) Bounds() (from, to int64) { return b.part.bounds() }

// At returns a record of the block.
func (b *Block) At(row int) Row { return Row{b, row} }

// column returns a field's values. What cannot be read is empty, and the block is damaged.
func (b *Block) column(field string) *column {
	c, known := b.columns[field]
	if !known {
		read, err := b.part.column(field)
		if err != nil {
			b.err, read = err, column{}
		}
		c = &read
		b.columns[field] = c
	}
	return c
}

// Codes returns a text's values as a dictionary and the number in it of each row's value; rows beyond the codes are empty.
func (b *Block) Codes(field string) (dictionary []string, codes []int32) {
	c := b.column(field)
	return c.dict, c.codes
}

// Numbers returns a whole number's values; rows beyond them are 0.
func (b *Block) Numbers(field string) []int64 { return b.column(field).ints }

// Times are the records' times.
func (b *Block) Times() []int64 { return b.Numbers(fieldTime) }

// Bytes returns what returns a row's bytes, which must neither be changed nor kept.
func (b *Block) Bytes(field string) func(row int) []byte { return b.column(field).bytes }

// Select returns the rows of the block that a query selects, in the order of arrival.
func (b *Block) Select(q *Query) []int32 {
	n := b.part.rows()
	for _, clause := range q.Where {
		if !b.mayFulfil(clause) {
			return nil
		}
	}
	from, to := b.part.bounds()
	inside := (q.From == 0 || from >= q.From) && (q.Until == 0 || to < q.Until)
	var times []int64
	if !inside {
		times = b.Times()
	}
	chosen, found := make([]bool, n), 0
	for row := range chosen {
		number := b.sequence(row)
		chosen[row] = (q.Before == 0 || number < q.Before) && number > q.After
		if !inside && row < len(times) {
			chosen[row] = chosen[row] && (q.From == 0 || times[row] >= q.From) && (q.Until == 0 || times[row] < q.Until)
		}
	}
	fulfilled := make([]bool, n)
	for _, clause := range q.Where {
		clear(fulfilled)
		for i := range clause {
			b.test(&clause[i], fulfilled)
		}
		for row := range chosen {
			chosen[row] = chosen[row] && fulfilled[row]
		}
	}
	for _, is := range chosen {
		if is {
			found++
		}
	}
	if found == 0 {
		return nil
	}
	rows := make([]int32, 0, found)
	for row, is := range chosen {
		if is {
			rows = append(rows, int32(row))
		}
	}
	return rows
}

// mayFulfil tells whether any row may fulfil a clause, from filters alone.
func (b *Block) mayFulfil(clause Clause) bool {
	for i := range clause {
		t := &clause[i]
		if t.Equals == "" && t.In == nil || len(t.In) > maxLookups || t.Equals != "" && b.part.mayHave(t.Field, t.Equals) {
			return true
		}
		for value := range t.In {
			if b.part.mayHave(t.Field, value) {
				return true
			}
		}
	}
	return false
}

// test marks the rows that fulfil a test.
func (b *Block) test(t *Test, fulfilled []bool) {
	if t.Field == AnyText {
		for _, name := range b.names {
			if c := b.column(name); c.dict != nil {
				c.test(t, fulfilled)
			}
		}
		return
	}
	b.column(t.Field).test(t, fulfilled)
}

// judge tells whether a text is wanted.
func (t *Test) judge() func(value string) bool {
	switch {
	case t.Text != nil:
		return t.Text
	case t.In != nil:
		return func(value string) bool {
			_, is := t.In[value]
			return is
		}
	}
	return func(value string) bool { return value == t.Equals }
}

// lasts are the last bytes of the wanted values, nil if they are not known: most ids differ from them in that one already.
func (t *Test) lasts() *[256]bool {
	if t.Text != nil || t.In == nil && t.Equals == "" {
		return nil
	}
	var lasts [256]bool
	for value := range t.In {
		if value != "" {
			lasts[value[len(value)-1]] = true
		}
	}
	if t.In == nil {
		lasts[t.Equals[len(t.Equals)-1]] = true
	}
	return &lasts
}

func (c *column) test(t *Test, fulfilled []bool) {
	judge := t.judge()
	switch {
	case t.Number != nil:
		for row := range fulfilled {
			fulfilled[row] = fulfilled[row] || t.Number(c.number(row))
		}
	case c.ends != nil:
		maybe := t.lasts()
		for row := range fulfilled {
			value := c.bytes(row)
			if n := len(value); !fulfilled[row] && (maybe == nil || n == 0 || maybe[value[n-1]]) {
				fulfilled[row] = judge(unsafe.String(unsafe.SliceData(value), n))
			}
		}
	default:
		known := make([]bool, len(c.dict))
		for code, value := range c.dict {
			known[code] = judge(value)
		}
		none := judge("")
		for row := range fulfilled {
			if row < len(c.codes) {
				fulfilled[row] = fulfilled[row] || known[c.codes[row]]
			} else {
				fulfilled[row] = fulfilled[row] || none
			}
		}
	}
}

// snapshot returns the parts that may have what a query selects, in its order, and what to call when they are no longer read.
func (t *Table) snapshot(q *Query) (parts []part, done func()) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var held []*file
	take := func(p part) {
		from, to := p.bounds()
		if (q.From == 0 || to >= q.From) && (q.Until == 0 || from < q.Until) && (q.Before == 0 || p.first() < q.Before) && p.first()+uint64(p.rows()) > q.After+1 {
			parts = append(parts, p)
		}
	}
	for _, f := range t.files {
		before := len(parts)
		for _, p := range f.parts {
			take(p)
		}
		if len(parts) > before {
			f.users.Add(1)
			held = append(held, f)
		}
	}
	for _, b := range []*buffer{t.flushing, t.buffer} {
		if b != nil && b.count > 0 {
			take(b.part())
		}
	}
	switch q.Order {
	case Newest:
		slices.Reverse(parts)
	case Latest:
		slices.Reverse(parts)
		slices.SortStableFunc(parts, func(a, b part) int {
			_, x := a.bounds()
			_, y := b.bounds()
			return cmp.Compare(y, x)
		})
	}
	return parts, func() {
		for _, f := range held {
			f.release()
		}
	}
}

// Count is how many records the blocks have in which records may be that a query selects.
func (t *Table) Count(q *Query) (n int) {
	parts, done := t.snapshot(q)
	defer done()
	for _, p := range parts {
		n += p.rows()
	}
	return n
}

// Scan calls visit with the blocks in which records may be that a query selects, none of them selected yet, until visit returns false.
// next is the largest time of the blocks that follow, which tells something in the order Latest only. Files that turn out to be damaged
// are set aside.
func (t *Table) Scan(ctx context.Context, q *Query, visit func(b *Block, next int64) bool) error {
	parts, done := t.snapshot(q)
	defer done()
	for i, p := range parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		next := int64(0)
		if i+1 < len(parts) {
			_, next = parts[i+1].bounds()
		}
		b := newBlock(p)
		goOn := visit(b, next)
		b.close()
		if f, ok := p.(*filePart); ok && b.err != nil {
			t.damaged(f.file, b.err)
		}
		if !goOn {
			break
		}
	}
	return nil
}

// Keeper keeps records of a kind: a Table, or a server elsewhere. Its methods may be called from several goroutines.
type Keeper interface {
	// Append adds records and returns how many were new and taken. It never waits.
	Append(records []Record) (added int)
	// Scan is Table.Scan, Count is Table.Count.
	Scan(ctx context.Context, q *Query, visit func(b *Block, next int64) bool) error
	Count(q *Query) int
	Status() Status
	// Newest is the newest record's sequence number, 0 without any.
	Newest() uint64
}

// Blocks calls visit as Scan does, with the blocks in which the query selects records.
func Blocks(ctx context.Context, k Keeper, q *Query, visit func(b *Block, next int64) bool) error {
	return k.Scan(ctx, q, func(b *Block, next int64) bool {
		b.Rows = b.Select(q)
		return b.err != nil || len(b.Rows) == 0 || visit(b, next)
	})
}

// Find calls visit with the records that a query selects, until visit returns false.
func Find(ctx context.Context, k Keeper, q *Query, visit func(r Row) bool) error {
	return Blocks(ctx, k, q, func(b *Block, _ int64) bool {
		if q.Order != Oldest {
			slices.Reverse(b.Rows)
		}
		for _, row := range b.Rows {
			if !visit(b.At(int(row))) {
				return false
			}
		}
		return true
	})
}

// Page returns at most limit of the records that a query selects, and where those begin that follow: the next query's Before, 0 if there
// are none.
func Page[T any](ctx context.Context, k Keeper, q Query, limit int, decode func(r Row) T) (list []T, next uint64, err error) {
	list = []T{}
	last := uint64(0)
	err = Find(ctx, k, &q, func(r Row) bool {
		if len(list) == limit {
			next = last
			return false
		}
		list, last = append(list, decode(r)), r.Sequence()
		return true
	})
	return list, next, err
}

func encodeMore(fields []Field) string {
	m := make(map[string]string, len(fields))
	for _, f := range fields {
		m[f.Name] = f.Text
	}
	encoded, err := json.Marshal(m)
	if err != nil {
		return "" // a map of texts can be encoded
	}
	return string(encoded)
}

func decodeMore(text string) map[string]string {
	if text == "" {
		return nil
	}
	var m map[string]string
	_ = json.Unmarshal([]byte(text), &m)
	return m
}

// HasField is a test of a text that may have no column of its own.
func HasField(name, value string) Clause {
	return Clause{
		{Field: name, Equals: value},
		{Field: FieldMore, Text: func(text string) bool {
			found, ok := decodeMore(text)[name]
			return ok && found == value
		}},
	}
}
