package records

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"go.uber.org/zap"
)

// Bounds of a table.
const (
	// maxBuffered and maxBufferedBytes are the records that may wait for the disk.
	maxBuffered      = 256 << 10
	maxBufferedBytes = 96 << 20
	// remembered is how many identities are known at least.
	remembered = 1 << 20
	// maxAside bounds the names of damaged files that are told.
	maxAside = 100
	// asideFolder is where damaged files are moved to.
	asideFolder = "damaged"
)

// Why records are dropped.
const (
	DropQueue = "queue_full" // the disk is slower than what comes
	DropDisk  = "disk"       // the disk takes nothing
)

// Table is the records of a kind. Its methods may be called from several goroutines.
type Table struct {
	kind      Kind
	directory string
	settings  *Settings
	logger    *zap.Logger

	// writing is held by who merges or removes files, emptying by who writes the buffer.
	writing, emptying sync.Mutex

	mu    sync.RWMutex
	files []*file // by sequence number; bounded by the size
	// buffer takes records; flushing is being written. Nil flushing means none is.
	buffer   *buffer
	flushing *buffer
	columns  map[string]struct{} // bounded by maxColumns
	recent   *recent
	counts
	failing bool
}

// counts are what happened to a table's records.
type counts struct {
	dropped  map[string]uint64 // bounded by the reasons
	repeated uint64
	// left are the records that age and size made leave.
	left  uint64
	aside []string // bounded by maxAside
}

func openTable(kind Kind, settings *Settings) (*Table, error) {
	t := &Table{
		kind: kind, directory: filepath.Join(settings.Directory, kind.Name), settings: settings, logger: settings.Logger,
		columns: map[string]struct{}{}, recent: newRecent(remembered), counts: counts{dropped: map[string]uint64{}},
	}
	if err := os.MkdirAll(t.directory, 0o750); err != nil {
		return nil, fmt.Errorf("making the directory of records: %w", err)
	}
	entries, err := os.ReadDir(t.directory)
	if err != nil {
		return nil, fmt.Errorf("reading the directory of records: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(t.directory, entry.Name())
		switch {
		case entry.IsDir():
		case strings.HasSuffix(path, ".tmp"):
			_ = os.Remove(path) // it was being written when the process ended
		case strings.HasSuffix(path, ".parquet"):
			f, err := openFile(path)
			if err != nil {
				t.setAside(path, err)
				continue
			}
			t.files = append(t.files, f)
		}
	}
	t.withoutMerged()
	next := uint64(1)
	for _, f := range t.files {
		next = max(next, f.first+uint64(f.rows))
		for _, p := range f.parts[:min(1, len(f.parts))] {
			for _, name := range p.names() {
				if len(t.columns) < maxColumns {
					t.columns[name] = struct{}{}
				}
			}
		}
	}
	// Numbers of what was lost are not given again.
	for _, name := range t.aside {
		if first, rows, ok := parseFileName(name); ok && first < math.MaxUint64>>1 {
			next = max(next, first+uint64(rows))
		}
	}
	t.buffer = newBuffer(next)
	t.rememberNewest()
	return t, nil
}

// withoutMerged removes files whose records are in a larger one: the process ended after a merge before they were removed.
func (t *Table) withoutMerged() {
	slices.SortFunc(t.files, func(a, b *file) int { return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.rows, a.rows)) })
	var end uint64
	kept := t.files[:0]
	for _, f := range t.files {
		if f.first < end {
			f.release()
			_ = os.Remove(f.path)
			continue
		}
		kept, end = append(kept, f), f.first+uint64(f.rows)
	}
	t.files = kept
}

