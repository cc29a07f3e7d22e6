// Package scrape reads ztunnels' and waypoints' Prometheus expositions into pdata (docs/data-model.md, section 1.2).
//
// Parse is pure but for the Tracker that it is given, the memory of one target's series, from which cumulative points
// get their start timestamps. Scraper scrapes live targets at an interval.
package scrape

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Kind is what a target is.
type Kind uint8

// The kinds of targets.
const (
	Ztunnel Kind = iota
	Waypoint
)

// Target is one exposition and what is known about who serves it.
type Target struct {
	Kind Kind
	// Name is a ztunnel's node, or a waypoint's "namespace/name".
	Name string
	// Instance tells targets of one name apart: the endpoint, or in a replay the recording's node name.
	Instance string
	// Cluster is empty when not known.
	Cluster string
	// URL is where a live target is scraped.
	URL string
	// Waiting says what keeps a target from being scraped that is there; empty where nothing does.
	Waiting string
	// Aside tells that a failure of this target says nothing: it is about to go, or another one speaks for the same node.
	Aside bool
}

// Key identifies the target among those of a Scraper.
func (t Target) Key() string { return t.Name + "|" + t.Instance + "|" + t.URL }

// Resource writes the attributes of the target's resource.
func (t Target) Resource(attrs pcommon.Map) {
	if t.Kind == Waypoint {
		attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameWaypoint)
		attrs.PutStr(semconv.AttrWaypoint, t.Name)
	} else {
		attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
		attrs.PutStr(semconv.AttrNodeName, t.Name)
	}
	if t.Cluster != "" {
		attrs.PutStr(semconv.AttrClusterName, t.Cluster)
	}
	if t.Instance != "" {
		attrs.PutStr(semconv.AttrServiceInstanceID, t.Instance)
	}
}

// Down is what a failed scrape gives: up = 0 and nothing else.
func Down(target Target, at time.Time) pmetric.Metrics {
	md := pmetric.NewMetrics()
	appendUp(newScope(md, target), pcommon.NewTimestampFromTime(at), 0)
	return md
}

// Stale is the last of a target that is no longer there: its "up" has no value any more.
func Stale(target Target, at time.Time) pmetric.Metrics {
	md := pmetric.NewMetrics()
	appendUp(newScope(md, target), pcommon.NewTimestampFromTime(at), 0).SetFlags(pmetric.DefaultDataPointFlags.WithNoRecordedValue(true))
	return md
}

func newScope(md pmetric.Metrics, target Target) pmetric.ScopeMetrics {
	rm := md.ResourceMetrics().AppendEmpty()
	target.Resource(rm.Resource().Attributes())
	sm := rm.ScopeMetrics().AppendEmpty()
	sm.Scope().SetName(semconv.ScopeReceiver)
	return sm
}

func appendUp(sm pmetric.ScopeMetrics, at pcommon.Timestamp, value int64) pmetric.NumberDataPoint {
	m := sm.Metrics().AppendEmpty()
	m.SetName(semconv.MetricUp)
	m.SetDescription("The scraping was successful")
	point := m.SetEmptyGauge().DataPoints().AppendEmpty()
	point.SetTimestamp(at)
	point.SetIntValue(value)
	return point
}
