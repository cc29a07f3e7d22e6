package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// keySealed is there where all values are sealed.
const keySealed = "sealed"

// Sealed is a storage client that stores each value with a checksum over its key and itself, and tells what is damaged.
type Sealed struct{ storage.Client }

// Seal returns a client that seals what it stores in another one, of which it must be the only user. Everything that is stored is read. With an
// error that wraps ErrDamaged nothing is stored any more, and the client can be used; what was stored before there were seals is
// sealed.
func Seal(ctx context.Context, client storage.Client) (Sealed, error) {
	s := Sealed{client}
	walker, ok := client.(storage.Walker)
	if !ok {
		return s, nil
	}
	values := map[string][]byte{}
	err := walker.Walk(ctx, func(key string, value []byte) ([]*storage.Operation, error) {
		values[key] = append([]byte(nil), value...)
		return nil, nil
	})
	if err != nil {
		return s, fmt.Errorf("reading what is stored: %w", err)
	}
	broken := ""
	for key, value := range values {
		if _, err := unseal(key, value); err != nil {
			broken = key
		}
	}
	var ops []*storage.Operation
	_, marked := values[keySealed]
	for key, value := range values {
		switch _, err := unseal(key, value); {
		case broken == "":
		case !marked && err != nil:
			ops = append(ops, storage.SetOperation(key, seal(key, value)))
		default:
			ops = append(ops, storage.DeleteOperation(key))
		}
	}
	if !marked || len(ops) > 0 {
		ops = append(ops, storage.SetOperation(keySealed, seal(keySealed, nil)))
	}
	// A disk that is full keeps what it has.
	if err := client.Batch(ctx, ops...); err != nil && marked {
		return s, fmt.Errorf("clearing what is stored: %w", err)
	}
	if broken != "" && marked {
		return s, fmt.Errorf("%w: %q", ErrDamaged, broken)
	}
	return s, nil
}

func seal(key string, value []byte) []byte {
	sealed := make([]byte, 0, len(value)+headSize)
	sealed = append(sealed, value...)
	return binary.LittleEndian.AppendUint32(sealed, sum(key, value))
}

func sum(key string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, value)
}

func unseal(key string, sealed []byte) ([]byte, error) {
	end := len(sealed) - headSize
	if end < 0 || binary.LittleEndian.Uint32(sealed[end:]) != sum(key, sealed[:end]) {
		return nil, fmt.Errorf("%w: %q", ErrDamaged, key)
	}
	return sealed[:end:end], nil
}

// Get implements storage.Client.
func (s Sealed) Get(ctx context.Context, key string) ([]byte, error) {
	sealed, err := s.Client.Get(ctx, key)
	if err != nil || sealed == nil {
		return nil, err
	}
	return unseal(key, sealed)
}

// Set implements storage.Client.
func (s Sealed) Set(ctx context.Context, key string, value []byte) error {
	return s.Client.Set(ctx, key, seal(key, value))
}

// Batch implements storage.Client. The operations stay as they are but for what is read.
func (s Sealed) Batch(ctx context.Context, ops ...*storage.Operation) error {
	sealed := make([]*storage.Operation, len(ops))
	for i, op := range ops {
		sealed[i] = op
		if op.Type == storage.Set {
			sealed[i] = storage.SetOperation(op.Key, seal(op.Key, op.Value))
		}
	}
	if err := s.Client.Batch(ctx, sealed...); err != nil {
		return err
	}
	var errs []error
	for _, op := range ops {
		if op.Type == storage.Get && op.Value != nil {
			var err error
			op.Value, err = unseal(op.Key, op.Value)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
