package prometheusexporter

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"google.golang.org/protobuf/proto"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/expiry"
)

// refusal is why a point is not exposed.
type refusal int

const (
	refusedDelta refusal = iota
	refusedHistogram
	refusedMaxSeries
	refusedName
	refusedType
	refusals
)

// String implements fmt.Stringer.
func (r refusal) String() string {
	return [refusals]string{"delta", "histogram", "max_series", "name", "type"}[r]
}

// maxLabelNames bounds the names of attributes whose labels' names are remembered.
const maxLabelNames = 10_000

// invalid stands for bytes that are not UTF-8, which Prometheus does not take.
const invalid = "\uFFFD"

// label is one of a series', also of those that are not kept.
type label struct{ name, value string }

// pair is a label as it is exposed, shared by the series that have it.
type pair struct {
	exposed *dto.LabelPair
	series  int
}

// key tells series apart: two hashes of name and labels under seeds that nobody knows.
type key [2]uint64

// series is the newest point of one.
type series struct {
	metric *metricFamily
	sample
}

// sample is what a scrape needs of a series; its labels and histogram do not change.
type sample struct {
	labels            []*dto.LabelPair
	value             float64
	histogram         *dto.Histogram
	classic           *[exphist.ClassicBuckets + 1]uint64 // beside a native histogram or instead of it
	summary           *dto.Summary
	start, observedAt pcommon.Timestamp
}

// metricFamily are the series of a name.
type metricFamily struct {
	name, help string
	kind       dto.MetricType
	series     int
	samples    []sample // only of what families returns
}

// seriesStore keeps the newest point of each series. It is safe for use by several goroutines.
type seriesStore struct {
	cfg     *Config
	metrics otlptranslator.MetricNamer
	namer   otlptranslator.LabelNamer
	seeds   [2]maphash.Seed

	mu         sync.Mutex
	series     *expiry.Table[key, *series]
	byName     map[string]*metricFamily // bounded by max_series: those of series
	pairs      map[label]*pair          // bounded by max_series: those of series
	labelNames map[string]string        // bounded by maxLabelNames
	shared     []label                  // of the resource and scope at hand
	labels     []label                  // of the point at hand
	refused    [refusals]int
}

func newSeriesStore(cfg *Config) *seriesStore {
	suffixes, utf8 := cfg.names()
	s := &seriesStore{
		cfg: cfg, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		metrics: otlptranslator.MetricNamer{Namespace: cfg.Namespace, WithMetricSuffixes: suffixes, UTF8Allowed: utf8},
		namer:   otlptranslator.LabelNamer{UTF8Allowed: utf8, PreserveMultipleUnderscores: true},
		byName:  map[string]*metricFamily{}, pairs: map[label]*pair{}, labelNames: map[string]string{},
	}
	s.series = expiry.New(cfg.MaxSeries, func(_ key, gone *series) { s.release(gone) })
	return s
}

func (s *seriesStore) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.series.Len()
}

// take keeps what is newest in a batch that comes at a time since the start, and returns how many points it refused.
func (s *seriesStore) take(md pmetric.Metrics, at time.Duration) [refusals]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = [refusals]int{}
	s.sweep(at)
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			s.share(rm.Resource().Attributes(), sm)
			for _, m := range sm.Metrics().All() {
				s.metric(m, pcommon.Timestamp(at))
			}
		}
	}
	return s.refused
}

func (s *seriesStore) sweep(at time.Duration) {
	if before := at - s.cfg.MetricExpiration; before > 0 {
		s.series.Sweep(pcommon.Timestamp(before))
	}
}

// share sets the labels that all points of a resource and scope have.
func (s *seriesStore) share(resource pcommon.Map, sm pmetric.ScopeMetrics) {
	s.shared = s.shared[:0]
	if name, ok := resource.Get("service.name"); ok {
		job := name.AsString()
		if namespace, ok := resource.Get("service.namespace"); ok {
			job = namespace.AsString() + "/" + job
		}
		s.shared = append(s.shared, label{"job", job})
	}
	if instance, ok := resource.Get("service.instance.id"); ok {
		s.shared = append(s.shared, label{"instance", instance.AsString()})
	}
	if s.cfg.ResourceToTelemetrySettings.Enabled {
		for name, value := range resource.All() {
			if !s.cfg.ResourceToTelemetrySettings.ExcludeServiceAttributes || name != "service.name" && name != "service.instance.id" && name != "service.namespace" {
				s.shared = s.append(s.shared, "", name, value)
			}
		}
	}
	for name, value := range s.cfg.ConstLabels {
		s.shared = append(s.shared, label{name, value})
	}
	if s.cfg.WithoutScopeInfo {
		return
	}
	for name, value := range sm.Scope().Attributes().All() {
		if name != "name" && name != "version" && name != "schema_url" {
			s.shared = s.append(s.shared, "otel_scope_", name, value)
		}
	}
	s.shared = append(s.shared, label{"otel_scope_name", sm.Scope().Name()}, label{"otel_scope_version", sm.Scope().Version()},
		label{"otel_scope_schema_url", sm.SchemaUrl()})
}

