package history

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
)

// PromQL is the embedded history as Prometheus's own API asks for it: an engine whose queries share the memory that all queries have,
// and a storage to read from, in which native histograms are classic ones as well. It implements promql.QueryEngine and storage.SampleAndChunkQueryable.
type PromQL struct{ embedded *Embedded }

// PromQL returns the history for Prometheus's own API.
func (e *Embedded) PromQL() *PromQL { return &PromQL{e} }

// Querier implements storage.Queryable.
func (p *PromQL) Querier(mint, maxt int64) (storage.Querier, error) {
	db := p.embedded.db.Load()
	if db == nil {
		return nil, errNoRoom
	}
	stored, err := db.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return classicQuerier{stored}, nil
}

// ChunkQuerier implements storage.ChunkQueryable.
func (p *PromQL) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	db := p.embedded.db.Load()
	if db == nil {
		return nil, errNoRoom
	}
	return db.ChunkQuerier(mint, maxt)
}

// NewInstantQuery implements promql.QueryEngine.
func (p *PromQL) NewInstantQuery(
	ctx context.Context, q storage.Queryable, opts promql.QueryOpts, expression string, at time.Time,
) (promql.Query, error) {
	return p.query(func(engine sized) (promql.Query, error) { return engine.NewInstantQuery(ctx, q, opts, expression, at) })
}

// NewRangeQuery implements promql.QueryEngine.
func (p *PromQL) NewRangeQuery(
	ctx context.Context, q storage.Queryable, opts promql.QueryOpts, expression string, start, end time.Time, step time.Duration,
) (promql.Query, error) {
	return p.query(func(engine sized) (promql.Query, error) {
		return engine.NewRangeQuery(ctx, q, opts, expression, start, end, step)
	})
}

func (p *PromQL) query(prepare func(engine sized) (promql.Query, error)) (promql.Query, error) {
	first, err := prepare(p.embedded.engines[0])
	if err != nil {
		return nil, err
	}
	return &query{Query: first, memory: p.embedded.memory, engines: p.embedded.engines, prepare: prepare}, nil
}

// query holds its part of the memory from its execution until it is closed: the answer lives as long.
type query struct {
	promql.Query
	memory   *budget.Budget
	engines  [2]sized
	prepare  func(engine sized) (promql.Query, error)
	reserved int64
}

// Exec implements promql.Query. A query that finds too few samples is begun again where it may hold more.
func (q *query) Exec(ctx context.Context) *promql.Result {
	result := q.exec(ctx, q.engines[0])
	var tooMany promql.ErrTooManySamples
	if !errors.As(result.Err, &tooMany) {
		return result
	}
	next, err := q.prepare(q.engines[1])
	if err != nil {
		return &promql.Result{Err: err}
	}
	q.Close()
	q.Query = next
	return q.exec(ctx, q.engines[1])
}

func (q *query) exec(ctx context.Context, engine sized) *promql.Result {
	size := int64(engine.samples) * SampleBytes
	if err := q.memory.Reserve(size); err != nil {
		// Prometheus's API answers 503 to this error, and its clients ask again.
		return &promql.Result{Err: promql.ErrQueryTimeout(err.Error())}
	}
	q.reserved = size
	return q.Query.Exec(ctx)
}

// Close implements promql.Query.
func (q *query) Close() {
	q.Query.Close()
	q.memory.Release(q.reserved)
	q.reserved = 0
}

var (
	_ promql.QueryEngine              = (*PromQL)(nil)
	_ storage.SampleAndChunkQueryable = (*PromQL)(nil)
)