// rememberNewest reads the identities of the newest records, which may come again.
func (t *Table) rememberNewest() {
	if len(t.kind.Identity) == 0 {
		return
	}
	var newest []*filePart
	count := 0
	for _, f := range slices.Backward(t.files) {
		for _, p := range slices.Backward(f.parts) {
			if count < remembered {
				newest, count = append(newest, p), count+p.count
			}
		}
	}
	known := make([]uint64, 0, count)
	for _, p := range newest {
		columns := make([]column, len(t.kind.Identity))
		r := Record{Fields: make([]Field, len(columns))}
		var err error
		for i, name := range t.kind.Identity {
			r.Fields[i].Name = name
			if columns[i], err = p.column(name); err != nil {
				break
			}
		}
		if err != nil {
			t.damaged(p.file, err)
			continue
		}
		for row := range p.count {
			for i := range columns {
				// It is only hashed.
				value := columns[i].bytes(row)
				r.Fields[i].Text = unsafe.String(unsafe.SliceData(value), len(value))
			}
			if id := t.kind.ID(&r); id != 0 {
				known = append(known, id)
			}
		}
		for i := range columns {
			columns[i].release()
		}
	}
	t.recent.fill(known)
}

// formOf tells how a field is stored, and whether it has a column. The caller holds the lock.
func (t *Table) formOf(name string) (form, bool) {
	as := t.kind.form(name)
	if _, known := t.columns[name]; known || as != formText {
		return as, true
	}
	if len(t.columns) >= maxColumns || name == "" || len(name) > 256 {
		return as, false
	}
	t.columns[strings.Clone(name)] = struct{}{}
	return as, true
}

// Append adds records, which can be queried at once. It never waits for the disk. It returns how many were new and taken.
func (t *Table) Append(records []Record) (added int) {
	now := t.settings.Now()
	arrived, oldest := now.UnixNano(), now.Add(-t.settings.Retention).UnixNano()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range records {
		waiting, size := t.buffer.count, t.buffer.size
		if t.flushing != nil {
			waiting, size = waiting+t.flushing.count, size+t.flushing.size
		}
		if waiting >= maxBuffered || size >= maxBufferedBytes {
			reason := DropQueue
			if t.failing {
				reason = DropDisk
			}
			t.dropped[reason] += uint64(len(records) - i)
			return added
		}
		if !t.recent.add(t.kind.ID(&records[i])) {
			t.repeated++
			continue
		}
		t.buffer.add(&records[i], arrived, oldest, t.formOf)
		added++
	}
	return added
}

// flush writes what is in memory to a file.
func (t *Table) flush() error {
	t.emptying.Lock()
	defer t.emptying.Unlock()
	t.mu.Lock()
	if t.flushing == nil {
		if t.buffer.count == 0 {
			t.mu.Unlock()
			return nil
		}
		t.flushing = t.buffer
		t.buffer = newBuffer(t.flushing.start + uint64(t.flushing.count))
	}
	b := t.flushing
	t.mu.Unlock()
	f, err := writeFile(t.directory, &t.kind, b.part().split(), info{first: b.start, rows: b.count, arrived: b.arrived, last: b.last, low: b.low})
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		// It is tried again; what comes meanwhile waits in the buffer, which is bounded.
		if !t.failing {
			t.logger.Error("Records cannot be written", zap.String("kind", t.kind.Name), zap.Error(err))
		}
		t.failing = true
		return err
	}
	if t.failing {
		t.logger.Info("Records are written again", zap.String("kind", t.kind.Name))
	}
	t.failing, t.flushing = false, nil
	t.files = append(t.files, f)
	return nil
}

// split cuts a part into parts of at most a row group each.
func (p *bufferPart) split() []part {
	var parts []part
	for from := 0; from < p.count; from += groupRows {
		piece := &bufferPart{start: p.start + uint64(from), count: min(groupRows, p.count-from), min: p.min, max: p.max, columns: map[string]column{}}
		for name, c := range p.columns {
			piece.columns[name] = c.slice(from, from+piece.count)
		}
		parts = append(parts, piece)
	}
	return parts
}

// slice returns some rows of a column.
func (c *column) slice(from, to int) column {
	out := column{dict: c.dict}
	out.ints = c.ints[min(from, len(c.ints)):min(to, len(c.ints))]
	out.codes = c.codes[min(from, len(c.codes)):min(to, len(c.codes))]
	if ends := c.ends[min(from, len(c.ends)):min(to, len(c.ends))]; len(ends) > 0 {
		base := int32(0)
		if from > 0 {
			base = c.ends[from-1]
		}
		out.data = c.data[base:ends[len(ends)-1]]
		for _, end := range ends {
			out.ends = append(out.ends, end-base)
		}
	}
	return out
}

