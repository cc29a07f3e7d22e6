package history

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/exphist"
)

// rawSlice is the length of a range, in milliseconds, in which counters that begin anew are followed sample by sample.
const rawSlice = 10 * 60_000

// growth is how much a counter or a histogram grew in a window.
type growth struct {
	labels    labels.Labels
	value     float64
	histogram *exphist.Histogram
}

func (g *growth) add(other growth) {
	g.value += other.value
	switch {
	case other.histogram == nil:
	case g.histogram == nil:
		g.histogram = other.histogram
	default:
		g.histogram.Merge(exphist.NativeLayout, other.histogram)
	}
}

// querier asks an engine for exact differences.
type querier struct {
	engine Engine
	// matchers are label matchers that every query adds, without braces.
	matchers string
	// replicaLabel, unless empty, tells the series of replicas apart.
	replicaLabel string
	// lookback is how long, in milliseconds, the newest sample of a series stands for what follows.
	lookback int64
}

func at(ms int64) time.Time { return time.UnixMilli(ms) }

func seconds(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// pick is the selector of a metric's series that have these labels, given as names and values.
func (q *querier) pick(metric string, pairs ...string) string {
	all := make([]string, 0, 1+len(pairs)/2)
	if q.matchers != "" {
		all = append(all, q.matchers)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		all = append(all, pairs[i]+"="+strconv.Quote(pairs[i+1]))
	}
	if len(all) == 0 {
		return metric
	}
	return metric + "{" + strings.Join(all, ",") + "}"
}

// over is a function over the samples of (start, end] of a selector's series.
func (q *querier) over(function, selector string, start, end int64) string {
	return fmt.Sprintf("%s(%s[%dms] @ %s)", function, selector, end-start, seconds(end))
}

// increase is how much each series of a selector grew in [start, end): value(end) − value(start), where value(t) is the
// newest sample at or before t. PromQL's own increase() extrapolates, and does not see a series' first sample; this
// works on every Prometheus, without feature flags.
func (q *querier) increase(ctx context.Context, selector string, start, end int64) (map[uint64]growth, error) {
	return q.part(ctx, selector, start-q.lookback, start, end)
}

// part is increase for a part of a window; since is from when on samples are looked for.
func (q *querier) part(ctx context.Context, selector string, since, start, end int64) (map[uint64]growth, error) {
	if end <= start {
		return nil, nil
	}
	began, err := q.engine.Instant(ctx, "count("+q.over("resets", selector, start-q.lookback, end)+" > 0)", at(end))
	if err != nil {
		return nil, err
	}
	if len(began) == 0 {
		return q.difference(ctx, selector, since, start, end)
	}
	if end-start <= rawSlice {
		return q.follow(ctx, selector, since, start, end)
	}
	middle := start + (end-start)/2
	sum, err := q.part(ctx, selector, since, start, middle)
	if err != nil {
		return nil, err
	}
	second, err := q.part(ctx, selector, since, middle, end)
	if err != nil {
		return nil, err
	}
	if sum == nil {
		return second, nil
	}
	for hash, g := range second {
		if known, ok := sum[hash]; ok {
			known.add(g)
			g = known
		}
		sum[hash] = g
	}
	return sum, nil
}

// difference is increase where no series begins anew.
func (q *querier) difference(ctx context.Context, selector string, since, start, end int64) (map[uint64]growth, error) {
	last, err := q.engine.Instant(ctx, q.over("last_over_time", selector, since, end), at(end))
	if err != nil {
		return nil, err
	}
	first, err := q.engine.Instant(ctx, q.over("last_over_time", selector, since, start), at(end))
	if err != nil {
		return nil, err
	}
	sum := make(map[uint64]growth, len(last))
	for _, r := range last {
		sum[r.Labels.Hash()] = growth{r.Labels, r.Points[0].Value, r.Points[0].Histogram}
	}
	known := make(map[uint64]struct{}, len(first))
	for _, r := range first {
		hash := r.Labels.Hash()
		known[hash] = struct{}{}
		g, ok := sum[hash]
		if !ok {
			continue
		}
		// What is lower than before began anew after a gap.
		if g.value >= r.Points[0].Value {
			g.value -= r.Points[0].Value
		}
		if g.histogram != nil {
			g.histogram.Sub(r.Points[0].Histogram)
		}
		sum[hash] = g
	}
	if !q.engine.ExplicitZeros() || len(known) == len(sum) {
		return sum, nil
	}
	// What is not known to begin at zero begins where it was first seen.
	least, err := q.engine.Instant(ctx, q.over("min_over_time", selector, start, end), at(end))
	if err != nil {
		return nil, err
	}
	metric, _, _ := strings.Cut(selector, "{")
	for _, r := range least {
		// Functions other than last_over_time drop the name.
		hash := labels.NewBuilder(r.Labels).Set(model.MetricNameLabel, metric).Labels().Hash()
		if _, ok := known[hash]; ok {
			continue
		}
		if g, ok := sum[hash]; ok && r.Points[0].Histogram == nil {
			g.value -= r.Points[0].Value
			sum[hash] = g
		}
	}
	return sum, nil
}

// follow is increase, sample by sample.
func (q *querier) follow(ctx context.Context, selector string, since, start, end int64) (map[uint64]growth, error) {
	from := start - q.lookback
	before := map[uint64]Point{}
	if since < from {
		// In a part of a window, a series may have been silent for longer.
		earlier, err := q.engine.Instant(ctx, q.over("last_over_time", selector, since, start), at(end))
		if err != nil {
			return nil, err
		}
		for _, r := range earlier {
			point := r.Points[0]
			point.Time = start
			before[r.Labels.Hash()] = point
		}
	}
	all, err := q.engine.Instant(ctx, fmt.Sprintf("%s[%dms] @ %s", selector, end-from, seconds(end)), at(end))
	if err != nil {
		return nil, err
	}
	sum := make(map[uint64]growth, len(all))
	for _, r := range all {
		hash := r.Labels.Hash()
		if point, ok := before[hash]; ok && len(r.Points) > 0 && r.Points[0].Time > start {
			r.Points = append([]Point{point}, r.Points...)
		}
		sum[hash] = followOne(r, start, q.engine.ExplicitZeros())
	}
	return sum, nil
}

// followOne adds up what each sample after start adds to those before it.
func followOne(r Result, start int64, explicitZeros bool) growth {
	g := growth{labels: r.Labels}
	var values cumulative.Counter[float64]
	if explicitZeros {
		// What is not known to begin at zero begins where it was first seen.
		values.First = cumulative.Baseline
	}
	var counts cumulative.Counter[uint64]
	var before *exphist.Histogram
	for _, p := range r.Points {
		at := pcommon.Timestamp(max(p.Time, 0)) * 1e6
		if p.Histogram == nil {
			if added, _ := values.Advance(0, at, p.Value); p.Time > start {
				g.value += added
			}
			continue
		}
		_, change := counts.Advance(0, at, p.Histogram.Count)
		if p.Time > start {
			grown := p.Histogram.Clone()
			if change != cumulative.First && change != cumulative.Reset {
				grown.Sub(before)
			}
			g.add(growth{histogram: grown})
		}
		before = p.Histogram
	}
	return g
}
