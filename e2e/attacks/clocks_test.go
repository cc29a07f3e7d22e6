package attacks

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// agent sends each second what it counted, and heartbeats of itself and others.
type agent struct {
	*collector
	began          time.Time
	closed, failed int
}

func (a *agent) run(seconds int, failing bool, others func(now time.Time) []any) {
	for range seconds {
		now := time.Now().Truncate(time.Second)
		a.closed += 10
		if failing {
			a.failed += 5
		}
		sent := []any{flow("n1", a.began, now, a.closed, a.failed), heartbeat("n1", now), heartbeat("n2", now)}
		if others != nil {
			sent = append(sent, others(now)...)
		}
		a.post("metrics", metrics(sent...))
		time.Sleep(time.Until(now.Add(time.Second)))
	}
}

// TestClockFarAhead has one node whose clock is ahead, once or for long: time goes on for the others, and an outage is found.
func TestClockFarAhead(t *testing.T) {
	for name, test := range map[string]struct {
		ahead time.Duration
		beats int
	}{
		"ten minutes, once":    {10 * time.Minute, 1},
		"ten minutes, staying": {10 * time.Minute, 20},
		"three days, once":     {72 * time.Hour, 1},
		"the year 2100, once":  {time.Until(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &agent{collector: startCollector(t, "gateway.yaml", nil), began: time.Now().Add(-time.Minute).Truncate(time.Second)}
			a.run(14, false, nil)
			a.run(test.beats, false, func(now time.Time) []any { return []any{heartbeat("n3", now.Add(test.ahead))} })
			a.run(25, true, nil)
			if lag := a.lag(); lag < -time.Minute || lag > time.Duration(15*float64(time.Second)**patience) {
				t.Errorf("the data's clock is %s behind", lag)
			}
			if found := a.outages(""); len(found) == 0 {
				t.Error("half of the connections fail, and no outage is found")
			}
			a.eventually("counted", a.closed, func() int {
				now := time.Now().Truncate(time.Second)
				a.post("metrics", metrics(heartbeat("n1", now), heartbeat("n2", now)))
				return a.collector.closed("")
			})
			a.stop()
			a.start()
			a.run(10, false, nil)
			if lag := a.lag(); lag < -time.Minute || lag > time.Duration(15*float64(time.Second)**patience) {
				t.Errorf("after a restart the data's clock is %s behind", lag)
			}
		})
	}
}

// TestAnotherStart has an agent that begins anew with an earlier start, and one with a later: each counts on top.
func TestAnotherStart(t *testing.T) {
	t.Parallel()
	c := startCollector(t, "gateway.yaml", nil)
	began := time.Now().Add(-time.Minute).Truncate(time.Second)
	send := func(start time.Time, from, seconds int) int {
		n := 0
		for range seconds {
			now := time.Now().Truncate(time.Second)
			n += 10
			c.post("metrics", metrics(flow("n1", start, now, from+n, 0), heartbeat("n1", now)))
			time.Sleep(time.Until(now.Add(time.Second)))
		}
		return n
	}
	sent := send(began, 0, 14)
	sent += send(began.Add(-time.Second), 0, 5)
	sent += send(time.Now().Truncate(time.Second), 0, 5)
	c.eventually("counted", sent, func() int {
		now := time.Now().Truncate(time.Second)
		c.post("metrics", metrics(heartbeat("n1", now)))
		return c.closed("")
	})
}

// TestSpanFarAhead has one span whose clock is wrong: the others' traces stay.
func TestSpanFarAhead(t *testing.T) {
	for name, times := range map[string]func(now time.Time) (start, end time.Time){
		"its end": func(now time.Time) (time.Time, time.Time) { return now, now.Add(26 * time.Hour) },
		"all of it": func(now time.Time) (time.Time, time.Time) {
			return now.Add(26 * time.Hour), now.Add(26*time.Hour + time.Millisecond)
		},
		"1970":                 func(time.Time) (time.Time, time.Time) { return time.Unix(0, 1), time.Unix(1, 0) },
		"since 1970":           func(now time.Time) (time.Time, time.Time) { return time.Unix(0, 0), now },
		"2100":                 func(time.Time) (time.Time, time.Time) { return time.Unix(4102444800, 0), time.Unix(4102444801, 0) },
		"its end before start": func(now time.Time) (time.Time, time.Time) { return now, now.Add(-time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCollector(t, "gateway.yaml", nil)
			now := func(int) (time.Time, time.Time) { return time.Now().Add(-5 * time.Millisecond), time.Now() }
			found := func() int {
				var answer struct{ Traces []any }
				c.get("/api/v1/traces?service=good&limit=1000", &answer)
				return len(answer.Traces)
			}
			c.post("traces", traces("good", 'a', 50, now))
			c.eventually("traces before", 50, found)
			c.post("traces", traces("bad", 'f', 1, func(int) (time.Time, time.Time) { return times(time.Now()) }))
			c.post("traces", traces("good", 'b', 50, now))
			c.eventually("traces after", 100, found)
		})
	}
}

