package attacks

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// outageWithin is how soon an outage of good connections has to be found.
const outageWithin = 10 * time.Second

// besides writes good connections each fifth of a second until it is told to stop: first for some time all well, then failing by half.
// It tells how many there were. By the data's time the outage has to be found soon after the first failure; how soon by the wall clock
// is the machine's matter, and told.
func (c *collector) besides(well time.Duration, during func()) (good int) {
	c.t.Helper()
	one := connection{source: "good", destination: "svc", namespace: "good"}
	failed := one
	failed.err = refusedError
	var failing time.Time
	done, written := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(written)
		for {
			text := repeated(6, one)
			if time.Since(began) > well {
				if failing.IsZero() {
					failing = time.Now()
				}
				text = repeated(3, one) + repeated(3, failed)
			}
			c.write("0.log", text)
			good += 6
			select {
			case <-done:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
	during()
	lag := c.lag()
	close(done)
	<-written
	c.eventually("outages of what is good", 1, func() int { return min(1, len(c.outages("svc"))) })
	var answer struct {
		Outages []struct {
			Root       struct{ Name string }
			DetectedAt time.Time `json:"detected_at"`
		}
	}
	c.get("/api/v1/outages", &answer)
	for _, o := range answer.Outages {
		if o.Root.Name != "svc" {
			continue
		}
		took := o.DetectedAt.Sub(failing)
		c.t.Logf("the outage is found after %s of the data's time, which is %s behind as the flood ends", took, lag)
		if took > outageWithin {
			c.t.Errorf("the outage is found after %s", took)
		}
	}
	return good
}

// recovers holds that good connections are counted exactly, in time and within the chart's memory, soon after a flood.
func (c *collector) recovers(good int, peak int64) {
	c.t.Helper()
	c.eventually("good connections", good, func() int { return c.inGraph("good", "good") })
	if lag := c.lag(); lag > time.Duration(15*float64(time.Second)**patience) {
		c.t.Errorf("%s behind after the flood", lag)
	}
	c.t.Logf("at most %d MiB", peak>>20)
	if peak > chartMemory {
		c.t.Errorf("%d MiB, and the chart gives %d", peak>>20, chartMemory>>20)
	}
}

// TestFloods writes more names, ports and reasons than are told apart: what is good is counted and its outage found during the flood, and
// the memory that the chart gives is enough.
func TestFloods(t *testing.T) {
	names := func(i int) connection {
		return connection{source: fmt.Sprint("w", i), destination: fmt.Sprint("v", i), address: fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)}
	}
	for _, test := range []struct {
		name string
		rate int
		line func(i int) connection
	}{
		{"names", 2000, names},
		{"a million names", 20_000, names},
		{"ports", 2000, func(i int) connection {
			return connection{source: "scanner", destination: "victim", port: i%65535 + 1, err: refusedError}
		}},
		{"policies", 2000, func(i int) connection {
			return connection{source: "denied", destination: "victim", err: fmt.Sprintf("connection closed due to policy rejection: explicitly denied by: ns%d/p%d", i, i)}
		}},
		{"errors", 2000, func(i int) connection {
			return connection{source: "odd", destination: "victim", err: fmt.Sprint("strange error ", i)}
		}},
		{"services", 2000, func(i int) connection {
			return connection{source: "odd", destination: "victim", service: fmt.Sprint("s", i, ".x.svc.cluster.local")}
		}},
		{"identities", 2000, func(i int) connection {
			return connection{source: "odd", destination: "victim", identity: fmt.Sprint("i", i)}
		}},
		{"addresses outside", 2000, func(i int) connection {
			return connection{source: "odd", outside: fmt.Sprintf("%d.%d.%d.%d", 1+i%200, i>>16&255, i>>8&255, i&255), port: 443}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := startCollector(t, "standalone.yaml", nil)
			peak := c.watchMemory()
			seconds := 50
			if testing.Short() {
				seconds = 15
			}
			good := c.besides(time.Duration(12+seconds/3)*time.Second, func() {
				time.Sleep(12 * time.Second)
				n := 0
				for range seconds * 5 {
					began := time.Now()
					var text strings.Builder
					for range test.rate / 5 {
						text.WriteString(test.line(n).String())
						n++
					}
					c.write("0.log", text.String())
					time.Sleep(max(0, 200*time.Millisecond-time.Since(began)))
				}
			})
			c.recovers(good, peak())
		})
	}
}

// TestLargeExposition scrapes waypoints whose expositions are larger than what is read at all, and a little smaller.
func TestLargeExposition(t *testing.T) {
	for _, size := range []int{63 << 20, 31 << 20} {
		t.Run(fmt.Sprint(size>>20, " MiB"), func(t *testing.T) { largeExposition(t, size) })
	}
}

func largeExposition(t *testing.T, size int) {
	t.Helper()
	var body strings.Builder
	body.WriteString("# TYPE istio_requests counter\n")
	for i := 0; body.Len() < size; i++ {
		fmt.Fprintf(&body, "istio_requests_total{reporter=\"waypoint\",source_workload=\"w%d\",source_workload_namespace=\"x\",destination_workload=\"d\",destination_workload_namespace=\"shop\",response_code=\"200\"} 1\n", i)
	}
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		_, _ = w.Write([]byte(body.String()))
	}))
	defer server.Close()
	var targets []string
	for i := range 12 {
		targets = append(targets, fmt.Sprintf("{endpoint: '%s/m%d', kind: waypoint, waypoint: shop/wp%d}", server.URL, i, i))
	}
	c := startCollector(t, "standalone.yaml", nil, "receivers: {ztunnel: {metrics: {endpoints: ["+strings.Join(targets, ",")+"]}}}")
	peak := c.watchMemory()
	for range 30 {
		c.write("0.log", repeated(10, connection{source: "good", destination: "svc"}))
		time.Sleep(time.Second)
	}
	c.eventually("good connections", 300, func() int { return c.closed("good") })
	if asked.Load() == 0 {
		t.Error("nobody scraped")
	}
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
}

