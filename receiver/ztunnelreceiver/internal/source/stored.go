package source

import (
	"context"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// Keys keeps the positions of a source's logs apart from those of others in the receiver's storage, by what their keys begin with.
type Keys string

// Of gives operations these keys.
func (k Keys) Of(ops []*storage.Operation) []*storage.Operation {
	own := make([]*storage.Operation, len(ops))
	for i, op := range ops {
		with := *op
		with.Key = string(k) + op.Key
		own[i] = &with
	}
	return own
}

// Store is the storage under these keys; nil if there is no storage.
func (k Keys) Store(client storage.Client) *Store {
	if client == nil {
		return nil
	}
	return &Store{client, k}
}

// Store is a part of a storage.
type Store struct {
	client storage.Client
	keys   Keys
}

// Get implements tail.Store and podlogs.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	return s.client.Get(ctx, string(s.keys)+key)
}

// Batch implements tail.Store.
func (s *Store) Batch(ctx context.Context, ops ...*storage.Operation) error {
	own := s.keys.Of(ops)
	if err := s.client.Batch(ctx, own...); err != nil {
		return err
	}
	for i, op := range own {
		if op.Type == storage.Get {
			ops[i].Value = op.Value
		}
	}
	return nil
}
