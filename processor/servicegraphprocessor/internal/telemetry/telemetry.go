// Package telemetry is the processor's internal telemetry with its attribute sets built once.
package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
)

// Why a record could not be counted where it belongs.
const (
	DroppedPoint       = "invalid_point"
	DroppedEntity      = "invalid_entity"
	DroppedEntityLimit = "entity_limit"
	DroppedDuplicate   = "duplicate_span"
	DroppedSpanLimit   = "span_limit"
	DroppedFlowLimit   = "flow_limit"
	DroppedLate        = "late_point"
	DroppedForeign     = "foreign_service"
	DroppedSender      = "foreign_sender"
	// DroppedRequestLimit are requests of a proxy's log that came while too many waited.
	DroppedRequestLimit = "request_limit"
	// DroppedAccessLog are records of an access log that cannot be understood, DroppedProxy requests of which nobody says who logged them.
	DroppedAccessLog = "not_understood"
	DroppedProxy     = "unknown_proxy"
)

// The bounds that keep a flow from an edge of its own.
const (
	BoundEdges    = "edges"
	BoundPorts    = "ports"
	BoundExternal = "external"
	BoundRoutes   = "routes"
	BoundReceiver = "receiver"
)

// What is wrong with heartbeats.
const (
	HeartbeatOutOfOrder  = "out_of_order"
	HeartbeatAhead       = "clock_ahead"
	HeartbeatImplausible = "implausible_time"
	HeartbeatNodeLimit   = "node_limit"
)

// How flow spans leave.
const (
	FlowSpanPaired    = "paired"
	FlowSpanUnpaired  = "unpaired"
	FlowSpanSingle    = "single"
	FlowSpanEvicted   = "evicted"
	FlowSpanAttached  = "attached"
	FlowSpanAmbiguous = "ambiguous"
)

// Telemetry counts what the graph does. All methods may be called from several goroutines.
type Telemetry struct {
	*metadata.TelemetryBuilder
	// drops tells along with the data what Dropped counts.
	drops *drops.Counter
	// The attribute sets of each attribute's values, bounded by the constants.
	reasons, bounds, kinds, outcomes, clients, problems map[string]metric.MeasurementOption
}

// New returns the telemetry of a component.
func New(settings component.TelemetrySettings) (*Telemetry, error) {
	builder, err := metadata.NewTelemetryBuilder(settings)
	if err != nil {
		return nil, fmt.Errorf("building internal telemetry: %w", err)
	}
	return &Telemetry{
		TelemetryBuilder: builder,
		drops:            drops.NewCounter(metadata.Type.String()),
		reasons:          options("reason", DroppedPoint, DroppedEntity, DroppedEntityLimit, DroppedDuplicate, DroppedSpanLimit, DroppedFlowLimit, DroppedLate, DroppedForeign, DroppedSender, DroppedRequestLimit, DroppedAccessLog, DroppedProxy),
		bounds:           options("bound", BoundEdges, BoundPorts, BoundExternal, BoundRoutes, BoundReceiver),
		kinds:            options("kind", "flow", "server_span", "client_span", "flow_span", "request"),
		outcomes:         options("outcome", FlowSpanPaired, FlowSpanUnpaired, FlowSpanSingle, FlowSpanEvicted, FlowSpanAttached, FlowSpanAmbiguous),
		problems:         options("problem", HeartbeatOutOfOrder, HeartbeatAhead, HeartbeatImplausible, HeartbeatNodeLimit),
		clients:          options("client", "unknown", "address", "client_span"),
	}, nil
}

func options(name string, values ...string) map[string]metric.MeasurementOption {
	m := make(map[string]metric.MeasurementOption, len(values))
	for _, value := range values {
		m[value] = metric.WithAttributeSet(attribute.NewSet(attribute.String(name, value)))
	}
	return m
}

// Dropped counts records that could not be counted where they belong.
func (t *Telemetry) Dropped(reason string, n int) {
	t.ServiceGraphDropped.Add(context.Background(), int64(n), t.reasons[reason])
	t.drops.Add(reason, uint64(n))
}

// AppendDropped adds to an emission what was dropped so far.
func (t *Telemetry) AppendDropped(scope pmetric.ScopeMetrics, now pcommon.Timestamp) {
	t.drops.Append(scope, now)
}

// Overflowed counts a flow that a bound kept from an edge of its own.
func (t *Telemetry) Overflowed(bound string) {
	t.ServiceGraphOverflow.Add(context.Background(), 1, t.bounds[bound])
}

// Request counts a request by what told its client.
func (t *Telemetry) Request(client string) {
	t.ServiceGraphRequests.Add(context.Background(), 1, t.clients[client])
}

// FlowSpan counts a flow span by how it left.
func (t *Telemetry) FlowSpan(outcome string) {
	t.ServiceGraphFlowSpans.Add(context.Background(), 1, t.outcomes[outcome])
}

// Held states how much of a kind waits.
func (t *Telemetry) Held(kind string, n int) {
	t.ServiceGraphHeld.Record(context.Background(), int64(n), t.kinds[kind])
}

// HeartbeatProblem counts a heartbeat with which something is wrong.
func (t *Telemetry) HeartbeatProblem(problem string) {
	if option, ok := t.problems[problem]; ok {
		t.ServiceGraphHeartbeatProblems.Add(context.Background(), 1, option)
	}
}

// Settled counts connections that only one of two reporters ever saw.
func (t *Telemetry) Settled(n uint64) { t.ServiceGraphSettled.Add(context.Background(), int64(n)) }

// Unresolved counts a flow that left under its pod's own name.
func (t *Telemetry) Unresolved() { t.ServiceGraphUnresolved.Add(context.Background(), 1) }

// ClientSpanExpired counts a client span that no server span followed.
func (t *Telemetry) ClientSpanExpired() {
	t.ServiceGraphClientSpansExpired.Add(context.Background(), 1)
}

// StorageFailed counts a time that the graph could not be stored, or what was stored not be read.
func (t *Telemetry) StorageFailed() { t.ServiceGraphStorageFailed.Add(context.Background(), 1) }

// Stored states how many bytes are stored of the graph.
func (t *Telemetry) Stored(size int) {
	t.ServiceGraphStorageSize.Record(context.Background(), int64(size))
}

// Sizes states how many edges there are and how many flow series are followed.
func (t *Telemetry) Sizes(edges, flows int) {
	t.ServiceGraphEdges.Record(context.Background(), int64(edges))
	t.ServiceGraphFlows.Record(context.Background(), int64(flows))
}
