package budget

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBudget(t *testing.T) {
	b := New(10)
	require.NoError(t, b.Reserve(6))
	require.ErrorIs(t, b.Reserve(5), ErrExceeded)
	assert.EqualValues(t, 6, b.Used(), "what was refused takes nothing")
	require.NoError(t, b.Reserve(4))
	b.Charge(5)
	assert.EqualValues(t, 15, b.Used())
	b.Release(10)
	require.ErrorIs(t, b.Reserve(6), ErrExceeded)
	require.NoError(t, b.Reserve(5))

	var unbounded *Budget
	require.NoError(t, unbounded.Reserve(1<<60))
	unbounded.Release(1 << 60)
	assert.Zero(t, unbounded.Used())
}
