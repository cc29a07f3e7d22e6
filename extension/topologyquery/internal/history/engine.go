// Package history is the mesh's past: series stored in an embedded Prometheus TSDB, or in any server that speaks
// Prometheus's HTTP API, and asked for through PromQL in both cases.
package history

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/nephilia/nephilia/internal/exphist"
)

// Engine evaluates PromQL. Implementations are safe for concurrent use.
type Engine interface {
	// Instant evaluates an expression at a time. A vector's series have one point each, a range selector's as many as
	// were stored.
	Instant(ctx context.Context, promql string, at time.Time) ([]Result, error)
	// Range evaluates an expression at every step of [start, end].
	Range(ctx context.Context, promql string, start, end time.Time, step time.Duration) ([]Result, error)
	// ExplicitZeros tells that the series' beginnings are stored as explicit zeros, so that a series whose first
	// sample is not zero has a past that is not known.
	ExplicitZeros() bool
}

// Result is one series of an answer.
type Result struct {
	Labels labels.Labels
	Points []Point
}

// Point is a sample: a number, or a histogram where Histogram is not nil.
type Point struct {
	// Time is unix milliseconds.
	Time      int64
	Value     float64
	Histogram *exphist.Histogram
}
