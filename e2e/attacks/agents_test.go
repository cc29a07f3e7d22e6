package attacks

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// skewed builds the collector with one change: the receiver's clock is off by what the file in NEPHILIA_CLOCK says.
var skewed = sync.OnceValues(func() (string, error) {
	top, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	folder, err := os.MkdirTemp("", "nephilia-skewed")
	if err != nil {
		return "", err
	}
	clock := filepath.Join(top, "receiver", "ztunnelreceiver", "internal", "replay", "player.go")
	source, err := os.ReadFile(clock)
	if err != nil {
		return "", err
	}
	text := string(source)
	for _, change := range [][2]string{
		{"Now() time.Time { return time.Now() }", `Now() time.Time {
	said, _ := os.ReadFile(os.Getenv("NEPHILIA_CLOCK"))
	off, _ := time.ParseDuration(strings.TrimSpace(string(said)))
	return time.Now().Add(off)
}`},
		{"time.NewTimer(time.Until(until))", "time.NewTimer(until.Sub(WallClock{}.Now()))"},
		{"\t\"io\"\n", "\t\"io\"\n\t\"os\"\n\t\"strings\"\n"},
	} {
		if !strings.Contains(text, change[0]) {
			return "", fmt.Errorf("%s has no %q", clock, change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	changed := filepath.Join(folder, "player.go")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{clock: changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(folder, "overlay.json"), overlay, 0o600); err != nil {
		return "", err
	}
	binary := filepath.Join(folder, "skewed")
	build := exec.Command("go", "build", "-overlay", filepath.Join(folder, "overlay.json"), "-tags", "remove_all_sd,enable_kubernetes_sd,grpcnotrace", "-ldflags=-s -w", "-o", binary, "./cmd/otelcol-nephilia")
	build.Dir = top
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building: %w\n%s", err, said)
	}
	return binary, nil
})

// node is an agent whose clock, and that of the ztunnel beside it, can be set.
type node struct {
	*collector
	name            string
	off             time.Duration
	written, failed int
}

func startNode(t *testing.T, gateway *collector, name string, off time.Duration, startAt string) *node {
	t.Helper()
	binary, err := skewed()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{collector: newCollector(t, "agent.yaml", map[string]string{
		"K8S_NODE_NAME": name, "NEPHILIA_GATEWAY": gateway.env["NEPHILIA_OTLP_GRPC"], "NEPHILIA_LOGS_START": startAt,
	}), name: name}
	n.args[0] = binary
	n.env["NEPHILIA_CLOCK"] = filepath.Join(n.folder, "clock")
	n.set(off)
	n.write("z.log", "")
	n.start()
	if startAt == "end" {
		pause(3 * time.Second) // what is there at the first look counts as old
	}
	return n
}

func (n *node) set(off time.Duration) {
	n.off = off
	if err := os.WriteFile(n.env["NEPHILIA_CLOCK"], []byte(off.String()), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// connect has the ztunnels of nodes log ten connections a second each, of which those of a node fail by two fifths.
func connect(seconds int, failing string, nodes ...*node) {
	for range seconds {
		for _, n := range nodes {
			for i := range 10 {
				one := connection{source: "src-" + n.name, destination: "dst-" + n.name, at: time.Now().Add(n.off)}
				if n.name == failing && i%5 < 2 {
					one.err = refusedError
					n.failed++
				}
				n.write("z.log", one.String())
				n.written++
			}
		}
		time.Sleep(time.Second)
	}
}

// TestAgentsWithOtherClocks has real agents on two nodes. The clock of one is wrong for a while, then NTP sets it right, then its agent starts anew: both
// count exactly, no telemetry of the other is said to be lost, and the other's outage is found.
func TestAgentsWithOtherClocks(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a collector with another clock")
	}
	for name, offs := range map[string][]time.Duration{
		"ten minutes ahead":  {0, 10 * time.Minute, 0},
		"ten minutes behind": {0, -10 * time.Minute, 0},
		"three days ahead":   {0, 72 * time.Hour, 0},
		"both ways":          {time.Hour, 0, -time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := startCollector(t, "gateway.yaml", nil)
			right, wrong := startNode(t, gateway, "right", 0, "beginning"), startNode(t, gateway, "wrong", offs[0], "beginning")
			for _, off := range offs {
				wrong.set(off)
				connect(15, "", right, wrong)
				if found := gateway.outages("right"); len(found) > 0 {
					t.Errorf("by %s: of the node that is right: %v", off, found)
				}
			}
			connect(25, "right", right, wrong)
			if len(gateway.outages("")) == 0 {
				t.Error("two fifths of the connections fail, and no outage is found")
			}
			wrong.stop()
			wrong.start()
			connect(5, "", right, wrong)
			for _, n := range []*node{right, wrong} {
				gateway.eventually("of "+n.name, n.written, func() int { return gateway.closed("src-" + n.name) })
			}
			gateway.eventually("failed", right.failed, func() int { return gateway.sum("mesh_edge_connections_failed_total") })
			gateway.eventually("clocks that are still said to be wrong", 0, func() int { return gateway.wrongClocks() })
		})
	}
}

// wrongClocks are the sources that are said to have a clock that is wrong.
func (c *collector) wrongClocks() int {
	var status struct {
		Sources []struct{ Problem string }
		Clocks  []any `json:"clock_problems"`
	}
	c.get("/api/v1/status", &status)
	n := len(status.Clocks)
	for _, s := range status.Sources {
		if strings.HasPrefix(s.Problem, "clock_") {
			n++
		}
	}
	return n
}

// TestAgentReplacedAfterItsClockWasSet sets an agent's clock right and replaces its pod, whose positions are gone with it, so that its
// series begin anew with an earlier start: what is written from then on counts.
func TestAgentReplacedAfterItsClockWasSet(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a collector with another clock")
	}
	for _, ahead := range []time.Duration{time.Minute, 10 * time.Minute} {
		t.Run(ahead.String(), func(t *testing.T) {
			t.Parallel()
			gateway := startCollector(t, "gateway.yaml", nil)
			before := startNode(t, gateway, "n", ahead, "end")
			connect(15, "", before)
			gateway.eventually("before", before.written, func() int { return gateway.closed("src-n") })
			before.stop()
			after := startNode(t, gateway, "n", 0, "end")
			connect(15, "", after)
			gateway.eventually("after", before.written+after.written, func() int { return gateway.closed("src-n") })
		})
	}
}

// TestKillsOfAgents kills two agents and their gateway at random moments, while both ends report each connection and the logs are copied
// and truncated: the counts are exactly what was written.
func TestKillsOfAgents(t *testing.T) {
	gateway := startCollector(t, "gateway.yaml", nil)
	var agents [2]*collector
	for i, name := range []string{"node-a", "node-b"} {
		agents[i] = startCollector(t, "agent.yaml", map[string]string{"K8S_NODE_NAME": name, "NEPHILIA_GATEWAY": gateway.env["NEPHILIA_OTLP_GRPC"]})
	}
	var closed, failed [12]int
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		random := rand.New(rand.NewPCG(7, 8))
		copies, since := 0, 0
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			var logs [2]strings.Builder
			for range 30 {
				edge := random.IntN(len(closed))
				one := connection{source: fmt.Sprint("s", edge), destination: fmt.Sprint("d", edge), address: fmt.Sprint("10.1.0.", edge+1)}
				closed[edge]++
				if random.IntN(20) == 0 {
					one.err = refusedError
					failed[edge]++
				}
				client := edge % 2
				logs[client].WriteString(one.String())
				one.inbound = true
				logs[1-client].WriteString(one.String())
				since++
			}
			for i, agent := range agents {
				agent.write("0.log", logs[i].String())
			}
			if since < 6000 {
				continue
			}
			// What is written between the copy and the end of the file is lost with any reader.
			since = 0
			copies++
			for _, agent := range agents {
				path := filepath.Join(agent.folder, "logs", "0.log")
				content, err := os.ReadFile(path)
				if err == nil {
					err = os.WriteFile(fmt.Sprint(path, ".", copies), content, 0o600)
				}
				if err == nil {
					err = os.Truncate(path, 0)
				}
				if err != nil {
					t.Error(err)
				}
			}
		}
	}()
	random := rand.New(rand.NewPCG(9, 10))
	kills := 20
	if testing.Short() {
		kills = 5
	}
	for range kills {
		time.Sleep(time.Duration(100+random.IntN(2500)) * time.Millisecond)
		victim := []*collector{gateway, agents[0], agents[1]}[random.IntN(3)]
		victim.kill()
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		victim.start()
	}
	close(stop)
	<-done
	all := 0
	for edge := range closed {
		source := fmt.Sprintf(`source_workload="s%d"`, edge)
		gateway.eventually(fmt.Sprint("edge ", edge), closed[edge], func() int { return gateway.sum(closedMetric, source) })
		gateway.eventually(fmt.Sprint("failures of edge ", edge), failed[edge], func() int { return gateway.sum("mesh_edge_connections_failed_total", source) })
		all += closed[edge]
	}
	gateway.eventually("all", all, func() int { return gateway.closed("") })
	t.Logf("%d connections, %d kills", all, kills)
}

// TestStopWhileReplaying ends replays at random moments: they end at once and well, also on what an earlier one left.
func TestStopWhileReplaying(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	var slowest time.Duration
	for i, recording := range []string{"node-loss", "policy-deny", "shipping-500", "policy-deny"} {
		folder, err := filepath.Abs(filepath.Join(root, "recordings", recording))
		if err != nil {
			t.Fatal(err)
		}
		c := newCollector(t, "replay.yaml", map[string]string{"NEPHILIA_RECORDING": folder, "NEPHILIA_REPLAY_SPEED": []string{"max", "20"}[i%2]})
		for range 3 {
			c.spawn()
			pause(time.Duration(300+random.IntN(4000)) * time.Millisecond)
			slowest = max(slowest, c.stop())
			if code := c.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("%s: it ends with %d", recording, code)
			}
			if said := c.said("panic"); said != "" {
				t.Errorf("%s: %s", recording, said)
			}
		}
	}
	t.Logf("the slowest end took %s", slowest)
}
