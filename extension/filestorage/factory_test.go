package filestorage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	upstream "github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/extensiontest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var id = component.MustNewID("ztunnel")

// file is where the database of id is.
const file = "receiver_ztunnel_"

// started is the extension on a directory, and what it logs.
func started(t *testing.T, directory string) (storage.Extension, *observer.ObservedLogs) {
	t.Helper()
	factory := NewFactory()
	cfg := factory.CreateDefaultConfig().(*upstream.Config)
	cfg.Directory, cfg.Timeout = directory, 100*time.Millisecond
	require.NoError(t, cfg.Validate())
	core, logs := observer.New(zap.InfoLevel)
	set := extensiontest.NewNopSettings(factory.Type())
	set.Logger = zap.New(core)
	e, err := factory.Create(t.Context(), set, cfg)
	require.NoError(t, err)
	require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, e.Shutdown(t.Context())) })
	return e.(storage.Extension), logs
}

// opened is a component's client.
func opened(t *testing.T, e storage.Extension) storage.Client {
	t.Helper()
	client, err := e.GetClient(t.Context(), component.KindReceiver, id, "")
	require.NoError(t, err)
	return client
}

// filled makes a database of several levels, with values that take several pages and some that are gone, and returns its bytes.
func filled(t *testing.T) []byte {
	t.Helper()
	directory := t.TempDir()
	e, _ := started(t, directory)
	client := opened(t, e)
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var ops []*storage.Operation
		for range 100 {
			key := fmt.Sprint("key-", random.IntN(1500))
			if random.IntN(4) == 0 {
				ops = append(ops, storage.DeleteOperation(key))
			} else {
				ops = append(ops, storage.SetOperation(key, bytes.Repeat([]byte(key), random.IntN(3)*random.IntN(500))))
			}
		}
		require.NoError(t, client.Batch(t.Context(), ops...))
	}
	require.NoError(t, client.Close(t.Context()))
	content, err := os.ReadFile(filepath.Join(directory, file))
	require.NoError(t, err)
	return content
}

func TestWholeDatabasesStay(t *testing.T) {
	directory := t.TempDir()
	e, _ := started(t, directory)
	client := opened(t, e)
	require.NoError(t, client.Close(t.Context())) // nothing was ever stored in it
	e, logs := started(t, directory)
	client = opened(t, e)
	require.NoError(t, client.Set(t.Context(), "a", []byte("b")))
	_, others := started(t, directory) // as another process, while it is in use
	require.NoError(t, client.Close(t.Context()))
	e, _ = started(t, directory)
	client = opened(t, e)
	value, err := client.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, "b", string(value))
	require.NoError(t, client.Close(t.Context()))
	assert.Zero(t, logs.Len())
	assert.Zero(t, others.Len())
	require.NoError(t, check(bytes.NewReader(filled(t)), int64(len(filled(t)))))
}

func TestDamagedDatabasesAreSetAside(t *testing.T) {
	whole := filled(t)
	for name, damage := range map[string]func(b []byte) []byte{
		"cut":              func(b []byte) []byte { return b[:len(b)/2] },
		"cut within pages": func(b []byte) []byte { return b[:5000] },
		"emptied":          func([]byte) []byte { return nil },
		"zeroed":           func(b []byte) []byte { return make([]byte, len(b)) },
		"a zeroed end":     func(b []byte) []byte { clear(b[8192:]); return b },
		"other content":    func([]byte) []byte { return []byte("hello") },
		"its beginning overwritten": func(b []byte) []byte {
			for i := range b[:8192] {
				b[i] ^= 0xff
			}
			return b
		},
		"its middle overwritten": func(b []byte) []byte {
			for i := 8192; i < len(b)-4096; i++ {
				b[i] ^= 0xff
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			path := filepath.Join(directory, file)
			require.NoError(t, os.WriteFile(path, damage(bytes.Clone(whole)), 0o600))
			e, logs := started(t, directory)
			require.Equal(t, 1, logs.Len())
			entry := logs.All()[0]
			assert.Equal(t, zap.ErrorLevel, entry.Level)
			assert.Equal(t, path, entry.ContextMap()["file"])
			kept, err := filepath.Glob(path + aside + "*")
			require.NoError(t, err)
			assert.Equal(t, []string{entry.ContextMap()["set_aside"].(string)}, kept)
			client := opened(t, e)
			require.NoError(t, client.Set(t.Context(), "a", []byte("b")))
			require.NoError(t, client.Close(t.Context()))
		})
	}
}

