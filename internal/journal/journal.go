// Package journal keeps a state as a log of records in a storage client: what changed is appended, and now and then
// everything is written anew and the log before it dropped. A process that is killed between two commits finds the
// state of the last one.
//
// The service graph keeps its state in one, and the query extension the mesh's. Who replaces values instead (the receiver its series and
// read positions, the outage detector its outages) seals them.
package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

const (
	version = 2
	keyMeta = "journal"
	// entrySize is how long an entry may grow before the next record goes into another one.
	entrySize = 1 << 20
	// headSize is the checksum's, at the beginning of an entry.
	headSize = 4
	// leastLog is how long the log may at least grow before it is written anew, growth how many times its length then: where
	// much changes all the time, writing everything costs a growth's part of what writing the changes does. mostEntries is in how
	// many entries.
	leastLog    = 4 << 20
	growth      = 5
	mostEntries = 1 << 12
	// maxEntries bounds what a stored journal may claim.
	maxEntries = 1 << 20
)

var errIncomplete = errors.New("what was to be stored before could not be")

// ErrDamaged is wrapped by every error that the stored journal is to blame for.
var ErrDamaged = errors.New("damaged journal")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Client is the part of a storage client that a journal needs.
type Client interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Batch(ctx context.Context, ops ...*storage.Operation) error
}

// Journal is a log of records. One goroutine at a time may record and take, another one commit what was taken.
type Journal struct {
	client Client
	coder  Coder
	// ready are entries that are full and wait to be taken. Like the coder's data they begin with room for a checksum.
	ready [][]byte
	// last is how long the last entry that was taken was.
	last int
	// restarted tells that what is recorded replaces everything that is stored.
	restarted bool

	// mu guards what follows, which but for coming only commits change. They do not hold it while they store.
	mu sync.Mutex
	// first and next are the numbers of the stored log's first entry and of the one to come.
	first, next uint64
	// size is the length of the log, whole that of its last writing anew.
	size, whole int
	// anew tells that what is stored lacks something, coming that everything has been recorded and is to be committed.
	anew, coming bool
}

// Batch is what was recorded between two calls of Take.
type Batch struct {
	entries [][]byte
	whole   bool
}

// Empty tells that nothing was recorded.
func (b Batch) Empty() bool { return len(b.entries) == 0 }

// Open finds the journal that a client holds. intern is applied to every text that is read.
func Open(ctx context.Context, client Client, intern func(string) string) (*Journal, error) {
	j := &Journal{client: client, coder: Coder{written: map[string]uint64{}, intern: intern}}
	meta, err := client.Get(ctx, keyMeta)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", keyMeta, err)
	}
	if meta == nil {
		j.anew = true
		return j, nil
	}
	c := Coder{reading: true, data: meta}
	var format uint64
	c.Uint(&format)
	c.Uint(&j.first)
	c.Uint(&j.next)
	if c.err != nil || format != version || j.next < j.first || j.next-j.first > maxEntries {
		err := fmt.Errorf("%w: format %d, entries %d to %d", ErrDamaged, format, j.first, j.next)
		j.anew = true
		if c.err != nil || j.next < j.first || j.next-j.first > maxEntries {
			j.first, j.next = 0, 0
		}
		return j, err
	}
	return j, nil
}

// Replay hands every stored record to read, in the order of writing. After an error everything must be written anew.
func (j *Journal) Replay(ctx context.Context, read func(kind uint64, c *Coder)) error {
	c := Coder{reading: true, intern: j.coder.intern}
	for n := j.first; n < j.next; n++ {
		entry, err := j.client.Get(ctx, key(n))
		if err != nil {
			j.anew = true
			return fmt.Errorf("reading %s: %w", key(n), err)
		}
		if len(entry) < headSize || crc32.Checksum(entry[headSize:], castagnoli) != binary.LittleEndian.Uint32(entry) {
			j.anew = true
			return fmt.Errorf("%w: %s", ErrDamaged, key(n))
		}
		if err := c.records(entry[headSize:], read); err != nil {
			j.anew = true
			return fmt.Errorf("%w: %s: %w", ErrDamaged, key(n), err)
		}
		j.size += len(entry)
	}
	for i, text := range c.read {
		j.coder.written[text] = uint64(i) + 1
	}
	j.whole = j.size
	return nil
}

