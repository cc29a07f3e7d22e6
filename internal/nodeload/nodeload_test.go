package nodeload

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

func TestLoad(t *testing.T) {
	var tracker Tracker
	scrape := func(at pcommon.Timestamp, values map[string]float64) {
		for name, value := range values {
			metric := pmetric.NewMetric()
			metric.SetName(name)
			point := metric.SetEmptySum().DataPoints().AppendEmpty()
			point.SetTimestamp(at)
			point.SetDoubleValue(value)
			tracker.Take(metric)
		}
	}
	_, ok := tracker.Load()
	assert.False(t, ok)
	scrape(10e9, map[string]float64{"tokio_worker_total_busy_duration_seconds_total": 3, "tokio_worker_park_count_total": 100, "process_open_fds": 60})
	load, ok := tracker.Load()
	assert.True(t, ok)
	assert.Equal(t, Load{At: 10e9, Workers: 1, Files: 60}, load, "no rates without a scrape before")

	scrape(15e9, map[string]float64{
		"tokio_worker_total_busy_duration_seconds_total": 5, "tokio_worker_park_count_total": 150, "workload_manager_pending_proxy_count": 2,
	})
	load, _ = tracker.Load()
	assert.Equal(t, Load{At: 15e9, Since: 10e9, Busy: 0.4, Parks: 10, Workers: 1, Proxies: Proxies{Pending: 2}}, load)

	scrape(12e9, map[string]float64{"tokio_worker_total_busy_duration_seconds_total": 4, "process_open_fds": -1})
	late, _ := tracker.Load()
	assert.Equal(t, load, late, "what is late, or no number of things, says nothing")

	scrape(20e9, map[string]float64{"tokio_worker_total_busy_duration_seconds_total": 0.1, "tokio_worker_park_count_total": 5})
	load, _ = tracker.Load()
	assert.Zero(t, load.Since, "one that began anew has no rates yet")
	assert.True(t, Is("tokio_num_workers"))
	assert.False(t, Is("istio_build"))
}
