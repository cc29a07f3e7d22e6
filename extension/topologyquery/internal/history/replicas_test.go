package history

import (
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
)

// TestOneReplicaAnswers has three gateways write the same mesh to one store: one that saw everything from the beginning, one that
// learned a policy's name later, and one that joined when the counters had long been running. The store scrapes them as well.
func TestOneReplicaAnswers(t *testing.T) {
	e := open(t, t.TempDir())
	defer func() { require.NoError(t, e.Close()) }()
	w := NewWriter(e.Appendable(), second)
	write := func(s *Series, zeroAt, at int64, value float64) {
		b := w.Batch(t.Context())
		b.Float(s, zeroAt, origin+at, value)
		require.NoError(t, b.Commit(origin+at, false))
	}
	beat := func(replica string) *Series {
		return NewSeries(labels.FromStrings(model.MetricNameLabel, NameSourceUp, "replica", replica))
	}
	of := func(metric, replica string, pairs ...string) *Series {
		return series(metric, append([]string{"replica", replica, semconv.LabelDestinationNamespace, "shop", semconv.LabelDestinationPod, "b-1"}, pairs...)...)
	}
	gateways := map[string]struct {
		from          int64 // minute
		nameKnownFrom int64
	}{
		"gateway-0": {8, 0},
		"gateway-1": {0, 0},
		"gateway-2": {5, 7},
	}
	const minutes = 10
	scraped := NewSeries(labels.FromStrings(model.MetricNameLabel, NameSourceUp))
	scrapedSum := series(NameClosed)
	for at := int64(0); at <= minutes*minute; at += second {
		write(scraped, 0, at, 1)
		write(scrapedSum, 0, at, float64(at))
	}
	for name, g := range gateways {
		up, sum, endpoint := beat(name), of(NameClosed, name), of(NameEndpointClosed, name)
		unnamed, named := of(NameFailed, name), of(NameFailed, name, semconv.LabelPolicy, "billing/no-checkout")
		for i := g.from; i <= minutes; i++ {
			// Of what was counted before it joined, each writes the whole.
			write(up, 0, i*minute, 1)
			write(sum, 0, i*minute, float64(1000+10*i))
			write(endpoint, 0, i*minute, float64(1000+10*i))
			if i < g.nameKnownFrom {
				write(unnamed, 0, i*minute, float64(100+i))
			} else {
				write(named, 0, i*minute, float64(100+i))
			}
		}
	}
	store := NewStore(e, Settings{ReplicaLabel: "replica", Lookback: time.Minute})
	window := func(start, end int64) (n, failed uint64) {
		require.NoError(t, store.Window(t.Context(), origin+start, origin+end, func(_ *edge.Key, c *live.Counts) {
			n += c.Fields[live.Closed]
			failed += c.Failed
		}))
		return n, failed
	}
	for _, test := range []struct{ start, end int64 }{{minute, 10 * minute}, {4 * minute, 9 * minute}, {9 * minute, 10 * minute}} {
		n, failed := window(test.start, test.end)
		assert.EqualValues(t, 10*(test.end-test.start)/minute, n, "%+v", test)
		assert.EqualValues(t, (test.end-test.start)/minute, failed, "%+v", test)
	}

	pods, err := store.Endpoints(t.Context(), origin+4*minute, origin+9*minute, inventory.Name{Namespace: "shop", Name: "b"})
	require.NoError(t, err)
	assert.Equal(t, map[string]Endpoint{"b-1": {Closed: 50}}, pods)

	promql, lines, err := store.Chart(t.Context(), Chart{
		Metric: "connections", Start: time.UnixMilli(origin + 4*minute), End: time.UnixMilli(origin + 9*minute), Step: time.Minute,
	})
	require.NoError(t, err)
	assert.Contains(t, promql, `replica="gateway-1"`)
	require.Len(t, lines, 1)
	for _, p := range lines[0].Points {
		assert.InDelta(t, 10.0/60, p.Value, 1e-9)
	}

	// Without the label all of them are added up.
	assert.Greater(t, closed(t, NewStore(e, Settings{Lookback: time.Minute}), origin+4*minute, origin+9*minute), uint64(50))
	// Matchers hold for the choice as well.
	one := NewStore(e, Settings{Matchers: `replica!="gateway-1"`, ReplicaLabel: "replica", Lookback: time.Minute})
	assert.EqualValues(t, 20, closed(t, one, origin+8*minute, origin+10*minute))
	// A store that holds nothing has no replicas.
	assert.Zero(t, closed(t, store, origin-20*minute, origin-10*minute))
}