// Records hands the records of one entry to read.
func Records(entry []byte, intern func(string) string, read func(kind uint64, c *Coder)) error {
	c := Coder{reading: true, intern: intern}
	return c.records(entry, read)
}

func (c *Coder) records(entry []byte, read func(kind uint64, c *Coder)) error {
	for c.data = entry; len(c.data) > 0 && c.err == nil; {
		var kind uint64
		c.Uint(&kind)
		read(kind, c)
	}
	return c.err
}

func key(n uint64) string { return "journal/" + strconv.FormatUint(n, 10) }

// Anew tells that everything should be recorded next, after Restart.
func (j *Journal) Anew() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.coming && (j.anew || j.size > max(leastLog, growth*j.whole) || j.next-j.first > mostEntries+uint64(j.whole/entrySize))
}

// Restart drops what was not taken; what is recorded from here on replaces everything that is stored.
func (j *Journal) Restart() {
	j.restarted = true
	j.ready, j.coder.data = nil, nil
	clear(j.coder.written)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.coming = true
}

// Record begins a record; the caller writes it with the coder.
func (j *Journal) Record(kind uint64) *Coder {
	if len(j.coder.data) >= entrySize {
		j.ready = append(j.ready, j.coder.data)
		j.coder.data = make([]byte, headSize, entrySize+entrySize/8)
	}
	if len(j.coder.data) == 0 {
		j.coder.data = make([]byte, headSize, j.last+j.last/8+headSize)
	}
	j.coder.Uint(&kind)
	return &j.coder
}

// Take hands over what was recorded since it was called last.
func (j *Journal) Take() Batch {
	if len(j.coder.data) == 0 {
		return Batch{}
	}
	b := Batch{entries: append(j.ready, j.coder.data), whole: j.restarted}
	j.last = len(j.coder.data)
	// The storage may keep what it is given.
	j.ready, j.coder.data, j.restarted = nil, nil, false
	return b
}

// Commit stores a batch, all or nothing; batches must come in the order in which they were taken. After an error
// everything must be recorded anew, and what was taken before that is refused.
func (j *Journal) Commit(ctx context.Context, b Batch) error {
	if b.Empty() {
		return nil
	}
	if !b.whole && j.anew {
		return errIncomplete
	}
	first, next, size := j.first, j.next, j.size
	var ops []*storage.Operation
	if b.whole {
		for n := j.first; n < j.next; n++ {
			ops = append(ops, storage.DeleteOperation(key(n)))
		}
		first, size = j.next, 0
	}
	for _, entry := range b.entries {
		binary.LittleEndian.PutUint32(entry, crc32.Checksum(entry[headSize:], castagnoli))
		ops = append(ops, storage.SetOperation(key(next), entry))
		next++
		size += len(entry)
	}
	meta := binary.AppendUvarint(nil, version)
	meta = binary.AppendUvarint(binary.AppendUvarint(meta, first), next)
	ops = append(ops, storage.SetOperation(keyMeta, meta))
	err := j.client.Batch(ctx, ops...)
	j.mu.Lock()
	defer j.mu.Unlock()
	if b.whole {
		j.coming = false
	}
	if err != nil {
		j.anew = true
		return fmt.Errorf("storing entries %d to %d: %w", j.next, next, err)
	}
	if b.whole {
		j.whole, j.anew = size, false
	}
	j.first, j.next, j.size = first, next, size
	return nil
}

// Size is the length of the stored log in bytes.
func (j *Journal) Size() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.size
}
