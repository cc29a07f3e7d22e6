package outagedetector

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// rarely is a mesh whose ztunnels are scraped once a minute; heartbeats and what logs tell come every five seconds.
type rarely struct {
	*world
	ticks int
	// answers tells whether a scrape of node-a gets an answer.
	answers bool
}

const scrapeEvery = 12

func newRarely(t *testing.T) *rarely {
	r := &rarely{world: newWorld(t, nil), answers: true}
	r.node("node-a", "node-b")
	return r
}

// live lets time pass. Each interval tells what logs tell in it and, if there is a scrape in it, what that tells.
func (r *rarely) live(d time.Duration, logged, scraped func()) {
	r.run(d, func() {
		scrape := r.ticks%scrapeEvery == 0
		r.ticks++
		for name, n := range r.nodes {
			n.scrape = scrape
			if scrape {
				n.sources[semconv.SourceMetrics] = name != "node-a" || r.answers
			}
		}
		if logged != nil {
			logged()
		}
		if scrape && scraped != nil {
			scraped()
		}
	})
}

// TestOneScrapeOfMany is a scrape that gets no answer: nothing, if the next one does; lost telemetry, if none does.
func TestOneScrapeOfMany(t *testing.T) {
	start := func() (*rarely, func()) {
		r := newRarely(t)
		web, api := r.pod("shop/web", "web-1", "node-b"), r.pod("shop/api", "api-1", "node-a")
		_ = web
		e := r.edge("shop/web", "shop/api")
		calls := func() { e.ok(6, api) }
		r.live(5*time.Minute, calls, nil)
		return r, calls
	}
	r, calls := start()
	r.answers = false
	r.live(time.Minute, calls, nil)
	r.answers = true
	r.live(5*time.Minute, calls, nil)
	assert.Empty(t, r.outages())

	r, calls = start()
	r.answers = false
	r.live(4*time.Minute, calls, nil)
	require.Len(t, r.outages(), 1)
	assert.Equal(t, rules.KindTelemetryLost, r.outages()[0].Kind)
	assert.Equal(t, "node/node-a", rootText(r.outages()[0].Root))
}

// TestOneScrapeOfAQuietNode is a scrape without an answer of a node whose log happens to stand still: the next one tells.
func TestOneScrapeOfAQuietNode(t *testing.T) {
	for name, down := range map[string]bool{"answers again": false, "is down": true} {
		t.Run(name, func(t *testing.T) {
			// What the edges make of it is another question.
			r := &rarely{answers: true, world: newWorld(t, func(c *Config) {
				c.Rules = map[string]rules.Change{rules.TrafficLoss: {Enabled: ptr(false)}}
			})}
			r.node("node-a", "node-b")
			r.pod("shop/web", "web-1", "node-b")
			api, db := r.pod("shop/api", "api-1", "node-a"), r.pod("data/db", "db-1", "node-b")
			toAPI, toDB := r.edge("shop/web", "shop/api"), r.edge("shop/web", "data/db")
			elsewhere := func() { toDB.ok(6, db) }
			calls := func() { toAPI.ok(6, api); elsewhere() }
			r.live(5*time.Minute, calls, nil)
			r.answers = false
			r.live(50*time.Second, elsewhere, nil)
			assert.Empty(t, r.outages())
			if !down {
				r.answers = true
				r.live(10*time.Second, elsewhere, nil)
				r.live(5*time.Minute, calls, nil)
				assert.Empty(t, r.outages())
				return
			}
			r.live(40*time.Second, elsewhere, nil)
			require.Len(t, r.outages(), 1)
			assert.Equal(t, rules.KindNodeDown, r.outages()[0].Kind)
			assert.Equal(t, "node/node-a", rootText(r.outages()[0].Root))
		})
	}
}

