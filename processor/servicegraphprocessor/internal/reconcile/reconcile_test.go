package reconcile

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/semconv"
)

var limits = Limits{Window: time.Minute, Skew: 100 * time.Millisecond, Hold: 2 * time.Second}

func at(seconds float64) pcommon.Timestamp {
	return pcommon.Timestamp(1e18 + seconds*1e9)
}

func TestLead(t *testing.T) {
	type step struct {
		at                  float64
		source, destination uint64
	}
	for _, tt := range []struct {
		name  string
		steps []step
		want  uint64
	}{
		{"both at once", []step{{1, 5, 5}}, 5},
		{"the source late", []step{{1, 0, 5}, {2, 5, 0}}, 5},
		{"the destination late", []step{{1, 5, 0}, {2, 0, 5}}, 5},
		{"only the source", []step{{1, 3, 0}, {200, 2, 0}}, 5},
		{"the source's are lost, then the destination's", []step{{1, 0, 10}, {130, 7, 0}}, 17},
		{"too soon to tell loss from lateness", []step{{1, 0, 10}, {30, 7, 0}}, 10},
		{"a loss in the middle of traffic", []step{{1, 5, 5}, {2, 0, 4}, {3, 5, 5}, {70, 5, 5}, {140, 5, 5}, {141, 3, 0}}, 27},
		{"a late excess after an early one", []step{{0, 1, 0}, {1, 9, 0}, {300, 0, 4}}, 14},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l Lead
			var sum uint64
			for _, s := range tt.steps {
				a, b := l.Apply(at(s.at), s.source, s.destination, limits)
				sum += a + b
			}
			assert.Equal(t, tt.want, sum)
		})
	}
}

// TestLeadWaitsForWhoIsCutOff has one end cut off for longer than the window: what only the other one told is not settled.
func TestLeadWaitsForWhoIsCutOff(t *testing.T) {
	var l Lead
	cut := limits
	cut.Heard = [2]pcommon.Timestamp{0, at(1)}
	n, _ := l.Apply(at(2), 10, 0, cut)
	require.EqualValues(t, 10, n)
	n, _ = l.Apply(at(100), 3, 0, cut)
	require.EqualValues(t, 3, n)
	_, late := l.Apply(at(101), 0, 13, cut)
	require.Zero(t, late)
	cut.Heard[1] = at(300)
	n, _ = l.Apply(at(300), 1, 1, cut)
	require.EqualValues(t, 1, n)
}

// TestLeadCountsEveryConnectionOnce plays random traffic whose two ends report with random skew, while now the one and
// then the other end is down.
func TestLeadCountsEveryConnectionOnce(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 7))
		const seconds = 900
		rate := 1 + random.IntN(200)
		maxSkew := random.IntN(80)
		var reports [2][seconds + 2]uint64
		var truth uint64
		down := func(second int) int {
			switch {
			case second >= 100 && second < 160:
				return 0
			case second >= 400 && second < 430:
				return 1
			case second >= 700 && second < 720:
				return 0
			}
			return -1
		}
		for second := range seconds {
			// Traffic pauses now and then, as it does.
			if second%97 < 5 {
				continue
			}
			for range random.IntN(rate + 1) {
				truth++
				ms := second*1000 + random.IntN(1000)
				for end := range 2 {
					if down(second) == end {
						continue
					}
					late := 0
					if end == 0 {
						late = random.IntN(maxSkew + 1)
					}
					reports[end][(ms+late)/1000]++
				}
			}
		}
		var l Lead
		var sum uint64
		for second := range seconds + 2 {
			s, d := reports[0][second], reports[1][second]
			if s == 0 && d == 0 {
				continue
			}
			a, b := l.Apply(at(float64(second)), s, d, limits)
			sum += a + b
		}
		// Never twice; and what an end missed is found but for what was ordinarily under way, once per loss.
		require.LessOrEqual(t, sum, truth, "seed %d rate %d skew %d", seed, rate, maxSkew)
		missed := float64(rate) * limits.Skew.Seconds()
		require.GreaterOrEqual(t, float64(sum), float64(truth)-2*missed-float64(rate*maxSkew)/1000, "seed %d rate %d skew %d", seed, rate, maxSkew)
	}
}

