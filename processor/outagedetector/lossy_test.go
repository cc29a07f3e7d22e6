package outagedetector

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// TestFailuresWithoutALine are failures that counters alone tell of, as they do of connections that are cut while they are closed and whose lines
// were lost. They are an outage where no log could tell more, or where a line says that one failed.
func TestFailuresWithoutALine(t *testing.T) {
	for name, test := range map[string]struct {
		logged, line bool
		outages      int
	}{
		"the logs go on":                {logged: true},
		"the logs go on, with one line": {logged: true, line: true, outages: 1},
		"no log":                        {outages: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, nil)
			for _, n := range s.nodes {
				n.sources[semconv.SourceAccessLog] = test.logged
			}
			s.health()
			s.broken[toPayment] = func(e *worldEdge) {
				e.fail(4, semconv.ErrorTypeConnectFailed, "", s.payment...).ok(2, s.payment...)
			}
			if test.line {
				s.flow("node-b", "checkout-1", "payment-1", semconv.DirectionOutbound, semconv.ErrorTypeConnectFailed, "", "http status: 503 Service Unavailable")
			}
			s.run(30*time.Second, s.live)
			s.recovery()
			require.Len(t, s.outages(), test.outages)
		})
	}
}

// TestExplainedForAsLongAsItsCause is a caller whose failures are put down to what it calls: when no more of those are told of, as where
// lines are lost or connections hang, it does not become an outage of its own.
func TestExplainedForAsLongAsItsCause(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.run(20*time.Second, s.live)
	s.broken[toPayment] = nil
	s.broken[toCheckout] = func(e *worldEdge) { e.ok(60, s.checkout...).answer(60, 60, 60*time.Millisecond, s.checkout...) }
	s.run(time.Minute, s.live)
	s.recovery()
	require.Len(t, s.outages(), 1)
	assert.Equal(t, rules.KindConnectionRefused, s.outages()[0].Kind)
	assert.Equal(t, "billing/payment", rootText(s.outages()[0].Root))
}

// TestHungServerWithoutALog is a server that accepts connections and never answers where only the scrapes tell of connections: it is an outage as
// where a log grows, unless the scrapes that would tell that connections end fail themselves.
func TestHungServerWithoutALog(t *testing.T) {
	for name, scraped := range map[string]bool{"scraped": true, "no scrape": false} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, nil)
			for _, n := range s.nodes {
				delete(n.sources, semconv.SourceAccessLog)
			}
			s.health()
			for _, n := range s.nodes {
				n.seen = time.Time{}
				n.scrape = scraped
			}
			s.broken[toRedis] = func(e *worldEdge) { e.open(8) }
			s.run(30*time.Second, s.live)
			if !scraped {
				assert.Empty(t, s.outages())
				return
			}
			require.Len(t, s.outages(), 1)
			assert.Equal(t, rules.KindConnectionTimeout, s.outages()[0].Kind)
			assert.Equal(t, "data/redis", rootText(s.outages()[0].Root))
		})
	}
}
