package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/exphist"
)

// EmbeddedSettings say where and how much an Embedded stores.
type EmbeddedSettings struct {
	Directory        string
	Retention        time.Duration
	MaxBytes         int64
	OutOfOrderWindow time.Duration
	Lookback         time.Duration
	QueryTimeout     time.Duration
	MaxSamples       int
}

// Embedded is a Prometheus TSDB with its engine, in this process. It implements Engine.
type Embedded struct {
	db     *tsdb.DB
	engine *promql.Engine
}

// OpenEmbedded opens the TSDB in a directory. After a crash it replays the write-ahead log.
func OpenEmbedded(logger *slog.Logger, settings EmbeddedSettings) (*Embedded, error) {
	options := tsdb.DefaultOptions()
	options.RetentionDuration = settings.Retention.Milliseconds()
	options.MaxBytes = settings.MaxBytes
	options.OutOfOrderTimeWindow = settings.OutOfOrderWindow.Milliseconds()
	options.WALCompression = compression.Snappy
	// Compaction follows the data's own times: two hours of data make a block, as in Prometheus.
	options.MaxBlockDuration = max(options.MinBlockDuration, min(31*24*time.Hour.Milliseconds(), options.RetentionDuration/10))
	options.StripeSize = 1 << 11
	db, err := tsdb.Open(settings.Directory, logger, nil, options, nil)
	if err != nil {
		return nil, fmt.Errorf("opening the history in %s: %w", settings.Directory, err)
	}
	return &Embedded{
		db: db,
		engine: promql.NewEngine(promql.EngineOpts{
			Logger:               logger,
			MaxSamples:           settings.MaxSamples,
			Timeout:              settings.QueryTimeout,
			LookbackDelta:        settings.Lookback,
			EnableAtModifier:     true,
			EnableNegativeOffset: true,
			Parser:               parser.NewParser(parser.Options{}),
		}),
	}, nil
}

// Appendable is where a Writer writes to.
func (e *Embedded) Appendable() storage.Appendable { return e.db }

// Close stores what is in memory and closes the TSDB.
func (e *Embedded) Close() error {
	return errors.Join(e.engine.Close(), e.db.Close())
}

// Bounds are the times of the oldest and newest sample, in unix milliseconds; ok is false without any.
func (e *Embedded) Bounds() (oldest, newest int64, ok bool) {
	oldest, newest = e.db.Head().MinTime(), e.db.Head().MaxTime()
	for _, block := range e.db.Blocks() {
		oldest, newest = min(oldest, block.MinTime()), max(newest, block.MaxTime()-1)
	}
	return oldest, newest, oldest <= newest
}

// Series is the number of series in memory.
func (e *Embedded) Series() uint64 { return e.db.Head().NumSeries() }

// ExplicitZeros implements Engine.
func (e *Embedded) ExplicitZeros() bool { return true }

// Instant implements Engine.
func (e *Embedded) Instant(ctx context.Context, expression string, at time.Time) ([]Result, error) {
	query, err := e.engine.NewInstantQuery(ctx, e.db, nil, expression, at)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", expression, err)
	}
	return run(ctx, query)
}

// Range implements Engine.
func (e *Embedded) Range(ctx context.Context, expression string, start, end time.Time, step time.Duration) ([]Result, error) {
	query, err := e.engine.NewRangeQuery(ctx, e.db, nil, expression, start, end, step)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", expression, err)
	}
	return run(ctx, query)
}

func run(ctx context.Context, query promql.Query) ([]Result, error) {
	defer query.Close()
	answer := query.Exec(ctx)
	if answer.Err != nil {
		return nil, fmt.Errorf("evaluating %q: %w", query.String(), answer.Err)
	}
	switch value := answer.Value.(type) {
	case promql.Vector:
		out := make([]Result, len(value))
		for i, sample := range value {
			out[i] = Result{sample.Metric, []Point{{sample.T, sample.F, fromNative(sample.H)}}}
		}
		return out, nil
	case promql.Matrix:
		out := make([]Result, len(value))
		for i, series := range value {
			points := make([]Point, 0, len(series.Floats)+len(series.Histograms))
			for _, p := range series.Floats {
				points = append(points, Point{Time: p.T, Value: p.F})
			}
			for _, p := range series.Histograms {
				points = append(points, Point{Time: p.T, Histogram: fromNative(p.H)})
			}
			out[i] = Result{series.Metric, points}
		}
		return out, nil
	case promql.Scalar:
		return []Result{{Points: []Point{{Time: value.T, Value: value.V}}}}, nil
	}
	return nil, fmt.Errorf("evaluating %q: unexpected type %s", query.String(), answer.Value.Type())
}

func fromNative(h *histogram.FloatHistogram) *exphist.Histogram {
	if h == nil {
		return nil
	}
	out := &exphist.Histogram{}
	out.SetScale(h.Schema)
	out.AddZero(uint64(h.ZeroCount + 0.5))
	for it := h.PositiveBucketIterator(); it.Next(); {
		bucket := it.At()
		out.Add(h.Schema, bucket.Index, uint64(bucket.Count+0.5))
	}
	out.Sum = h.Sum
	return out
}
