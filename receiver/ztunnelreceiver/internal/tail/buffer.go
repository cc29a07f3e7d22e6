package tail

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"sync"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Store is what is kept over a restart: the part of storage.Client that tailing needs.
type Store interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Batch(ctx context.Context, ops ...*storage.Operation) error
}

const (
	// keyPrefix keeps fileconsumer's keys apart from others in the same storage.
	keyPrefix = "fileconsumer."
	// pollKey is the key that fileconsumer writes at the end of each poll, after it has emitted all that it read
	// in it and before it touches anything of the next.
	pollKey = "knownFiles"
	// archiveKey is where fileconsumer keeps which part of its archive was written last.
	archiveKey = "knownFilesArchiveIndex"
)

// buffer is the storage that fileconsumer sees. It holds back everything that fileconsumer writes, so that offsets reach the
// real storage together with what was made of the lines before them, or not at all.
//
// It is bounded by fileconsumer's keys.
//
// Writes become ready at the end of the poll that they belong to: between two polls, what is ready and what was emitted
// are the same lines. In the middle of one, they are not.
type buffer struct {
	store Store // nil: nothing outlives the process

	mu sync.Mutex
	// written has every key's newest value as fileconsumer sees it; nil is deleted.
	written map[string][]byte
	// pending are the writes since the last poll ended, ready those before that the storage does not have yet.
	pending, ready map[string][]byte
	// committed is what the storage is known to hold, so that unchanged values are not written again.
	committed map[string][]byte
	// pollEnded is called at the end of each poll, after its writes became ready.
	pollEnded func()
}

func newBuffer(store Store, pollEnded func()) *buffer {
	return &buffer{
		store:     store,
		written:   map[string][]byte{},
		pending:   map[string][]byte{},
		ready:     map[string][]byte{},
		committed: map[string][]byte{},
		pollEnded: pollEnded,
	}
}

// Get implements operator.Persister.
func (b *buffer) Get(ctx context.Context, key string) ([]byte, error) {
	b.mu.Lock()
	value, ok := b.written[key]
	b.mu.Unlock()
	if !ok && b.store != nil {
		var err error
		if value, err = b.store.Get(ctx, keyPrefix+key); err != nil {
			return nil, fmt.Errorf("reading %s: %w", key, err)
		}
		// fileconsumer reads its whole archive at each poll, and a read from a storage extension costs as much as a write.
		b.mu.Lock()
		if newer, ok := b.written[key]; ok {
			value = newer
		} else {
			b.written[key] = value
		}
		b.mu.Unlock()
	}
	if value == nil && key == archiveKey {
		// fileconsumer takes an archive that was never written for a damaged one.
		value = []byte("0\n")
	}
	return value, nil
}

// Set implements operator.Persister.
func (b *buffer) Set(ctx context.Context, key string, value []byte) error {
	return b.Batch(ctx, storage.SetOperation(key, value))
}

// Delete implements operator.Persister.
func (b *buffer) Delete(ctx context.Context, key string) error {
	return b.Batch(ctx, storage.DeleteOperation(key))
}

// Batch implements operator.Persister.
func (b *buffer) Batch(ctx context.Context, ops ...*storage.Operation) error {
	polled := false
	for _, op := range ops {
		if op.Type == storage.Get {
			value, err := b.Get(ctx, op.Key)
			if err != nil {
				return err
			}
			op.Value = value
			continue
		}
		var value []byte
		if op.Type == storage.Set {
			value = append([]byte{}, op.Value...)
		}
		b.mu.Lock()
		b.written[op.Key] = value
		b.pending[op.Key] = value
		b.mu.Unlock()
		polled = polled || op.Key == pollKey
	}
	if polled {
		b.mu.Lock()
		maps.Copy(b.ready, b.pending)
		clear(b.pending)
		b.mu.Unlock()
		b.pollEnded()
	}
	return nil
}

// changes returns the writes that are ready and not in the storage yet. They are made of values that the buffer does not touch again.
func (b *buffer) changes() []*storage.Operation {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ops []*storage.Operation
	for key, value := range b.ready {
		if old, known := b.committed[key]; known && bytes.Equal(old, value) && (old == nil) == (value == nil) {
			delete(b.ready, key)
			continue
		}
		if value == nil {
			ops = append(ops, storage.DeleteOperation(keyPrefix+key))
		} else {
			ops = append(ops, storage.SetOperation(keyPrefix+key, value))
		}
	}
	return ops
}

// wrote tells that the changes are in the storage.
func (b *buffer) wrote(ops []*storage.Operation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, op := range ops {
		key := op.Key[len(keyPrefix):]
		b.committed[key] = op.Value
		if newest := b.ready[key]; bytes.Equal(newest, op.Value) && (newest == nil) == (op.Value == nil) {
			delete(b.ready, key)
		}
	}
}
