package scrape

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// The formats that Parse reads.
const (
	openMetrics    = "application/openmetrics-text"
	prometheusText = "text/plain"
)

// Nothing of an outcome refers to the bytes that were read, so that they can be read over.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooledBytes = 8 << 20

// ErrTooLarge tells that an exposition exceeds the bound on bytes.
var ErrTooLarge = errors.New("exposition is too large")

// Parse reads one exposition, OpenMetrics or Prometheus text: up = 1 and the kept series with the scrape's time at,
// whatever timestamps the exposition has; an edge's series that did not change only as often as options.Refresh says.
// Without a content type the format is told from the body. An exposition that
// breaks off or is in no known format fails as a whole and leaves the tracker untouched; a single bad series is dropped
// and counted. A nil tracker takes the scrape for the target's first.
func Parse(body io.Reader, contentType string, at time.Time, target Target, options Options, tracker *Tracker) (pmetric.Metrics, Stats, error) {
	options = options.withDefaults()
	buffer := buffers.Get().(*bytes.Buffer)
	defer func() {
		if buffer.Cap() <= maxPooledBytes {
			buffer.Reset()
			buffers.Put(buffer)
		}
	}()
	if _, err := buffer.ReadFrom(io.LimitReader(body, options.MaxBytes+1)); err != nil {
		return pmetric.Metrics{}, Stats{}, fmt.Errorf("reading exposition: %w", err)
	}
	raw := buffer.Bytes()
	if int64(len(raw)) > options.MaxBytes {
		return pmetric.Metrics{}, Stats{}, fmt.Errorf("reading exposition: %w: more than %d bytes", ErrTooLarge, options.MaxBytes)
	}
	// textparse takes one for the end and would drop what follows.
	if bytes.IndexByte(raw, 0) >= 0 {
		return pmetric.Metrics{}, Stats{}, errors.New("reading exposition: it holds NUL bytes")
	}
	format, err := formatOf(contentType, raw)
	if err != nil {
		return pmetric.Metrics{}, Stats{}, fmt.Errorf("reading exposition: %w", err)
	}
	if tracker == nil {
		tracker = NewTracker()
	}
	whole := tracker.whole(at, options.Refresh)
	md, p, err := read(raw, format, at, target, options, tracker, whole)
	if err != nil {
		return pmetric.Metrics{}, Stats{}, fmt.Errorf("parsing exposition: %w", err)
	}
	restarted := tracker.restarted(target.Kind, at, p.cumulative, p.stats.Overflowed > 0)
	if restarted && !whole {
		// Then every series has a new start, which those that were left out as unchanged do not tell.
		whole = true
		if md, p, err = read(raw, format, at, target, options, tracker, whole); err != nil {
			return pmetric.Metrics{}, Stats{}, fmt.Errorf("parsing exposition: %w", err)
		}
	}
	tracker.assign(at, p.cumulative, p.uptime, restarted, p.stats.Overflowed > 0, whole)
	appendUp(p.scope, p.at, 1)
	return md, p.stats, nil
}

// read reads all series, or with whole unset those that changed since the last scrape and those that are always told.
func read(raw []byte, format string, at time.Time, target Target, options Options, tracker *Tracker, whole bool) (pmetric.Metrics, *parse, error) {
	md := pmetric.NewMetrics()
	p := &parse{
		options:    options,
		at:         pcommon.NewTimestampFromTime(at),
		scope:      newScope(md, target),
		metrics:    map[string]pmetric.Metric{},
		seen:       make(map[uint64]struct{}, len(tracker.series)),
		cumulative: make([]cumulative, 0, len(tracker.series)),
		histograms: map[uint64]*histogram{},
		tracker:    tracker,
		whole:      whole,
	}
	if err := p.run(raw, format); err != nil {
		return pmetric.Metrics{}, nil, err
	}
	p.finishHistograms()
	return md, p, nil
}

func formatOf(contentType string, raw []byte) (string, error) {
	if contentType == "" {
		if bytes.HasSuffix(raw, []byte("# EOF\n")) || bytes.HasSuffix(raw, []byte("# EOF")) {
			return openMetrics, nil
		}
		return prometheusText, nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", fmt.Errorf("content type %.128q: %w", contentType, err)
	}
	if mediaType != openMetrics && mediaType != prometheusText {
		return "", fmt.Errorf("content type %.128q is no exposition", mediaType)
	}
	return mediaType, nil
}

