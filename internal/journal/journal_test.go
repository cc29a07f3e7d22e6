package journal

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/extension/xextension/storage"
)

// disk is a client whose batches take place as a whole or not at all.
type disk struct {
	values map[string][]byte
	broken bool
}

func (d *disk) Get(_ context.Context, key string) ([]byte, error) { return d.values[key], nil }

func (d *disk) Batch(_ context.Context, ops ...*storage.Operation) error {
	if d.broken {
		return errors.New("no space left on device")
	}
	for _, op := range ops {
		if op.Type == storage.Delete {
			delete(d.values, op.Key)
		} else {
			d.values[op.Key] = append([]byte(nil), op.Value...)
		}
	}
	return nil
}

type thing struct {
	id     uint64
	name   string
	level  int64
	scale  int32
	port   uint16
	on     bool
	weight float64
	parts  []uint64
}

func (t *thing) code(c *Coder) {
	c.Uint(&t.id)
	c.Text(&t.name)
	c.Int(&t.level)
	c.Int32(&t.scale)
	c.Port(&t.port)
	c.Bool(&t.on)
	c.Float(&t.weight)
	Slice(c, &t.parts, 8, c.Uint)
}

func read(t *testing.T, d *disk) (*Journal, map[uint64]thing) {
	t.Helper()
	j, err := Open(t.Context(), d, func(s string) string { return s })
	require.NoError(t, err)
	state := map[uint64]thing{}
	require.NoError(t, j.Replay(t.Context(), func(kind uint64, c *Coder) {
		require.EqualValues(t, 7, kind)
		var one thing
		one.code(c)
		state[one.id] = one
	}))
	return j, state
}

// parcel is what was taken and the state that it makes.
type parcel struct {
	batch Batch
	state map[uint64]thing
}

func TestTheStateOfTheLastCommitIsFound(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		d := &disk{values: map[string][]byte{}}
		state, committed := map[uint64]thing{}, map[uint64]thing{}
		var taken []parcel
		j, _ := read(t, d)
		for range 200 {
			var changed []uint64
			for range random.IntN(400) {
				one := thing{
					id: random.Uint64N(300), name: fmt.Sprint("workload-", random.IntN(1000)), level: random.Int64() - random.Int64(),
					scale: random.Int32() - random.Int32(), port: uint16(random.Uint32()), on: random.IntN(2) == 0, weight: random.NormFloat64(),
				}
				for range random.IntN(8) {
					one.parts = append(one.parts, random.Uint64())
				}
				state[one.id] = one
				changed = append(changed, one.id)
			}
			if j.Anew() {
				j.Restart()
				changed = changed[:0]
				for id := range state {
					changed = append(changed, id)
				}
			}
			for _, id := range changed {
				one := state[id]
				one.code(j.Record(7))
			}
			// Some of what was taken is not committed yet when more is recorded.
			taken = append(taken, parcel{j.Take(), maps.Clone(state)})
			for len(taken) > random.IntN(3) {
				d.broken = random.IntN(10) == 0
				if err := j.Commit(t.Context(), taken[0].batch); err == nil {
					committed = taken[0].state
					require.False(t, d.broken && !taken[0].batch.Empty())
				}
				taken = taken[1:]
			}
			if random.IntN(20) == 0 {
				d.broken, taken = false, nil
				var found map[uint64]thing
				j, found = read(t, d)
				require.Equal(t, committed, found)
				state = maps.Clone(committed)
			}
		}
		require.Less(t, len(d.values), 400)
	}
}

func TestTheLogIsWrittenAnewOnceItIsLong(t *testing.T) {
	d := &disk{values: map[string][]byte{}}
	j, _ := read(t, d)
	one := thing{id: 1, name: "a"}
	for range 600 {
		if j.Anew() {
			j.Restart()
		}
		for range 1000 {
			one.level++
			one.code(j.Record(7))
		}
		require.NoError(t, j.Commit(t.Context(), j.Take()))
	}
	require.LessOrEqual(t, j.Size(), 2*leastLog)
	_, found := read(t, d)
	require.EqualValues(t, 600_000, found[1].level)
}

func TestDamage(t *testing.T) {
	stored := func() *disk {
		d := &disk{values: map[string][]byte{}}
		j, _ := read(t, d)
		j.Restart()
		for id := range uint64(10) {
			one := thing{id: id, name: fmt.Sprint("n", id%3)}
			one.code(j.Record(7))
			require.NoError(t, j.Commit(t.Context(), j.Take()))
		}
		return d
	}
	replay := func(d *disk) (*Journal, error) {
		j, err := Open(t.Context(), d, func(s string) string { return s })
		if err != nil {
			return j, err
		}
		return j, j.Replay(t.Context(), func(_ uint64, c *Coder) { (&thing{}).code(c) })
	}
	for name, damage := range map[string]func(d *disk){
		"a flipped bit":    func(d *disk) { d.values[key(3)][6] ^= 4 },
		"a missing entry":  func(d *disk) { delete(d.values, key(5)) },
		"a cut entry":      func(d *disk) { d.values[key(5)] = d.values[key(5)][:2] },
		"another version":  func(d *disk) { d.values[keyMeta][0] = 9 },
		"too many entries": func(d *disk) { d.values[keyMeta] = []byte{1, 0, 255, 255, 255, 255, 15} },
		"an empty header":  func(d *disk) { d.values[keyMeta] = []byte{} },
	} {
		t.Run(name, func(t *testing.T) {
			d := stored()
			damage(d)
			j, err := replay(d)
			require.ErrorIs(t, err, ErrDamaged)
			require.True(t, j.Anew())
			j.Restart()
			(&thing{id: 5, name: "anew"}).code(j.Record(7))
			require.NoError(t, j.Commit(t.Context(), j.Take()))
			_, found := read(t, d)
			require.Equal(t, map[uint64]thing{5: {id: 5, name: "anew"}}, found)
		})
	}
}

func FuzzReplay(f *testing.F) {
	func() {
		c := Coder{written: map[string]uint64{}}
		(&thing{id: 1, name: "a", parts: []uint64{1, 2}}).code(&c)
		(&thing{id: 2, name: "a", weight: 3}).code(&c)
		f.Add(c.data)
	}()
	f.Fuzz(func(_ *testing.T, data []byte) {
		c := Coder{reading: true, data: data, intern: func(s string) string { return s }}
		for len(c.data) > 0 && c.err == nil {
			(&thing{}).code(&c)
		}
	})
}
