package records

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// pages are those pages of a column of a row group that were asked for: few records need not cost a whole row group.
type pages struct {
	reader parquet.Pages
	dict   []string
	read   map[int]*column // by number; bounded by the row group
}

// openPages prepares to read pages of a column, nil if no row has a value.
func (p *filePart) openPages(name string) (*pages, error) {
	at, ok := p.columns[name]
	if !ok {
		return nil, nil
	}
	var reader parquet.Pages
	err := guarded(p.file.path, func() error {
		chunk := p.group.ColumnChunks()[at]
		// Once read, the index is where the pages are looked up.
		if _, err := chunk.OffsetIndex(); err != nil {
			return err
		}
		reader = chunk.Pages()
		return nil
	})
	return &pages{reader: reader, read: map[int]*column{}}, err
}

// page reads a page of a part.
func (s *pages) page(p *filePart, number int) (*column, error) {
	if c := s.read[number]; c != nil {
		return c, nil
	}
	from, c := number*pageRows, &column{dict: s.dict}
	want := min(pageRows, p.count-from)
	err := guarded(p.file.path, func() error {
		if err := s.reader.SeekToRow(int64(from)); err != nil {
			return err
		}
		for c.rows() < want {
			page, err := s.reader.ReadPage()
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("a column has %d rows from row %d on, not %d", c.rows(), from, want)
			}
			if err != nil {
				return err
			}
			c.take(page, want)
			parquet.Release(page)
		}
		return nil
	})
	s.dict, s.read[number] = c.dict, c
	return c, err
}

func (c *column) rows() int { return max(len(c.ints), len(c.codes), len(c.ends)) }

// cell returns a column, or part of it, and where a row's value is in it.
func (b *Block) cell(field string, row int) (*column, int) {
	p, paged := b.part.(*filePart)
	if !paged || p.count <= pageRows {
		return b.column(field), row
	}
	if c, known := b.columns[field]; known {
		return c, row
	}
	s, known := b.paged[field]
	if !known {
		var err error
		if s, err = p.openPages(field); err != nil {
			b.err = err
		}
		if b.paged == nil {
			b.paged = map[string]*pages{}
		}
		b.paged[field] = s
	}
	if s == nil || s.reader == nil {
		return &column{}, row
	}
	number := row / pageRows
	// What much of is read is better read at once.
	if s.read[number] == nil && len(s.read) >= (p.count/pageRows+3)/4 {
		return b.column(field), row
	}
	c, err := s.page(p, number)
	if err != nil {
		b.err, c = err, &column{}
	}
	return c, row % pageRows
}

// release forgets a column.
func (b *Block) release(field string) {
	if c := b.columns[field]; c != nil {
		if _, read := b.part.(*filePart); read {
			c.release()
		}
		delete(b.columns, field)
	}
}

// close ends the reading of a block.
func (b *Block) close() {
	for field := range b.columns {
		b.release(field)
	}
	for _, s := range b.paged {
		if s == nil || s.reader == nil {
			continue
		}
		_ = s.reader.Close()
		for _, c := range s.read {
			c.release()
		}
	}
	b.paged = nil
}
