package attacks

import (
	"fmt"
	"strconv"
	"time"
)

type object = map[string]any

// attributes are in no order, as senders have them.
func attributes(of map[string]any) (list []any) {
	for key, value := range of {
		kind := "stringValue"
		switch value.(type) {
		case int:
			kind = "intValue"
		case bool:
			kind = "boolValue"
		}
		list = append(list, object{"key": key, "value": object{kind: value}})
	}
	return list
}

// stamp is a time as OTLP has it.
func stamp(at time.Time) string { return strconv.FormatUint(uint64(at.UnixNano()), 10) }

// told is what an agent of a node tells.
func told(node string, metrics ...any) object {
	return object{
		"resource": object{"attributes": attributes(map[string]any{"service.name": "ztunnel", "k8s.node.name": node})},
		"scopeMetrics": []any{object{
			"scope": object{"name": "github.com/nephilia/nephilia/receiver/ztunnelreceiver"}, "metrics": metrics,
		}},
	}
}

func gauge(name string, at string, value any, of map[string]any) object {
	point := object{"timeUnixNano": at, "attributes": attributes(of)}
	switch value := value.(type) {
	case int:
		point["asInt"] = strconv.Itoa(value)
	default:
		point["asDouble"] = value
	}
	return object{"name": name, "gauge": object{"dataPoints": []any{point}}}
}

func counter(name, start, at string, value int, of map[string]any) object {
	return object{"name": name, "sum": object{"aggregationTemporality": 2, "isMonotonic": true, "dataPoints": []any{
		object{"startTimeUnixNano": start, "timeUnixNano": at, "asInt": strconv.Itoa(value), "attributes": attributes(of)},
	}}}
}

// heartbeat says that a node told everything until a time.
func heartbeat(node string, at time.Time) object {
	return told(node, gauge("ztunnel.source.up", stamp(at), 1, map[string]any{"source": "access_log"}))
}

// flow is what a node counted of connections of client-1 to server-1.
func flow(node string, start, at time.Time, closed, failed int) object {
	return flowOf("client-1", node, start, at, closed, failed)
}

// flowOf is what a node counted of connections of a client to server-1.
func flowOf(client, node string, start, at time.Time, closed, failed int) object {
	of := map[string]any{
		"reporter": "source", "source_pod": client, "source_workload_namespace": "shop", "source_address": "10.0.0.1",
		"destination_pod": "server-1", "destination_workload_namespace": "shop", "destination_address": "10.0.0.2", "destination_port": 8080,
		"destination_service": "server.shop.svc.cluster.local", "connection_security_policy": "mutual_tls",
	}
	metrics := []any{counter("ztunnel.connections.closed", stamp(start), stamp(at), closed, of)}
	if failed > 0 {
		reasons := map[string]any{"error_type": "connection_refused"}
		for key, value := range of {
			reasons[key] = value
		}
		metrics = append(metrics, counter("ztunnel.connections.failed", stamp(start), stamp(at), failed, reasons))
	}
	return told(node, metrics...)
}

func metrics(resources ...any) object { return object{"resourceMetrics": resources} }

// traces are spans of a service, each in a trace of its own whose id begins with a letter.
func traces(service string, letter byte, n int, end func(i int) (start, end time.Time)) object {
	var spans []any
	for i := range n {
		from, to := end(i)
		spans = append(spans, object{
			"traceId": fmt.Sprintf("%c%031x", letter, i+1), "spanId": fmt.Sprintf("%016x", i+1), "name": "op", "kind": 2,
			"startTimeUnixNano": stamp(from), "endTimeUnixNano": stamp(to),
		})
	}
	return object{"resourceSpans": []any{object{
		"resource":   object{"attributes": attributes(map[string]any{"service.name": service})},
		"scopeSpans": []any{object{"spans": spans}},
	}}}
}
