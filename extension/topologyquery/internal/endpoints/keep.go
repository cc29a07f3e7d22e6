package endpoints

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/journal"
)

// saveEvery is how often what has changed is written to disk.
const saveEvery = 10 * time.Second

// recordSlot is the kind of a record: what happened at an endpoint in one step of time.
const recordSlot = 1

// Bounds on what is read.
const (
	maxCells   = 1 << 20
	maxBuckets = 1 << 16
)

// keeper keeps a catalogue on disk: a journal of the steps of time that changed.
type keeper struct {
	journal *journal.Journal
	// rewrite tells that all is to be written anew.
	rewrite bool
	saved   time.Time
}

// Open puts what was kept in a directory into the empty catalogue, and keeps it there from now on. An error that wraps journal.ErrDamaged
// leaves a catalogue that can be used.
func (c *Catalogue) Open(ctx context.Context, directory string) error {
	files, err := journal.OpenDirectory(directory)
	if err != nil {
		return fmt.Errorf("opening the catalogue of endpoints: %w", err)
	}
	j, err := journal.Open(ctx, files, strings.Clone)
	if j == nil {
		return fmt.Errorf("opening the catalogue of endpoints: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && !j.Anew() {
		err = j.Replay(ctx, func(kind uint64, coder *journal.Coder) {
			if kind != recordSlot {
				coder.Fail(fmt.Errorf("unknown kind of record %d", kind))
				return
			}
			c.read(coder)
		})
	}
	c.keeper = &keeper{journal: j, saved: time.Now()}
	if err != nil {
		return fmt.Errorf("reading the catalogue of endpoints: %w", err)
	}
	return nil
}

// head is what a record says before the slot.
type head struct {
	service          Name
	method, template string
	first, last      int64
	source           uint64
}

func (h *head) code(c *journal.Coder) {
	c.Text(&h.service.Namespace)
	c.Text(&h.service.Name)
	c.Text(&h.method)
	c.Text(&h.template)
	c.Int(&h.first)
	c.Int(&h.last)
	c.Uint(&h.source)
}

var errSource = errors.New("unknown source")

func (c *Catalogue) read(coder *journal.Coder) {
	var h head
	h.code(coder)
	if h.source >= uint64(numSources) {
		coder.Fail(errSource)
		return
	}
	one := slot{}
	var callers []Name
	one.code(coder, func(at *uint32) {
		var name Name
		coder.Text(&name.Namespace)
		coder.Text(&name.Name)
		*at = uint32(len(callers))
		callers = append(callers, name)
	})
	if one.width <= 0 || h.service.Name == "" {
		return // the coder has failed, or what was written made no sense
	}
	s := c.service(h.service, h.last)
	if s == nil {
		return
	}
	n := s.tree.Restore(h.template)
	if n == nil {
		return
	}
	for i := range one.cells {
		one.cells[i].caller = s.known(callers[one.cells[i].caller])
	}
	var e *endpoint
	n.Value, e = n.Value.of(h.method, h.first)
	e.first, e.last = min(e.first, h.first), max(e.last, h.last)
	counts := &e.counts[h.source]
	c.bytes -= counts.bytes()
	counts.put(&one)
	c.bytes += counts.bytes()
}

// known is a caller that was kept.
func (s *service) known(name Name) uint32 {
	if name == otherCaller {
		return 0
	}
	return s.caller(name)
}

// put takes a slot over as it was kept; what it covers goes.
func (s *series) put(one *slot) {
	s.slots = slices.DeleteFunc(s.slots, func(other slot) bool {
		return other.start < one.start+int64(one.width) && one.start < other.start+int64(other.width)
	})
	place, _ := slices.BinarySearchFunc(s.slots, one.start, func(other slot, start int64) int { return cmp.Compare(other.start, start) })
	s.slots = slices.Insert(s.slots, place, *one)
	s.size = 0
	for i := range s.slots {
		s.size += s.slots[i].bytes()
	}
}

func (s *slot) code(c *journal.Coder, caller func(at *uint32)) {
	c.Int(&s.start)
	c.Int32(&s.width)
	journal.Slice(c, &s.cells, maxCells, func(one *cell) {
		caller(&one.caller)
		requests, failed := uint64(one.requests), uint64(one.failed)
		c.Port(&one.code)
		c.Uint(&requests)
		c.Uint(&failed)
		one.requests, one.failed = uint32(requests), uint32(failed)
	})
	journal.Slice(c, &s.durations, maxBuckets, func(one *bucket) {
		index, count := int32(one.index), uint64(one.count)
		c.Int32(&index)
		c.Uint(&count)
		one.index, one.count = int16(index), uint32(count)
	})
}

// Save writes what has changed to disk, if there is a directory and some time has passed since it did so; with all, in any case.
func (c *Catalogue) Save(ctx context.Context, all bool) error {
	batch := c.take(all)
	if batch.Empty() {
		return nil
	}
	if err := c.keeper.journal.Commit(ctx, batch); err != nil {
		return fmt.Errorf("saving the catalogue of endpoints: %w", err)
	}
	return nil
}

func (c *Catalogue) take(all bool) journal.Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.keeper
	if k == nil || !all && time.Since(k.saved) < saveEvery {
		return journal.Batch{}
	}
	k.saved = time.Now()
	anew := k.rewrite || k.journal.Anew()
	if anew {
		k.journal.Restart()
		k.rewrite = false
	}
	for _, s := range c.services.All() {
		s.record(k.journal, anew)
	}
	return k.journal.Take()
}

// record writes the slots that changed, or all.
func (s *service) record(j *journal.Journal, all bool) {
	s.all(func(n *node, e *endpoint) {
		template := ""
		for source := range e.counts {
			for i := range e.counts[source].slots {
				one := &e.counts[source].slots[i]
				if !one.changed && !all {
					continue
				}
				one.changed = false
				if template == "" {
					template = n.Encode()
				}
				h := head{s.name, e.method, template, e.first, e.last, uint64(source)}
				c := j.Record(recordSlot)
				h.code(c)
				one.code(c, func(at *uint32) {
					name := s.callers[*at]
					c.Text(&name.Namespace)
					c.Text(&name.Name)
				})
			}
		}
	})
}
