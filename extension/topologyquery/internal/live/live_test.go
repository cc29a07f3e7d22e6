package live

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
)

// happened is one change, remembered plainly.
type happened struct {
	at     int64
	field  Field
	n      uint64
	reason Reason
	active int64
	kind   int
	bucket int32
}

func TestWindowsEqualPlainSums(t *testing.T) {
	const resolution = 1000
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			g := New(Settings{Window: 1 << 40, Resolution: resolution, MaxEdges: 10})
			var log []happened
			now := int64(1_000_000)
			var e *Edge
			for range 300 {
				now += resolution * (1 + random.Int64N(5))
				g.Update(func(w Writer) {
					e = w.Edge(edge.Key{Service: "a"})
					for range random.IntN(6) {
						h := happened{at: now, n: random.Uint64N(1 << random.IntN(30)), kind: random.IntN(6)}
						switch h.kind {
						case 0, 1:
							h.field = Field(random.IntN(int(NumFields)))
							w.Add(e, h.field, now, h.n)
						case 2:
							h.reason = Reason{ErrorType: fmt.Sprint("r", random.IntN(3)), Policy: fmt.Sprint("p", random.IntN(2))}
							w.AddFailed(e, h.reason, now, h.n)
						case 3:
							h.active = random.Int64N(9)
							w.SetActive(e, now, h.active)
						case 4:
							h.bucket = random.Int32N(200) - 100
							w.AddBucket(e, OfRequest, now, Scale, h.bucket, h.n)
						case 5:
							w.AddZero(e, OfConnection, now, h.n)
						}
						log = append(log, h)
					}
				})
			}
			for range 200 {
				start := 999_000 + random.Int64N(now-999_000)
				end := start + random.Int64N(now-start+5000)
				var want Counts
				for _, h := range log {
					if h.at <= end && h.kind == 3 {
						want.Active = h.active
					}
					if h.at <= start || h.at > end {
						continue
					}
					switch h.kind {
					case 0, 1:
						want.Fields[h.field] += h.n
					case 2:
						want.AddReason(h.reason, h.n)
					case 4:
						want.Request.AddBucket(exphist.NativeLayout, Scale, h.bucket, h.n)
					case 5:
						want.Connection.AddZero(h.n)
					}
				}
				s := g.Window(start, end, true)
				got := s.Counts[0]
				require.Equal(t, want.Fields, got.Fields)
				require.Equal(t, want.Failed, got.Failed)
				require.ElementsMatch(t, want.Reasons, got.Reasons)
				if end-now < quietAfter {
					require.Equal(t, want.Active, got.Active)
				}
				require.Equal(t, want.Request.Count, got.Request.Count)
				require.Equal(t, want.Connection.Zero, got.Connection.Zero)
				qs, a, b := []float64{0.1, 0.5, 0.99}, make([]float64, 3), make([]float64, 3)
				if want.Request.Count > 0 {
					want.Request.Quantiles(qs, a)
					got.Request.Quantiles(qs, b)
					require.InDeltaSlice(t, a, b, 1e-9)
				}
				s.Release()
			}
		})
	}
}

// TestKeptCountsAreThoseCountedAnew asks for windows that slide with the clock, as viewers do.
func TestKeptCountsAreThoseCountedAnew(t *testing.T) {
	kept := 0
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 5))
		g := New(Settings{Window: 600_000, Resolution: 5000, MaxEdges: 10})
		now := int64(1_000_000)
		for range 1500 {
			now += random.Int64N(3000)
			g.Update(func(w Writer) {
				w.Advance(now)
				for range random.IntN(3) {
					e := w.Edge(edge.Key{Port: uint16(random.IntN(8))})
					switch random.IntN(4) {
					case 0:
						w.SetActive(e, now, random.Int64N(3))
					case 1:
						w.AddFailed(e, Reason{ErrorType: fmt.Sprint(random.IntN(3))}, now, 1)
					case 2:
						w.Add(e, Closed, now, 0) // heard of, unchanged
					default:
						w.Add(e, Field(random.IntN(int(NumFields))), now, 1+random.Uint64N(9))
						w.AddBucket(e, OfConnection, now, Scale, random.Int32N(50), 1)
					}
				}
				if random.IntN(40) == 0 {
					w.Expire(now)
				}
			})
			start, end := now-60_000-random.Int64N(2)*1000, now+random.Int64N(2)*(random.Int64N(9000)-4000)
			got := g.Window(start, end, true)
			for i, e := range got.Edges {
				if got.Counts[i].Kept != nil {
					kept++
				}
				before := e.memo.Swap(nil)
				var memory scratch
				var own Counts
				want := e.window(start, end, &memory, &own)
				e.memo.Store(before)
				require.Equal(t, plain(want), plain(got.Counts[i]), "seed %d, [%d, %d) at %d", seed, start, end, now)
			}
			got.Release()
		}
	}
	require.Greater(t, kept, 20_000)
}