// append adds an attribute as a label, unless its name has nothing that Prometheus takes.
func (s *seriesStore) append(to []label, prefix, name string, value pcommon.Value) []label {
	built, ok := s.labelNames[name]
	if !ok || prefix != "" {
		var err error
		if built, err = s.namer.Build(strings.ToValidUTF8(prefix+name, invalid)); err != nil {
			return to
		}
		if len(s.labelNames) < maxLabelNames && prefix == "" {
			s.labelNames[strings.Clone(name)] = built
		}
	}
	if value.Type() == pcommon.ValueTypeStr {
		return append(to, label{built, value.Str()})
	}
	return append(to, label{built, value.AsString()})
}

// metric takes the points of one.
func (s *seriesStore) metric(m pmetric.Metric, at pcommon.Timestamp) {
	translated := prometheusremotewrite.TranslatorMetricFromOtelMetric(m)
	translated.Name = strings.ToValidUTF8(translated.Name, invalid)
	name, err := s.metrics.Build(translated)
	if err != nil {
		s.refused[refusedName] += points(m)
		return
	}
	kind, cumulative := exposedType(m)
	f := s.byName[name]
	switch {
	case !cumulative:
		s.refused[refusedDelta] += points(m)
		return
	case f == nil:
		f = &metricFamily{name: name, help: strings.ToValidUTF8(strings.Clone(m.Description()), invalid), kind: kind}
	case f.kind != kind:
		s.refused[refusedType] += points(m)
		return
	}
	s.points(f, m, at)
}

// point is what all kinds of points have.
type point interface {
	Attributes() pcommon.Map
	StartTimestamp() pcommon.Timestamp
	Timestamp() pcommon.Timestamp
	Flags() pmetric.DataPointFlags
}

// slot is the series of a point that is to be taken, nil if it is not: it is older than what is kept, says that its series ended, or
// there is no room.
func slot[P point](s *seriesStore, f *metricFamily, p P, at pcommon.Timestamp) *series {
	s.labels = append(s.labels[:0], s.shared...)
	for name, value := range p.Attributes().All() {
		s.labels = s.append(s.labels, "", name, value)
	}
	s.labels = unite(s.labels)
	for i := range s.labels {
		s.labels[i].value = strings.ToValidUTF8(s.labels[i].value, invalid)
	}
	k := s.key(f.name)
	found, ok := s.series.Get(k)
	switch {
	case p.Flags().NoRecordedValue():
		if ok {
			s.series.Delete(k)
			s.release(found)
		}
		return nil
	case !ok:
		found = &series{metric: f}
		if !s.series.Add(k, found, at) {
			s.refused[refusedMaxSeries]++
			return nil
		}
		found.labels = make([]*dto.LabelPair, 0, len(s.labels))
		for _, l := range s.labels {
			found.labels = append(found.labels, s.hold(l))
		}
		f.series++
		s.byName[f.name] = f
	case p.Timestamp() < found.observedAt:
		return nil
	default:
		s.series.Use(k, at)
	}
	found.start, found.observedAt = p.StartTimestamp(), p.Timestamp()
	return found
}

// unite sorts labels by name. Those that have the same become one, of whose values the later come first, as those of a point do before
// its resource's.
func unite(labels []label) []label {
	slices.SortStableFunc(labels, func(a, b label) int { return cmp.Compare(a.name, b.name) })
	kept := labels[:0]
	for _, l := range labels {
		if last := len(kept) - 1; last < 0 || kept[last].name != l.name {
			kept = append(kept, l)
		} else if kept[last].value != l.value {
			kept[last].value = l.value + ";" + kept[last].value
		}
	}
	return kept
}

func (s *seriesStore) key(name string) (k key) {
	for i, seed := range s.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		_, _ = h.WriteString(name)
		for _, l := range s.labels {
			_ = h.WriteByte(0xff)
			_, _ = h.WriteString(l.name)
			_ = h.WriteByte(0xff)
			_, _ = h.WriteString(l.value)
		}
		k[i] = h.Sum64()
	}
	return k
}

// hold returns a label as it is exposed, for one series more.
func (s *seriesStore) hold(l label) *dto.LabelPair {
	held, ok := s.pairs[l]
	if !ok {
		l = label{strings.Clone(l.name), strings.Clone(l.value)}
		held = &pair{exposed: &dto.LabelPair{Name: proto.String(l.name), Value: proto.String(l.value)}}
		s.pairs[l] = held
	}
	held.series++
	return held.exposed
}

// release lets go of what a series held.
func (s *seriesStore) release(gone *series) {
	for _, exposed := range gone.labels {
		l := label{exposed.GetName(), exposed.GetValue()}
		if held := s.pairs[l]; held.series > 1 {
			held.series--
		} else {
			delete(s.pairs, l)
		}
	}
	if gone.metric.series--; gone.metric.series == 0 {
		delete(s.byName, gone.metric.name)
	}
}

// families are all series at a time since the start, by the names of their metrics.
func (s *seriesStore) families(at time.Duration) []metricFamily {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(at)
	all := make([]metricFamily, 0, len(s.byName))
	index := make(map[*metricFamily]int, len(s.byName))
	for _, f := range s.byName {
		index[f] = len(all)
		copied := *f
		copied.samples = make([]sample, 0, f.series)
		all = append(all, copied)
	}
	for _, one := range s.series.All() {
		f := &all[index[one.metric]]
		f.samples = append(f.samples, one.sample)
	}
	slices.SortFunc(all, func(a, b metricFamily) int { return cmp.Compare(a.name, b.name) })
	return all
}
