package filestorage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
)

// waiting is the client of a database that cannot be opened for writing because the disk is full. Each call tries again. Until one
// succeeds nothing is stored, and what the file holds is read: a component that took it for empty would count anew what it had counted.
type waiting struct {
	open      func(context.Context) (storage.Client, error)
	path      string
	timeout   time.Duration
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
	w.mu.Lock()
	defer w.mu.Unlock()
	return readFile(w.path, w.timeout, ops)
}

// readFile gets values from a database's file, none where there is no file. It does not write to it.
func readFile(path string, timeout time.Duration, ops []*storage.Operation) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: timeout})
	if err != nil {
		return fmt.Errorf("opening %s to read: %w", path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bucketName)
		if bucket == nil {
			return nil
		}
		for _, op := range ops {
			op.Value = bytes.Clone(bucket.Get([]byte(op.Key)))
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// bucketName is contrib's name of the only bucket.
var bucketName = []byte("default")

// fileName is contrib's name of a component's database.
func fileName(kind component.Kind, id component.ID, name string) string {
	file := strings.ToLower(kind.String()) + "_" + id.Type().String() + "_" + id.Name()
	if name != "" {
		file += "_" + name
	}
	var safe strings.Builder
	for _, c := range file {
		if c < utf8.RuneSelf && (c == '.' || c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			safe.WriteRune(c)
		} else {
			fmt.Fprintf(&safe, "~%04X", c)
		}
	}
	if safe.Len() > maxFileName {
		return fmt.Sprintf("%x", sha256.Sum256([]byte(safe.String())))
	}
	return safe.String()
}

// maxFileName is what Unix's file systems allow.
const maxFileName = 255

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