// setAside moves a file that cannot be read out of the way. The caller holds the lock, or has the table for itself.
func (t *Table) setAside(path string, why error) {
	folder := filepath.Join(t.directory, asideFolder)
	name := filepath.Base(path)
	err := os.MkdirAll(folder, 0o750)
	if err == nil {
		err = os.Rename(path, filepath.Join(folder, name))
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	t.logger.Error("A damaged file of records was set aside", zap.String("kind", t.kind.Name), zap.String("file", name),
		zap.NamedError("damage", why), zap.Error(err))
	if len(t.aside) < maxAside {
		t.aside = append(t.aside, name)
	}
}

// damaged takes a file out of the table that turned out to be damaged when it was read.
func (t *Table) damaged(f *file, why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.gone.Swap(true) {
		return
	}
	t.files = slices.DeleteFunc(slices.Clone(t.files), func(one *file) bool { return one == f })
	t.setAside(f.path, why)
	f.release()
}

// oldest returns the oldest file, nil without any.
func (t *Table) oldest() *file {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.files) == 0 {
		return nil
	}
	return t.files[0]
}

// remove lets go of the oldest file.
func (t *Table) remove(f *file) {
	t.writing.Lock()
	defer t.writing.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.gone.Swap(true) {
		return
	}
	t.files = slices.DeleteFunc(slices.Clone(t.files), func(one *file) bool { return one == f })
	t.left += uint64(f.rows)
	_ = os.Remove(f.path)
	f.release()
}

// Bounds are the times between which the records are with sequence numbers between two, both excluded: in files, and at least in those.
func (t *Table) Bounds(after, before uint64) (from, until time.Time) {
	low, high := int64(math.MaxInt64), int64(math.MinInt64)
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, f := range t.files {
		if f.first+uint64(f.rows) <= after+1 || f.first >= before {
			continue
		}
		for _, p := range f.parts {
			low, high = min(low, p.min), max(high, p.max)
		}
	}
	return time.Unix(0, low), time.Unix(0, high).Add(1)
}

// Status is what a table has.
type Status struct {
	Kind string
	// Since is the time from which on records are kept, zero without any; Complete tells that none has left since the first came.
	Since    time.Time
	Complete bool
	Records  uint64
	Bytes    int64
	// Repeated came again and were not stored again.
	Repeated uint64
	// Dropped is by reason.
	Dropped map[string]uint64 // bounded by the reasons
	// Damaged are names of files that were set aside.
	Damaged []string // bounded by maxAside
}

// Status returns what the table has.
func (t *Table) Status() Status {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := Status{Kind: t.kind.Name, Repeated: t.repeated, Dropped: map[string]uint64{}, Damaged: slices.Clone(t.aside), Complete: t.left == 0}
	for reason, n := range t.dropped {
		s.Dropped[reason] = n
	}
	low := int64(math.MaxInt64)
	for _, f := range t.files {
		s.Records += uint64(f.rows)
		s.Bytes += f.bytes
		low = min(low, f.low)
	}
	for _, b := range []*buffer{t.buffer, t.flushing} {
		if b != nil && b.count > 0 {
			s.Records += uint64(b.count)
			low = min(low, b.low)
		}
	}
	if low != math.MaxInt64 {
		s.Since = time.Unix(0, low).UTC()
	}
	// Sequence numbers begin at 1.
	if len(t.files) > 0 && t.files[0].first > 1 {
		s.Complete = false
	}
	return s
}

func (t *Table) bytes() (n int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, f := range t.files {
		n += f.bytes
	}
	return n
}

// Newest is the newest record's sequence number, 0 without any.
func (t *Table) Newest() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.buffer.start + uint64(t.buffer.count) - 1
}
