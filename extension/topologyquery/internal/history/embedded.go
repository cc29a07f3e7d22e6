package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/internal/exphist"
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
	// Memory is what all queries have together.
	Memory *budget.Budget
}

// Embedded is a Prometheus TSDB with its engine, in this process. It implements Engine.
type Embedded struct {
	files *files
	// db is nil as long as the disk is too full to open it.
	db     atomic.Pointer[tsdb.DB]
	memory *budget.Budget
	// Catalog is what the stored metrics are.
	Catalog *Catalog
	// engines differ in the samples that a query may hold: most need few, and reserve no more. A query that finds too few is begun
	// again with the next.
	engines [2]sized
}

type sized struct {
	*promql.Engine
	samples int
}

// SampleBytes is what a sample that a query holds takes in memory: 16 bytes, and as much again until the garbage collector comes by.
// The engine counts a histogram as many samples by its size.
const SampleBytes = 32

// fewSamples is the part of the samples that a query is given at first.
const fewSamples = 8

// OpenEmbedded opens the TSDB in a directory. After a crash it replays the write-ahead log. What is damaged is set aside. Where the
// disk is too full to open it, it is opened once there is room; until then there is no history.
func OpenEmbedded(logger *slog.Logger, settings EmbeddedSettings) (*Embedded, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	e := &Embedded{files: &files{directory: settings.Directory, options: optionsOf(&settings), logger: logger, now: time.Now}, memory: settings.Memory, Catalog: NewCatalog()}
	db, err := e.files.open()
	switch {
	case err == nil:
		e.db.Store(db)
	case !full(err):
		_ = e.files.close() // it is the error that matters
		return nil, fmt.Errorf("opening the history in %s: %w", settings.Directory, err)
	default:
		logger.Error("The disk is full: there is no history until there is room", "directory", settings.Directory, "error", err)
	}
	for i, samples := range [...]int{max(settings.MaxSamples/fewSamples, 1), settings.MaxSamples} {
		e.engines[i] = sized{promql.NewEngine(promql.EngineOpts{
			Logger:               logger,
			MaxSamples:           samples,
			Timeout:              settings.QueryTimeout,
			LookbackDelta:        settings.Lookback,
			EnableAtModifier:     true,
			EnableNegativeOffset: true,
			Parser:               parser.NewParser(parser.Options{}),
		}), samples}
	}
	return e, nil
}

func optionsOf(settings *EmbeddedSettings) *tsdb.Options {
	options := tsdb.DefaultOptions()
	options.RetentionDuration = settings.Retention.Milliseconds()
	options.MaxBytes = settings.MaxBytes
	options.OutOfOrderTimeWindow = settings.OutOfOrderWindow.Milliseconds()
	options.WALCompression = compression.Snappy
	// Compaction follows the data's own times: two hours of data make a block, as in Prometheus.
	options.MaxBlockDuration = max(options.MinBlockDuration, min(31*24*time.Hour.Milliseconds(), options.RetentionDuration/10))
	options.StripeSize = 1 << 11
	return options
}

// Appendable is where a Writer writes to.
func (e *Embedded) Appendable() storage.Appendable { return e }

// Appender implements storage.Appendable.
func (e *Embedded) Appender(ctx context.Context) storage.Appender {
	if e.db.Load() == nil {
		db, err := e.files.openAgain()
		if err != nil {
			return noRoom{err: err}
		}
		e.db.Store(db)
	}
	return e.db.Load().Appender(ctx)
}

// Close stores what is in memory and closes the TSDB.
func (e *Embedded) Close() error {
	errs := []error{e.engines[0].Close(), e.engines[1].Close()}
	if db := e.db.Load(); db != nil {
		errs = append(errs, db.Close())
	}
	errs = append(errs, e.files.close())
	return errors.Join(errs...)
}

// Bounds are the times of the oldest and newest sample, in unix milliseconds; ok is false without any.
func (e *Embedded) Bounds() (oldest, newest int64, ok bool) {
	db := e.db.Load()
	if db == nil {
		return 0, 0, false
	}
	oldest, newest = db.Head().MinTime(), db.Head().MaxTime()
	for _, block := range db.Blocks() {
		oldest, newest = min(oldest, block.MinTime()), max(newest, block.MaxTime()-1)
	}
	return oldest, newest, oldest <= newest
}

// Series is the number of series in memory.
func (e *Embedded) Series() uint64 {
	if db := e.db.Load(); db != nil {
		return db.Head().NumSeries()
	}
	return 0
}

// ExplicitZeros implements Engine.
func (e *Embedded) ExplicitZeros() bool { return true }

// Instant implements Engine.
func (e *Embedded) Instant(ctx context.Context, expression string, at time.Time) ([]Result, error) {
	return e.evaluate(ctx, expression, func(engine sized, db *tsdb.DB) (promql.Query, error) {
		return engine.NewInstantQuery(ctx, db, nil, expression, at)
	})
}

// Range implements Engine.
func (e *Embedded) Range(ctx context.Context, expression string, start, end time.Time, step time.Duration) ([]Result, error) {
	return e.evaluate(ctx, expression, func(engine sized, db *tsdb.DB) (promql.Query, error) {
		return engine.NewRangeQuery(ctx, db, nil, expression, start, end, step)
	})
}

func (e *Embedded) evaluate(ctx context.Context, expression string, prepare func(engine sized, db *tsdb.DB) (promql.Query, error)) ([]Result, error) {
	var tooMany promql.ErrTooManySamples
	results, err := e.run(ctx, e.engines[0], expression, prepare)
	if errors.As(err, &tooMany) {
		results, err = e.run(ctx, e.engines[1], expression, prepare)
	}
	return results, err
}

func (e *Embedded) run(ctx context.Context, engine sized, expression string, prepare func(engine sized, db *tsdb.DB) (promql.Query, error)) ([]Result, error) {
	db := e.db.Load()
	if db == nil {
		return nil, fmt.Errorf("evaluating %q: %w", expression, errNoRoom)
	}
	size := int64(engine.samples) * SampleBytes
	if err := e.memory.Reserve(size); err != nil {
		return nil, err
	}
	defer e.memory.Release(size)
	query, err := prepare(engine, db)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", expression, err)
	}
	defer query.Close()
	answer := query.Exec(ctx)
	if answer.Err != nil {
		var late promql.ErrQueryTimeout
		if errors.As(answer.Err, &late) {
			return nil, fmt.Errorf("evaluating %q: %w: %w", expression, answer.Err, context.DeadlineExceeded)
		}
		return nil, fmt.Errorf("evaluating %q: %w", expression, answer.Err)
	}
	return resultsOf(expression, answer.Value)
}

func resultsOf(expression string, value parser.Value) ([]Result, error) {
	switch value := value.(type) {
	case promql.Vector:
		out := make([]Result, len(value))
		for i, sample := range value {
			out[i] = Result{sample.Metric, []Point{{sample.T, sample.F, exphist.FromNative(sample.H)}}}
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
				points = append(points, Point{Time: p.T, Histogram: exphist.FromNative(p.H)})
			}
			out[i] = Result{series.Metric, points}
		}
		return out, nil
	case promql.Scalar:
		return []Result{{Points: []Point{{Time: value.T, Value: value.V}}}}, nil
	}
	return nil, fmt.Errorf("evaluating %q: unexpected type %s", expression, value.Type())
}
