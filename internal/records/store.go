package records

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/prometheus/tsdb/fileutil"
	"go.uber.org/zap"
)

// Intervals of what a store does by itself.
const (
	flushEvery  = 2 * time.Second
	mergeEvery  = 5 * time.Second
	expireEvery = time.Minute
)

// patience is how many times in a row the clock must say that records are too old after it has jumped.
const patience = 60

// Settings bound a Store.
type Settings struct {
	Directory string
	// MaxBytes bounds the files of all kinds.
	MaxBytes int64
	// Retention is how long a record is kept after it arrived; 0 does not bound.
	Retention time.Duration
	// Now is the clock of arrivals.
	Now    func() time.Time
	Logger *zap.Logger
	// Leaving, unless nil, is called before records of a kind leave by age or size: those with sequence numbers between the two, both
	// excluded. It may still read them, and append to other tables.
	Leaving func(t *Table, after, before uint64)

	share float64
}

// maxFileBytes bounds a merged file, so that little leaves at a time.
func (s *Settings) maxFileBytes() int64 {
	return max(256<<10, min(128<<20, int64(float64(s.MaxBytes)*s.share/16)))
}

// Store is the tables of all kinds. Its methods may be called from several goroutines.
type Store struct {
	settings Settings
	tables   []*Table
	ages     ages

	lock fileutil.Releaser
	stop context.CancelFunc
	done sync.WaitGroup
}

// Open opens the tables of some kinds. Files that are damaged are set aside.
func Open(settings Settings, kinds ...Kind) (*Store, error) {
	s := &Store{settings: settings}
	if err := os.MkdirAll(settings.Directory, 0o750); err != nil {
		return nil, fmt.Errorf("making the directory of records: %w", err)
	}
	lock, _, err := fileutil.Flock(filepath.Join(settings.Directory, "lock"))
	if err != nil {
		return nil, fmt.Errorf("locking the directory of records: %w", err)
	}
	s.lock = lock
	for _, kind := range kinds {
		own := settings
		own.share = kind.Share
		t, err := openTable(kind, &own)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.tables = append(s.tables, t)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	every := func(interval time.Duration, do func()) {
		s.done.Go(func() {
			ticker := time.NewTicker(interval)
			defer ticker.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					do()
				}
			}
		})
	}
	every(flushEvery, func() { _ = s.Flush() })
	every(mergeEvery, func() {
		s.merge(ctx)
		s.shrink()
	})
	every(expireEvery, func() { s.expire(settings.Now()) })
	return s, nil
}

// Table returns the records of a kind, nil if it is unknown.
func (s *Store) Table(kind string) *Table {
	for _, t := range s.tables {
		if t.kind.Name == kind {
			return t
		}
	}
	return nil
}

// Status returns what the tables have.
func (s *Store) Status() []Status {
	all := make([]Status, 0, len(s.tables))
	for _, t := range s.tables {
		all = append(all, t.Status())
	}
	return all
}

// Flush writes to disk what is in memory.
func (s *Store) Flush() error {
	var errs []error
	for _, t := range s.tables {
		errs = append(errs, t.flush())
	}
	return errors.Join(errs...)
}

// merge makes fewer files of many.
func (s *Store) merge(ctx context.Context) {
	for _, t := range s.tables {
		for ctx.Err() == nil {
			if merged, err := t.merge(); !merged || err != nil {
				break
			}
		}
	}
}

// shrink lets the oldest files leave until the bound on the size holds: of the kinds that have more than their share, the oldest.
func (s *Store) shrink() {
	for {
		var total int64
		for _, t := range s.tables {
			total += t.bytes()
		}
		if total <= s.settings.MaxBytes {
			return
		}
		var from *Table
		var oldest *file
		for _, t := range s.tables {
			if float64(t.bytes()) <= float64(s.settings.MaxBytes)*t.kind.Share {
				continue
			}
			if f := t.oldest(); f != nil && (oldest == nil || f.last < oldest.last) {
				from, oldest = t, f
			}
		}
		if oldest == nil {
			return
		}
		s.leave(from, oldest)
	}
}

// leave lets go of a table's oldest file.
func (s *Store) leave(t *Table, f *file) {
	if s.settings.Leaving != nil && !t.kind.Ageless {
		s.settings.Leaving(t, f.first-1, f.first+uint64(f.rows))
	}
	t.remove(f)
}

// ages remembers what the clock said, so that one that is wrong for a while empties nothing.
type ages struct {
	now    int64
	waited int
}

// expire lets files leave that are too old by a clock.
func (s *Store) expire(clock time.Time) {
	if s.settings.Retention <= 0 {
		return
	}
	now := clock.UnixNano()
	if jump := int64(time.Hour); s.ages.now == 0 || now-s.ages.now > jump || now < s.ages.now {
		s.ages.waited = patience
	}
	s.ages.now = now
	if s.ages.waited > 0 {
		s.ages.waited--
		return
	}
	for _, t := range s.tables {
		for f := t.oldest(); !t.kind.Ageless && f != nil && f.last < now-int64(s.settings.Retention); f = t.oldest() {
			s.leave(t, f)
		}
	}
}

// Close writes what is in memory and closes the files. Nothing may be appended or queried afterwards.
func (s *Store) Close() error {
	if s.stop != nil {
		s.stop()
	}
	s.done.Wait()
	var errs []error
	for _, t := range s.tables {
		if err := t.flush(); err != nil {
			errs = append(errs, fmt.Errorf("writing the last records of kind %s: %w", t.kind.Name, err))
		}
		// What arrived while an earlier buffer was being written.
		errs = append(errs, t.flush())
		for _, f := range t.files {
			f.release()
		}
		t.files = nil
	}
	s.tables = nil
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
		s.lock = nil
	}
	return errors.Join(errs...)
}
