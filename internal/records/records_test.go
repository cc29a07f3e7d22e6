package records

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

var origin = time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)

var spans = Kind{
	Name: "spans", Ints: []string{"duration"}, Raw: []string{"trace", "id"}, Lookups: []string{"trace"}, Identity: []string{"trace", "id"}, Share: 0.5,
}

func settings(directory string) Settings {
	return Settings{Directory: directory, MaxBytes: 1 << 30, Retention: 24 * time.Hour, Now: func() time.Time { return origin }, Logger: zap.NewNop()}
}

func open(t *testing.T, s Settings, kinds ...Kind) *Store {
	t.Helper()
	if len(kinds) == 0 {
		kinds = []Kind{spans}
	}
	store, err := Open(s, kinds...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// id is bytes that are different for each number.
func id(n int) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(n)*0x9e3779b97f4a7c15))
}

// record is the nth of a sequence in which each differs from those before.
func record(n int) Record {
	r := Record{Time: origin.Add(time.Duration(n) * time.Second).UnixNano(), Fields: []Field{
		{Name: "trace", Text: id(n / 4)},
		{Name: "id", Text: id(n)},
		{Name: "duration", Number: int64(n%100) * 1000},
		{Name: "service", Text: fmt.Sprint("service-", n%7)},
	}}
	if n%5 == 0 {
		r.Fields = append(r.Fields, Field{Name: "attr.http.route", Text: fmt.Sprint("/things/", n%3)})
	}
	return r
}

func sequence(from, to int) (list []Record) {
	for n := from; n < to; n++ {
		list = append(list, record(n))
	}
	return list
}

// numbers returns which of the sequence are found, and checks that each is as it was.
func numbers(t *testing.T, table *Table, q Query) (found []int) {
	t.Helper()
	require.NoError(t, Find(t.Context(), table, &q, func(r Row) bool {
		n := int(r.Time()-origin.UnixNano()) / int(time.Second)
		for _, want := range record(n).Fields {
			if want.Text != "" {
				assert.Equal(t, want.Text, r.Text(want.Name))
			} else {
				assert.Equal(t, want.Number, r.Number(want.Name))
			}
		}
		if n%5 != 0 {
			assert.Empty(t, r.Text("attr.http.route"))
		}
		found = append(found, n)
		return true
	}))
	return found
}

func count(from, to int) (list []int) {
	for n := from; n < to; n++ {
		list = append(list, n)
	}
	return list
}

func TestFoundInMemoryInFilesMergedAndReopened(t *testing.T) {
	directory := t.TempDir()
	store := open(t, settings(directory))
	table := store.Table("spans")
	check := func(n int) {
		t.Helper()
		assert.Equal(t, count(0, n), numbers(t, table, Query{Order: Oldest}))
		all := count(0, n)
		slices.Reverse(all)
		assert.Equal(t, all, numbers(t, table, Query{}))
		assert.Equal(t, []int{40, 41, 42, 43}, numbers(t, table, Query{Where: []Clause{{{Field: "trace", Equals: id(10)}}}, Order: Oldest}))
		assert.Equal(t, []int{30, 45}, numbers(t, table, Query{
			From: origin.Add(20 * time.Second).UnixNano(), Until: origin.Add(50 * time.Second).UnixNano(), Order: Oldest,
			Where: []Clause{{{Field: "attr.http.route", Equals: "/things/0"}}},
		}))
		assert.Equal(t, []int{39}, numbers(t, table, Query{Where: []Clause{
			{{Field: "duration", Number: func(v int64) bool { return v == 39000 }}},
			{{Field: "service", Equals: "none"}, {Field: AnyText, Text: func(v string) bool { return strings.HasSuffix(v, "-4") }}},
		}}))
		assert.Equal(t, []int{13, 12, 11}, numbers(t, table, Query{Before: 15, After: 11}))
		assert.Empty(t, numbers(t, table, Query{Where: []Clause{{{Field: "other", Equals: "x"}}}}))
		assert.EqualValues(t, n, table.Newest())
		assert.EqualValues(t, n, table.Status().Records)
	}
	for n := range 20 {
		assert.Equal(t, 5, table.Append(sequence(n*5, n*5+5)))
		assert.Zero(t, table.Append(sequence(n*5, n*5+5)), "what comes again is not stored again")
		if n == 0 {
			assert.Equal(t, count(0, 5), numbers(t, table, Query{Order: Oldest}))
		}
		require.NoError(t, store.Flush())
	}
	check(100)
	assert.Len(t, table.files, 20)
	store.merge(t.Context())
	check(100)
	assert.Len(t, table.files, 1)
	assert.EqualValues(t, 100, table.Status().Repeated)

	require.NoError(t, store.Close())
	store = open(t, settings(directory))
	table = store.Table("spans")
	check(100)
	assert.Zero(t, table.Append(sequence(50, 100)), "not even after a restart")
	assert.Equal(t, 1, table.Append(sequence(100, 101)))
	status := table.Status()
	assert.Equal(t, origin, status.Since)
	assert.True(t, status.Complete)
}

