package servicegraphprocessor

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

type waypointSeries struct{}

func (g *graph) applyWaypointMetric(*metricSource, pmetric.Metric) {}

func (g *graph) sweepWaypoint(*scrapeTarget, pcommon.Timestamp, time.Duration) {}
