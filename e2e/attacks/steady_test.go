package attacks

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

var steady = flag.Duration("steady", time.Minute, "how long TestSteady watches")

// goroutines asks a collector's profiler for their number.
func (c *collector) goroutines(profiler string) (n int) {
	response, err := c.client.Get("http://" + profiler + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := fmt.Fscanf(response.Body, "goroutine profile: total %d", &n); err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c *collector) openFiles() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.cmd.Process.Pid))
	if err != nil {
		c.t.Fatal(err)
	}
	return len(entries)
}

// TestSteady has a steady load with rotations, listeners and queries: nothing grows that should not, every line counts, and the end is quick.
func TestSteady(t *testing.T) {
	profiler := loopback.FreeAddress(t)
	c := startCollector(t, "standalone.yaml", nil, "extensions: {pprof: {endpoint: '"+profiler+"'}}\nservice: {extensions: [pprof, file_storage, topology_query, health_check]}\n")
	var stop atomic.Bool
	written := make(chan int)
	go func() {
		l := &load{c: c}
		n := 0
		for ; !stop.Load(); time.Sleep(100 * time.Millisecond) {
			var text strings.Builder
			for i := range 30 {
				one := connection{source: fmt.Sprint("s", (n+i)%40), destination: fmt.Sprint("d", (n+i)%5)}
				if i == 0 && n%1000 == 0 {
					one.err = refusedError
				}
				text.WriteString(one.String())
			}
			c.write("0.log", text.String())
			if n += 30; n%9000 == 0 {
				l.rotate()
			}
		}
		written <- n
	}()
	listen := func() {
		for !stop.Load() {
			response, err := http.Get("http://" + c.env["NEPHILIA_API"] + "/api/v1/events?flows=true")
			if err != nil {
				continue
			}
			time.AfterFunc(10*time.Second, func() { _ = response.Body.Close() })
			_, _ = io.Copy(io.Discard, response.Body)
		}
	}
	go listen()
	go listen()
	go func() {
		for !stop.Load() {
			c.get("/api/v1/graph", nil)
			c.get("/api/v1/series?metric=connections", nil)
			if conn, err := net.Dial("tcp", c.env["NEPHILIA_API"]); err == nil {
				_ = conn.Close()
			}
			time.Sleep(2 * time.Second)
		}
	}()
	time.Sleep(*steady / 3)
	goroutines, files, memory := c.goroutines(profiler), c.openFiles(), c.memory()
	time.Sleep(*steady * 2 / 3)
	stop.Store(true)
	n := <-written
	c.eventually("written", n, func() int { return c.closed("") })
	t.Logf("%d lines, goroutines %d to %d, files %d to %d, %d to %d MiB", n, goroutines, c.goroutines(profiler), files, c.openFiles(), memory>>20, c.memory()>>20)
	if now := c.goroutines(profiler); now > goroutines+20 {
		t.Errorf("%d goroutines, and there were %d", now, goroutines)
	}
	if now := c.openFiles(); now > files+20 {
		t.Errorf("%d files are open, and there were %d", now, files)
	}
	if now := c.memory(); now > 2*memory+200<<20 {
		t.Errorf("%d MiB, and there were %d", now>>20, memory>>20)
	}
	if took := c.stop(); took > time.Duration(10*float64(time.Second)**patience) {
		t.Errorf("it took %s to stop", took)
	}
}