// TestSpanFlood sends spans of one trace, of many operations, with many attributes, in circles and without ids.
func TestSpanFlood(t *testing.T) {
	c := startCollector(t, "standalone.yaml", nil)
	peak := c.watchMemory()
	now := time.Now()
	batch := func(n int, span func(i int) object) object {
		var spans []any
		for i := range n {
			s := object{"name": "op", "kind": 2, "startTimeUnixNano": stamp(now), "endTimeUnixNano": stamp(now.Add(time.Millisecond))}
			for key, value := range span(i) {
				s[key] = value
			}
			spans = append(spans, s)
		}
		return object{"resourceSpans": []any{object{
			"resource": object{"attributes": attributes(map[string]any{"service.name": "flood"})}, "scopeSpans": []any{object{"spans": spans}},
		}}}
	}
	many := 50
	if testing.Short() {
		many = 10
	}
	for k := range many {
		c.post("traces", batch(10_000, func(i int) object {
			return object{"traceId": fmt.Sprintf("%016x%016x", k+1, i+1), "spanId": fmt.Sprintf("%016x", i+1), "name": fmt.Sprint("operation-", k*10_000+i)}
		}))
	}
	c.post("traces", batch(10_000, func(i int) object {
		return object{"traceId": strings.Repeat("a", 32), "spanId": fmt.Sprintf("%016x", i+1), "parentSpanId": fmt.Sprintf("%016x", (i+1)%10_000+1)}
	}))
	wide := map[string]any{}
	for i := range 3000 {
		wide[fmt.Sprint("key-", i)] = strings.Repeat("v", 4096)
	}
	c.post("traces", batch(1, func(int) object {
		return object{"traceId": strings.Repeat("b", 32), "spanId": fmt.Sprintf("%016x", 1), "attributes": attributes(wide)}
	}))
	c.post("traces", batch(many*1000, func(i int) object {
		return object{"traceId": fmt.Sprintf("%016x%016x", 1<<40, i+1), "spanId": fmt.Sprintf("%016x", i+1), "attributes": attributes(map[string]any{"http.route": fmt.Sprint("/r/", i), "client.address": "10.0.0.9"})}
	}))
	var services []any
	for i := range many * 400 {
		services = append(services, object{
			"resource": object{"attributes": attributes(map[string]any{"service.name": fmt.Sprint("service-", i)})}, "scopeSpans": []any{object{"spans": []any{object{
				"traceId": fmt.Sprintf("%016x%016x", 1<<41, i+1), "spanId": fmt.Sprintf("%016x", i+1), "name": "op", "kind": 2, "startTimeUnixNano": stamp(now), "endTimeUnixNano": stamp(now.Add(time.Millisecond)),
			}}}},
		})
	}
	c.post("traces", object{"resourceSpans": services})
	c.post("traces", batch(1000, func(int) object { return object{"traceId": strings.Repeat("0", 32), "spanId": strings.Repeat("0", 16)} }))
	for range 12 {
		c.write("0.log", repeated(10, connection{source: "good", destination: "svc"}))
		time.Sleep(time.Second)
	}
	c.eventually("good connections", 120, func() int { return c.closed("good") })
	if status, body := c.get("/api/v1/operations", nil); status != http.StatusOK || len(body) > 16<<20 {
		t.Errorf("operations: %d, %d bytes", status, len(body))
	}
	if status, _ := c.get("/api/v1/traces/"+strings.Repeat("a", 32), nil); status != http.StatusOK {
		t.Errorf("a trace in a circle: %d", status)
	}
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
}

// TestFastLog has one node's log grow faster than it can be read, beside another's with a few lines: these are counted within seconds, and
// what was read is stored.
func TestFastLog(t *testing.T) {
	c := startCollector(t, "standalone.yaml", nil, `receivers: {ztunnel: {access_logs: {node_from: {path_regexp: '/(fast|slow)\.log'}}}}`)
	peak := c.watchMemory()
	stop, done := make(chan struct{}), make(chan struct{})
	written := 0
	go func() {
		defer close(done)
		const most = 2 << 30
		for written < most {
			text := repeated(4000, connection{source: "fast", destination: "svc"})
			c.write("fast.log", text)
			written += len(text)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	slow := 0
	var slowest time.Duration
	for range 15 {
		c.write("slow.log", repeated(10, connection{source: "slow", destination: "svc"}))
		slow += 10
		began := time.Now()
		c.eventually("of the slow log", slow, func() int { return c.closed("slow") })
		slowest = max(slowest, time.Since(began))
	}
	close(stop)
	<-done
	read := c.closed("fast")
	t.Logf("%d MiB written, %d connections of them counted; a line of the slow log is counted after %s at the most, %d MiB", written>>20, read, slowest, peak()>>20)
	if slowest > time.Duration(10*float64(time.Second)**patience) {
		t.Errorf("a line of the slow log is counted after %s", slowest)
	}
	c.kill()
	c.start()
	c.eventually("connections that a kill took back", 0, func() int { return max(0, read-c.closed("fast")) })
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
}
