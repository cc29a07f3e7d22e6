package expiry

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

func keys[K comparable, V any](t *Table[K, V]) (all []K) {
	for key := range t.All() {
		all = append(all, key)
	}
	return all
}

func TestTable(t *testing.T) {
	var gone []string
	table := New(3, func(key string, _ int) { gone = append(gone, key) })
	for i, key := range []string{"a", "b", "c"} {
		assert.True(t, table.Add(key, i, pcommon.Timestamp(i+1)))
	}
	assert.False(t, table.Add("d", 3, 4), "full")
	assert.EqualValues(t, 1, table.Refused())
	assert.True(t, table.Add("a", 10, 4), "a key that is known is not new")
	value, ok := table.Get("a")
	assert.Equal(t, 10, value)
	assert.True(t, ok)
	assert.Equal(t, []string{"b", "c", "a"}, keys(table))

	_, ok = table.Use("b", 5)
	assert.True(t, ok)
	_, ok = table.Use("x", 5)
	assert.False(t, ok)
	_, ok = table.Get("x")
	assert.False(t, ok)
	assert.Equal(t, []string{"c", "a", "b"}, keys(table))

	assert.Equal(t, 1, table.Sweep(4))
	assert.Equal(t, []string{"c"}, gone)
	assert.True(t, table.Delete("a"))
	assert.False(t, table.Delete("a"))
	assert.Equal(t, []string{"c"}, gone, "deleted on purpose")

	table.Put("e", 1, 6)
	table.Put("f", 1, 7)
	table.Put("g", 1, 8)
	assert.Equal(t, []string{"c", "b"}, gone, "the oldest made room")
	assert.EqualValues(t, 1, table.Displaced())
	assert.Equal(t, []string{"e", "f", "g"}, keys(table))
	for key := range table.All() {
		if key == "f" {
			break
		}
		table.Delete(key)
	}
	assert.Equal(t, []string{"f", "g"}, keys(table))
	table.Clear()
	assert.Zero(t, table.Len())
	assert.True(t, table.Add("a", 1, 1))
	assert.Equal(t, []string{"a"}, keys(table))

	key, _, used, ok := table.Oldest()
	assert.True(t, ok)
	assert.Equal(t, "a", key)
	assert.EqualValues(t, 1, used)

	nothing := New[string, int](0, nil)
	_, _, _, ok = nothing.Oldest()
	assert.False(t, ok)
	nothing.Put("a", 1, 1)
	assert.Zero(t, nothing.Len())
}

func TestTimesThatGoBack(t *testing.T) {
	table := New[string, int](9, nil)
	table.Add("a", 0, 100)
	table.Add("b", 0, 50) // counts as used at 100
	assert.Zero(t, table.Sweep(100))
	table.Add("c", 0, 1000)
	table.Rewind(60)
	table.Use("b", 70)
	assert.Equal(t, 2, table.Sweep(61), "a and c were used at 60 at the latest")
	assert.Equal(t, []string{"b"}, keys(table))
}

// FuzzTable compares with a list.
func FuzzTable(f *testing.F) {
	f.Add([]byte("aAbBcCdDaSbP"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		const limit = 5
		table := New[byte, int](limit, nil)
		var list []byte
		var used [256]pcommon.Timestamp
		use := func(key byte, now pcommon.Timestamp) {
			list = append(slices.DeleteFunc(list, func(k byte) bool { return k == key }), key)
			used[key] = now
		}
		for i, op := range ops {
			now, key := pcommon.Timestamp(i), op%8
			switch op / 8 % 4 {
			case 0:
				if table.Add(key, i, now) != (slices.Contains(list, key) || len(list) < limit) {
					t.Fatal("added")
				}
				if _, ok := table.Get(key); ok {
					use(key, now)
				}
			case 1:
				if !slices.Contains(list, key) && len(list) == limit {
					list = list[1:]
				}
				table.Put(key, i, now)
				use(key, now)
			case 2:
				table.Delete(key)
				list = slices.DeleteFunc(list, func(k byte) bool { return k == key })
			case 3:
				before := max(now, 3) - 3
				table.Sweep(before)
				list = slices.DeleteFunc(list, func(k byte) bool { return used[k] < before })
			}
			if !slices.Equal(list, keys(table)) {
				t.Fatal(list, keys(table))
			}
		}
	})
}

func BenchmarkUse(b *testing.B) {
	table := New[int, int](1000, nil)
	for i := range 1000 {
		table.Add(i, i, 0)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.Use(i*7919%1000, pcommon.Timestamp(i))
	}
}

func BenchmarkPut(b *testing.B) {
	table := New[int, int](1000, nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		table.Put(i, i, pcommon.Timestamp(i))
	}
}
