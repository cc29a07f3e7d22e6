package servicegraphprocessor

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// counters are the attribute sets of internal telemetry, built once.
type counters struct {
	reasons map[string]metric.MeasurementOption
	bounds  map[string]metric.MeasurementOption
	kinds   map[string]metric.MeasurementOption
	clients [3]metric.MeasurementOption
	outcome map[string]metric.MeasurementOption
}

func newCounters() counters {
	option := func(name, value string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String(name, value)))
	}
	options := func(name string, values ...string) map[string]metric.MeasurementOption {
		m := make(map[string]metric.MeasurementOption, len(values))
		for _, value := range values {
			m[value] = option(name, value)
		}
		return m
	}
	return counters{
		reasons: options("reason", "invalid_point", "invalid_entity", "entity_limit", "duplicate_span", "span_limit", "flow_limit"),
		bounds:  options("bound", "edges", "external", "routes", "receiver"),
		kinds:   options("kind", "flow", "server_span", "client_span", "flow_span"),
		outcome: options("outcome", "paired", "unpaired", "single", "evicted", "attached", "ambiguous"),
		clients: [3]metric.MeasurementOption{
			byUnknown:    option("client", "unknown"),
			byAddress:    option("client", "address"),
			byClientSpan: option("client", "client_span"),
		},
	}
}

func (g *graph) dropped(reason string, n int) {
	g.telemetry.ServiceGraphDropped.Add(g.ctx, int64(n), g.counters.reasons[reason])
}

func (g *graph) overflowed(bound string) {
	g.telemetry.ServiceGraphOverflow.Add(g.ctx, 1, g.counters.bounds[bound])
}

func (g *graph) countedBy(by clientBy) {
	g.telemetry.ServiceGraphRequests.Add(g.ctx, 1, g.counters.clients[by])
}

// record states the sizes of what the graph holds.
func (g *graph) record() {
	g.telemetry.ServiceGraphEdges.Record(g.ctx, int64(len(g.edges.byKey)))
	g.telemetry.ServiceGraphFlows.Record(g.ctx, int64(len(g.flows.series)))
	held := func(kind string, n int) { g.telemetry.ServiceGraphHeld.Record(g.ctx, int64(n), g.counters.kinds[kind]) }
	held("flow", len(g.flows.waiting))
	held("server_span", g.requests.waiting.len())
	held("client_span", len(g.requests.byClient))
	held("flow_span", g.flowSpans.len())
	g.flowSpans.outcomes.record(g)
}

func (o *outcomes) record(g *graph) {
	add := func(outcome string, n int64) {
		if n > 0 {
			g.telemetry.ServiceGraphFlowSpans.Add(g.ctx, n, g.counters.outcome[outcome])
		}
	}
	add("paired", o.paired)
	add("unpaired", o.unpaired)
	add("single", o.single)
	add("evicted", o.evicted)
	add("attached", o.attached)
	add("ambiguous", o.ambiguous)
	*o = outcomes{}
}