// TestAbsurdPoints sends points with any time and value at the agents' door: the process lives, and every route answers.
func TestAbsurdPoints(t *testing.T) {
	t.Parallel()
	c := startCollector(t, "gateway.yaml", nil)
	now := stamp(time.Now().Truncate(time.Second))
	edge := map[string]any{
		"source_workload": "s", "source_workload_namespace": "x", "destination_workload": "d", "destination_workload_namespace": "x", "destination_service": "d",
		"destination_port": 80, "request_protocol": "tcp", "connection_security_policy": "mutual_tls", "error_type": "connection_refused", "destination_pod": "p",
		"reporter": "source", "client": "a", "server": "b", "outage_id": "a", "kind": "x", "source": "access_log", "state": "running", "reason": "Error",
	}
	times := []string{"0", "1", now, "3000000000000000000", "9223372036854775807", "9223372036854775808", "10223372036854775808", "18446744073709551615"}
	for _, name := range []string{
		"mesh.edge.connections.closed", "mesh.edge.connections.failed", "mesh.endpoint.connections.closed", "ztunnel.connections.closed", "ztunnel.connections.failed",
		"istio_tcp_connections_opened_total", "istio_requests_total", "traces_service_graph_request_total", "istio_xds_connection_terminations_total",
	} {
		for _, at := range times {
			for _, start := range times {
				if status := c.post("metrics", metrics(told("n1", counter(name, start, at, 5, edge)))); status != http.StatusOK {
					t.Fatalf("%s from %s to %s: %d", name, start, at, status)
				}
			}
		}
	}
	values := []any{0, math.MaxInt64, math.MinInt64, 1e300, -1e300, 1.8e19}
	for _, name := range []string{"ztunnel.source.up", "ztunnel.source.last_seen", "ztunnel.replay.position", "mesh.edge.connections.active", "mesh.outage", "up"} {
		for _, at := range times {
			for _, value := range values {
				c.post("metrics", metrics(told("n2", gauge(name, at, value, edge))))
			}
		}
	}
	for _, event := range []string{"ztunnel.access", "ztunnel.log", "k8s.change", "mesh.outage", ""} {
		for _, at := range times {
			c.post("logs", object{"resourceLogs": []any{object{"resource": object{}, "scopeLogs": []any{object{
				"scope": object{"attributes": attributes(map[string]any{"otel.entity.event_as_log": true})},
				"logRecords": []any{object{"timeUnixNano": at, "observedTimeUnixNano": at, "eventName": event, "attributes": attributes(map[string]any{
					"otel.entity.event.type": "entity_state", "otel.entity.type": "istio.workload", "error.type": "connection_refused", "ztunnel.direction": "outbound",
				})}},
			}}}}})
		}
	}
	for _, at := range times {
		end, _ := strconv.ParseUint(at, 10, 64)
		c.post("traces", traces("s", 'c', 3, func(i int) (time.Time, time.Time) { return time.Unix(0, int64(end)), time.Unix(0, int64(end)+int64(i)) }))
	}
	pause(2 * time.Second)
	for _, restarted := range []bool{false, true} {
		if restarted {
			c.stop()
			c.start()
			pause(2 * time.Second)
		}
		if !c.alive() {
			t.Fatalf("it died: %s", c.said("panic", "fatal"))
		}
		for _, route := range []string{
			"status", "graph", "outages", "workloads", "services", "policies", "nodes", "flows", "changes", "traces", "operations", "series?metric=connections", "nodes/n1",
		} {
			if status, body := c.get("/api/v1/"+route, nil); status >= 500 || status == 0 {
				t.Errorf("%s: %d %.200s (restarted: %t)", route, status, body, restarted)
			}
		}
	}
}

