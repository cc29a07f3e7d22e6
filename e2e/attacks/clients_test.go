package attacks

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"
)

// edges tells of n edges, with durations.
func (c *collector) manyEdges(n int) {
	start := time.Now().Add(-time.Minute)
	for range 12 {
		now := time.Now().Truncate(time.Second)
		var series []any
		for i := range n {
			series = append(series, counter("ztunnel.connections.closed", stamp(start), stamp(now), int(now.Unix()%1000)+1000, map[string]any{
				"reporter": "source", "source_pod": fmt.Sprint("p", i), "source_workload_namespace": "x", "source_address": "10.1.1.1", "destination_pod": fmt.Sprint("q", i),
				"destination_workload_namespace": "x", "destination_address": "10.1.1.2", "destination_port": 80, "destination_service": "q", "connection_security_policy": "mutual_tls",
			}))
		}
		c.post("metrics", metrics(told("n1", series...), heartbeat("n1", now)))
		time.Sleep(time.Until(now.Add(time.Second)))
	}
}

// TestSlowReaders asks for large answers and does not read them: others are answered.
func TestSlowReaders(t *testing.T) {
	c := startCollector(t, "gateway.yaml", nil)
	c.manyEdges(2000)
	for _, clients := range []int{16, 100} {
		var open []net.Conn
		for range clients {
			conn, err := net.Dial("tcp", c.env["NEPHILIA_API"])
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.(*net.TCPConn).SetReadBuffer(4096)
			_, _ = fmt.Fprintf(conn, "GET /api/v1/graph HTTP/1.1\r\nHost: localhost\r\n\r\n")
			open = append(open, conn)
		}
		pause(time.Second)
		for range 3 {
			began := time.Now()
			if status, _ := c.get("/api/v1/status", nil); status != http.StatusOK || time.Since(began) > time.Duration(5*float64(time.Second)**patience) {
				t.Errorf("%d clients do not read: another is answered %d after %s", clients, status, time.Since(began))
			}
		}
		for _, conn := range open {
			_ = conn.Close()
		}
	}
}

// TestManyQueries asks for what is dear, many at a time: each is answered or turned away, the memory is bounded, and what arrives is taken.
func TestManyQueries(t *testing.T) {
	c := startCollector(t, "gateway.yaml", nil)
	c.manyEdges(1000)
	peak := c.watchMemory()
	ask := func(n int, path func(i int) string) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				switch status, body := c.get(path(i), nil); status {
				case http.StatusOK, http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
				default:
					t.Errorf("%s: %d %.200s", path(i), status, body)
				}
			})
		}
		all.Wait()
	}
	now := time.Now().Unix()
	ask(40, func(i int) string {
		return fmt.Sprintf("/api/v1/series?metric=connection_heatmap&by=source_workload&step=1&start=%d&end=%d", now-1990+int64(i), now+int64(i))
	})
	ask(16, func(i int) string {
		return fmt.Sprintf("/api/v1/series?metric=connection_p99&step=1&start=%d&end=%d", now-1990+int64(i), now+int64(i))
	})
	ask(1000, func(i int) string {
		return fmt.Sprintf("/api/v1/graph?group_by=%s&start=%d", []string{"workload", "app", "service", "namespace"}[i%4], now-600-int64(i%50))
	})
	used := c.cpu()
	ask(1000, func(int) string { return "/api/v1/graph" })
	t.Logf("a thousand times the same graph: %s of CPU time", c.cpu()-used)
	if status := c.post("metrics", metrics(heartbeat("n1", time.Now()))); status != http.StatusOK {
		t.Errorf("meanwhile what arrives is answered %d", status)
	}
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
}

// TestManyConnections has thousands of clients that listen, that never end what they ask, and that say nothing: others are answered, and
// what was opened for them is closed.
func TestManyConnections(t *testing.T) {
	const clients = 3000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < clients+500 {
		t.Skipf("no room for %d connections: %d, %v", clients, limit.Cur, err)
	}
	c := startCollector(t, "gateway.yaml", nil)
	peak := c.watchMemory()
	before := c.openFiles()
	for name, said := range map[string]string{
		"listen": "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n", "never end": "GET /api/v1/status HTTP/1.1\r\nX-a: ", "say nothing": "",
	} {
		var open []net.Conn
		for range clients {
			conn, err := net.Dial("tcp", c.env["NEPHILIA_API"])
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write([]byte(said)) // some are turned away
			open = append(open, conn)
		}
		for range 3 {
			began := time.Now()
			if status, _ := c.get("/api/v1/status", nil); status != http.StatusOK || time.Since(began) > time.Duration(5*float64(time.Second)**patience) {
				t.Errorf("%d clients %s: another is answered %d after %s", clients, name, status, time.Since(began))
			}
		}
		t.Logf("%d clients %s: %d files, %d MiB", clients, name, c.openFiles(), c.memory()>>20)
		if name != "listen" {
			// They are cut off by the server.
			c.eventually("connections left of clients that "+name, 0, func() int { return max(0, c.openFiles()-before-20) })
		}
		for _, conn := range open {
			_ = conn.Close()
		}
		c.eventually("connections left", 0, func() int { return max(0, c.openFiles()-before-20) })
	}
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
}
