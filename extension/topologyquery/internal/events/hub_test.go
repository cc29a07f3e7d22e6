package events

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSlowClientsDoNotHoldUpOthers(t *testing.T) {
	h := New(2, 4)
	slow, _, _, err := h.Subscribe("")
	require.NoError(t, err)
	quick, _, _, err := h.Subscribe("")
	require.NoError(t, err)
	for i := range 10 {
		h.Publish("graph", []byte(fmt.Sprint(i)))
		assert.Equal(t, fmt.Sprint(i), string((<-quick.Events()).Data))
	}
	assert.False(t, quick.Lost())
	assert.True(t, slow.Lost())
	assert.False(t, slow.Lost(), "only once")
	assert.Empty(t, slow.Events(), "what is stale is dropped")
	h.Publish("graph", []byte("new"))
	assert.Equal(t, "new", string((<-slow.Events()).Data))
	assert.EqualValues(t, 1, h.Resyncs())
	_, _, _, err = h.Subscribe("")
	require.Error(t, err, "there is no room for a third")
	slow.Close()
	_, _, _, err = h.Subscribe("")
	require.NoError(t, err)
	h.Close()
	assert.Equal(t, "new", string((<-quick.Events()).Data))
	_, open := <-quick.Events()
	assert.False(t, open)
	h.Publish("graph", nil)
}

func TestResume(t *testing.T) {
	h := New(10, 4)
	h.Publish("a", nil)
	last := h.Newest()
	h.Publish("b", nil)
	h.Publish("c", nil)
	_, missed, resync, err := h.Subscribe(last)
	require.NoError(t, err)
	assert.False(t, resync)
	require.Len(t, missed, 2)
	assert.Equal(t, "b", missed[0].Type)
	for range kept {
		h.Publish("d", nil)
	}
	for _, id := range []string{last, "", "nonsense", "00000000-1", h.boot + "-99999999", h.boot + "-x"} {
		_, missed, resync, err := h.Subscribe(id)
		require.NoError(t, err)
		assert.Equal(t, id != "", resync, id)
		assert.Empty(t, missed)
	}
}

func TestLargeEventsAreNotKeptForLong(t *testing.T) {
	h := New(10, 4)
	h.Publish("small", nil)
	first := h.Newest()
	for range 20 {
		h.Publish("graph", make([]byte, 4<<20))
		require.LessOrEqual(t, h.bytes, keptBytes)
	}
	recent := h.Newest()
	h.Publish("graph", make([]byte, keptBytes+1))
	_, missed, resync, err := h.Subscribe(recent)
	require.NoError(t, err)
	assert.False(t, resync, "the newest event is always kept")
	assert.Len(t, missed, 1)
	_, missed, resync, err = h.Subscribe(first)
	require.NoError(t, err)
	assert.True(t, resync)
	assert.Empty(t, missed)
	h.Publish("small", nil)
	assert.Zero(t, h.bytes)
}

func TestSlowClientOfAClosedHub(t *testing.T) {
	h := New(1, 1)
	c, _, _, err := h.Subscribe("")
	require.NoError(t, err)
	for range 3 {
		h.Publish("graph", []byte("{}"))
	}
	h.Close()
	assert.True(t, c.Lost())
	assert.False(t, c.Lost(), "that is told once")
	_, open := <-c.Events()
	assert.False(t, open)
}

// TestNobodyThere keeps events only for those who may want them.
func TestNobodyThere(t *testing.T) {
	h := New(10, 4)
	h.Publish("a", nil)
	assert.False(t, h.Wanted())
	c, _, _, err := h.Subscribe("")
	require.NoError(t, err)
	assert.True(t, h.Wanted())
	last := h.Newest()
	c.Close()
	for n := range kept {
		assert.True(t, h.Wanted(), n)
		h.Publish("b", nil)
	}
	assert.False(t, h.Wanted())
	newest := h.Newest()
	for id, want := range map[string]bool{last: true, newest: false} {
		_, missed, resync, err := h.Subscribe(id)
		require.NoError(t, err)
		assert.Equal(t, want, resync)
		assert.Empty(t, missed)
	}
	h.Publish("c", nil)
	_, missed, resync, err := h.Subscribe(newest)
	require.NoError(t, err)
	assert.False(t, resync)
	assert.Len(t, missed, 1)
}
