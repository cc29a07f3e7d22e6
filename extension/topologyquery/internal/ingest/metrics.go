package ingest

import (
	"cmp"
	"context"
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// batch is one call of Metrics.
type batch struct {
	*Ingester
	live    live.Writer
	history *history.Batch
	scratch exphist.Histogram
	first   int64
	final   bool
	// coverage is the newest time at which a series of unknown past showed up.
	coverage int64
	// earliest and latest bound the times that are believed.
	earliest, latest pcommon.Timestamp
}

// Metrics takes over metrics. It returns an error only if the history could not be written; the live graph then has
// the metrics nevertheless.
func (in *Ingester) Metrics(ctx context.Context, md pmetric.Metrics) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.since == 0 {
		_, in.before = in.Sources.Clock()
	}
	replay, replaying := datatime.ReadReplay(md)
	if replaying {
		in.Sources.SetReplaying()
	}
	b := batch{Ingester: in, final: replaying && replay.Ended()}
	newest := b.advance(md)
	if in.History != nil {
		b.history = in.History.Batch(ctx)
	}
	_, clock := in.Sources.Clock()
	if in.since == 0 {
		in.since = newest
	}
	// The clock may have been restored from before a restart; what this process heard counts here.
	b.first = in.since
	in.Live.Update(func(w live.Writer) {
		b.live = w
		for _, rm := range md.ResourceMetrics().All() {
			resource := in.identity.ofMap(rm.Resource().Attributes())
			for _, sm := range rm.ScopeMetrics().All() {
				scraped := sm.Scope().Name() != semconv.ScopeReceiver // which says by heartbeats how its sources are
				for _, metric := range sm.Metrics().All() {
					if scraped && metric.Name() == semconv.MetricUp {
						b.up(rm.Resource().Attributes(), metric)
					}
					b.metric(rm.Resource().Attributes(), resource, metric)
				}
			}
		}
		if in.since != 0 {
			coverage := in.since
			if !in.Restored {
				coverage = 1 // nobody knows of anything before this process
			}
			w.SetCoverage(max(coverage, b.coverage))
		}
		w.Advance(clock)
		if b.final {
			w.Flush()
		}
		if clock-in.swept > refresh || clock < in.swept {
			in.swept = clock
			w.Expire(clock)
			in.sweep(clock)
		}
	})
	var err error
	if b.history != nil {
		err = b.history.Commit(clock, b.final)
	}
	if replaying {
		in.Sources.SetReplay(sources.Replay{State: replay.State, Position: millis(replay.Position), Reason: replay.Reason})
	}
	in.changed()
	return err
}

// advance takes over the heartbeats, moves the clock by them and by the edges, and returns the newest time in the batch.
func (b *batch) advance(md pmetric.Metrics) (newest int64) {
	for beat := range datatime.Read(md) {
		switch verdict := b.Sources.Heartbeat(cmp.Or(beat.Node, semconv.ServiceNameZtunnel), beat); verdict {
		case datatime.Ahead, datatime.Implausible, datatime.OutOfOrder:
			b.dropped[verdict.String()]++
		case datatime.Taken, datatime.NoNode:
			newest = max(newest, millis(beat.Time))
		}
	}
	b.earliest, b.latest = b.Sources.Bounds()
	edges := pcommon.Timestamp(0)
	see := func(t pcommon.Timestamp) {
		if t > edges && b.plausible(t) {
			edges = t
		}
	}
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, metric := range sm.Metrics().All() {
				if _, ok := roles[metric.Name()]; !ok {
					continue
				}
				switch metric.Type() {
				case pmetric.MetricTypeSum:
					for _, point := range metric.Sum().DataPoints().All() {
						see(point.Timestamp())
					}
				case pmetric.MetricTypeGauge:
					for _, point := range metric.Gauge().DataPoints().All() {
						see(point.Timestamp())
					}
				}
			}
		}
	}
	b.Sources.Advance(millis(edges))
	newest = max(newest, millis(edges))
	return newest
}

func (b *batch) plausible(at pcommon.Timestamp) bool { return at >= b.earliest && at <= b.latest }

func millis(t pcommon.Timestamp) int64 { return int64(t / 1e6) }

// NotStored is the reason for which metrics are dropped that the history has no form for: summaries. The API shows nothing of them anyway.
const NotStored = "not_stored"