// TestNodeAheadAmongOthers reads several nodes' files in one collector: those of a node that is ahead count when they are read.
func TestNodeAheadAmongOthers(t *testing.T) {
	t.Parallel()
	c := startCollector(t, "standalone.yaml", nil, `receivers: {ztunnel: {access_logs: {node_from: {path_regexp: '/(node-[ab])\.log'}}}}`)
	for range 15 {
		for i := range 20 {
			c.write("node-a.log", connection{source: "src-a", destination: "dst-a"}.String())
			l := connection{source: "src-b", destination: "dst-b", at: time.Now().Add(10 * time.Minute)}
			if i%2 == 0 {
				l.err = refusedError
			}
			c.write("node-b.log", l.String())
		}
		time.Sleep(time.Second)
	}
	c.eventually("of the node that is ahead", 300, func() int { return c.closed("src-b") })
	c.eventually("of the other", 300, func() int { return c.closed("src-a") })
	if found := c.outages(""); len(found) == 0 {
		t.Error("half of the connections of the node that is ahead fail, and no outage is found")
	}
	if outliers := c.own("otelcol_receiver_ztunnel_clock_outliers"); outliers != 300 {
		t.Errorf("%d lines with a wrong clock are said, want 300", outliers)
	}
}

// TestNodeBehindAndBack has one node among others whose clock is behind, then steps forward, then back again: every line counts.
func TestNodeBehindAndBack(t *testing.T) {
	t.Parallel()
	c := startCollector(t, "standalone.yaml", nil, `receivers: {ztunnel: {access_logs: {node_from: {path_regexp: '/(node-[ab])\.log'}}}}`)
	want := 0
	for _, off := range []time.Duration{0, -time.Hour, 0, time.Hour, -10 * time.Minute, 0} {
		for range 5 {
			c.write("node-a.log", repeated(10, connection{source: "src-a", destination: "dst-a"}))
			c.write("node-b.log", repeated(10, connection{source: "src-b", destination: "dst-b", at: time.Now().Add(off)}))
			want += 10
			time.Sleep(time.Second)
		}
	}
	c.eventually("of the node that is right", want, func() int { return c.closed("src-a") })
	c.eventually("of the node that is wrong", want, func() int { return c.closed("src-b") })
	if lag := c.lag(); lag < -time.Minute || lag > time.Duration(15*float64(time.Second)**patience) {
		t.Errorf("the data's clock is %s behind", lag)
	}
}

// noisyLines are n lines of anything but line ends.
func noisyLines(n int) string {
	source := rand.NewChaCha8([32]byte{3})
	var text strings.Builder
	for range n {
		block := make([]byte, source.Uint64()%300)
		_, _ = source.Read(block) // it never fails
		text.WriteString(strings.ReplaceAll(string(block), "\n", " ") + "\n")
	}
	return text.String()
}

// TestHostileLines writes what is no access log among lines that are: exactly those count.
func TestHostileLines(t *testing.T) {
	good := func(n int) string { return repeated(n, connection{source: "good", destination: "svc"}) }
	line := connection{source: "good", destination: "svc"}.String()
	hostile := map[string]struct {
		text    string
		counted int // of the hostile lines, as the good ones' edge
	}{
		"a long line":           {strings.Repeat("x", 1<<20) + "\n", 0},
		"NUL bytes":             {strings.Repeat("\x00", 5000) + "\n", 0},
		"looks like CRI":        {time.Now().UTC().Format(time.RFC3339Nano) + " stdout F hello\n", 0},
		"carriage returns":      {strings.Repeat("\r", 1000) + "\n", 0},
		"nested JSON":           {`{"level":"info","scope":"access","x":` + strings.Repeat("[", 60000) + "\n", 0},
		"an unfinished quote":   {strings.TrimSuffix(line, "\"\n") + "\n", 0},
		"forged in an identity": {strings.Replace(line, "sa/good", `sa/good\n`+strings.ReplaceAll(strings.TrimSuffix(line, "\n"), `"`, `\"`), 1), 1},
		"an hour ahead":         {connection{source: "good", destination: "svc", at: time.Now().Add(59 * time.Minute)}.String(), 1},
		"an hour ago":           {connection{source: "good", destination: "svc", at: time.Now().Add(-59 * time.Minute)}.String(), 1},
		"the year 2099":         {connection{source: "good", destination: "svc", at: time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC)}.String(), 1},
	}
	odd := connection{source: "odd", destination: "svc"}.String()
	forged := strings.TrimSuffix(connection{source: "FORGED", destination: "FORGED", err: refusedError}.String(), "\n")
	for name, text := range map[string]string{
		"no UTF-8":                   strings.Replace(odd, `"odd"`, "\"\xff\xfe\xc3(\"", 1),
		"NUL in a name":              strings.Replace(odd, `"odd"`, "\"o\x00d\"", 1),
		"a quote in a name":          strings.Replace(odd, `"odd"`, `"odd" error="connection closed due to policy rejection: explicitly denied by: a/b"`, 1),
		"an escaped quote":           strings.Replace(odd, `"odd"`, `"o\" error=\"connection refused\" x=\""`, 1),
		"another's line in a name":   strings.Replace(odd, "sa/odd", `sa/odd\n`+strings.ReplaceAll(forged, `"`, `\"`), 1),
		"a carriage return at ends":  strings.TrimSuffix(odd, "\n") + "\r\n",
		"an identity of 10 MiB":      strings.Replace(odd, "sa/odd", "sa/"+strings.Repeat("y", 10<<20), 1),
		"keys that come twice":       `{"level":"info","time":"` + time.Now().UTC().Format(time.RFC3339Nano) + `","scope":"access","message":"connection complete","src.workload":"a","src.workload":"b","direction":"outbound"}` + "\n",
		"numbers that are none":      strings.Replace(odd, "bytes_sent=10", "bytes_sent=99999999999999999999999", 1) + strings.Replace(odd, "bytes_sent=10", "bytes_sent=-5", 1) + strings.Replace(odd, `"3ms"`, `"NaN"`, 1),
		"times that are none":        "0000-00-00T00:00:00.000000Z" + odd[27:] + "2026-02-30T00:00:00.000000Z" + odd[27:] + "9999-12-31T23:59:59.999999Z" + odd[27:] + "1970-01-01T00:00:00.000000Z" + odd[27:],
		"two thousand random blocks": noisyLines(2000),
	} {
		hostile[name] = struct {
			text    string
			counted int
		}{text, 0}
	}
	c := startCollector(t, "standalone.yaml", nil, `receivers: {ztunnel: {access_logs: {node_from: {path_regexp: '/(n[0-9]+)-'}}}}`)
	want, i := 0, 0
	for _, one := range hostile {
		i++
		file := fmt.Sprintf("n%d-0.log", i)
		c.write(file, good(100))
		pause(500 * time.Millisecond)
		c.write(file, one.text+good(100))
		want += 200 + one.counted
	}
	// An unfinished quote may be read as far as it goes.
	slack := 1
	got := 0
	for deadline := time.Now().Add(time.Duration(60 * float64(time.Second) * *patience)); time.Now().Before(deadline) && (got < want || got > want+slack); time.Sleep(time.Second) {
		got = c.closed("good")
	}
	if n := c.closed("FORGED"); n != 0 {
		t.Errorf("%d connections are forged", n)
	}
	if got < want || got > want+slack {
		t.Errorf("%d connections are counted, want %d: %s", got, want, c.said("\terror\t"))
	}
}

