package ingest

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
)

// open is an ingester on the history in a folder, as a process finds it that starts.
func open(t *testing.T, folder string) (*Ingester, *history.Embedded, *history.Store) {
	t.Helper()
	db, err := history.OpenEmbedded(slog.New(slog.DiscardHandler), history.EmbeddedSettings{
		Directory: folder, Retention: time.Hour, OutOfOrderWindow: time.Minute, Lookback: 5 * time.Minute, QueryTimeout: time.Minute, MaxSamples: 1e6,
	})
	require.NoError(t, err)
	in := newIngester(func(s *Settings) { s.Keep = func(string) bool { return true } })
	in.History = history.NewWriter(db.Appendable(), 1000)
	if oldest, newest, ok := db.Bounds(); ok {
		in.Sources.Restore(oldest, newest)
		in.Restored = true
	}
	return in, db, history.NewStore(db, history.Settings{Lookback: 5 * time.Minute})
}

// TestRestart kills a process between two points of its series: the history and the live graph go on, and count what begins
// just after, even if it says of itself that it is older.
func TestRestart(t *testing.T) {
	const s = int64(1000)
	folder := t.TempDir()
	in, db, _ := open(t, folder)
	write := func(workload string, start, at int64, value float64) {
		require.NoError(t, in.Metrics(t.Context(), point("g", workload, origin+start, origin+at, value)))
	}
	write("old", 0, 5*s, 7)
	write("young", 50*s, 55*s, 3)
	require.NoError(t, in.Final(t.Context()))
	require.NoError(t, db.Close())

	in, db, past := open(t, folder)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	write("old", 0, 60*s, 9)
	write("young", 50*s, 60*s, 3)
	write("new", -3600*s, 61*s, 2) // a failure of an edge that is older, say
	write("anew", 62*s, 63*s, 4)
	write("old", 0, 64*s, 10)
	require.NoError(t, in.Final(t.Context()))

	assert.EqualValues(t, 1+2+4, closed(in, origin+56*s, origin+3600*s), "the live graph counts what is surely new")
	counts := map[string]uint64{}
	require.NoError(t, past.Window(t.Context(), origin, origin+100*s, func(key *edge.Key, c *live.Counts) {
		counts[key.Source.Workload] = c.Fields[live.Closed]
	}))
	assert.Equal(t, map[string]uint64{"old": 10, "young": 3, "new": 2, "anew": 4}, counts)
}