// TestBoltOpensWhatIsNotSetAside flips bytes at random: what passes the check must not end the process.
func TestBoltOpensWhatIsNotSetAside(t *testing.T) {
	whole := filled(t)
	passed := 0
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		content := bytes.Clone(whole)
		for range 1 + random.IntN(3) {
			content[random.IntN(len(content))] ^= byte(1 + random.IntN(255))
		}
		if random.IntN(3) == 0 {
			content = content[:random.IntN(len(content))]
		}
		directory := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(directory, file), content, 0o600))
		e, logs := started(t, directory)
		if logs.Len() == 0 {
			passed++
		}
		client := opened(t, e)
		for n := range 1500 {
			_, err := client.Get(t.Context(), fmt.Sprint("key-", n))
			require.NoError(t, err)
		}
		require.NoError(t, client.Set(t.Context(), "key-7", bytes.Repeat([]byte("x"), 9000)))
		require.NoError(t, client.Close(t.Context()))
	}
	assert.NotZero(t, passed, "most bytes are values or free")
}

func TestFewDatabasesAreKeptAside(t *testing.T) {
	directory := t.TempDir()
	for range 5 {
		require.NoError(t, os.WriteFile(filepath.Join(directory, file), []byte("x"), 0o600))
		started(t, directory)
		time.Sleep(2 * time.Millisecond) // the name has the time
	}
	files, err := os.ReadDir(directory)
	require.NoError(t, err)
	require.Len(t, files, maxAside)
	for _, f := range files {
		assert.True(t, strings.HasPrefix(f.Name(), file+aside), f.Name())
	}
}

// fullDisk is a storage that cannot open a database for writing until there is room.
type fullDisk struct {
	storage.Extension
	room bool
	// begins is the file of which it writes the beginning before it fails, if any.
	begins string
}

func (f *fullDisk) GetClient(ctx context.Context, kind component.Kind, id component.ID, name string) (storage.Client, error) {
	if f.room {
		return f.Extension.GetClient(ctx, kind, id, name)
	}
	if f.begins != "" {
		if err := os.WriteFile(f.begins, make([]byte, 8192), 0o600); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("writing: %w", syscall.ENOSPC)
}

// filling is the extension on a directory whose disk is full.
func filling(t *testing.T, directory string) (*checked, *fullDisk) {
	t.Helper()
	e, _ := started(t, directory)
	c := e.(*checked)
	disk := &fullDisk{Extension: c.Extension}
	c.Extension = disk
	return c, disk
}

func TestFullDiskWithoutDatabase(t *testing.T) {
	c, disk := filling(t, t.TempDir())
	disk.begins = filepath.Join(c.cfg.Directory, file)
	client := opened(t, c)
	value, err := client.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Nil(t, value)
	require.ErrorIs(t, client.Set(t.Context(), "a", nil), syscall.ENOSPC)
	require.ErrorIs(t, client.Delete(t.Context(), "a"), syscall.ENOSPC)
	disk.room = true
	require.NoError(t, client.Set(t.Context(), "a", nil))
	require.NoError(t, client.Close(t.Context()))
	require.ErrorIs(t, client.Set(t.Context(), "a", nil), errClosed)
	assert.True(t, full(errors.New("file resize error: "+syscall.ENOSPC.Error())))
}

func TestFullDiskWithDatabase(t *testing.T) {
	directory := t.TempDir()
	e, _ := started(t, directory)
	client := opened(t, e)
	require.NoError(t, client.Set(t.Context(), "a", []byte("b")))
	require.NoError(t, client.Close(t.Context()))
	before, err := os.ReadFile(filepath.Join(directory, file))
	require.NoError(t, err)

	c, disk := filling(t, directory)
	client = opened(t, c)
	stored, other := storage.GetOperation("a"), storage.GetOperation("c")
	require.NoError(t, client.Batch(t.Context(), stored, other))
	assert.Equal(t, "b", string(stored.Value))
	assert.Nil(t, other.Value)
	require.ErrorIs(t, client.Set(t.Context(), "a", []byte("d")), syscall.ENOSPC)
	after, err := os.ReadFile(filepath.Join(directory, file))
	require.NoError(t, err)
	assert.Equal(t, before, after)

	disk.room = true
	require.NoError(t, client.Set(t.Context(), "c", []byte("d")))
	for key, want := range map[string]string{"a": "b", "c": "d"} {
		value, err := client.Get(t.Context(), key)
		require.NoError(t, err)
		assert.Equal(t, want, string(value))
	}
	require.NoError(t, client.Close(t.Context()))
}

// TestFileName asks contrib: what it opens must be what is read while the disk is full.
func TestFileName(t *testing.T) {
	for _, name := range []string{"", "boundary", "a/b~ü", strings.Repeat("long", 70)} {
		for _, kind := range []component.Kind{component.KindReceiver, component.KindProcessor, component.KindExporter, component.KindExtension, component.KindConnector} {
			directory := t.TempDir()
			e, _ := started(t, directory)
			id := component.MustNewIDWithName("ztunnel", "second/one")
			client, err := e.GetClient(t.Context(), kind, id, name)
			require.NoError(t, err)
			require.NoError(t, client.Close(t.Context()))
			assert.FileExists(t, filepath.Join(directory, fileName(kind, id, name)))
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte("hello"))
	f.Fuzz(func(_ *testing.T, content []byte) { _ = check(bytes.NewReader(content), int64(len(content))) })
}