func (b *batch) metric(resource pcommon.Map, resourceKey seriesKey, metric pmetric.Metric) {
	if metric.Name() == semconv.MetricDropped {
		_, now := b.Sources.Clock()
		b.Drops.Take(nodeOf(resource), metric, pcommon.Timestamp(now)*1e6)
	}
	if service, _ := resource.Get(semconv.AttrServiceName); service.Str() == semconv.ServiceNameZtunnel {
		_, now := b.Sources.Clock()
		b.Proxies.Metric(text(resource, semconv.AttrNodeName), metric, pcommon.Timestamp(now)*1e6)
	}
	r := roles[metric.Name()]
	if r.kind == kindOther && (b.history == nil || !b.Keep(metric.Name())) {
		return
	}
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		sum := metric.Sum()
		if sum.AggregationTemporality() != pmetric.AggregationTemporalityCumulative {
			b.dropped["temporality"] += uint64(sum.DataPoints().Len())
			return
		}
		for _, point := range sum.DataPoints().All() {
			b.number(resource, resourceKey, metric, r, point, sum.IsMonotonic())
		}
	case pmetric.MetricTypeGauge:
		for _, point := range metric.Gauge().DataPoints().All() {
			b.number(resource, resourceKey, metric, r, point, false)
		}
	case pmetric.MetricTypeExponentialHistogram:
		eh := metric.ExponentialHistogram()
		if eh.AggregationTemporality() != pmetric.AggregationTemporalityCumulative {
			b.dropped["temporality"] += uint64(eh.DataPoints().Len())
			return
		}
		for _, point := range eh.DataPoints().All() {
			b.histogram(resource, resourceKey, metric, r, point)
		}
	case pmetric.MetricTypeHistogram:
		explicit := metric.Histogram()
		if r.kind != kindOther || explicit.AggregationTemporality() != pmetric.AggregationTemporalityCumulative {
			b.dropped["type"] += uint64(explicit.DataPoints().Len())
			return
		}
		for _, point := range explicit.DataPoints().All() {
			b.explicit(resource, resourceKey, metric, r, point)
		}
	default:
		if r.kind == kindOther {
			b.dropped[NotStored]++
		} else {
			b.dropped["type"]++
		}
	}
}

// up takes over whether a target of somebody else's scrapes answers.
func (b *batch) up(resource pcommon.Map, metric pmetric.Metric) {
	target := cmp.Or(text(resource, semconv.AttrNodeName), text(resource, semconv.AttrServiceInstanceID))
	if metric.Type() != pmetric.MetricTypeGauge || target == "" {
		return
	}
	for _, point := range metric.Gauge().DataPoints().All() {
		switch {
		case point.Flags().NoRecordedValue():
			b.Sources.Forget(target)
		case b.plausible(point.Timestamp()):
			b.Sources.Scraped(target, cumulative.Number(point) > 0, point.Timestamp())
		}
	}
}

func nodeOf(resource pcommon.Map) string {
	for _, name := range [...]string{semconv.AttrNodeName, semconv.AttrWaypoint, semconv.AttrServiceInstanceID, semconv.AttrServiceName} {
		if value, ok := resource.Get(name); ok && value.AsString() != "" {
			return value.AsString()
		}
	}
	return ""
}

func text(attrs pcommon.Map, name string) string {
	if value, ok := attrs.Get(name); ok {
		return value.AsString()
	}
	return ""
}

// find returns what is remembered of a point's series, nil if a bound keeps it out.
func (b *batch) find(resource pcommon.Map, resourceKey seriesKey, metric pmetric.Metric, r role, attrs pcommon.Map) *series {
	key := b.identity.of(resourceKey, metric.Name(), attrs)
	s, ok := b.series[key]
	if ok && (s.edge == nil || !s.edge.Removed()) {
		return s
	}
	if !ok && len(b.series) >= b.MaxSeries {
		b.dropped["series_limit"]++
		return nil
	}
	if s == nil {
		s = &series{}
	}
	if r.kind != kindOther {
		s.edge = b.live.Edge(edge.KeyOf(attrs))
		if s.edge == nil {
			b.dropped["edge_limit"]++
			return nil
		}
		if r.kind == kindFailed {
			s.reason = live.Reason{ErrorType: text(attrs, semconv.LabelErrorType), Policy: text(attrs, semconv.LabelPolicy)}
			if s.reason.ErrorType == "" {
				s.reason.ErrorType = semconv.ErrorTypeOther
			}
		}
		if r.kind == kindResponses {
			s.response = live.ResponseOf(func(name string) string { return text(attrs, name) })
		}
	}
	if b.history != nil && s.stored == nil && b.Keep(metric.Name()) {
		l, err := b.namer.Labels(resource, metric, attrs)
		if err != nil {
			b.dropped["name"]++
		} else {
			s.stored = history.NewSeries(l)
		}
	}
	b.series[key] = s
	return s
}

