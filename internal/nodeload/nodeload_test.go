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

func TestRevocation(t *testing.T) {
	var tracker Tracker
	scrape := func(at pcommon.Timestamp, rejected map[string]float64) Revocation {
		up := pmetric.NewMetric()
		up.SetName("process_open_fds")
		point := up.SetEmptyGauge().DataPoints().AppendEmpty()
		point.SetTimestamp(at)
		point.SetDoubleValue(8)
		tracker.Take(up)
		metric := pmetric.NewMetric()
		metric.SetName("istio_crl_policy_rejections_total")
		points := metric.SetEmptySum().DataPoints()
		for reporter, value := range rejected {
			point := points.AppendEmpty()
			point.SetTimestamp(at)
			point.SetDoubleValue(value)
			point.Attributes().PutStr("reporter", reporter)
		}
		tracker.Take(metric)
		load, _ := tracker.Load()
		return load.Revocation
	}
	assert.Equal(t, Revocation{}, scrape(10e9, nil), "an absent series is a zero")
	first := scrape(15e9, map[string]float64{"destination": 3})
	assert.Equal(t, Revocation{Rejected: Sides{Inbound: 3}, First: 15e9, Last: 15e9, Added: 3}, first)
	assert.Equal(t, Revocation{Rejected: Sides{Inbound: 3}, First: 15e9, Last: 15e9, Added: 3}, scrape(20e9, map[string]float64{"destination": 3}))
	both := scrape(25e9, map[string]float64{"destination": 4, "source": 2})
	assert.Equal(t, Revocation{Rejected: Sides{Inbound: 4, Outbound: 2}, First: 15e9, Last: 25e9, Added: 6}, both)
	anew := scrape(30e9, map[string]float64{"destination": 1, "source": 2})
	assert.Equal(t, Revocation{Rejected: Sides{Inbound: 1, Outbound: 2}, First: 15e9, Last: 30e9, Added: 7}, anew, "counters begin anew with the ztunnel")
	later := scrape(30e9+2*runGap, map[string]float64{"destination": 2, "source": 2})
	assert.Equal(t, pcommon.Timestamp(30e9)+2*runGap, later.First)
	assert.EqualValues(t, 1, later.Added, "another run")
	assert.True(t, Is("istio_crl_untracked_connections_total"))

	tracker = Tracker{}
	assert.Zero(t, scrape(10e9, map[string]float64{"destination": 9}).Added, "nobody knows when those of the first scrape were")
}
