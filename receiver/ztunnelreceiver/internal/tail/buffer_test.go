package tail

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

type mapStore map[string][]byte

func (m mapStore) Get(_ context.Context, key string) ([]byte, error) { return m[key], nil }

func (m mapStore) Batch(_ context.Context, ops ...*storage.Operation) error {
	for _, op := range ops {
		if op.Type == storage.Delete {
			delete(m, op.Key)
		} else {
			m[op.Key] = op.Value
		}
	}
	return nil
}

func keys(ops []*storage.Operation) []string {
	var all []string
	for _, op := range ops {
		all = append(all, op.Key)
	}
	return all
}

func TestBufferHoldsBackUntilThePollEnds(t *testing.T) {
	ctx := t.Context()
	store := mapStore{keyPrefix + "old": []byte("1")}
	polls := 0
	b := newBuffer(store, func() { polls++ })

	value, err := b.Get(ctx, "old")
	require.NoError(t, err)
	assert.Equal(t, "1", string(value), "what is stored can be read")

	require.NoError(t, b.Set(ctx, "archive", []byte("a")))
	require.NoError(t, b.Delete(ctx, "old"))
	value, err = b.Get(ctx, "old")
	require.NoError(t, err)
	assert.Nil(t, value, "what is written can be read")
	assert.Empty(t, b.changes(), "in the middle of a poll nothing is ready")
	assert.Zero(t, polls)

	require.NoError(t, b.Set(ctx, pollKey, []byte("offsets")))
	assert.Equal(t, 1, polls)
	// The next poll has begun: what it writes does not belong to the last one's offsets.
	require.NoError(t, b.Set(ctx, "archive", []byte("b")))
	changes := b.changes()
	assert.ElementsMatch(t, []string{keyPrefix + "archive", keyPrefix + "old", keyPrefix + pollKey}, keys(changes))
	require.NoError(t, store.Batch(ctx, changes...))
	b.wrote(changes)
	assert.Equal(t, mapStore{keyPrefix + "archive": []byte("a"), keyPrefix + pollKey: []byte("offsets")}, store)
	assert.Empty(t, b.changes())

	require.NoError(t, b.Set(ctx, pollKey, []byte("offsets")))
	assert.Equal(t, []string{keyPrefix + "archive"}, keys(b.changes()), "what did not change is not written again")
}

func TestBufferKeepsWhatCouldNotBeWritten(t *testing.T) {
	ctx := t.Context()
	b := newBuffer(mapStore{}, func() {})
	require.NoError(t, b.Set(ctx, pollKey, []byte("1")))
	failed := b.changes()
	require.NoError(t, b.Set(ctx, pollKey, []byte("2")))
	again := b.changes()
	require.Len(t, again, 1)
	assert.Equal(t, "1", string(failed[0].Value))
	assert.Equal(t, "2", string(again[0].Value))
}

// countedStore counts reads.
type countedStore struct {
	mapStore
	reads int
}

func (c *countedStore) Get(ctx context.Context, key string) ([]byte, error) {
	c.reads++
	return c.mapStore.Get(ctx, key)
}

func TestBufferReadsTheStorageOnce(t *testing.T) {
	store := &countedStore{mapStore: mapStore{keyPrefix + "there": []byte("1")}}
	b := newBuffer(store, func() {})
	for range 3 {
		value, err := b.Get(t.Context(), "there")
		require.NoError(t, err)
		assert.Equal(t, "1", string(value))
		value, err = b.Get(t.Context(), "not there")
		require.NoError(t, err)
		assert.Nil(t, value)
	}
	assert.Equal(t, 2, store.reads)
	assert.Empty(t, b.changes())
}
