package filestorage

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
)

// waiting is the client of a database that cannot be opened because the disk is full. Each call tries again. Until one succeeds
// nothing is stored, and what is read is as if nothing had been.
type waiting struct {
	open      func(context.Context) (storage.Client, error)
	log       *zap.Logger
	component component.ID

	mu     sync.Mutex
	client storage.Client // nil as long as there is no room
	closed bool
}

var errClosed = errors.New("the storage is closed")

func (w *waiting) opened(ctx context.Context) (storage.Client, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return nil, errClosed
	case w.client != nil:
		return w.client, nil
	}
	client, err := w.open(ctx)
	if err != nil {
		return nil, err
	}
	w.log.Info("The disk has room again: what there is is stored", zap.String("component", w.component.String()))
	w.client = client
	return client, nil
}

// Get implements storage.Client.
func (w *waiting) Get(ctx context.Context, key string) ([]byte, error) {
	op := storage.GetOperation(key)
	err := w.Batch(ctx, op)
	return op.Value, err
}

// Set implements storage.Client.
func (w *waiting) Set(ctx context.Context, key string, value []byte) error {
	return w.Batch(ctx, storage.SetOperation(key, value))
}

// Delete implements storage.Client.
func (w *waiting) Delete(ctx context.Context, key string) error {
	return w.Batch(ctx, storage.DeleteOperation(key))
}

// Batch implements storage.Client.
func (w *waiting) Batch(ctx context.Context, ops ...*storage.Operation) error {
	client, err := w.opened(ctx)
	if err == nil {
		return client.Batch(ctx, ops...)
	}
	for _, op := range ops {
		if op.Type != storage.Get {
			return err
		}
	}
	if !full(err) {
		return err
	}
	return nil
}

// Close implements storage.Client.
func (w *waiting) Close(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.client == nil {
		return nil
	}
	return w.client.Close(ctx)
}
