package requests

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

func TestQueueReusesItsMemory(t *testing.T) {
	var q queue[int]
	next := 0
	for n := range 10_000 {
		q.push(n)
		if n%3 > 0 {
			require.Equal(t, next, q.first())
			require.Equal(t, next, q.pop())
			next++
		}
	}
	sum := 0
	for item := range q.all() {
		sum += *item
	}
	assert.Equal(t, 10_000-next, q.len())
	assert.Equal(t, (next+9999)*q.len()/2, sum)
	assert.Less(t, cap(q.items), 3*q.len())
}

func TestSentAreBoundedAndForgotten(t *testing.T) {
	const second = pcommon.Timestamp(time.Second)
	s := newSent(100, time.Second)
	pod := naming.Pod{Namespace: "shop", Name: "client-1"}
	for n := range 200 {
		at := pcommon.Timestamp(n) * second
		s.add(&Exchange{arrived: at, call: &appspan.Call{Start: at}}, pod, "10.0.0.1")
	}
	found := 0
	count := func(*Exchange) { found++ }
	s.Around(pod, "10.0.0.1", 50*second, count)
	assert.Equal(t, 3, found, "the second and those beside it")
	s.Around(pod, "10.0.0.1", 150*second, count)
	assert.Equal(t, 3, found, "there was no room")
	assert.True(t, s.Instrumented(pod, 200*second))
	s.Expire(1000 * second)
	assert.Empty(t, s.byTime)
	assert.Zero(t, s.indexed)
	assert.False(t, s.Instrumented(pod, 1000*second))
}
