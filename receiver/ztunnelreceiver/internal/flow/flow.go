// Package flow turns the entries of ztunnels' logs into telemetry (docs/data-model.md, sections 1.1, 2.1, 2.2
// and 3): connections aggregated into cumulative series, flow records, spans. It has no goroutine, no lock and
// no clock of its own; its caller says what time it is and where the boundaries between points lie.
package flow

import (
	"errors"
	"time"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// Defaults of Config.
const (
	DefaultMaxSeries  = 50_000
	DefaultMaxNodes   = 10_000
	DefaultMaxRecords = 100_000
	DefaultMaxHeld    = 32 << 20
	// As far as a heartbeat is believed: internal/datatime.
	DefaultMaxSkew = 35 * time.Second
)

// Config says what is made of the entries. Zero values mean the defaults where there is one.
type Config struct {
	// MaxSeries bounds the flow keys that are held at a time; further ones are counted in one overflow series
	// per node and reporter.
	MaxSeries int
	// Expiry drops a series that saw no record for so long, in data time; 0 keeps all.
	Expiry time.Duration
	// MaxNodes bounds the nodes that entries may come from; entries of further ones are dropped.
	MaxNodes int
	// MaxRecords bounds the log records and the spans that gather between two flushes, each.
	MaxRecords int
	// MaxHeldBytes bounds the entries that wait for their boundary (see Advance).
	MaxHeldBytes int
	// MaxEntry is how much of one entry is read, in bytes.
	MaxEntry int
	// MaxSkew is how far ahead of the observed time an entry's own time may be. One that is further counts at the observed time.
	MaxSkew time.Duration

	// RecordLogs, RecordMetrics and RecordSpans say which signals are wanted; the others cost nothing.
	RecordLogs, RecordMetrics, RecordSpans bool

	// SamplingRatio is the share of connections that become spans, from 0 to 1, besides every failed and every slow one.
	SamplingRatio float64
	// SlowThreshold is the duration from which on a connection counts as slow; 0 means that none does.
	SlowThreshold time.Duration

	Histogram HistogramConfig

	// Cluster becomes the resource attribute k8s.cluster.name when it is known.
	Cluster string
}

// HistogramConfig is the resolution of the duration histograms.
type HistogramConfig struct {
	// MaxScale is the scale that a histogram begins with, 1 to 8; the default 3 makes eight buckets of every
	// power of two. It coarsens by itself when MaxBuckets do not suffice.
	MaxScale int
	// MaxBuckets bounds the buckets of one histogram, 8 to 320; the default is 160.
	MaxBuckets int
}

const (
	maxHistogramScale     = 8
	defaultHistogramScale = 3
	minBuckets            = 8
	maxBuckets            = 320
	defaultBuckets        = 160
)

// Validate names the first option that is out of range.
func (c *Config) Validate() error {
	switch {
	case c.MaxSeries < 0, c.MaxNodes < 0, c.MaxRecords < 0, c.MaxHeldBytes < 0, c.MaxEntry < 0:
		return errors.New("bounds must not be negative")
	case c.Expiry < 0, c.SlowThreshold < 0, c.MaxSkew < 0:
		return errors.New("durations must not be negative")
	case !(c.SamplingRatio >= 0 && c.SamplingRatio <= 1):
		return errors.New("the sampling ratio must be between 0 and 1")
	case c.Histogram.MaxScale < 0 || c.Histogram.MaxScale > maxHistogramScale:
		return errors.New("the histogram's max_scale must be between 1 and 8")
	case c.Histogram.MaxBuckets != 0 && (c.Histogram.MaxBuckets < minBuckets || c.Histogram.MaxBuckets > maxBuckets):
		return errors.New("the histogram's max_buckets must be between 8 and 320")
	}
	return nil
}

func (c *Config) setDefaults() {
	setDefault(&c.MaxSeries, DefaultMaxSeries)
	setDefault(&c.MaxNodes, DefaultMaxNodes)
	setDefault(&c.MaxRecords, DefaultMaxRecords)
	setDefault(&c.MaxHeldBytes, DefaultMaxHeld)
	setDefault(&c.MaxEntry, accesslog.DefaultMaxEntry)
	setDefault(&c.MaxSkew, DefaultMaxSkew)
	setDefault(&c.Histogram.MaxScale, defaultHistogramScale)
	setDefault(&c.Histogram.MaxBuckets, defaultBuckets)
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Counter names something that happened to entries, for the internal telemetry.
type Counter int

const (
	// CountEntries counts entries that came in.
	CountEntries Counter = iota
	// CountAccess counts those of them that belong to the access log.
	CountAccess
	// CountForeign counts text that no ztunnel wrote.
	CountForeign
	// CountCut counts entries that end in the middle or do not follow their format.
	CountCut
	// CountIncomplete counts access entries without a direction or addresses.
	CountIncomplete
	// CountTruncated counts entries longer than MaxEntry, of which the beginning was read.
	CountTruncated
	// CountInvalidFields counts fields whose value had the wrong type or range and was left out.
	CountInvalidFields
	// CountClockOutliers counts entries whose time was absent or absurd and that got the observed time.
	CountClockOutliers
	// CountLate counts entries older than the last boundary, counted after it.
	CountLate
	// CountEarly counts entries that had to be counted before their boundary because too many were held.
	CountEarly
	// CountRepeated counts entries that were counted before what was stored was lost.
	CountRepeated
	// CountOverflow counts connections that went into an overflow series, or a series without their port.
	CountOverflow
	// CountDrained counts connections that a drain closed.
	CountDrained
	// CountClosing counts connections that were answered and whose error says only how they were closed.
	CountClosing
	// CountExpired counts series that expired.
	CountExpired
	// CountNodesDropped counts entries of more nodes than MaxNodes.
	CountNodesDropped
	// CountLogsDropped counts log records over MaxRecords.
	CountLogsDropped
	// CountSpansDropped counts spans over MaxRecords.
	CountSpansDropped

	// NumCounters is how many counters there are.
	NumCounters
)

// Observer receives the counters. Count is called when something is flushed, not for every entry.
type Observer interface {
	Count(what Counter, n int64)
}

// Counted says which entries were counted before a checkpoint was lost.
type Counted struct {
	// Until, in unix nanoseconds, is the time before which all were.
	Until int64
	// All is set for as long as entries come that were there at the start: those whose time is not believed were counted as well.
	All bool
}

// Processor turns entries into telemetry. It is not safe for concurrent use.
type Processor struct {
	// Counted is what a processor whose checkpoint is lost had counted.
	Counted Counted

	cfg    Config
	obs    Observer
	counts [NumCounters]int64

	parser *accesslog.Parser
	rec    accesslog.Record

	nodes   nodeTable
	series  seriesTable
	logs    logBatch
	spans   spanBatch
	lookups lookups
	attrs   *attributes
	sampler sampler
	held    heldEntries
	shift   int64
}

// New returns a processor. obs may be nil.
func New(cfg Config, obs Observer) *Processor {
	cfg.setDefaults()
	p := &Processor{
		cfg:     cfg,
		obs:     obs,
		parser:  accesslog.NewParser(cfg.MaxEntry),
		nodes:   newNodeTable(cfg.MaxNodes),
		attrs:   &attributes{},
		sampler: newSampler(cfg.SamplingRatio, cfg.SlowThreshold),
	}
	p.series.init(&p.cfg)
	return p
}

// SetTimeShift adds d to the time of every entry that follows: a replay that begins now.
func (p *Processor) SetTimeShift(d time.Duration) { p.shift = int64(d) }

// Entry takes one complete entry of a node's ztunnel: without CRI prefix and line end, perhaps with lines that
// continue it. observed stands in for a time that is absent or absurd; without it (the zero time) no time is too
// far ahead, and an entry without a time gets that of the one before.
func (p *Processor) Entry(node string, entry []byte, observed time.Time) {
	n := p.nodes.get(node)
	if n == nil {
		p.counts[CountNodesDropped]++
		return
	}
	nanos := int64(0)
	if !observed.IsZero() {
		nanos = observed.UnixNano()
	}
	p.entry(n, entry, nanos)
}

func (p *Processor) entry(n *node, entry []byte, observed int64) {
	kind, err := p.parser.Parse(entry, &p.rec)
	rec := &p.rec

	outlier := !rec.HasTime
	if rec.HasTime {
		rec.Time += p.shift
		outlier = observed != 0 && rec.Time > observed+int64(p.cfg.MaxSkew)
	}
	ahead := int64(0)
	if outlier {
		if rec.HasTime {
			ahead = rec.Time - observed
		}
		if rec.Time = observed; observed == 0 {
			rec.Time = n.lastSeen
		}
	}
	if err == nil {
		n.lastSeen = max(n.lastSeen, rec.Time)
		n.reading.ahead = time.Duration(ahead)
	}
	n.heard = max(n.heard, n.lastSeen, p.series.boundary)
	if rec.HasTime && (rec.Time < p.Counted.Until || outlier && p.Counted.All) {
		p.counts[CountRepeated]++
		return
	}
	if err == nil && p.held.horizon != 0 && rec.Time >= p.held.horizon {
		if p.held.add(n.id, entry, observed, p.cfg.MaxHeldBytes) {
			return
		}
		p.counts[CountEarly]++
	}

	p.counts[CountEntries]++
	n.reading.line(rec.Level, err == nil)
	if rec.Invalid > 0 {
		p.counts[CountInvalidFields] += int64(rec.Invalid)
	}
	if rec.Truncated {
		p.counts[CountTruncated]++
	}
	if err != nil {
		p.counts[counterOf(err)]++
		return
	}
	if outlier {
		p.counts[CountClockOutliers]++
	}
	if kind == accesslog.KindAccess || rec.TellsRequest() {
		n.reading.access(kind != accesslog.KindAccess)
	}
	if kind == accesslog.KindMessage {
		if string(rec.Scope) == accesslog.ScopeDNS && len(rec.Message) == 0 {
			l := p.lookups.read(n, rec)
			if p.cfg.RecordMetrics {
				p.lookups.add(l, rec.Time, p.series.boundary)
			}
			if p.cfg.RecordLogs {
				l.log(p, n, entry)
			}
		} else if p.cfg.RecordLogs && isNotable(rec) {
			p.addMessageLog(n, entry)
		}
		return
	}
	p.counts[CountAccess]++
	if p.cfg.RecordLogs {
		p.addAccessLog(n, entry)
	}
	if rec.Event == accesslog.EventOpened {
		return
	}
	if p.cfg.RecordMetrics {
		p.aggregate(n, rec)
	}
	if p.cfg.RecordSpans && p.sampler.take(rec) {
		p.addSpan(n, entry)
	}
}

// counterOf counts entries that could not be read.
func counterOf(err error) Counter {
	switch {
	case errors.Is(err, accesslog.ErrForeign):
		return CountForeign
	case errors.Is(err, accesslog.ErrIncomplete):
		return CountIncomplete
	}
	return CountCut
}

// Series returns how many series are held, the overflow ones included.
func (p *Processor) Series() int { return p.series.len() }

// Pending returns how many log records and spans wait to be flushed.
func (p *Processor) Pending() (logs, spans int) { return p.logs.count, p.spans.count }

// Begin says where the last boundary before the first entry lies, unless a checkpoint has told one: what is older counts as late. Without
// it, series begin with the first entry of all.
func (p *Processor) Begin(at time.Time) {
	if p.series.boundary == 0 {
		p.series.boundary = at.UnixNano()
	}
}

// Advance says where the next boundary lies: entries at or after it are held until a later call moves it past
// them. Without it, every entry counts at once and the order of calls alone decides between which two points it
// falls. Call it after FlushMetrics of the boundary before.
func (p *Processor) Advance(next time.Time) {
	p.held.horizon = next.UnixNano()
	p.held.release(func(node int, entry []byte, observed int64) {
		p.entry(p.nodes.all[node], entry, observed)
	})
}

// report passes the counters on.
func (p *Processor) report() {
	for what, n := range p.counts {
		if n != 0 {
			if p.obs != nil {
				p.obs.Count(Counter(what), n)
			}
			p.counts[what] = 0
		}
	}
}
