package records

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestRecent remembers identities in any order: the newest are known, those long gone are new again.
func TestRecent(t *testing.T) {
	const size = 1000
	random := rand.New(rand.NewPCG(1, 2))
	s, all := newRecent(size), make([]uint64, 10*size)
	for i := range all {
		all[i] = random.Uint64() | 1
		assert.True(t, s.add(all[i]))
		back := all[max(0, i-size+1)]
		assert.Falsef(t, s.add(back), "%d: %d", i, back)
	}
	assert.True(t, slices.IsSorted(s.newer) && slices.IsSorted(s.older))
	assert.LessOrEqual(t, len(s.now)+len(s.newer)+len(s.older), 3*size)
	assert.True(t, s.add(all[0]))
	assert.True(t, s.add(0), "what has no identity is new")
	assert.True(t, s.add(0))
}

func BenchmarkRecent(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	s := newRecent(remembered)
	for b.Loop() {
		s.add(random.Uint64() | 1)
	}
}
