package journal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func keep(s string) string { return s }

// write1 records one text each and commits it.
func write1(t *testing.T, j *Journal, texts ...string) {
	t.Helper()
	if j.Anew() {
		j.Restart()
	}
	for _, text := range texts {
		value := []byte(text)
		j.Record(1).Bytes(&value, 100)
	}
	require.NoError(t, j.Commit(t.Context(), j.Take()))
}

func readAll(t *testing.T, path string) (texts []string, err error) {
	t.Helper()
	d, err := OpenDirectory(path)
	require.NoError(t, err)
	j, err := Open(t.Context(), d, keep)
	if err != nil {
		return nil, err
	}
	err = j.Replay(t.Context(), func(_ uint64, c *Coder) {
		var value []byte
		c.Bytes(&value, 100)
		texts = append(texts, string(value))
	})
	return texts, err
}

func TestDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d, err := OpenDirectory(path)
	require.NoError(t, err)
	j, err := Open(t.Context(), d, keep)
	require.NoError(t, err)
	write1(t, j, "a", "b")
	write1(t, j, "c")
	texts, err := readAll(t, path)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b", "c"}, texts)

	// Written anew, what was there before goes.
	j.Restart()
	write1(t, j, "d")
	texts, err = readAll(t, path)
	require.NoError(t, err)
	assert.Equal(t, []string{"d"}, texts)
	files, err := os.ReadDir(path)
	require.NoError(t, err)
	assert.Len(t, files, 2)
}

// TestTornWrites lets a process die at every step of a commit, and the disk lose the end of a file.
func TestTornWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d, err := OpenDirectory(path)
	require.NoError(t, err)
	j, err := Open(t.Context(), d, keep)
	require.NoError(t, err)
	write1(t, j, "a")
	write1(t, j, "b")
	before := map[string][]byte{}
	files, err := os.ReadDir(path)
	require.NoError(t, err)
	for _, f := range files {
		before[f.Name()], err = os.ReadFile(filepath.Join(path, f.Name()))
		require.NoError(t, err)
	}
	for name, left := range map[string]map[string]string{
		"an entry that nothing names":  {"journal-2": "half"},
		"a name that was not put down": {"journal-2": "half", "journal.new": "x"},
	} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			for file, content := range before {
				require.NoError(t, os.WriteFile(filepath.Join(path, file), content, 0o600))
			}
			for file, content := range left {
				require.NoError(t, os.WriteFile(filepath.Join(path, file), []byte(content), 0o600))
			}
			texts, err := readAll(t, path)
			require.NoError(t, err)
			assert.Equal(t, []string{"a", "b"}, texts)
		})
	}
	for file, content := range before {
		t.Run("cut "+file, func(t *testing.T) {
			path := t.TempDir()
			for other, whole := range before {
				if other == file {
					whole = content[:len(content)-1]
				}
				require.NoError(t, os.WriteFile(filepath.Join(path, other), whole, 0o600))
			}
			_, err := readAll(t, path)
			require.ErrorIs(t, err, ErrDamaged)
		})
	}
	require.NoError(t, os.RemoveAll(path))
	value := []byte(strings.Repeat("x", 10))
	j.Record(1).Bytes(&value, 100)
	require.Error(t, j.Commit(t.Context(), j.Take()), "the directory is gone")
	assert.True(t, j.Anew())
}
