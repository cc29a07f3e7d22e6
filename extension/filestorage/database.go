package filestorage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"syscall"
)

// bbolt ends the process on a page that is not what it should be, in a goroutine of its own or by a fault in what it has mapped. So
// the pages are looked at before it opens them, by its file format (internal/common of go.etcd.io/bbolt):
//   - a page begins with its number (8 bytes), flags (2), the count of its elements (2) and of the pages that follow as part of it (4)
//   - the first two pages hold a meta each, of which the one with the higher transaction that is whole is in force
//   - a branch's elements are offset and length of a key (4 each) and the page that it leads to (8)
//   - a leaf's elements are flags, offset and length of a key, and length of the value that follows it (4 each)
//   - a value that is a bucket is the number of its root page (8) and a sequence (8), and for root 0 the page itself
const (
	pageHeader  = 16
	elementSize = 16
	metaSize    = 64
	metaSum     = 56 // where the checksum is, over what is before

	magic   = 0xED0CDAED
	version = 2

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element
	noFreelist   = 1<<64 - 1

	minPage, maxPage = 1 << 10, 64 << 10
	// maxDepth is more than a tree of 2^64 pages has.
	maxDepth = 64
	maxRun   = 1 << 31
)

// errDamaged is wrapped by every error that the file itself is to blame for.
var errDamaged = errors.New("damaged database")

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDamaged, fmt.Errorf(format, args...))
}

var order = binary.NativeEndian

// checkFile tells whether a file is a whole database that nobody has open.
func checkFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	// As bbolt does. Who has it open may be writing it.
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return check(file, info.Size())
}

// database is a file as far as it was looked at.
type database struct {
	file  io.ReaderAt
	page  int64
	pages uint64
	seen  []uint64 // a bit for each page; bounded by the file's size
}

// check looks at every page that a database leads to.
func check(file io.ReaderAt, size int64) error {
	if size == 0 {
		return damaged("it is empty")
	}
	meta, page, err := newestMeta(file, size)
	if err != nil {
		return err
	}
	root, free, pages := order.Uint64(meta[16:]), order.Uint64(meta[32:]), order.Uint64(meta[40:])
	if pages < 4 || pages > uint64(size/page) {
		return damaged("it has %d bytes, fewer than its %d pages of %d", size, pages, page)
	}
	d := &database{file: file, page: page, pages: pages, seen: make([]uint64, pages/64+1)}
	d.mark(0)
	d.mark(1)
	if free != noFreelist {
		// A database that nothing was ever stored in.
		header := make([]byte, pageHeader)
		if free >= pages {
			return damaged("it leads to page %d of %d", free, pages)
		}
		if _, err := file.ReadAt(header, int64(free)*page); err != nil {
			return d.unreadable(free, err)
		}
		if order.Uint64(header) != free || order.Uint16(header[8:]) != flagFreelist || order.Uint16(header[10:]) != 0 {
			return damaged("page %d does not hold an empty list of free pages", free)
		}
	}
	return d.tree(root, nil, nil, 0)
}

