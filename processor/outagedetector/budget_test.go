package outagedetector

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// budgetShop is a shop of which one burn rate alone is judged, with an objective of 99 % for its frontend.
func budgetShop(t *testing.T, id string) (s *shop, live func(d time.Duration, failedOfThousand uint64)) {
	s = newShop(t, func(c *Config) {
		c.SLOs = []SLO{{Subject: rules.Subject{Workload: "frontend"}, Objective: 0.99}}
		c.Rules = map[string]rules.Change{}
		for i := range rules.Defaults {
			if rules.Defaults[i].ID != id {
				c.Rules[rules.Defaults[i].ID] = rules.Change{Enabled: ptr(false)}
			}
		}
	})
	s.interval = time.Minute
	e := s.edge("load/loadgen", "shop/frontend")
	return s, func(d time.Duration, failed uint64) {
		s.run(d, func() { e.ok(1000, s.frontend...).answer(1000, failed, 20*time.Millisecond, s.frontend...) })
	}
}

// TestBurnRates holds each burn rate to its two windows: it fires when both have used the budget too fast, not when only the short one
// has, and it ends with the short one.
func TestBurnRates(t *testing.T) {
	for id, test := range map[string]struct {
		health time.Duration
		failed uint64 // of a thousand, ten of which are the budget
		// brief is too short for the long window; fires is after how long it no longer is.
		brief, fires time.Duration
		short        time.Duration
	}{
		// 20 times too fast exceeds 14.4 over an hour once it has lasted for 43 minutes.
		rules.BurnFast: {health: 2 * time.Hour, failed: 200, brief: 40 * time.Minute, fires: 44 * time.Minute, short: 5 * time.Minute},
		// 9 times too fast exceeds 6 over six hours after four.
		rules.BurnMedium: {health: 7 * time.Hour, failed: 90, brief: 225 * time.Minute, fires: 4 * time.Hour, short: 30 * time.Minute},
		// Three times too fast exceeds 1 over all of 60 hours after 20.
		rules.BurnSlow: {health: 40 * time.Hour, failed: 30, brief: 18 * time.Hour, fires: 20 * time.Hour, short: 6 * time.Hour},
	} {
		t.Run(id, func(t *testing.T) {
			s, live := budgetShop(t, id)
			live(test.health, 0)
			live(test.brief, test.failed)
			live(test.short, 0)
			assert.Empty(t, s.outages(), "the long window is not used up")

			s, live = budgetShop(t, id)
			live(test.health, 0)
			began := s.now
			live(test.fires+time.Hour, test.failed)
			ended := s.now
			require.Len(t, s.outages(), 1)
			assert.WithinDuration(t, began.Add(test.fires), s.outages()[0].DetectedAt, max(2*time.Minute, test.fires/20))
			require.Equal(t, semconv.OutageStateOpen, s.outages()[0].State)
			live(test.short+5*time.Minute, 0)
			require.Equal(t, semconv.OutageStateResolved, s.outages()[0].State)
			assert.LessOrEqual(t, s.outages()[0].EndedAt.Sub(ended), test.short+2*time.Minute)
			assert.Equal(t, "shop/frontend", rootText(s.outages()[0].Root))
		})
	}
}

// TestBudgetLeft holds the metric to what was counted over three days.
func TestBudgetLeft(t *testing.T) {
	s, live := budgetShop(t, "")
	live(10*time.Hour, 0)
	assert.InDelta(t, 1, s.budgetLeft(), 1e-9)
	live(5*time.Hour, 5)
	assert.InDelta(t, 1-5.*5/(15*10), s.budgetLeft(), 1e-9)
	live(5*time.Hour, 200)
	assert.InDelta(t, 1-(5.*5+5*200)/(20*10), s.budgetLeft(), 1e-9, "overdrawn")
	live(72*time.Hour, 0)
	assert.InDelta(t, 1, s.budgetLeft(), 1e-9, "after three days it is forgotten")
}

// budgetLeft is the newest value of the metric.
func (w *world) budgetLeft() (left float64) {
	for _, md := range w.outMetrics.AllMetrics() {
		for _, resource := range md.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, m := range scope.Metrics().All() {
					if m.Name() == metricBudget {
						left = m.Gauge().DataPoints().At(0).DoubleValue()
					}
				}
			}
		}
	}
	return left
}
