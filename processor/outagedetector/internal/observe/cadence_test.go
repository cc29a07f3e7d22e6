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
	}{
		"scraped every minute": {func(c *cadence) {
			for i := range 10 {
				c.note(begin+int64(i)*int64(time.Minute), 100)
			}
		}, time.Minute},
		"scraped every five minutes, not quite": {func(c *cadence) {
			for i := range 10 {
				c.note(begin+int64(i)*int64(5*time.Minute)+random.Int64N(int64(time.Second)), 4)
			}
		}, 5 * time.Minute},
		"several counters at once": {func(c *cadence) {
			for i := range 10 {
				for range 3 {
					c.note(begin+int64(i)*int64(30*time.Second), 1)
				}
			}
		}, 30 * time.Second},
		"scraped, with gaps": {func(c *cadence) {
			for i := range 10 {
				if i%3 != 1 {
					c.note(begin+int64(i)*int64(time.Minute), 100)
				}
			}
		}, time.Minute},
		"logged as it happens": {func(c *cadence) {
			for i := range 100 {
				c.note(begin+int64(i)*int64(time.Second), 5)
			}
		}, 0},
		"rare": {func(c *cadence) {
			for i := range 100 {
				c.note(begin+int64(i)*int64(10*time.Minute), 1)
			}
		}, 0},
		"in bursts": {func(c *cadence) {
			for i := range 100 {
				c.note(begin+int64(i/3)*int64(time.Minute)+int64(i%3)*int64(time.Second), 10)
			}
		}, 0},
		"too little known": {func(c *cadence) {
			for i := range 4 {
				c.note(begin+int64(i)*int64(time.Minute), 100)
			}
		}, 0},
		"out of order": {func(c *cadence) {
			for i := range 10 {
				c.note(begin-int64(i)*int64(time.Minute), 100)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var c cadence
			test.tell(&c)
			assert.Equal(t, test.want, c.interval())
		})
	}
}
