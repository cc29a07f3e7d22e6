package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
)

const (
	// aside is in the name of what was set aside of the TSDB, before the time.
	aside = ".damaged-"
	// maxAside bounds what is set aside and kept.
	maxAside = 3
	// openAgainAfter is how long a disk that was full is given before the TSDB is opened again.
	openAgainAfter = 10 * time.Second
	// walPage is the size of a page of the write-ahead log, each of which begins with a record.
	walPage    = 32 << 10
	chunksHead = "chunks_head"
)

var errNoRoom = errors.New("the history is not open: the disk is full")

// files are a TSDB's directory.
type files struct {
	directory string
	options   *tsdb.Options
	logger    *slog.Logger
	now       func() time.Time
	tried     time.Time
	lock      *tsdbutil.DirLocker
}

// open opens the TSDB. It sets aside what keeps that from succeeding.
func (f *files) open() (*tsdb.DB, error) {
	f.tried = f.now()
	if err := os.MkdirAll(f.directory, 0o750); err != nil {
		return nil, err
	}
	if f.lock == nil {
		// A TSDB that fails to open keeps its lock, so that it could not be opened again.
		lock, err := tsdbutil.NewDirLocker(f.directory, "tsdb", f.logger, nil)
		if err == nil {
			err = lock.Lock()
		}
		if err != nil {
			return nil, err
		}
		f.lock, f.options.NoLockfile = lock, true
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	db, err := tsdb.Open(f.directory, f.logger, nil, f.options, nil)
	for _, part := range []string{chunksHead, "wbl", "wal"} {
		if err == nil || !damaged(err) {
			break
		}
		if err := f.setAside(part, err); err != nil {
			return nil, err
		}
		db, err = tsdb.Open(f.directory, f.logger, nil, f.options, nil)
	}
	return db, err
}

// close gives the directory back.
func (f *files) close() error {
	if f.lock == nil {
		return nil
	}
	return f.lock.Release()
}

// check looks at the parts that the TSDB must be able to open, and sets aside those that are damaged.
func (f *files) check() error {
	entries, err := os.ReadDir(f.directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if _, err := ulid.ParseStrict(entry.Name()); err != nil || !entry.IsDir() {
			continue
		}
		block, err := tsdb.OpenBlock(f.logger, filepath.Join(f.directory, entry.Name()), nil, nil)
		if err == nil {
			err = block.Close()
		}
		if err != nil && damaged(err) {
			if err := f.setAside(entry.Name(), err); err != nil {
				return err
			}
		}
	}
	if err := checkChunks(filepath.Join(f.directory, chunksHead)); err != nil {
		if err := f.setAside(chunksHead, err); err != nil {
			return err
		}
	}
	f.checkLog()
	return nil
}

// checkChunks looks at the beginnings of the files of the head's chunks. The last may have been about to be made.
func checkChunks(directory string) error {
	paths, err := filepath.Glob(filepath.Join(directory, "*"))
	if err != nil {
		return err
	}
	for i, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		begins := make([]byte, chunks.HeadChunkFileHeaderSize)
		n, err := io.ReadFull(file, begins)
		_ = file.Close() // it was only read
		last := i == len(paths)-1
		switch magic := binary.BigEndian.Uint32(begins); {
		case last && (n == 0 || magic == 0 && !isLong(path)):
		case err != nil:
			return fmt.Errorf("%s: %w", path, err)
		case magic != chunks.MagicHeadChunks || begins[chunks.MagicChunksSize] != 1:
			return fmt.Errorf("%s does not begin as a file of chunks does", path)
		}
	}
	return nil
}

// isLong tells whether a file is longer than its beginning.
func isLong(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > chunks.HeadChunkFileHeaderSize
}

// openAgain opens a TSDB for which there was no room.
func (f *files) openAgain() (*tsdb.DB, error) {
	if since := f.now().Sub(f.tried); since >= 0 && since < openAgainAfter {
		return nil, errNoRoom
	}
	db, err := f.open()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoRoom, err)
	}
	f.logger.Warn("The disk has room again: there is a history from now on, and what it had before", "directory", f.directory)
	return db, nil
}

// damaged tells whether the files themselves are to blame for an error, not who may write them, who has them open or a full disk.
func damaged(err error) bool {
	for _, other := range []error{fs.ErrPermission, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN, syscall.EWOULDBLOCK} {
		if errors.Is(err, other) {
			return false
		}
	}
	return !full(err) && !strings.Contains(err.Error(), "lock DB directory")
}

// full tells whether an error says that there is no room.
func full(err error) bool {
	for _, room := range [...]syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, room) || strings.Contains(err.Error(), room.Error()) {
			return true
		}
	}
	return false
}

func (f *files) has(name string) bool {
	_, err := os.Stat(filepath.Join(f.directory, name))
	return err == nil
}

// setAside renames a part of the directory.
func (f *files) setAside(name string, problem error) error {
	path := filepath.Join(f.directory, name)
	if !f.has(name) {
		return nil
	}
	base := filepath.Join(filepath.Dir(f.directory), filepath.Base(f.directory)+aside)
	kept, err := filepath.Glob(base + "*")
	if err != nil {
		return fmt.Errorf("looking for what was set aside of %s: %w", f.directory, err)
	}
	// The time is at the beginning of what follows.
	slices.Sort(kept)
	for ; len(kept) >= maxAside; kept = kept[1:] {
		if err := os.RemoveAll(kept[0]); err != nil {
			return fmt.Errorf("making room for the damaged %s: %w", path, err)
		}
	}
	to := base + f.now().UTC().Format("20060102T150405.000Z") + "-" + name
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("setting the damaged %s aside: %w", path, err)
	}
	f.logger.Error("A part of the history is damaged and was set aside. What it alone held is lost", "path", path, "set_aside", to, "error", problem)
	return nil
}

// checkLog says where the write-ahead log was overwritten with zeros, which its reader takes for its end.
func (f *files) checkLog() {
	segments, _ := filepath.Glob(filepath.Join(f.directory, "w[ab]l", "*")) // the pattern is well-formed
	checkpoints, _ := filepath.Glob(filepath.Join(f.directory, "wal", "checkpoint.*", "*"))
	for _, path := range append(segments, checkpoints...) {
		if at, zeroed := zeroedPage(path); zeroed {
			f.logger.Error("The write-ahead log of the history is overwritten with zeros. What it alone held from there on is lost", "path", path, "offset", at)
		}
	}
}

// zeroedPage is where the first page of a segment lies that holds nothing.
func zeroedPage(path string) (at int64, zeroed bool) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return 0, false
	}
	for first := make([]byte, 1); ; at += walPage {
		if _, err := file.ReadAt(first, at); err != nil {
			return at, !errors.Is(err, io.EOF)
		}
		if first[0] == 0 {
			return at, true
		}
	}
}

// noRoom is the appender of a TSDB that is not open. It takes nothing.
type noRoom struct {
	storage.Appender
	err error
}

// Append implements storage.Appender.
func (n noRoom) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 0, n.err
}

// AppendHistogram implements storage.Appender.
func (n noRoom) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, n.err
}

// Commit implements storage.Appender.
func (n noRoom) Commit() error { return n.err }

// Rollback implements storage.Appender.
func (n noRoom) Rollback() error { return nil }
