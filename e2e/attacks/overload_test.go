package attacks

import (
	"testing"
)

// TestRefusing has a collector whose memory limiter refuses what comes, for half a minute, and is killed while it does: once it has room,
// every line is counted.
func TestRefusing(t *testing.T) {
	for name, gateway := range map[string]bool{"standalone": false, "gateway": true} {
		t.Run(name, func(t *testing.T) {
			tight := map[string]string{"NEPHILIA_MEMORY_LIMIT_MIB": "45"}
			var reader, counter *collector
			if gateway {
				counter = startCollector(t, "gateway.yaml", tight)
				reader = startCollector(t, "agent.yaml", map[string]string{"NEPHILIA_GATEWAY": counter.env["NEPHILIA_OTLP_GRPC"]})
			} else {
				reader = startCollector(t, "standalone.yaml", tight)
				counter = reader
			}
			want := 0
			write := func(seconds int) { want += reader.writeFor(seconds, 1000) }
			write(30)
			counter.kill()
			counter.env["NEPHILIA_MEMORY_LIMIT_MIB"] = "2048"
			counter.start()
			write(5)
			counter.eventually("good connections", want, func() int { return counter.closed("good") })
		})
	}
}

// TestGatewayAway has an agent with a queue for a few batches whose gateway is away for longer than they last: the counts are exact once
// it is back.
func TestGatewayAway(t *testing.T) {
	t.Parallel()
	gateway := startCollector(t, "gateway.yaml", nil)
	agent := startCollector(t, "agent.yaml", map[string]string{"NEPHILIA_GATEWAY": gateway.env["NEPHILIA_OTLP_GRPC"], "NEPHILIA_FLOW_RECORDS": "true"},
		"exporters: {otlp_grpc: {sending_queue: {queue_size: 6}}}")
	want := 0
	write := func(seconds int) { want += agent.writeFor(seconds, 200) }
	write(5)
	gateway.stop()
	write(30)
	if agent.own("otelcol_exporter_enqueue_failed_metric_points") == 0 {
		t.Error("the queue was never full, or what it dropped is not said")
	}
	gateway.start()
	// Series that do not change are told again within a minute.
	write(65)
	gateway.eventually("good connections", want, func() int { return gateway.closed("good") })
}