// newestMeta is the meta in force, and the size of a page.
func newestMeta(file io.ReaderAt, size int64) (meta []byte, page int64, err error) {
	var newest uint64
	try := func(at int64) {
		buffer := make([]byte, pageHeader+metaSize)
		if _, err := file.ReadAt(buffer, at); err != nil {
			return
		}
		one := buffer[pageHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(one[:metaSum])
		if order.Uint32(one) != magic || order.Uint32(one[4:]) != version || order.Uint64(one[metaSum:]) != sum.Sum64() {
			return
		}
		of := int64(order.Uint32(one[8:]))
		if of < minPage || of > maxPage || at != 0 && at != of {
			return
		}
		if tx := order.Uint64(one[48:]); meta == nil || tx > newest {
			meta, page, newest = one, of, tx
		}
	}
	try(0)
	for at := int64(minPage); at <= maxPage && at < size; at *= 2 {
		try(at)
	}
	if meta == nil {
		return nil, 0, damaged("neither of its headers is whole")
	}
	return meta, page, nil
}

func (d *database) mark(id uint64) (first bool) {
	bit := uint64(1) << (id % 64)
	first = d.seen[id/64]&bit == 0
	d.seen[id/64] |= bit
	return first
}

// tree looks at a page and all below it, whose keys are at least from and, if there is one, below to.
func (d *database) tree(id uint64, from, to []byte, depth int) error {
	if id < 2 || id >= d.pages || depth > maxDepth {
		return damaged("it leads to page %d of %d", id, d.pages)
	}
	header := make([]byte, pageHeader)
	if _, err := d.file.ReadAt(header, int64(id)*d.page); err != nil {
		return d.unreadable(id, err)
	}
	if order.Uint64(header) != id {
		return damaged("page %d says it is page %d", id, order.Uint64(header))
	}
	run := 1 + uint64(order.Uint32(header[12:]))
	if run > d.pages-id || int64(run)*d.page > maxRun {
		return damaged("page %d goes on for %d pages", id, run)
	}
	for n := id; n < id+run; n++ {
		if !d.mark(n) {
			return damaged("page %d is used twice", n)
		}
	}
	whole := make([]byte, int64(run)*d.page)
	if _, err := d.file.ReadAt(whole, int64(id)*d.page); err != nil {
		return d.unreadable(id, err)
	}
	return d.elements(id, whole, from, to, depth)
}

// unreadable is why a page cannot be read. The disk may refuse to read what is on it.
func (d *database) unreadable(id uint64, err error) error {
	return damaged("page %d cannot be read: %w", id, err)
}

// elements looks at a page's elements and at what they lead to.
func (d *database) elements(id uint64, page, from, to []byte, depth int) error {
	flags, count := order.Uint16(page[8:]), int(order.Uint16(page[10:]))
	if flags != flagBranch && flags != flagLeaf {
		return damaged("page %d is of no kind that may be here (%#x)", id, flags)
	}
	if pageHeader+count*elementSize > len(page) || flags == flagBranch && count == 0 {
		return damaged("page %d cannot have %d elements", id, count)
	}
	keys := make([][]byte, count)
	for i := range keys {
		element := page[pageHeader+i*elementSize:]
		position, length := element[4:], element[8:]
		if flags == flagBranch {
			position, length = element, element[4:]
		}
		begin := uint64(order.Uint32(position))
		end := begin + uint64(order.Uint32(length))
		if end > uint64(len(element)) {
			return damaged("page %d has a key beyond its end", id)
		}
		keys[i] = element[begin:end]
		switch {
		case i == 0 && bytes.Compare(keys[i], from) < 0, i > 0 && bytes.Compare(keys[i-1], keys[i]) >= 0, to != nil && bytes.Compare(keys[i], to) >= 0:
			return damaged("page %d has a key that does not belong there", id)
		}
		if flags == flagLeaf {
			if err := d.value(id, element, end, depth); err != nil {
				return err
			}
		}
	}
	if flags == flagLeaf {
		return nil
	}
	for i, key := range keys {
		next := to
		if i+1 < count {
			next = keys[i+1]
		}
		if err := d.tree(order.Uint64(page[pageHeader+i*elementSize+8:]), key, next, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// value looks at a leaf's value, which begins at an offset of its element, and, if it is a bucket, at what is in that.
func (d *database) value(id uint64, element []byte, begin uint64, depth int) error {
	end := begin + uint64(order.Uint32(element[12:]))
	if end > uint64(len(element)) {
		return damaged("page %d has a value beyond its end", id)
	}
	if order.Uint32(element)&flagBucket == 0 {
		return nil
	}
	bucket := element[begin:end]
	if len(bucket) < pageHeader {
		return damaged("page %d has a bucket of %d bytes", id, len(bucket))
	}
	if root := order.Uint64(bucket); root != 0 {
		return d.tree(root, nil, nil, depth+1)
	}
	if inline := bucket[pageHeader:]; len(inline) >= pageHeader && depth < maxDepth {
		return d.elements(id, inline, nil, nil, depth+1)
	}
	return damaged("page %d has a bucket that is cut", id)
}