// family is what the lines above a series say about it.
type family struct {
	name string
	kind model.MetricType
	help string
	unit string
}

// parse is the reading of one scrape; its maps are bounded by Options.MaxSeries.
type parse struct {
	options    Options
	at         pcommon.Timestamp
	scope      pmetric.ScopeMetrics
	family     family
	metrics    map[string]pmetric.Metric
	seen       map[uint64]struct{}
	cumulative []cumulative
	histograms map[uint64]*histogram
	order      []*histogram
	hashBuffer []byte
	tracker    *Tracker
	// uptime is how long an Envoy has run, with what is left of its last second.
	uptime time.Duration
	whole  bool
	stats  Stats
}

func (p *parse) run(raw []byte, format string) error {
	parser, err := textparse.New(raw, format, labels.NewSymbolTable(), textparse.ParserOptions{OpenMetricsSkipSTSeries: true})
	if parser == nil {
		return err
	}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch entry {
		case textparse.EntryType:
			name, kind := parser.Type()
			p.enter(name).kind = kind
		case textparse.EntryHelp:
			name, help := parser.Help()
			if f := p.enter(name); p.options.keeps(name) {
				f.help = strings.ToValidUTF8(string(help), "\uFFFD")
			}
		case textparse.EntryUnit:
			name, unit := parser.Unit()
			p.enter(name).unit = ucum(string(unit))
		case textparse.EntrySeries:
			p.series(parser)
		case textparse.EntryHistogram:
			p.stats.Unsupported++
		}
	}
}

func (p *parse) enter(name []byte) *family {
	if p.family.name != string(name) {
		p.family = family{name: string(name), kind: model.MetricTypeUnknown}
	}
	return &p.family
}

// envoyUptime is for how many whole seconds an Envoy has run.
const envoyUptime = "envoy_server_uptime"

func (p *parse) series(parser textparse.Parser) {
	text, _, value := parser.Series()
	name := text
	if i := bytes.IndexByte(text, '{'); i >= 0 {
		name = text[:i]
	}
	// A name in quotes stands inside the braces; none of the mesh's metrics needs that.
	if string(name) == envoyUptime && value >= 0 && value < maxUptime.Seconds() {
		p.uptime = time.Duration(value+1) * time.Second
	}
	if !p.options.keeps(name) || string(name) == semconv.MetricUp {
		p.stats.Filtered++
		return
	}
	kind, suffix := p.kindOf(name)
	if suffix == "_created" {
		return
	}
	switch kind {
	case model.MetricTypeCounter, model.MetricTypeGauge, model.MetricTypeUnknown, model.MetricTypeInfo, model.MetricTypeStateset, model.MetricTypeHistogram:
	default:
		p.stats.Unsupported++
		return
	}
	text64 := xxhash.Sum64(text)
	if kind == model.MetricTypeCounter && p.unchanged(name, text64, value) {
		return
	}
	var set labels.Labels
	parser.Labels(&set)
	if !p.fits(set) {
		p.stats.Oversized++
		return
	}
	if _, repeated := set.HasDuplicateLabelNames(); repeated {
		p.stats.BadValues++
		return
	}
	if kind == model.MetricTypeHistogram {
		p.histogramSeries(set, suffix, value)
		return
	}
	p.number(string(name), kind, set, text64, value)
}

// perEdge tells whether a metric has series for every edge. Only of those does what did not change stay behind: they are
// most of an exposition, and whoever watches the few others may expect them in each scrape.
func perEdge(name []byte) bool {
	return bytes.HasPrefix(name, []byte("istio_tcp_")) || bytes.HasPrefix(name, []byte("istio_request"))
}

// unchanged tells whether a counter, known by how its series is written, may stay behind, and then notes that it is there.
func (p *parse) unchanged(name []byte, text uint64, value float64) bool {
	if p.whole || !perEdge(name) {
		return false
	}
	key, known := p.tracker.texts[text]
	if !known || !p.tracker.unchanged(key, value) {
		return false
	}
	if p.admit(key) {
		p.cumulative = append(p.cumulative, cumulative{series: key, text: text, value: value})
		p.stats.Unchanged++
	}
	return true
}

