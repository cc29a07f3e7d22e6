package attacks

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var kills = flag.Int("kills", 4, "how often TestKilledRecords kills")

// mayLose is how much of the newest records a kill may cost.
const mayLose = 3 * time.Second

// killing is when a process was killed that had begun at a time, and from when on it may be the first to read what was given.
type killing struct{ reads, started, begun, done time.Time }

// explains tells whether what was given at a time may be lost by the kill. What was given before the process began was read by it at its
// beginning at the earliest.
func (k *killing) explains(given time.Time) bool {
	if given.Before(k.reads) {
		return false
	}
	if given.Before(k.started) {
		given = k.started
	}
	return given.Before(k.done) && k.begun.Sub(given) <= lossOf()
}

func lossOf() time.Duration { return time.Duration(float64(mayLose) * *patience) }

// kept are records that were given to a collector: when, by what tells each from the others.
type kept struct {
	name  string
	given map[string]time.Time
}

// check compares what is found, how often, with what was given.
func (k *kept) check(t *testing.T, found map[string]int, kills []killing) {
	t.Helper()
	lost := map[int]int{} // by kill
	doubled := 0
	for _, n := range found {
		if n > 1 {
			doubled++
		}
	}
	missing, early := 0, 0
	for id, at := range k.given {
		if found[id] > 0 {
			continue
		}
		missing++
		explained := -1
		for i, kill := range kills {
			if kill.explains(at) {
				explained = i
				break
			}
		}
		if explained < 0 {
			early++
			continue
		}
		lost[explained]++
	}
	most := 0
	for _, n := range lost {
		most = max(most, n)
	}
	t.Logf("%s: %d given, %d found, %d lost by %d of %d kills, at most %d by one; %d twice", k.name, len(k.given), len(found), missing, len(lost), len(kills), most, doubled)
	if early > 0 {
		t.Errorf("%s: %d are lost that came more than %s before a kill", k.name, early, mayLose)
	}
	if doubled > 0 {
		t.Errorf("%s: %d are there twice", k.name, doubled)
	}
}

// TestKilledRecords kills a collector again and again while spans and connections come: none is there twice, though senders send again
// what was not acknowledged and logs are read again, and those that are lost came in the last three seconds before a kill.
func TestKilledRecords(t *testing.T) {
	c := startCollector(t, "standalone.yaml", nil)
	spans, connections := kept{name: "spans", given: map[string]time.Time{}}, kept{name: "connections", given: map[string]time.Time{}}
	var stop atomic.Bool
	var done sync.WaitGroup
	done.Go(func() {
		for n := 1; !stop.Load(); n += 20 {
			now := time.Now()
			var batch []any
			for i := range 20 {
				id := fmt.Sprintf("%032x", n+i)
				batch = append(batch, object{
					"traceId": id, "spanId": fmt.Sprintf("%016x", n+i), "name": "op", "kind": 2, "startTimeUnixNano": stamp(now.Add(-time.Millisecond)), "endTimeUnixNano": stamp(now),
				})
			}
			body := object{"resourceSpans": []any{object{
				"resource": object{"attributes": attributes(map[string]any{"service.name": "kept"})}, "scopeSpans": []any{object{"spans": batch}},
			}}}
			for c.post("traces", body) != http.StatusOK {
				time.Sleep(50 * time.Millisecond)
			}
			// Until then they may be sent again.
			taken := time.Now()
			for i := range 20 {
				spans.given[fmt.Sprintf("%032x", n+i)] = taken
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	done.Go(func() {
		last := time.Now().Truncate(time.Microsecond)
		for !stop.Load() {
			text := ""
			for range 20 {
				if now := time.Now().Truncate(time.Microsecond); now.After(last) {
					last = now
				} else {
					last = last.Add(time.Microsecond)
				}
				text += connection{source: "kept", destination: "svc", at: last}.String()
				connections.given[last.UTC().Format(time.RFC3339Nano)] = last
			}
			c.write("0.log", text)
			time.Sleep(50 * time.Millisecond)
		}
	})
	random := rand.New(rand.NewPCG(7, 8))
	var killed []killing
	started := time.Now()
	reads := started.Add(-time.Minute)
	for range *kills {
		time.Sleep(time.Duration(50+random.IntN(4000)) * time.Millisecond)
		one := killing{reads: reads, started: started, begun: time.Now()}
		c.kill()
		one.done = time.Now()
		killed = append(killed, one)
		// A process that lived for long enough has read and stored all but the newest.
		if one.begun.Sub(started) > lossOf() {
			reads = one.begun.Add(-lossOf())
		}
		c.start()
		started = time.Now()
	}
	pause(2 * time.Second)
	stop.Store(true)
	done.Wait()
	c.eventually("connections", len(connections.given), func() int { return c.closed("kept") })
	pause(3 * time.Second)
	connections.check(t, c.exported(), killed)
	spans.check(t, c.traced(), killed)
	if counted, found := c.countSpans(), len(c.traced()); counted != found {
		t.Errorf("%d spans are stored of %d", counted, found)
	}
}

// exported are the connections that are kept, by time.
func (c *collector) exported() map[string]int {
	_, body := c.get("/api/v1/flows/export?source=shop/kept", nil)
	found := map[string]int{}
	lines := json.NewDecoder(bytes.NewReader(body))
	for lines.More() {
		var one struct{ Time time.Time }
		if err := lines.Decode(&one); err != nil {
			c.t.Fatal(err)
		}
		found[one.Time.UTC().Format(time.RFC3339Nano)]++
	}
	return found
}

// traced are the traces that are kept, each of one span, by id.
func (c *collector) traced() map[string]int {
	found := map[string]int{}
	for cursor := ""; ; {
		var page struct {
			Traces []struct {
				ID    string `json:"trace_id"`
				Spans int
			}
			Next string `json:"next_cursor"`
		}
		if status, body := c.get("/api/v1/traces?service=kept&limit=1000&cursor="+url.QueryEscape(cursor), &page); status != http.StatusOK {
			c.t.Fatalf("traces: %d %s", status, body)
		}
		for _, one := range page.Traces {
			found[one.ID] += one.Spans
		}
		if cursor = page.Next; cursor == "" {
			return found
		}
	}
}

// countSpans is how many spans are stored.
func (c *collector) countSpans() (n int) {
	var counts struct{ Spans [][]int }
	c.get(fmt.Sprintf("/api/v1/traces/counts?service=kept&steps=1&start=%d&end=%d", time.Now().Add(-time.Hour).Unix(), time.Now().Add(time.Minute).Unix()), &counts)
	for _, row := range counts.Spans {
		for _, cell := range row {
			n += cell
		}
	}
	return n
}
