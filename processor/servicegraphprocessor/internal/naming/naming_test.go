package naming

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
)

func newDirectory() *Directory {
	return NewDirectory(Config{MaxEntities: 10, MaxExternal: 2, MaxWeights: 3, Hold: time.Second})
}

func TestExternalsAreForgottenWithTheirEdges(t *testing.T) {
	d := newDirectory()
	name := func(address string) edge.Party {
		party, _ := d.Externals.Name(address)
		return party
	}
	first, second := name("192.0.2.1"), name("192.0.2.2")
	require.Equal(t, edge.Party{Workload: externalWorkload}, name("192.0.2.3"), "the bound is reached")
	d.Externals.Use(first)
	d.Externals.Use(first)
	d.Externals.Use(second)
	d.Externals.Release(first)
	require.Equal(t, edge.Party{Workload: externalWorkload}, name("192.0.2.3"), "an edge has it still")
	d.Externals.Release(first)
	require.Equal(t, edge.Party{Workload: "192.0.2.3"}, name("192.0.2.3"))
	d.Sweep(1, time.Hour)
	require.Equal(t, edge.Party{Workload: externalWorkload}, name("192.0.2.4"), "its edge may be to come")
	d.Sweep(2, time.Hour)
	require.Equal(t, edge.Party{Workload: "192.0.2.4"}, name("192.0.2.4"), "it never got an edge")
}

func TestWeightsAreBoundedAndForgotten(t *testing.T) {
	d := newDirectory()
	key := func(n int) WeightKey {
		return WeightKey{Source: edge.Party{Workload: fmt.Sprint(n)}, Service: "reviews"}
	}
	before := d.Version()
	for n := range 10 {
		d.Weights.Add(key(n), 5, pcommon.Timestamp(time.Minute))
	}
	assert.Equal(t, 3, d.Weights.requests.Len())
	assert.NotEqual(t, before, d.Version(), "what becomes of hops to the service's waypoint may have changed")
	assert.True(t, d.Weights.known("reviews"))
	before = d.Version()
	d.Sweep(pcommon.Timestamp(time.Hour), time.Hour)
	assert.Equal(t, 3, d.Weights.requests.Len())
	assert.Equal(t, before, d.Version())
	d.Sweep(pcommon.Timestamp(2*time.Hour), time.Hour)
	assert.Zero(t, d.Weights.requests.Len())
	assert.False(t, d.Weights.known("reviews"))
	assert.NotEqual(t, before, d.Version())
}
