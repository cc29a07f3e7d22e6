// Package nodeload tells from a ztunnel's scrapes how busy it is, what it holds open, which pods it serves and what it turned down because
// of a revoked certificate.
//
// The outage detector and the query extension use it.
package nodeload

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Load is a ztunnel as its newest scrape shows it. What it does not tell is 0.
type Load struct {
	// At is when it was scraped, Since when it was before: rates are those between the two.
	At, Since pcommon.Timestamp
	// Busy is the share of the worker threads' time in which they were busy, from 0 to 1; by wall time, so that a thread that is kept from
	// running is busy. Parks is how often a second they had nothing to do.
	Busy, Parks float64
	// Workers is the number of threads, Tasks that of tasks that are alive.
	Workers, Tasks uint64
	// Files is the number of open file descriptors, MaxFiles how many there may be.
	Files, MaxFiles uint64
	// Outbound and Inbound are the sockets that are open: accepted from pods, and from other ztunnels.
	Outbound, Inbound uint64
	Proxies
	Revocation Revocation
}

// Proxies are the pods that a ztunnel serves, and those of which it was told and that it cannot serve.
type Proxies struct {
	Active, Pending uint64
	// Started and Stopped count since the ztunnel's start.
	Started, Stopped uint64
}

// Revocation is what came of the list of revoked certificates (CRL): nothing without one, and as long as no certificate on it is seen.
type Revocation struct {
	// Rejected are connections that the ztunnel refused or cut since its start because the other end's certificate is revoked, Untracked those
	// that it cannot hold to a list that comes later.
	Rejected, Untracked Sides
	// First and Last are when Rejected grew in the newest run of rejections, Added by how much. A run ends with runGap without any.
	First, Last pcommon.Timestamp
	Added       uint64
}

// Sides are counts of connections by which side of them the ztunnel is.
type Sides struct{ Inbound, Outbound uint64 }

const runGap = pcommon.Timestamp(5 * time.Minute)

// sample is what one scrape tells.
type sample struct {
	Load
	busy, parks float64
	seen        bool
}

// Tracker follows the scrapes of one ztunnel.
type Tracker struct {
	now, before sample
	revoked     Revocation // its run only
}

// Is tells whether a metric is one that says anything about load.
func Is(name string) bool {
	return strings.HasPrefix(name, "tokio_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "workload_manager_") ||
		name == "istio_tcp_sockets_open" || strings.HasPrefix(name, "istio_crl_")
}

// Take takes over a metric of a scrape.
func (t *Tracker) Take(metric pmetric.Metric) {
	list := pmetric.NewNumberDataPointSlice()
	switch metric.Type() {
	case pmetric.MetricTypeSum:
		list = metric.Sum().DataPoints()
	case pmetric.MetricTypeGauge:
		list = metric.Gauge().DataPoints()
	}
	for _, point := range list.All() {
		at, value := point.Timestamp(), cumulative.Number(point)
		if point.Flags().NoRecordedValue() || !(value >= 0) || value > 1<<62 || at < t.now.At {
			continue
		}
		if at > t.now.At {
			t.before, t.now = t.now, sample{Load: Load{At: at}}
		}
		name := strings.TrimSuffix(metric.Name(), "_total")
		t.now.take(name, point.Attributes(), value)
		if name == metricRejected {
			t.reject(&t.before.Revocation.Rejected, sideOf(&t.now.Revocation.Rejected, point.Attributes()), point.Attributes())
		}
	}
}

const metricRejected = "istio_crl_policy_rejections"

// reject takes note of how many more connections of a side were rejected since the scrape before. A series begins with its first one.
func (t *Tracker) reject(before *Sides, now *uint64, attrs pcommon.Map) {
	added := *now
	if was := *sideOf(before, attrs); was <= added {
		added -= was
	}
	if added == 0 || t.before.At == 0 {
		return
	}
	r := &t.revoked
	if r.Last == 0 || t.now.At-r.Last > runGap {
		*r = Revocation{First: t.now.At}
	}
	r.Last = t.now.At
	r.Added += added
}

func sideOf(s *Sides, attrs pcommon.Map) *uint64 {
	if reporter, _ := attrs.Get(semconv.LabelReporter); reporter.Str() == semconv.ReporterSource {
		return &s.Outbound
	}
	return &s.Inbound
}

func (s *sample) take(name string, attrs pcommon.Map, value float64) {
	n := uint64(value)
	switch name {
	case "tokio_worker_total_busy_duration_seconds":
		s.busy, s.seen = s.busy+value, true
		s.Workers++
	case "tokio_worker_park_count":
		s.parks += value
	case "tokio_num_alive_tasks":
		s.Tasks = n
	case "process_open_fds":
		s.Files = n
	case "process_max_fds":
		s.MaxFiles = n
	case "istio_tcp_sockets_open":
		if reporter, _ := attrs.Get(semconv.LabelReporter); reporter.Str() == semconv.ReporterSource {
			s.Outbound = n
		} else {
			s.Inbound = n
		}
	case metricRejected:
		*sideOf(&s.Revocation.Rejected, attrs) = n
	case "istio_crl_untracked_connections":
		*sideOf(&s.Revocation.Untracked, attrs) = n
	case "workload_manager_active_proxy_count":
		s.Active = n
	case "workload_manager_pending_proxy_count":
		s.Pending = n
	case "workload_manager_proxies_started":
		s.Started = n
	case "workload_manager_proxies_stopped":
		s.Stopped = n
	}
}

// Load is what the newest scrape tells; ok is false before the first. Without a Since rates are not known: the ztunnel was not scraped
// before, or has begun anew.
func (t *Tracker) Load() (load Load, ok bool) {
	load = t.now.Load
	load.Revocation.First, load.Revocation.Last, load.Revocation.Added = t.revoked.First, t.revoked.Last, t.revoked.Added
	seconds := float64(t.now.At-min(t.before.At, t.now.At)) / 1e9
	if t.before.seen && t.now.seen && seconds > 0 && t.now.busy >= t.before.busy && t.now.parks >= t.before.parks {
		load.Since = t.before.At
		load.Busy = min((t.now.busy-t.before.busy)/seconds/float64(max(t.now.Workers, 1)), 1)
		load.Parks = (t.now.parks - t.before.parks) / seconds
	}
	return load, t.now.At > 0
}
