package ztunnelreceiver

import (
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/requestlog"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
)

// requestBatch gathers records of requests by the proxy that logged them, and of CNI agents' lines.
type requestBatch struct {
	logs    plog.Logs
	byProxy map[source.Proxy]plog.LogRecordSlice // bounded by maxGathered
	count   int
}

// add returns a new record of a proxy.
func (b *requestBatch) add(of source.Proxy, cluster string) plog.LogRecord {
	if b.count == 0 {
		b.logs, b.byProxy = plog.NewLogs(), map[source.Proxy]plog.LogRecordSlice{}
	}
	b.count++
	records, known := b.byProxy[of]
	if !known {
		resource := b.logs.ResourceLogs().AppendEmpty()
		attrs := resource.Resource().Attributes()
		if of.Node != "" {
			attrs.PutStr(semconv.AttrServiceName, semconv.ServiceNameCNI)
			attrs.PutStr(semconv.AttrNodeName, of.Node)
		} else {
			proxy := requestlog.Proxy{Gateway: of.Gateway, Name: of.Name}
			proxy.PutAttributes(attrs)
		}
		requestlog.PutPod(attrs, of.Namespace, of.Pod, cluster)
		scope := resource.ScopeLogs().AppendEmpty()
		scope.Scope().SetName(semconv.ScopeReceiver)
		records = scope.LogRecords()
		b.byProxy[of] = records
	}
	return records.AppendEmpty()
}

// take gives all records.
func (b *requestBatch) take() plog.Logs {
	logs := b.logs
	if b.count == 0 {
		logs = plog.NewLogs()
	}
	*b = requestBatch{}
	return logs
}