// plain is what counts say, whatever memory they were read into.
func plain(c *Counts) string {
	return fmt.Sprint(c.Fields, c.Failed, c.Active, c.Reasons, c.Connection.Zero, c.Connection.Offset, c.Connection.Counts, c.Request.Count)
}

func TestBounds(t *testing.T) {
	g := New(Settings{Window: 60_000, Resolution: 1000, MaxEdges: 2})
	g.Update(func(w Writer) {
		require.NotNil(t, w.Edge(edge.Key{Service: "a"}))
		require.NotNil(t, w.Edge(edge.Key{Service: "b"}))
		require.Nil(t, w.Edge(edge.Key{Service: "c"}))
	})
	assert.EqualValues(t, 1, g.Stats().Rejected)
	g.Update(func(w Writer) {
		e := w.Edge(edge.Key{Service: "a"})
		for i := range int64(10_000) {
			w.Add(e, Closed, 1_000_000+i*1000, 1)
		}
		for i := range 1000 {
			w.AddFailed(e, Reason{ErrorType: fmt.Sprint(i)}, 11_000_000, 1)
		}
		require.LessOrEqual(t, len(e.names.reasons), maxReasons)
		require.Less(t, len(e.chunks), 8)
		require.Equal(t, 1, w.Expire(11_000_000), "the edge that was never heard of")
		require.Equal(t, 1, w.Expire(12_000_000))
		require.True(t, e.Removed())
	})
	assert.Zero(t, g.Stats().Edges)
}

// TestBeforeAnyTime asks for a window that ends before 1970 while an edge has told nothing that was stored, as when the first edge
// comes before the first heartbeat.
func TestBeforeAnyTime(t *testing.T) {
	g := New(Settings{Window: 60_000, Resolution: 1000, MaxEdges: 2})
	g.Update(func(w Writer) {
		require.NotNil(t, w.Edge(edge.Key{Service: "silent"}))
		w.Add(w.Edge(edge.Key{Service: "a"}), Closed, 1, 3)
	})
	changed, _, _ := g.Changed(0, -300_000, 0, 10)
	defer changed.Release()
	for _, counts := range changed.Counts {
		assert.Zero(t, counts.Fields[Closed])
	}
}

func TestCoarseAndFineBucketsStayWithinTheirBounds(t *testing.T) {
	g := New(Settings{Window: 60_000, Resolution: 1000, MaxEdges: 2})
	for scale := int32(-4); scale <= 8; scale++ {
		var e *Edge
		g.Update(func(w Writer) {
			e = w.Edge(edge.Key{Service: "a", Port: uint16(scale + 10)})
			if e == nil {
				w.Expire(1 << 40)
				e = w.Edge(edge.Key{Service: "a", Port: uint16(scale + 10)})
			}
			w.AddBucket(e, OfRequest, 1000, scale, 0, 10)
		})
		counts := e.window(0, 1000, &scratch{}, &Counts{})
		out := make([]float64, 1)
		counts.Request.Quantiles([]float64{0.5}, out)
		assert.Greater(t, out[0], 1.0)
		assert.LessOrEqual(t, out[0], max(exphist.Upper(scale, 0), exphist.Upper(Scale, 0)), "scale %d", scale)
	}
}