// kindOf is the type of the series with that name and what the name adds to the family's. OpenMetrics names the family
// of a counter without the "_total" of its series, and so does ztunnel in either format.
func (p *parse) kindOf(name []byte) (model.MetricType, string) {
	if len(name) < len(p.family.name) || string(name[:len(p.family.name)]) != p.family.name {
		return model.MetricTypeUnknown, ""
	}
	switch suffix := name[len(p.family.name):]; string(suffix) {
	case "":
		if p.family.kind == model.MetricTypeHistogram {
			return model.MetricTypeUnknown, ""
		}
		return p.family.kind, ""
	case "_total":
		if p.family.kind == model.MetricTypeCounter {
			return model.MetricTypeCounter, "_total"
		}
	case "_info":
		if p.family.kind == model.MetricTypeInfo {
			return model.MetricTypeInfo, "_info"
		}
	case "_bucket", "_sum", "_count":
		if p.family.kind == model.MetricTypeHistogram {
			return model.MetricTypeHistogram, string(suffix)
		}
		if p.family.kind != model.MetricTypeUnknown {
			return p.family.kind, string(suffix)
		}
	case "_created":
		if p.family.kind == model.MetricTypeCounter || p.family.kind == model.MetricTypeHistogram {
			return p.family.kind, "_created"
		}
	}
	return model.MetricTypeUnknown, ""
}

func (p *parse) fits(set labels.Labels) bool {
	count, ok := 0, true
	set.Range(func(l labels.Label) {
		count++
		ok = ok && len(l.Name) <= p.options.MaxLabelNameLength && len(l.Value) <= p.options.MaxLabelValueLength
	})
	return ok && count <= p.options.MaxLabels+1 // the name is one of them
}

// admit tells whether a series that was not met before may be kept.
func (p *parse) admit(key uint64) bool {
	if _, met := p.seen[key]; met {
		p.stats.Duplicates++
		return false
	}
	if len(p.seen) >= p.options.MaxSeries {
		p.stats.Overflowed++
		return false
	}
	p.seen[key] = struct{}{}
	return true
}

func (p *parse) number(name string, kind model.MetricType, set labels.Labels, text uint64, value float64) {
	counter := kind == model.MetricTypeCounter
	if math.IsNaN(value) || math.IsInf(value, 0) || counter && value < 0 {
		p.stats.BadValues++
		return
	}
	key := set.Hash()
	if !p.admit(key) {
		return
	}
	m := p.metric(name, kind)
	var points pmetric.NumberDataPointSlice
	if m.Type() == pmetric.MetricTypeSum {
		points = m.Sum().DataPoints()
	} else {
		points = m.Gauge().DataPoints()
	}
	point := points.AppendEmpty()
	point.SetTimestamp(p.at)
	point.SetDoubleValue(value)
	putLabels(point.Attributes(), set)
	if m.Type() == pmetric.MetricTypeSum {
		p.cumulative = append(p.cumulative, cumulative{series: key, text: text, value: value, point: point})
	}
	p.stats.Points++
}

func (p *parse) metric(name string, kind model.MetricType) pmetric.Metric {
	if m, known := p.metrics[name]; known {
		return m
	}
	m := p.scope.Metrics().AppendEmpty()
	m.SetName(name)
	m.SetDescription(p.family.help)
	m.SetUnit(p.family.unit)
	switch kind {
	case model.MetricTypeCounter:
		sum := m.SetEmptySum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	case model.MetricTypeHistogram:
		m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	default:
		m.SetEmptyGauge()
	}
	p.metrics[name] = m
	return m
}

func putLabels(attrs pcommon.Map, set labels.Labels) {
	attrs.EnsureCapacity(set.Len())
	set.Range(func(l labels.Label) {
		if l.Name == model.MetricNameLabel || l.Value == "" {
			return
		}
		attrs.PutStr(l.Name, l.Value)
	})
}

// ucum is OpenTelemetry's name of an OpenMetrics unit.
func ucum(unit string) string {
	switch unit {
	case "bytes":
		return "By"
	case "seconds":
		return "s"
	case "milliseconds":
		return "ms"
	case "ratio":
		return "1"
	}
	return unit
}

func parseBound(text string) (float64, bool) {
	bound, err := strconv.ParseFloat(text, 64)
	return bound, err == nil && !math.IsNaN(bound)
}
