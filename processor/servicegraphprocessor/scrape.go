package servicegraphprocessor

import (
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// scrapedEdge is what ztunnels' own counters say of an edge.
type scrapedEdge struct {
	active uint64
}

type scrapeTable struct{}

func newScrapeTable(*Config) *scrapeTable { return &scrapeTable{} }

func (t *scrapeTable) end(*metricSource) {}

func (g *graph) applyScraped(*metricSource, pmetric.Metric) {}

func (g *graph) settleScrapes(pcommon.Timestamp, bool) {}

// show brings the values that leave up to date.
func (e *edgeState) show() {
	s := &e.shown
	s.closed = max(s.closed, e.closed)
	s.opened = max(s.opened, s.closed)
	s.sent = max(s.sent, e.sent)
	s.received = max(s.received, e.received)
	s.failed = append(s.failed[:0], e.failed...)
}
