package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Directory is a Client that keeps each value in a file, for a component that has a directory of its own instead of a storage
// extension. The value that a batch sets last makes the others count: a process or a machine that dies meanwhile leaves what
// there was before. A journal needs no more, since it sets new values first and the one that names them last.
type Directory struct{ path string }

// OpenDirectory makes the directory if there is none.
func OpenDirectory(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, fmt.Errorf("making the journal's directory: %w", err)
	}
	return &Directory{path}, nil
}

func (d *Directory) file(key string) string {
	return filepath.Join(d.path, strings.ReplaceAll(key, "/", "-"))
}

// Get implements Client.
func (d *Directory) Get(_ context.Context, key string) ([]byte, error) {
	value, err := os.ReadFile(d.file(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return value, err
}

// Batch implements Client.
func (d *Directory) Batch(_ context.Context, ops ...*storage.Operation) error {
	last := len(ops) - 1
	for last >= 0 && ops[last].Type != storage.Set {
		last--
	}
	for i, op := range ops {
		if op.Type == storage.Set && i != last {
			if err := write(d.file(op.Key), op.Value); err != nil {
				return err
			}
		}
	}
	if last >= 0 {
		// What the last value names must be there before it is.
		if err := d.sync(); err != nil {
			return err
		}
		file := d.file(ops[last].Key)
		if err := write(file+".new", ops[last].Value); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
		if err := d.sync(); err != nil {
			return err
		}
	}
	for _, op := range ops {
		if op.Type == storage.Delete {
			if err := os.Remove(d.file(op.Key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func write(path string, value []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(value)
	return errors.Join(err, file.Sync(), file.Close())
}

// sync makes the directory's entries durable.
func (d *Directory) sync() error {
	directory, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
