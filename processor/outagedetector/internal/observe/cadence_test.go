package observe

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestCadence(t *testing.T) {
	begin := int64(1e18)
	random := rand.New(rand.NewPCG(1, 2))
	for name, test := range map[string]struct {
		tell func(c *cadence)
		want time.Duration
		// scraped is the same for an edge that only scrapes tell of, if it differs.
		scraped time.Duration
	}{
		"scraped every minute": {func(c *cadence) {
			for i := range 10 {
				c.note(begin+int64(i)*int64(time.Minute), 100)
			}
		}, time.Minute, time.Minute},
		"scraped every five minutes, not quite": {func(c *cadence) {
			for i := range 10 {
				c.note(begin+int64(i)*int64(5*time.Minute)+random.Int64N(int64(time.Second)), 4)
			}
		}, 5 * time.Minute, 5 * time.Minute},
		"several counters at once": {func(c *cadence) {
			for i := range 10 {
				for range 3 {
					c.note(begin+int64(i)*int64(30*time.Second), 1)
				}
			}
		}, 30 * time.Second, 30 * time.Second},
		"scraped, with gaps": {func(c *cadence) {
			for i := range 10 {
				if i%3 != 1 {
					c.note(begin+int64(i)*int64(time.Minute), 100)
				}
			}
		}, time.Minute, time.Minute},
		"logged as it happens": {func(c *cadence) {
			for i := range 100 {
				c.note(begin+int64(i)*int64(time.Second), 5)
			}
		}, 0, 0},
		"rare": {func(c *cadence) {
			for i := range 100 {
				c.note(begin+int64(i)*int64(10*time.Minute), 1)
			}
		}, 0, 10 * time.Minute},
		"rare, not with each scrape": {func(c *cadence) {
			for i := range 40 {
				if i%3 != 1 {
					c.note(begin+int64(i)*int64(5*time.Minute)+random.Int64N(int64(time.Second)), 1)
				}
			}
		}, 0, 5 * time.Minute},
		"rare and at any time": {func(c *cadence) {
			for i := range 100 {
				c.note(begin+int64(i)*int64(10*time.Minute)+random.Int64N(int64(5*time.Minute)), 1)
			}
		}, 0, 0},
		"in bursts": {func(c *cadence) {
			for i := range 100 {
				c.note(begin+int64(i/3)*int64(time.Minute)+int64(i%3)*int64(time.Second), 10)
			}
		}, 0, 0},
		"too little known": {func(c *cadence) {
			for i := range 4 {
				c.note(begin+int64(i)*int64(time.Minute), 100)
			}
		}, 0, 0},
		"out of order": {func(c *cadence) {
			for i := range 10 {
				c.note(begin-int64(i)*int64(time.Minute), 100)
			}
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var c cadence
			test.tell(&c)
			assert.InDelta(t, test.want, c.interval(false), float64(time.Second))
			assert.InDelta(t, test.scraped, c.interval(true), float64(MinSlot))
		})
	}
}
