package journal

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// walked is a disk that is a whole storage client.
type walked struct{ *disk }

func (w walked) Set(ctx context.Context, key string, value []byte) error {
	return w.Batch(ctx, storage.SetOperation(key, value))
}

func (w walked) Delete(ctx context.Context, key string) error {
	return w.Batch(ctx, storage.DeleteOperation(key))
}

func (w walked) Close(context.Context) error { return nil }

func (w walked) Get(ctx context.Context, key string) ([]byte, error) { return w.disk.Get(ctx, key) }

func (w walked) Batch(ctx context.Context, ops ...*storage.Operation) error {
	for _, op := range ops {
		if op.Type == storage.Get {
			op.Value = w.values[op.Key]
			return nil
		}
	}
	return w.disk.Batch(ctx, ops...)
}

func (w walked) Walk(_ context.Context, fn storage.WalkFunc) error {
	for _, key := range slices.Sorted(maps.Keys(w.values)) {
		if _, err := fn(key, w.values[key]); err != nil {
			return err
		}
	}
	return nil
}

func TestSealed(t *testing.T) {
	values := map[string]string{"a": "one", "b": "", "c": "three"}
	for name, test := range map[string]struct {
		damage func(d *disk)
		lost   bool
	}{
		"whole":                                {func(*disk) {}, false},
		"a flipped bit":                        {func(d *disk) { d.values["a"][1] ^= 4 }, true},
		"a flipped checksum":                   {func(d *disk) { d.values["b"][3] ^= 4 }, true},
		"a cut value":                          {func(d *disk) { d.values["c"] = d.values["c"][:2] }, true},
		"another key's value":                  {func(d *disk) { d.values["c"] = d.values["a"] }, true},
		"written before there were any seals":  {func(d *disk) { d.values = map[string][]byte{"a": []byte("one"), "b": {}, "c": []byte("three")} }, false},
		"the mark is gone, and all are sealed": {func(d *disk) { delete(d.values, keySealed) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := &disk{values: map[string][]byte{}}
			s, err := Seal(t.Context(), walked{d})
			require.NoError(t, err)
			for key, value := range values {
				require.NoError(t, s.Set(t.Context(), key, []byte(value)))
			}
			test.damage(d)
			s, err = Seal(t.Context(), walked{d})
			if test.lost {
				require.ErrorIs(t, err, ErrDamaged)
			} else {
				require.NoError(t, err)
			}
			for range 2 {
				for key, value := range values {
					got, err := s.Get(t.Context(), key)
					require.NoError(t, err)
					if test.lost {
						assert.Nil(t, got, key)
					} else {
						assert.Equal(t, value, string(got), key)
					}
				}
				s, err = Seal(t.Context(), walked{d})
				require.NoError(t, err, "once it is clear, or sealed")
			}
		})
	}
}

func TestDamageWhileItIsOpen(t *testing.T) {
	d := &disk{values: map[string][]byte{}}
	s, err := Seal(t.Context(), walked{d})
	require.NoError(t, err)
	require.NoError(t, s.Set(t.Context(), "a", []byte("one")))
	d.values["a"][0]++
	_, err = s.Get(t.Context(), "a")
	require.ErrorIs(t, err, ErrDamaged)
	d.broken = true
	require.Error(t, s.Set(t.Context(), "a", nil))
}