// TestMergedWithoutABoundOnAge merges also what is kept for ever.
func TestMergedWithoutABoundOnAge(t *testing.T) {
	s := settings(t.TempDir())
	s.Retention = 0
	now := origin
	s.Now = func() time.Time { return now }
	store := open(t, s)
	table := store.Table("spans")
	for n := range fanIn {
		now = now.Add(time.Second)
		table.Append(sequence(n*5, n*5+5))
		require.NoError(t, store.Flush())
	}
	store.merge(t.Context())
	assert.Len(t, table.files, 1)
	assert.Equal(t, count(0, 40), numbers(t, table, Query{Order: Oldest}))
}

func TestMergeThatWasInterrupted(t *testing.T) {
	directory := t.TempDir()
	store := open(t, settings(directory))
	table := store.Table("spans")
	for n := range fanIn {
		table.Append(sequence(n*5, n*5+5))
		require.NoError(t, store.Flush())
	}
	saved := map[string][]byte{}
	for _, f := range table.files {
		content, err := os.ReadFile(f.path)
		require.NoError(t, err)
		saved[f.path] = content
	}
	store.merge(t.Context())
	require.NoError(t, store.Close())
	for path, content := range saved {
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(directory, "spans", "1.parquet.tmp"), nil, 0o600))
	table = open(t, settings(directory)).Table("spans")
	assert.Equal(t, count(0, 40), numbers(t, table, Query{Order: Oldest}))
	entries, err := os.ReadDir(filepath.Join(directory, "spans"))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}

// TestDamagedFilesCostTheirRecords damages one of three files in every way and finds the records of the others.
func TestDamagedFilesCostTheirRecords(t *testing.T) {
	for name, damage := range map[string]func(content []byte) []byte{
		"emptied":           func([]byte) []byte { return nil },
		"cut at the end":    func(c []byte) []byte { return c[:len(c)-20] },
		"cut at the start":  func(c []byte) []byte { return c[100:] },
		"cut in the middle": func(c []byte) []byte { return append(slices.Clone(c[:200]), c[400:]...) },
		"bytes changed": func(c []byte) []byte {
			return append(append(slices.Clone(c[:300]), "damage!damage!damage!damage!damage!"...), c[335:]...)
		},
		"zeros":          func(c []byte) []byte { return make([]byte, len(c)) },
		"something else": func([]byte) []byte { return []byte("PAR1 is how it begins and it ends with PAR1") },
		"the footer": func(c []byte) []byte {
			return append(slices.Clone(c[:len(c)-300]), slices.Concat(make([]byte, 280), c[len(c)-20:])...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			store := open(t, settings(directory))
			table := store.Table("spans")
			for n := range 3 {
				table.Append(sequence(n*50, n*50+50))
				require.NoError(t, store.Flush())
			}
			path := table.files[1].path
			require.NoError(t, store.Close())
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(path, damage(content), 0o600))

			store = open(t, settings(directory))
			table = store.Table("spans")
			want := append(count(0, 50), count(100, 150)...)
			assert.Equal(t, want, numbers(t, table, Query{Order: Oldest, Where: []Clause{{{Field: AnyText, Text: func(string) bool { return true }}}}}))
			assert.Equal(t, []string{filepath.Base(path)}, table.Status().Damaged)
			assert.FileExists(t, filepath.Join(directory, "spans", "damaged", filepath.Base(path)))
			assert.Equal(t, 10, table.Append(sequence(150, 160)))
			require.NoError(t, store.Close())
			table = open(t, settings(directory)).Table("spans")
			assert.Equal(t, append(want, count(150, 160)...), numbers(t, table, Query{Order: Oldest}))
		})
	}
}

