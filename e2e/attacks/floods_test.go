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

// flood writes lines at a rate beside good ones, of which half fail from the middle on, and returns how many good ones there were.
func (c *collector) flood(rate, seconds int, line func(i int) connection) (good int) {
	steady := func(failing bool) string {
		good += 6
		l := connection{source: "good", destination: "svc", namespace: "good"}
		if !failing {
			return repeated(6, l)
		}
		failed := l
		failed.err = refusedError
		return repeated(3, l) + repeated(3, failed)
	}
	for range 60 {
		c.write("0.log", steady(false))
		time.Sleep(200 * time.Millisecond)
	}
	n := 0
	for step := range seconds * 5 {
		began := time.Now()
		var text strings.Builder
		for range rate / 5 {
			text.WriteString(line(n).String())
			n++
		}
		c.write("0.log", text.String()+steady(step > seconds*5/2))
		time.Sleep(max(0, 200*time.Millisecond-time.Since(began)))
	}
	return good
}

// TestFloods writes more names, ports and reasons than are told apart: what is good is counted and its outage found, and the memory that
// the chart gives is enough.
func TestFloods(t *testing.T) {
	for name, line := range map[string]func(i int) connection{
		"names": func(i int) connection {
			return connection{source: fmt.Sprint("w", i), destination: fmt.Sprint("v", i), address: fmt.Sprintf("10.%d.%d.%d", i>>16&255, i>>8&255, i&255)}
		},
		"ports": func(i int) connection {
			return connection{source: "scanner", destination: "victim", port: i%65535 + 1, err: refusedError}
		},
		"policies": func(i int) connection {
			return connection{source: "denied", destination: "victim", err: fmt.Sprintf("connection closed due to policy rejection: explicitly denied by: ns%d/p%d", i, i)}
		},
		"errors": func(i int) connection {
			return connection{source: "odd", destination: "victim", err: fmt.Sprint("strange error ", i)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCollector(t, "standalone.yaml", nil)
			peak := c.watchMemory()
			rate, seconds := 2000, 40
			if testing.Short() {
				seconds = 15
			}
			good := c.flood(rate, seconds, line)
			if found := c.outages("svc"); len(found) == 0 && *patience == 1 {
				t.Error("half of the good connections fail during the flood, and no outage is found")
			}
			c.eventually("good connections", good, func() int { return c.inGraph("good", "good") })
			if peak() > chartMemory {
				t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
			}
			if lag := c.lag(); lag > time.Duration(15*float64(time.Second)**patience) {
				t.Errorf("%s behind after the flood", lag)
			}
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