// TestFailuresOnAQuietNode is a node whose log stands still while connections to what runs there fail, long before its next scrape: a
// few may have failed by themselves.
func TestFailuresOnAQuietNode(t *testing.T) {
	for failures, down := range map[uint64]bool{1: false, 10: true} {
		t.Run(fmt.Sprint(failures), func(t *testing.T) {
			r := &rarely{answers: true, world: newWorld(t, func(c *Config) {
				c.Rules = map[string]rules.Change{
					rules.TrafficLoss: {Enabled: ptr(false)}, rules.Reset: {Enabled: ptr(false)}, rules.PartialOutage: {Enabled: ptr(false)},
				}
			})}
			r.node("node-a", "node-b")
			r.pod("shop/web", "web-1", "node-b")
			api, auth, db := r.pod("shop/api", "api-1", "node-a"), r.pod("shop/auth", "auth-1", "node-a"), r.pod("data/db", "db-1", "node-b")
			toAPI, toAuth, toDB := r.edge("shop/web", "shop/api"), r.edge("shop/web", "shop/auth"), r.edge("shop/web", "data/db")
			r.live(5*time.Minute, func() { toAPI.ok(6, api); toAuth.ok(6, auth); toDB.ok(6, db) }, nil)
			silent, fails := r.nodes["node-a"].seen, failures
			r.live(30*time.Second, func() {
				r.nodes["node-a"].seen = silent
				toDB.ok(6, db)
				toAPI.fail(fails, semconv.ErrorTypeConnectionReset, "", api)
				toAuth.fail(fails, semconv.ErrorTypeConnectionReset, "", auth)
				fails = 0
			}, nil)
			if !down {
				assert.Empty(t, r.outages())
				return
			}
			require.Len(t, r.outages(), 1)
			assert.Equal(t, rules.KindNodeDown, r.outages()[0].Kind)
		})
	}
}

// TestKeptConnectionsScrapedRarely are edges of which one shows in logs at once and the other with the next scrape only: a job that
// works now and then is seen to stop or to begin on one before the other.
func TestKeptConnectionsScrapedRarely(t *testing.T) {
	for name, keptFirst := range map[string]bool{"to the caller": true, "to the called": false} {
		t.Run(name, func(t *testing.T) {
			r := newRarely(t)
			r.pod("batch/job", "job-1", "node-a")
			mid, stock := r.pod("shop/prices", "prices-1", "node-a"), r.pod("shop/stock", "stock-1", "node-b")
			in, out := r.edge("batch/job", "shop/prices"), r.edge("shop/prices", "shop/stock")
			kept, short, served := in, out, stock
			if !keptFirst {
				kept, short, served = out, in, mid
			}
			kept.open(4)
			var carried uint64
			scraped := func() {
				kept.sent += carried
				kept.changed = kept.changed || carried > 0
				carried = 0
			}
			works := func() {
				carried += 20_000
				short.ok(6, served)
			}
			for range 8 {
				r.live(170*time.Second, works, scraped)
				r.live(230*time.Second, nil, scraped)
			}
			assert.Empty(t, r.outages())

			if !keptFirst {
				return // too little is told of it to miss it
			}
			r.live(30*time.Minute, works, scraped)
			r.live(14*time.Minute, func() { carried += 20_000 }, scraped)
			require.Len(t, r.outages(), 1)
			assert.Equal(t, rules.KindTrafficLoss, r.outages()[0].Kind)
			assert.Equal(t, "shop/prices", rootText(r.outages()[0].Root))
		})
	}
}

// TestPausesAsEver is an edge that pauses for minutes although its source is called all the time, as where some of its callers cannot
// be seen: once that is known, only a pause far beyond all others is a loss.
func TestPausesAsEver(t *testing.T) {
	s := newShop(t, nil)
	e := s.edge("shop/cart", "shop/prices")
	prices := s.pod("shop/prices", "prices-1", "node-c")
	works := func() { s.live(); e.ok(5, prices) }
	for range 10 {
		s.run(100*time.Second, works)
		s.run(3*time.Minute, s.live)
	}
	require.Len(t, s.outages(), 1, "the first time nobody can know")
	assert.Less(t, s.outages()[0].DetectedAt.Sub(begin), 5*time.Minute)

	s.run(100*time.Second, works)
	s.run(20*time.Minute, s.live)
	outages := s.outages()
	require.Len(t, outages, 2)
	assert.Equal(t, rules.KindTrafficLoss, outages[1].Kind)
	assert.Equal(t, "shop/cart", rootText(outages[1].Root))
}

// TestOverflowIsNobodys has failures that the graph counts together because it has no room to tell them apart: nobody is at fault.
func TestOverflowIsNobodys(t *testing.T) {
	for _, overflow := range []bool{false, true} {
		w := newWorld(t, nil)
		w.node("node-a")
		e := w.edge("/overflow", "/overflow")
		e.overflow = overflow
		w.run(2*time.Minute, func() { e.ok(20) })
		w.run(2*time.Minute, func() { e.ok(10).fail(10, semconv.ErrorTypeConnectionRefused, "") })
		assert.Equal(t, overflow, len(w.outages()) == 0)
	}
}