func TestDamageThatIsFoundByAMerge(t *testing.T) {
	directory := t.TempDir()
	store := open(t, settings(directory))
	table := store.Table("spans")
	for n := range fanIn {
		table.Append(sequence(n*50, n*50+50))
		require.NoError(t, store.Flush())
	}
	f, err := os.OpenFile(table.files[3].path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("damage!damage!damage!damage!damage!"), 300)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	store.merge(t.Context())
	assert.Len(t, table.Status().Damaged, 1)
	assert.Equal(t, append(count(0, 150), count(200, 400)...), numbers(t, table, Query{Order: Oldest}))
}

func TestADiskThatTakesNothing(t *testing.T) {
	directory := t.TempDir()
	store := open(t, settings(directory))
	table := store.Table("spans")
	away := filepath.Join(directory, "away")
	require.NoError(t, os.Rename(filepath.Join(directory, "spans"), away))
	assert.Equal(t, 10, table.Append(sequence(0, 10)))
	require.Error(t, store.Flush())
	for n := 10; n < maxBuffered+100; n += 1000 {
		table.Append(sequence(n, n+1000))
	}
	assert.Positive(t, table.Status().Dropped[DropDisk])
	assert.EqualValues(t, maxBuffered, table.Status().Records)
	require.NoError(t, os.Rename(away, filepath.Join(directory, "spans")))
	require.NoError(t, store.Flush())
	require.NoError(t, store.Flush())
	assert.Equal(t, count(0, 10), numbers(t, table, Query{Order: Oldest, Before: 11}), "what waited is kept")
	assert.Equal(t, 1, table.Append([]Record{{Time: 1}}))
}

func TestAge(t *testing.T) {
	now := origin
	s := settings(t.TempDir())
	s.Now = func() time.Time { return now }
	store := open(t, s)
	table := store.Table("spans")
	table.Append(sequence(0, 10))
	// Times of the records' own neither keep nor remove anything.
	table.Append([]Record{{Time: origin.AddDate(50, 0, 0).UnixNano()}, {Time: 1}})
	require.NoError(t, store.Flush())
	assert.Equal(t, origin, table.Status().Since)
	hours := func(n int) {
		for range n * 60 {
			now = now.Add(time.Minute)
			store.expire(now)
		}
	}
	hours(12)
	table.Append(sequence(10, 20))
	require.NoError(t, store.Flush())
	hours(11)
	assert.EqualValues(t, 22, table.Status().Records)
	hours(2)
	assert.EqualValues(t, 10, table.Status().Records)
	assert.False(t, table.Status().Complete)

	// A clock that is wrong for a while.
	for _, jump := range []time.Duration{1000 * time.Hour, -1000 * time.Hour} {
		for n := range patience / 2 {
			store.expire(now.Add(jump + time.Duration(n)*time.Minute))
		}
		store.expire(now)
	}
	assert.EqualValues(t, 10, table.Status().Records)
	now = now.AddDate(1, 0, 0)
	hours(2)
	assert.Zero(t, table.Status().Records)
}