func TestLeadNeverCountsSkewTwice(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 11))
		var l Lead
		var sum, truth, owed uint64
		for second := range 1000 {
			n := uint64(random.IntN(500))
			if second%200 > 150 {
				n = 0
			}
			truth += n
			late := min(n, uint64(random.IntN(20)))
			a, b := l.Apply(at(float64(second)), n-late+owed, n, limits)
			owed = late
			sum += a + b
		}
		require.Equal(t, truth, sum, "seed %d", seed)
	}
}

func TestFailures(t *testing.T) {
	denied := Reason{Type: semconv.ErrorTypePolicyDenied, Policy: "billing/no-checkout"}
	unauthorized := Reason{Type: semconv.ErrorTypePolicyDenied}
	connect := Reason{Type: semconv.ErrorTypeConnectFailed}
	refused := Reason{Type: semconv.ErrorTypeConnectionRefused}
	type step struct {
		at                  float64
		source, destination []Failed
	}
	n := func(reason Reason, n uint64) []Failed { return []Failed{{Reason: reason, N: n}} }
	for _, tt := range []struct {
		name  string
		steps []step
		want  map[Reason]uint64
	}{
		{"the server knows at once", []step{{1, n(connect, 3), n(refused, 3)}}, map[Reason]uint64{refused: 3}},
		{"the server knows later", []step{{1, n(unauthorized, 3), nil}, {2, nil, n(denied, 3)}}, map[Reason]uint64{denied: 3}},
		{"the server knew before", []step{{1, nil, n(denied, 3)}, {2, n(unauthorized, 3), nil}}, map[Reason]uint64{denied: 3}},
		{"the server knows some", []step{{1, n(connect, 5), nil}, {2, nil, n(refused, 3)}, {4, nil, nil}}, map[Reason]uint64{refused: 3, connect: 2}},
		{"the server knows too late", []step{{1, n(connect, 5), nil}, {4, nil, nil}, {5, nil, n(refused, 5)}}, map[Reason]uint64{connect: 5}},
		{"the client knows by itself", []step{{1, n(refused, 4), nil}}, map[Reason]uint64{refused: 4}},
		{"both know", []step{{1, n(refused, 4), n(refused, 4)}}, map[Reason]uint64{refused: 4}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f Failures
			got := map[Reason]uint64{}
			for _, s := range tt.steps {
				for _, c := range f.Apply(at(s.at), s.source, s.destination, limits, nil) {
					got[c.Reason] += c.N
				}
			}
			assert.Equal(t, tt.want, got)
			assert.Zero(t, f.Held())
		})
	}
}

func TestFailuresFlush(t *testing.T) {
	var f Failures
	connect := Failed{Reason: Reason{Type: semconv.ErrorTypeConnectFailed}, Route: 3, N: 2}
	require.Empty(t, f.Apply(at(1), []Failed{connect}, nil, limits, nil))
	require.EqualValues(t, 2, f.Held())
	require.Equal(t, []Failed{connect}, f.Flush(nil))
	require.Zero(t, f.Held())
	require.Empty(t, f.Apply(at(1.5), nil, []Failed{{Reason: Reason{Type: semconv.ErrorTypeConnectionRefused}, N: 2}}, limits, nil),
		"what was counted keeps its reason")
}

func TestApplyAllocatesNothing(t *testing.T) {
	var l Lead
	var f Failures
	source := []Failed{{Reason: Reason{Type: semconv.ErrorTypeConnectFailed}, N: 1}}
	destination := []Failed{{Reason: Reason{Type: semconv.ErrorTypeConnectionRefused}, N: 1}}
	counted := make([]Failed, 0, 8)
	now := 0.0
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		now++
		l.Apply(at(now), 3, 2, limits)
		counted = f.Apply(at(now), source, destination, limits, counted[:0])
	}))
}