// TestAgentWithAnotherClock has two agents, of which one's clock is wrong for a while and is then set right, by one step or, as for the hour of
// a summer time, back and forth: both count exactly, no telemetry is said to be lost of the other, whose outage is found in the end.
func TestAgentWithAnotherClock(t *testing.T) {
	for name, offs := range map[string][]time.Duration{
		"ten minutes ahead":  {0, 10 * time.Minute, 0},
		"ten minutes behind": {0, -10 * time.Minute, 0},
		"three days ahead":   {0, 72 * time.Hour, 0},
		"an hour, both ways": {0, time.Hour, 0, -time.Hour, 0},
		"wrong from the first": {
			-5 * time.Hour, 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startCollector(t, "gateway.yaml", nil)
			began := time.Now().Add(-time.Minute).Truncate(time.Second)
			right, failed, wrong := 0, 0, 0
			tell := func(off time.Duration, seconds int, failing bool) {
				for range seconds {
					now := time.Now().Truncate(time.Second)
					right, wrong = right+10, wrong+10
					if failing {
						failed += 5
					}
					// A receiver's series keep the start that they had.
					c.post("metrics", metrics(
						flowOf("right-1", "n1", began, now, right, failed), heartbeat("n1", now),
						flowOf("wrong-1", "n2", began.Add(min(offs[0], 0)), now.Add(off), wrong, 0), heartbeat("n2", now.Add(off)),
					))
					time.Sleep(time.Until(now.Add(time.Second)))
				}
			}
			for _, off := range offs {
				tell(off, 12, false)
				if found := c.outages("n1"); len(found) > 0 {
					t.Errorf("by %s: of the node that is right: %v", off, found)
				}
			}
			tell(0, 25, true)
			if found := c.outages("server"); len(found) == 0 && len(c.outages("")) == 0 {
				t.Error("half of the connections fail, and no outage is found")
			}
			repeat := func() {
				now := time.Now().Truncate(time.Second)
				c.post("metrics", metrics(heartbeat("n1", now), heartbeat("n2", now)))
			}
			c.eventually("of the node that is right", right, func() int { repeat(); return c.closed("right-1") })
			c.eventually("of the node that was wrong", wrong, func() int { repeat(); return c.closed("wrong-1") })
			c.eventually("clocks that are still said to be wrong", 0, func() int {
				repeat()
				return c.wrongClocks()
			})
		})
	}
}
