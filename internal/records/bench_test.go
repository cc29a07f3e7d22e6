package records

import "testing"

// BenchmarkAppend adds a thousand records to a table whose texts are known.
func BenchmarkAppend(b *testing.B) {
	store, err := Open(settings(b.TempDir()), spans)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	table := store.Table("spans")
	batch := sequence(0, 1000)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range batch {
			batch[i].Fields[1].Text = id(n)
			n++
		}
		table.Append(batch)
		if n%100_000 == 0 {
			if err := store.Flush(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
