// Package exposition reads what a scrape tells: Istio's standard metrics, by the target that exposes them.
package exposition

import (
	"hash/maphash"
	"math"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

const (
	// maxTargets bounds the targets that are told apart.
	maxTargets = 20_000
	// maxCount bounds a single value so that sums of many cannot overflow.
	maxCount = 1 << 53

	labelResponseFlags = "response_flags"
	labelResponseCode  = "response_code"
	labelGRPCStatus    = "grpc_response_status"
	istioUnknown       = "unknown"
)

// Source is who sent a resource's metrics.
type Source struct{ Instance, Node, Waypoint string }

// SourceOf reads a resource's attributes. The strings are the resource's own.
func SourceOf(resource pcommon.Resource) Source {
	var s Source
	resource.Attributes().Range(func(name string, value pcommon.Value) bool {
		switch name {
		case semconv.AttrServiceInstanceID:
			s.Instance = value.Str()
		case semconv.AttrNodeName:
			s.Node = value.Str()
		case semconv.AttrWaypoint:
			s.Waypoint = value.Str()
		}
		return true
	})
	return s
}

// Targets are the scraped targets with their series, both bounded.
type Targets[S any] struct {
	maxSeries int
	seed      maphash.Seed
	byID      map[string]*Target[S] // bounded by maxTargets
	series    int
}

// Target is one exposition. First is when it was scraped first, Scraped when last.
type Target[S any] struct {
	First, Scraped pcommon.Timestamp
	// Restarted tells that a counter began anew since the last End, Down that the target does not answer.
	Restarted, Down bool
	Series          map[uint64]*S // bounded by maxSeries of the Targets
}

// NewTargets returns a table of at most so many series of all targets.
func NewTargets[S any](maxSeries int) *Targets[S] {
	return &Targets[S]{maxSeries: maxSeries, seed: maphash.MakeSeed(), byID: map[string]*Target[S]{}}
}

func (s *Source) id() string {
	if s.Instance != "" {
		return s.Instance
	}
	return s.Node
}

// Of finds or creates the target of a source; nil if the bound on targets is reached.
func (t *Targets[S]) Of(source *Source) *Target[S] {
	if target, ok := t.byID[source.id()]; ok {
		return target
	}
	if len(t.byID) >= maxTargets {
		return nil
	}
	target := &Target[S]{Series: map[uint64]*S{}}
	t.byID[naming.Intern(source.id())] = target
	return target
}

// Known is the target of a source, nil if there is none.
func (t *Targets[S]) Known(source *Source) *Target[S] { return t.byID[source.id()] }

// Scrape notes the time of a target's scrape. One that holds none of the series yet is the first one all the same: what it lacks
// began later.
func (t *Target[S]) Scrape(at pcommon.Timestamp) {
	if t.First == 0 {
		t.First = at
	}
	t.Scraped = max(t.Scraped, at)
}

// Hash identifies a series within its target by what it counts and all its labels, in whatever order they come.
func (t *Targets[S]) Hash(kind uint64, attrs pcommon.Map) uint64 {
	sum := kind
	for name, value := range attrs.All() {
		sum += maphash.String(t.seed, name) * (maphash.String(t.seed, value.Str()) | 1)
	}
	return sum
}

// Full tells that the bound on series is reached.
func (t *Targets[S]) Full() bool { return t.series >= t.maxSeries }

// Add adds a series to a target.
func (t *Targets[S]) Add(target *Target[S], id uint64, series *S) {
	target.Series[id] = series
	t.series++
}

// Remove removes a series from its target.
func (t *Targets[S]) Remove(target *Target[S], id uint64) {
	delete(target.Series, id)
	t.series--
}

// Rewind takes note that the clock went back to a time, and calls do for each series.
func (t *Targets[S]) Rewind(now pcommon.Timestamp, do func(series *S)) {
	for _, target := range t.byID {
		target.First, target.Scraped = min(target.First, now), min(target.Scraped, now)
		for _, series := range target.Series {
			do(series)
		}
	}
}

// Sweep calls do for each series, which may remove it, and forgets targets without any that were not scraped for long.
func (t *Targets[S]) Sweep(now pcommon.Timestamp, expiry time.Duration, do func(target *Target[S], id uint64, series *S)) {
	for name, target := range t.byID {
		for id, series := range target.Series {
			do(target, id, series)
		}
		if len(target.Series) == 0 && moment.Since(target.Scraped, now, expiry) {
			delete(t.byID, name)
		}
	}
}

// Value reads a sum's value; false if it is no count.
func Value(p pmetric.NumberDataPoint) (uint64, bool) {
	if p.Flags().NoRecordedValue() {
		return 0, false
	}
	switch p.ValueType() {
	case pmetric.NumberDataPointValueTypeInt:
		if v := p.IntValue(); v >= 0 && v <= maxCount {
			return uint64(v), true
		}
	case pmetric.NumberDataPointValueTypeDouble:
		if v := p.DoubleValue(); v >= 0 && v <= maxCount {
			return uint64(math.Round(v)), true
		}
	}
	return 0, false
}

// RestoreCounter makes a counter of a metric whose type was lost on its way, as in a Prometheus's federation: its name says what it is.
func RestoreCounter(metric pmetric.Metric) {
	if metric.Type() != pmetric.MetricTypeGauge || !strings.HasPrefix(metric.Name(), "istio_") || !strings.HasSuffix(metric.Name(), "_total") {
		return
	}
	points := pmetric.NewNumberDataPointSlice()
	metric.Gauge().DataPoints().MoveAndAppendTo(points)
	sum := metric.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	points.MoveAndAppendTo(sum.DataPoints())
}

// Up reads the gauge of whether a scrape was answered; false if it is none.
func Up(metric pmetric.Metric) (up bool, at pcommon.Timestamp, ok bool) {
	if metric.Name() != semconv.MetricUp || metric.Type() != pmetric.MetricTypeGauge || metric.Gauge().DataPoints().Len() == 0 {
		return false, 0, false
	}
	point := metric.Gauge().DataPoints().At(metric.Gauge().DataPoints().Len() - 1)
	value, _ := Value(point)
	return value != 0, point.Timestamp(), true
}

// Labels are the labels of Istio's standard metrics that matter here.
type Labels struct {
	Reporter, Flags, Code, GRPCStatus, Protocol string
	Source, Destination                         edge.Party
	Service, Security                           string
}

// Flow is what the labels tell of an edge.
func (l *Labels) Flow() edges.Flow {
	return edges.Flow{
		Source:      ownParty(l.Source),
		Destination: ownParty(l.Destination),
		Service:     naming.Intern(l.Service),
		MutualTLS:   l.Security == semconv.SecurityMutualTLS,
	}
}

func ownParty(p edge.Party) edge.Party {
	return edge.Party{
		Workload: naming.Intern(p.Workload), Namespace: naming.Intern(p.Namespace),
		App: naming.Intern(p.App), Version: naming.Intern(p.Version), Cluster: naming.Intern(p.Cluster),
	}
}

// Told tells whether a label names a workload.
func Told(workload string) bool { return workload != "" && workload != istioUnknown }

// ReadLabels reads a point's labels. The strings are the point's own.
func ReadLabels(attrs pcommon.Map) Labels {
	var l Labels
	known := func(value pcommon.Value) string {
		if s := value.Str(); s != istioUnknown {
			return s
		}
		return ""
	}
	for name, value := range attrs.All() {
		switch name {
		case semconv.LabelReporter:
			l.Reporter = value.Str()
		case labelResponseFlags:
			l.Flags = value.Str()
		case labelResponseCode:
			l.Code = value.Str()
		case labelGRPCStatus:
			l.GRPCStatus = value.Str()
		case semconv.LabelRequestProtocol:
			l.Protocol = value.Str()
		case semconv.LabelSourceWorkload:
			l.Source.Workload = value.Str()
		case semconv.LabelSourceNamespace:
			l.Source.Namespace = known(value)
		case semconv.LabelSourceCanonicalService:
			l.Source.App = known(value)
		case semconv.LabelSourceCanonicalRevision:
			l.Source.Version = known(value)
		case semconv.LabelSourceCluster:
			l.Source.Cluster = known(value)
		case semconv.LabelDestinationWorkload:
			l.Destination.Workload = value.Str()
		case semconv.LabelDestinationNamespace:
			l.Destination.Namespace = known(value)
		case semconv.LabelDestinationCanonicalService:
			l.Destination.App = known(value)
		case semconv.LabelDestinationCanonicalRevision:
			l.Destination.Version = known(value)
		case semconv.LabelDestinationCluster:
			l.Destination.Cluster = known(value)
		case semconv.LabelDestinationService:
			l.Service = known(value)
		case semconv.LabelSecurityPolicy:
			l.Security = value.Str()
		}
	}
	return l
}
