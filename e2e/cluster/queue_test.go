package cluster

import (
	"context"
	"testing"
	"time"
)

// TestQueueFull cuts a gateway off for longer than its queues on the agents last: the other one is not disturbed, and the one that
// returns counts as exactly, for series are cumulative.
func TestQueueFull(t *testing.T) {
	t.Parallel()
	s := scenario{name: "queue full", fault: "connection_refused", seed: 10, seconds: 80, from: 20, until: 50}
	c := newCluster(t, simulate(t, &s))
	c.install(t, `agent.config={"exporters":{"otlp_grpc/gateway-1":{"sending_queue":{"queue_size":5}}}}`)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	begin := time.Now().Add(time.Second)
	cable := c.gateways[1].Namespace
	plugged := make(chan error, 1)
	go func() {
		defer func() { plugged <- cable.Plug(true) }()
		if err := sleepUntil(ctx, begin.Add(15*time.Second)); err != nil {
			return
		}
		if err := cable.Plug(false); err != nil {
			t.Error(err)
			return
		}
		_ = sleepUntil(ctx, begin.Add(65*time.Second))
	}()
	if err := c.play(ctx, begin); err != nil {
		t.Fatal(err)
	}
	if err := <-plugged; err != nil {
		t.Fatal(err)
	}
	for _, agent := range c.agents {
		if refused, err := metric(agent, `otelcol_exporter_enqueue_failed_metric_points`, "gateway-1"); err != nil || refused == 0 {
			t.Errorf("%s's queue for the gateway was never full (%v)", agent.Object.Name, err)
		}
		if refused, err := metric(agent, `otelcol_exporter_enqueue_failed_metric_points`, "gateway-0"); err != nil || refused > 0 {
			t.Errorf("%s refused %v points for the other gateway (%v)", agent.Object.Name, refused, err)
		}
	}
	c.requireCounts(t, begin)
	c.requireScraped(t)
	c.requireOutages(t, begin, c.gateways[0])
}
