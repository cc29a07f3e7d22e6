package scrape

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Options choose what Parse keeps and bound what it reads. Zero values mean the defaults.
type Options struct {
	// Families are names of metrics to keep, or their beginnings with a "*" at the end.
	Families []string
	// Refresh is after how long an edge's series that did not change is told again; 0 is in every scrape.
	Refresh time.Duration
	// MaxBytes bounds an exposition after decompression. A longer one fails.
	MaxBytes int64
	// MaxSeries bounds the series of one scrape. Further ones are dropped and counted.
	MaxSeries int
	// MaxLabels, MaxLabelNameLength and MaxLabelValueLength bound a series. One that exceeds them is dropped and counted.
	MaxLabels           int
	MaxLabelNameLength  int
	MaxLabelValueLength int
	// MaxBuckets bounds a histogram. One that exceeds it is dropped and counted.
	MaxBuckets int
}

// Defaults of Options.
const (
	DefaultMaxBytes            = 32 << 20
	DefaultMaxSeries           = 50_000
	DefaultMaxLabels           = 64
	DefaultMaxLabelNameLength  = 256
	DefaultMaxLabelValueLength = 1024
	DefaultMaxBuckets          = 512
)

// DefaultFamilies are the metrics kept by default.
func DefaultFamilies() []string {
	return []string{"istio_*", "workload_manager_*", "tokio_*", "process_*", semconv.MetricUp}
}

// Validate tells what is wrong with the options.
func (o Options) Validate() error {
	for _, family := range o.Families {
		name, _ := strings.CutSuffix(family, "*")
		if family == "" || strings.Contains(name, "*") {
			return fmt.Errorf("family %q: neither a metric's name nor a beginning followed by \"*\"", family)
		}
	}
	if o.Refresh < 0 {
		return errors.New("refresh is negative")
	}
	for _, bound := range []struct {
		name  string
		value int64
	}{
		{"bytes", o.MaxBytes},
		{"series", int64(o.MaxSeries)},
		{"labels", int64(o.MaxLabels)},
		{"label name length", int64(o.MaxLabelNameLength)},
		{"label value length", int64(o.MaxLabelValueLength)},
		{"buckets", int64(o.MaxBuckets)},
	} {
		if bound.value < 0 {
			return fmt.Errorf("bound on %s is negative", bound.name)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	if len(o.Families) == 0 {
		o.Families = DefaultFamilies()
	}
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.MaxSeries = cmp.Or(o.MaxSeries, DefaultMaxSeries)
	o.MaxLabels = cmp.Or(o.MaxLabels, DefaultMaxLabels)
	o.MaxLabelNameLength = cmp.Or(o.MaxLabelNameLength, DefaultMaxLabelNameLength)
	o.MaxLabelValueLength = cmp.Or(o.MaxLabelValueLength, DefaultMaxLabelValueLength)
	o.MaxBuckets = cmp.Or(o.MaxBuckets, DefaultMaxBuckets)
	return o
}

func (o Options) keeps(name []byte) bool {
	for _, family := range o.Families {
		prefix, wildcard := strings.CutSuffix(family, "*")
		if len(name) < len(prefix) || string(name[:len(prefix)]) != prefix {
			continue
		}
		if wildcard || len(name) == len(prefix) {
			return true
		}
	}
	return false
}

// Stats counts what became of one exposition's series.
type Stats struct {
	// Points were kept.
	Points int
	// Unchanged series were there and stayed behind.
	Unchanged int
	// Filtered series are of families that are not kept.
	Filtered int
	// Overflowed series are beyond the bound on series.
	Overflowed int
	// Oversized series have too many or too long labels, or too many buckets.
	Oversized int
	// Duplicates repeat a series of the same exposition.
	Duplicates int
	// BadValues are NaN, infinite or negative where that makes no sense, and histograms that contradict themselves.
	BadValues int
	// Unsupported series are of summaries and other types that this mesh's parts do not serve.
	Unsupported int
}

// Dropped is the number of series that were to be kept and were not.
func (s Stats) Dropped() int {
	return s.Overflowed + s.Oversized + s.Duplicates + s.BadValues + s.Unsupported
}