// TestLeaving copies what is about to leave into a table whose records do not age.
func TestLeaving(t *testing.T) {
	now := origin
	s := settings(t.TempDir())
	s.Now = func() time.Time { return now }
	kept := spans
	kept.Name, kept.Ageless = "kept", true
	var store *Store
	s.Leaving = func(from *Table, after, before uint64) {
		var batch []Record
		require.NoError(t, Find(t.Context(), from, &Query{After: after, Before: before, Order: Oldest, Where: []Clause{{{Field: "service", Equals: "service-3"}}}}, func(r Row) bool {
			batch = append(batch, r.Record())
			return true
		}))
		store.Table("kept").Append(batch)
	}
	store = open(t, s, spans, kept)
	store.Table("spans").Append(sequence(0, 20))
	require.NoError(t, store.Flush())
	for range 48 * 60 {
		now = now.Add(time.Minute)
		store.expire(now)
		if now.Sub(origin) < time.Hour {
			require.NoError(t, store.Flush())
		}
	}
	assert.Zero(t, store.Table("spans").Status().Records)
	assert.Equal(t, []int{3, 10, 17}, numbers(t, store.Table("kept"), Query{Order: Oldest}))
}

func TestEachKindIsSureOfItsShare(t *testing.T) {
	s := settings(t.TempDir())
	s.MaxBytes = 100_000
	quiet := spans
	quiet.Name = "quiet"
	store := open(t, s, spans, quiet)
	for n := range 30 {
		store.Table("quiet").Append(sequence(n, n+1))
		store.Table("spans").Append(sequence(n*1000, n*1000+1000))
		require.NoError(t, store.Flush())
		store.shrink()
	}
	loud := store.Table("spans").Status()
	assert.EqualValues(t, 30, store.Table("quiet").Status().Records, "the other kind pushes out none")
	assert.Less(t, loud.Records, uint64(30_000))
	assert.LessOrEqual(t, loud.Bytes+store.Table("quiet").Status().Bytes, s.MaxBytes)
	assert.False(t, loud.Complete)
	assert.Equal(t, 29_999, numbers(t, store.Table("spans"), Query{})[0], "the newest are kept")
}

// TestFieldsBeyondTheBound have no column of their own, and are found all the same.
func TestFieldsBeyondTheBound(t *testing.T) {
	store := open(t, settings(t.TempDir()))
	table := store.Table("spans")
	for n := range maxColumns * 2 {
		table.Append([]Record{{Time: 1, Fields: []Field{{Name: fmt.Sprint("attr.", n), Text: "v"}, {Name: strings.Repeat("long", 100), Text: "w"}}}})
	}
	for range 2 {
		for _, name := range []string{"attr.0", fmt.Sprint("attr.", maxColumns*2-1)} {
			found := 0
			require.NoError(t, Find(t.Context(), table, &Query{Where: []Clause{HasField(name, "v")}}, func(r Row) bool {
				found++
				assert.Equal(t, "w", r.More()[strings.Repeat("long", 100)])
				return true
			}))
			assert.Equal(t, 1, found, name)
		}
		require.NoError(t, store.Flush())
	}
	assert.LessOrEqual(t, len(table.columns), maxColumns)
}

func TestLatestFirst(t *testing.T) {
	store := open(t, settings(t.TempDir()))
	table := store.Table("spans")
	for _, n := range []int{200, 0, 100} {
		table.Append(sequence(n, n+10))
		require.NoError(t, store.Flush())
	}
	var firsts []int64
	require.NoError(t, Blocks(t.Context(), table, &Query{Order: Latest}, func(b *Block, next int64) bool {
		_, latest := b.Bounds()
		assert.Less(t, next, latest)
		firsts = append(firsts, (b.Times()[0]-origin.UnixNano())/int64(time.Second))
		assert.NotEmpty(t, b.ID())
		return true
	}))
	assert.Equal(t, []int64{200, 100, 0}, firsts)
}

func TestLargeTables(t *testing.T) {
	directory := t.TempDir()
	store := open(t, settings(directory))
	table := store.Table("spans")
	for n := 0; n < 150_000; n += 10_000 {
		require.Equal(t, 10_000, table.Append(sequence(n, n+10_000)))
	}
	require.NoError(t, store.Close())
	store = open(t, settings(directory))
	table = store.Table("spans")
	require.Greater(t, len(table.files[0].parts), 1)
	assert.Equal(t, []int{99_999, 99_998, 99_997, 99_996}, numbers(t, table, Query{Where: []Clause{{{Field: "trace", Equals: id(99_999 / 4)}}}}))
	assert.Zero(t, table.Append(sequence(50_000, 51_000)))
}
