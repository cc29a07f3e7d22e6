package history

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/scrape"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// maxCatalog bounds the metrics whose descriptions are kept.
const maxCatalog = 5_000

// Catalog is what the stored metrics are: their types, units and descriptions, since the process began. It implements
// scrape.MetricMetadataStore and is safe for concurrent use.
type Catalog struct {
	mu     sync.Mutex
	byName map[string]scrape.MetricMetadata // bounded by maxCatalog
}

// NewCatalog returns an empty catalog.
func NewCatalog() *Catalog { return &Catalog{byName: map[string]scrape.MetricMetadata{}} }

// note takes down what a metric is that is stored under a name.
func (c *Catalog) note(name, unit string, metric pmetric.Metric) {
	kind := model.MetricTypeGauge
	switch metric.Type() {
	case pmetric.MetricTypeHistogram, pmetric.MetricTypeExponentialHistogram:
		kind = model.MetricTypeHistogram
	case pmetric.MetricTypeSum:
		if metric.Sum().IsMonotonic() {
			kind = model.MetricTypeCounter
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.byName[name]; ok || len(c.byName) >= maxCatalog {
		return
	}
	help := strings.Clone(metric.Description())
	if len(help) > maxLabelValue {
		help = help[:maxLabelValue]
	}
	c.byName[name] = scrape.MetricMetadata{MetricFamily: name, Type: kind, Help: strings.ToValidUTF8(help, "\uFFFD"), Unit: unitNames[unit]}
}

// unitNames are the names that Prometheus gives to units.
var unitNames = map[string]string{"s": "seconds", "By": "bytes"}

// ListMetadata implements scrape.MetricMetadataStore.
func (c *Catalog) ListMetadata() []scrape.MetricMetadata {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]scrape.MetricMetadata, 0, len(c.byName))
	for _, one := range c.byName {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b scrape.MetricMetadata) int { return strings.Compare(a.MetricFamily, b.MetricFamily) })
	return list
}

// GetMetadata implements scrape.MetricMetadataStore. The series of a classic histogram are their histogram's.
func (c *Catalog) GetMetadata(name string) (scrape.MetricMetadata, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one, ok := c.byName[name]
	for _, which := range [...]part{partBucket, partCount, partSum} {
		if base, found := strings.CutSuffix(name, string(which)); found && !ok {
			one, ok = c.byName[base]
		}
	}
	return one, ok
}

// SizeMetadata implements scrape.MetricMetadataStore.
func (c *Catalog) SizeMetadata() (bytes int) {
	for _, one := range c.ListMetadata() {
		bytes += len(one.MetricFamily) + len(one.Type) + len(one.Help) + len(one.Unit)
	}
	return bytes
}

// LengthMetadata implements scrape.MetricMetadataStore.
func (c *Catalog) LengthMetadata() int { return len(c.ListMetadata()) }
