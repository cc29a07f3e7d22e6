package attacks

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	chaos = flag.Duration("chaos", 0, "how long TestChaos runs; without it does not")
	seed  = flag.Uint64("seed", 1, "what TestChaos does is the same for the same seed, but for its moments")
)

// load writes connections of several edges until it is told to stop, and counts them.
type load struct {
	c      *collector
	paused sync.RWMutex
	stop   atomic.Bool
	done   sync.WaitGroup
	// written and failed are by edge.
	written, failed [10]int
	rotated         int
	size            int
}

func (l *load) run(random *rand.Rand) {
	for !l.stop.Load() {
		l.paused.RLock()
		var text string
		for range 20 {
			edge := random.IntN(len(l.written))
			one := connection{source: fmt.Sprint("src-", edge), destination: fmt.Sprint("dst-", edge)}
			l.written[edge]++
			if random.IntN(10) == 0 {
				one.err = refusedError
				l.failed[edge]++
			}
			text += one.String()
		}
		// A line is often seen before its end.
		cut := random.IntN(len(text))
		l.c.write("0.log", text[:cut])
		l.c.write("0.log", text[cut:])
		if l.size += len(text); l.size > 4<<20 {
			l.rotate()
		}
		l.paused.RUnlock()
		time.Sleep(50 * time.Millisecond)
	}
}

func (l *load) rotate() {
	l.size = 0
	l.rotated++
	logs := filepath.Join(l.c.folder, "logs")
	if err := os.Rename(filepath.Join(logs, "0.log"), filepath.Join(logs, fmt.Sprintf("0.log.%04d", l.rotated))); err != nil {
		l.c.t.Error(err)
	}
	_ = os.Remove(filepath.Join(logs, fmt.Sprintf("0.log.%04d", l.rotated-4))) // the first ones are not there
}

// TestChaos kills, restarts, floods, damages and plagues a collector at random, and counts in the end.
func TestChaos(t *testing.T) {
	if *chaos == 0 {
		t.Skip("run it by make chaos")
	}
	t.Logf("seed %d", *seed)
	c := startCollector(t, "standalone.yaml", nil)
	peak := c.watchMemory()
	l := &load{c: c}
	l.done.Go(func() { l.run(rand.New(rand.NewPCG(*seed, 1))) })
	random := rand.New(rand.NewPCG(*seed, 2))
	noise := 0
	restart := func() {
		if err := c.tryStart(); err != nil {
			t.Fatalf("it does not start: %v\n%s", err, c.said("Error", "panic", "fatal"))
		}
	}
	acts := []struct {
		name string
		do   func()
	}{
		{"kill", func() { c.kill(); time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond); restart() }},
		{"stop", func() { c.stop(); restart() }},
		{"kills in a row", func() {
			for range 3 {
				c.kill()
				restart()
				time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
			}
		}},
		{"damage", func() {
			// What comes late around the last boundary may be missed after a loss.
			l.paused.Lock()
			defer l.paused.Unlock()
			pause(4 * time.Second)
			c.kill()
			store := []string{"storage/receiver_ztunnel_", "storage/processor_service_graph_", "storage/processor_outage_detector_", "state/journal*", "records/*/*.parquet"}[random.IntN(5)]
			for _, path := range c.data(store) {
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for i := range content[:len(content)/(1+random.IntN(3))] {
					content[i] ^= byte(random.IntN(256))
				}
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			restart()
		}},
		{"flood", func() {
			for range 10 {
				text := ""
				for range 100 {
					text += connection{source: "scanner", destination: "victim", port: 1 + noise%65535}.String()
					noise++
				}
				c.write("noise.log", text)
				time.Sleep(100 * time.Millisecond)
			}
		}},
		{"wrong clock", func() {
			ahead := time.Duration(random.IntN(1000)) * time.Hour
			for range 20 {
				c.write("noise.log", connection{source: "skewed", destination: "victim", at: time.Now().Add(ahead)}.String())
				noise++
			}
		}},
		{"slow clients", func() {
			for range 30 {
				conn, err := net.Dial("tcp", c.env["NEPHILIA_API"])
				if err != nil {
					continue
				}
				_, _ = fmt.Fprintf(conn, "GET /api/v1/graph HTTP/1.1\r\nHost: localhost\r\n\r\n")
				time.AfterFunc(5*time.Second, func() { _ = conn.Close() })
			}
		}},
		{"queries", func() {
			for range 20 {
				c.get(fmt.Sprintf("/api/v1/series?metric=connection_heatmap&step=1&start=%d", time.Now().Unix()-1900), nil)
			}
		}},
	}
	done := map[string]int{}
	for end := time.Now().Add(*chaos); time.Now().Before(end) && !t.Failed(); {
		act := acts[random.IntN(len(acts))]
		t.Logf("%s: %s", time.Now().Format(time.TimeOnly), act.name)
		act.do()
		done[act.name]++
		if !c.alive() {
			t.Fatalf("it died: %s", c.said("panic", "fatal"))
		}
		time.Sleep(time.Duration(random.IntN(6000)) * time.Millisecond)
	}
	l.stop.Store(true)
	l.done.Wait()
	all, failed := noise, 0
	for edge := range l.written {
		all += l.written[edge]
		failed += l.failed[edge]
	}
	// All first: while it changes, edges are not at fault for being late.
	c.eventually("all, with the floods and the wrong clocks", all, func() int { return c.closed("") })
	c.eventually("all failures", failed, func() int { return c.sum("mesh_edge_connections_failed_total") })
	for edge := range l.written {
		source := fmt.Sprintf(`source_workload="src-%d"`, edge)
		c.eventually(fmt.Sprintf("edge %d", edge), l.written[edge], func() int { return c.sum(closedMetric, source) })
		c.eventually(fmt.Sprintf("failures of edge %d", edge), l.failed[edge], func() int { return c.sum("mesh_edge_connections_failed_total", source) })
	}
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
	t.Logf("seed %d: %d connections, of which %d failed, %d rotations, at most %d MiB; %v", *seed, all, failed, l.rotated, peak()>>20, done)
}
