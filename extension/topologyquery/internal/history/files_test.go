package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stored makes a history of one block and what is newer, and copies it as a process that is killed leaves it.
func stored(t *testing.T) string {
	t.Helper()
	directory := filepath.Join(t.TempDir(), "tsdb")
	e := open(t, directory)
	for n := range 900 {
		app := e.db.Load().Appender(t.Context())
		for s := range 20 {
			_, err := app.Append(0, labels.FromStrings("__name__", "x", "s", fmt.Sprint(s)), origin+int64(n)*20*second, float64(n*n%97))
			require.NoError(t, err)
		}
		require.NoError(t, app.Commit())
	}
	require.NoError(t, e.db.Load().Compact(t.Context()))
	killed := filepath.Join(t.TempDir(), "tsdb")
	require.NoError(t, os.CopyFS(killed, os.DirFS(directory)))
	require.NoError(t, e.Close())
	require.NoError(t, os.Remove(filepath.Join(killed, "lock")))
	header := make([]byte, chunks.HeadChunkFileHeaderSize)
	binary.BigEndian.PutUint32(header, chunks.MagicHeadChunks)
	header[chunks.MagicChunksSize] = 1
	require.NoError(t, os.WriteFile(filepath.Join(killed, chunksHead, "000001"), append(header, make([]byte, 4096)...), 0o600))
	require.NoError(t, checkChunks(filepath.Join(killed, chunksHead)))
	return killed
}

func TestDamagedHistories(t *testing.T) {
	whole := stored(t)
	each := func(t *testing.T, pattern string, damage func(b []byte) []byte) func(directory string) {
		return func(directory string) {
			paths, err := filepath.Glob(filepath.Join(directory, pattern))
			require.NoError(t, err)
			require.NotEmpty(t, paths)
			for _, path := range paths {
				content, err := os.ReadFile(path)
				if errors.Is(err, syscall.EISDIR) {
					continue
				}
				require.NoError(t, err)
				require.NoError(t, os.Chmod(path, 0o600))
				require.NoError(t, os.WriteFile(path, damage(content), 0o600))
			}
		}
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	zeroed := func(b []byte) []byte { clear(b); return b }
	flipped := func(b []byte) []byte {
		for i := range b {
			b[i] ^= 0xff
		}
		return b
	}
	for _, test := range []struct {
		name, pattern string
		damage        func(b []byte) []byte
		says          string
	}{
		{"cut chunks of the head", "chunks_head/0*", func(b []byte) []byte { return b[:4] }, "chunks_head"},
		{"overwritten chunks of the head", "chunks_head/0*", flipped, "chunks_head"},
		{"zeroed chunks of the head", "chunks_head/0*", zeroed, "chunks_head"},
		{"cut log", "wal/0*", half, ""},
		{"overwritten log", "wal/0*", flipped, ""},
		{"zeroed log", "wal/0*", zeroed, "wal"},
		{"cut index of a block", "0*/index", half, "tsdb.damaged-"},
		{"zeroed index of a block", "0*/index", zeroed, "tsdb.damaged-"},
		{"overwritten chunks of a block", "0*/chunks/0*", flipped, "tsdb.damaged-"},
		{"a block's description that is none", "0*/meta.json", flipped, "tsdb.damaged-"},
		{"everything overwritten", "*/*", flipped, "tsdb.damaged-"},
	} {
		t.Run(test.name, func(t *testing.T) {
			directory := filepath.Join(t.TempDir(), "tsdb")
			require.NoError(t, os.CopyFS(directory, os.DirFS(whole)))
			each(t, test.pattern, test.damage)(directory)
			var said bytes.Buffer
			e, err := OpenEmbedded(slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn})), EmbeddedSettings{
				Directory: directory, Retention: 15 * 24 * time.Hour, Lookback: fiveMinutes, QueryTimeout: time.Minute, MaxSamples: 10_000,
			})
			require.NoError(t, err)
			defer func() { require.NoError(t, e.Close()) }()
			app := e.Appendable().Appender(t.Context())
			_, err = app.Append(0, labels.FromStrings("__name__", "y"), origin+24*60*minute, 1)
			require.NoError(t, err)
			require.NoError(t, app.Commit())
			results, err := e.Instant(t.Context(), "y", time.UnixMilli(origin+24*60*minute))
			require.NoError(t, err)
			assert.Len(t, results, 1)
			if test.says != "" {
				assert.Contains(t, said.String(), test.says)
			}
		})
	}
}

func TestWhoIsToBlame(t *testing.T) {
	assert.True(t, damaged(errors.New("reloadBlocks: corrupted block 01HZ")))
	for _, other := range []error{fs.ErrPermission, syscall.EROFS, syscall.ENOSPC, syscall.EMFILE, fmt.Errorf("lock DB directory: %w", syscall.EAGAIN)} {
		assert.False(t, damaged(fmt.Errorf("opening: %w", other)), other.Error())
	}
}

// TestHistoryOnAFullDisk begins without a history, which is there once there is room.
func TestHistoryOnAFullDisk(t *testing.T) {
	now := time.Unix(1000, 0)
	directory := filepath.Join(t.TempDir(), "tsdb")
	e := open(t, directory)
	db := e.db.Swap(nil)
	require.NoError(t, db.Close())
	e.files.now, e.files.tried = func() time.Time { return now }, now
	_, _, ok := e.Bounds()
	assert.False(t, ok)
	assert.Zero(t, e.Series())
	_, err := e.Instant(t.Context(), "y", now)
	require.ErrorIs(t, err, errNoRoom)
	w := NewWriter(e.Appendable(), second)
	s := series("y")
	write := func(at int64, value float64) error {
		b := w.Batch(t.Context())
		b.Gauge(s, at, value)
		return b.Commit(at+second, true)
	}
	require.ErrorIs(t, write(origin, 1), errNoRoom)
	now = now.Add(openAgainAfter)
	require.NoError(t, write(origin+minute, 2))
	results, err := e.Instant(t.Context(), "y", time.UnixMilli(origin+minute+second))
	require.NoError(t, err)
	assert.Len(t, results, 1)
	require.NoError(t, e.Close())
}

func TestFewPartsAreKeptAside(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "tsdb")
	f := &files{directory: directory, options: tsdb.DefaultOptions(), logger: slog.New(slog.DiscardHandler), now: time.Now}
	for range 5 {
		require.NoError(t, os.MkdirAll(filepath.Join(directory, "chunks_head"), 0o750))
		require.NoError(t, f.setAside("chunks_head", errors.New("x")))
		time.Sleep(2 * time.Millisecond) // the name has the time
	}
	require.NoError(t, f.setAside("wal", errors.New("nothing is there")))
	left, err := os.ReadDir(filepath.Dir(directory))
	require.NoError(t, err)
	require.Len(t, left, 1+maxAside)
	for _, one := range left[1:] {
		assert.True(t, strings.HasPrefix(one.Name(), "tsdb"+aside), one.Name())
	}
}