func (b *batch) number(resource pcommon.Map, resourceKey seriesKey, metric pmetric.Metric, r role, point pmetric.NumberDataPoint, counter bool) {
	value := cumulative.Number(point)
	if math.IsNaN(value) || math.IsInf(value, 0) || point.Flags().NoRecordedValue() || counter && (value < 0 || value > 1<<62) {
		b.dropped["value"]++
		return
	}
	if !b.plausible(point.Timestamp()) {
		b.dropped[datatime.Implausible.String()]++
		return
	}
	if r.kind == kindFailed && value == 0 {
		return // no failure yet, of no reason
	}
	s := b.find(resource, resourceKey, metric, r, point.Attributes())
	if s == nil {
		return
	}
	t := millis(point.Timestamp())
	if !counter {
		if s.counter.Known && point.Timestamp() < s.counter.Time {
			b.dropped["late"]++
			return
		}
		s.counter.Time, s.counter.Known = point.Timestamp(), true
		if r.kind == kindActive {
			b.live.SetActive(s.edge, t, int64(value))
		}
		if s.stored != nil {
			b.history.Gauge(s.stored, t, value)
		}
		return
	}
	added, change, zeroAt := b.step(s, r, point.StartTimestamp(), point.Timestamp(), uint64(value))
	if change == cumulative.Late {
		return
	}
	switch r.kind {
	case kindField:
		b.live.Add(s.edge, r.field, t, added)
	case kindIO:
		field := live.Sent
		if text(point.Attributes(), semconv.LabelDirection) == semconv.DirectionReceived {
			field = live.Received
		}
		b.live.Add(s.edge, field, t, added)
	case kindFailed:
		b.live.AddFailed(s.edge, s.reason, t, added)
	case kindResponses:
		b.live.AddResponses(s.edge, s.response, t, added)
	}
	if s.stored != nil {
		b.history.Float(s.stored, zeroAt, t, value)
	}
}

// leastZero is the zero threshold of stored histograms where none is stated.
const leastZero = 1e-128

func (b *batch) histogram(resource pcommon.Map, resourceKey seriesKey, metric pmetric.Metric, r role, point pmetric.ExponentialHistogramDataPoint) {
	if !b.scratch.Load(exphist.NativeLayout, point) || b.scratch.Scale < exphist.NativeMinScale {
		b.dropped["value"]++
		return
	}
	if !b.plausible(point.Timestamp()) {
		b.dropped[datatime.Implausible.String()]++
		return
	}
	s := b.find(resource, resourceKey, metric, r, point.Attributes())
	if s == nil {
		return
	}
	_, change, zeroAt := b.step(s, r, point.StartTimestamp(), point.Timestamp(), b.scratch.Count)
	if change == cumulative.Late {
		return
	}
	t := millis(point.Timestamp())
	if r.kind != kindOther {
		if s.buckets == nil {
			s.buckets = &exphist.Histogram{}
		}
		if change == cumulative.Reset {
			s.buckets.Reset()
		}
		if change != cumulative.First || s.counter.First == cumulative.FromZero {
			b.grow(s, r, t)
		}
		s.buckets.Set(b.scratch.Scale, b.scratch.Offset, b.scratch.Counts, b.scratch.Zero)
	}
	if s.stored != nil {
		b.history.Histogram(s.stored, zeroAt, t, b.scratch.Native(max(point.ZeroThreshold(), leastZero)))
	}
}

// explicit stores a histogram with bounds of its own.
func (b *batch) explicit(resource pcommon.Map, resourceKey seriesKey, metric pmetric.Metric, r role, point pmetric.HistogramDataPoint) {
	stored := history.Explicit(point)
	if stored == nil {
		b.dropped["value"]++
		return
	}
	if !b.plausible(point.Timestamp()) {
		b.dropped[datatime.Implausible.String()]++
		return
	}
	s := b.find(resource, resourceKey, metric, r, point.Attributes())
	if s == nil {
		return
	}
	if _, change, zeroAt := b.step(s, r, point.StartTimestamp(), point.Timestamp(), stored.Count); change != cumulative.Late && s.stored != nil {
		b.history.Histogram(s.stored, zeroAt, millis(point.Timestamp()), stored)
	}
}

// began tells whether a series that was not known counts from zero. After a restart the history knows which series there
// were, and how far.
func (b *batch) began(s *series, start, t int64) bool {
	switch {
	case s.counter.Known:
		return false
	case b.history != nil && b.Restored && s.stored != nil:
		return start > b.before || !b.history.Holds(s.stored)
	}
	return start != 0 && start >= b.first-refresh || t > b.first+settle
}

// grow adds to the live graph what the histogram in scratch has more than the known one.
func (b *batch) grow(s *series, r role, t int64) {
	which := live.OfConnection
	if r.kind == kindRequestDuration {
		which = live.OfRequest
	}
	now, before := &b.scratch, s.buckets
	if len(before.Counts) > 0 && len(now.Counts) > 0 {
		before.Downscale(before.Scale - now.Scale)
		now.Downscale(now.Scale - before.Scale)
	}
	if now.Zero > before.Zero {
		b.live.AddZero(s.edge, which, t, now.Zero-before.Zero)
	}
	for i, n := range now.Counts {
		index := now.Offset + int32(i)
		if at := int64(index) - int64(before.Offset); at >= 0 && at < int64(len(before.Counts)) {
			n -= min(n, before.Counts[at])
		}
		b.live.AddBucket(s.edge, which, t, now.Scale, index, n)
	}
}

func (in *Ingester) sweep(now int64) {
	for key, s := range in.series {
		if now-millis(s.counter.Time) > in.SeriesExpiry {
			delete(in.series, key)
		}
	}
}
