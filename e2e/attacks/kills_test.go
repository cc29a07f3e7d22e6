package attacks

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestKills kills a collector under load at random moments: the counts are exactly what was written.
func TestKills(t *testing.T) {
	c := startCollector(t, "standalone.yaml", nil)
	l := &load{c: c}
	random := rand.New(rand.NewPCG(3, 4))
	l.done.Go(func() { l.run(rand.New(rand.NewPCG(5, 6))) })
	kills := 15
	if testing.Short() {
		kills = 4
	}
	for range kills {
		time.Sleep(time.Duration(50+random.IntN(3000)) * time.Millisecond)
		c.kill()
		c.start()
	}
	l.stop.Store(true)
	l.done.Wait()
	all, failed := 0, 0
	for edge := range l.written {
		all, failed = all+l.written[edge], failed+l.failed[edge]
		source := fmt.Sprintf(`source_workload="src-%d"`, edge)
		c.eventually(fmt.Sprintf("edge %d", edge), l.written[edge], func() int { return c.sum(closedMetric, source) })
		c.eventually(fmt.Sprintf("failures of edge %d", edge), l.failed[edge], func() int { return c.sum("mesh_edge_connections_failed_total", source) })
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			c.stop()
			c.start()
		}
		c.eventually("all", all, func() int { return c.closed("") })
		c.eventually("bytes sent", 10*all, func() int { return c.sum("mesh_edge_io_bytes_total", `direction="sent"`) })
		c.eventually("bytes received", 20*all, func() int { return c.sum("mesh_edge_io_bytes_total", `direction="received"`) })
		c.eventually("in the API", l.written[3], func() int { return c.inGraph("shop", "src-3") })
	}
	t.Logf("%d kills, %d connections, %d failed", kills, all, failed)
}

// TestAgentReplaced replaces an agent's pod, whose positions are gone with it: what is written from then on counts.
func TestAgentReplaced(t *testing.T) {
	t.Parallel()
	gateway := startCollector(t, "gateway.yaml", nil)
	env := map[string]string{"NEPHILIA_GATEWAY": gateway.env["NEPHILIA_OTLP_GRPC"], "NEPHILIA_LOGS_START": "end"}
	agent := startCollector(t, "agent.yaml", env)
	want := 0
	write := func(c *collector, seconds int) {
		pause(3 * time.Second) // what is there at the first look counts as old
		for range seconds {
			c.write("z.log", repeated(10, connection{source: "good", destination: "svc"}))
			want += 10
			time.Sleep(time.Second)
		}
	}
	write(agent, 10)
	gateway.eventually("before", want, func() int { return gateway.closed("good") })
	agent.stop()
	replaced := startCollector(t, "agent.yaml", env)
	write(replaced, 10)
	gateway.eventually("after", want, func() int { return gateway.closed("good") })
}
