// Package als reads the access logs that waypoints and gateways send by themselves: over OTLP, as Envoy's OpenTelemetry logger does (Istio's
// envoyOtelAls), or by Envoy's gRPC access log service, as contrib's envoyals receiver hands it on.
package als

import (
	"bytes"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/requestlog"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/proxylog"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

// maxText bounds what is read of a record, in bytes, maxAttributes its attributes.
const (
	maxText       = 64 << 10
	maxAttributes = 128
)

// Requests takes over records of requests.
type Requests interface {
	Apply(proxy *proxylog.Proxy, record plog.LogRecord, arrival moment.Arrival)
}

// Reader makes records of requests of log records. It belongs to one goroutine.
type Reader struct {
	format    *envoylog.Format
	names     *naming.Directory
	requests  Requests
	telemetry *telemetry.Telemetry

	parser *envoylog.Parser
	writer requestlog.Writer
	record envoylog.Record
	// text is what was read of a record, into which the values of record point.
	text []byte
	// last is the proxy of the last record.
	last  requestlog.Proxy
	proxy *proxylog.Proxy
}

// NewReader returns a reader. format is the user's own, nil if there is none.
func NewReader(format *envoylog.Format, names *naming.Directory, requests Requests, t *telemetry.Telemetry) *Reader {
	return &Reader{format: format, names: names, requests: requests, telemetry: t, parser: envoylog.NewParser(format)}
}

// Take takes over the requests among log records of a sender, nil if it may send those of others, and gives what is left: what is no access log of a
// waypoint or gateway. Logs stay as they are.
func (r *Reader) Take(logs plog.Logs, sender *mesh.Workload, arrival moment.Arrival) plog.Logs {
	if !foreign(logs) {
		return logs
	}
	return proxylog.Without(logs, func(resource plog.ResourceLogs) func(plog.ScopeLogs, plog.LogRecord) bool {
		of := nodeOf(resource.Resource())
		return func(scope plog.ScopeLogs, record plog.LogRecord) bool {
			return !known(scope) && r.take(of, record, sender, arrival)
		}
	})
}

// foreign tells whether some logs are not of a ztunnel receiver.
func foreign(logs plog.Logs) bool {
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			if !known(scope) && scope.LogRecords().Len() > 0 {
				return true
			}
		}
	}
	return false
}

func known(scope plog.ScopeLogs) bool {
	return scope.Scope().Name() == semconv.ScopeReceiver || mesh.IsEntityScope(scope.Scope())
}

func (r *Reader) take(of node, record plog.LogRecord, sender *mesh.Workload, arrival moment.Arrival) bool {
	kind, err := r.read(record)
	switch {
	case err != nil:
		r.telemetry.Dropped(telemetry.DroppedAccessLog, 1)
		return false
	case kind != envoylog.KindRequest, of.kind == kindSidecar, envoylog.OfSidecar(r.record.Values[envoylog.Cluster]):
		return false
	}
	of.readRecord(record.Attributes())
	proxy, ok := r.proxyOf(&of, sender)
	if !ok {
		r.telemetry.Dropped(telemetry.DroppedSender, 1)
		return false
	}
	request := plog.NewLogRecord()
	request.SetTraceID(record.TraceID())
	request.SetSpanID(record.SpanID())
	r.writer.Write(request, &r.record, r.record.End(), requestlog.ID(proxy.Name, r.text, 0))
	if r.proxy == nil || r.last != proxy {
		resource := pcommon.NewResource()
		proxy.PutAttributes(resource.Attributes())
		requestlog.PutPod(resource.Attributes(), proxy.Namespace, proxy.Pod, of.cluster)
		named := proxylog.ProxyOf(resource)
		r.last, r.proxy = proxy, &named
	}
	r.requests.Apply(r.proxy, request, arrival)
	return true
}

// read reads a record; KindOther is none of an access log.
func (r *Reader) read(record plog.LogRecord) (envoylog.Kind, error) {
	r.record, r.text = envoylog.Record{}, r.text[:0]
	body := record.Body()
	if isEntry(record) {
		return r.readEntry(body.Str())
	}
	var unread error
	switch body.Type() {
	case pcommon.ValueTypeStr:
		if len(body.Str()) > maxText {
			return envoylog.KindOther, nil
		}
		r.text = append(r.text, body.Str()...)
		if line := bytes.TrimRight(r.text, "\r\n"); r.format.Begins(line) {
			kind, err := r.parser.Parse(line, &r.record)
			if err == nil && kind != envoylog.KindOther {
				return kind, nil
			}
			r.record, unread = envoylog.Record{}, err
		}
	case pcommon.ValueTypeMap:
		r.readFields(body.Map())
	}
	r.readFields(record.Attributes())
	if v := &r.record.Values; v[envoylog.Code] == nil || v[envoylog.Flags] == nil && v[envoylog.Cluster] == nil && v[envoylog.DownstreamRemote] == nil {
		return envoylog.KindOther, unread
	}
	// Envoy gives its records the time at which the request began.
	r.record.Start = int64(record.Timestamp())
	return r.parser.Finish(&r.record)
}

// readFields reads fields by their names. The first value of a field is taken.
func (r *Reader) readFields(attrs pcommon.Map) {
	n := 0
	for name, value := range attrs.All() {
		if n++; n > maxAttributes || len(r.text)+len(name) > maxText {
			return
		}
		from := len(r.text)
		r.text = append(r.text, name...)
		field, known := r.parser.Field(r.text[from:])
		text := value.AsString()
		if !known || r.record.Values[field] != nil || len(r.text)+len(text) > maxText {
			r.text = r.text[:from]
			continue
		}
		r.text = append(r.text, '=')
		from = len(r.text)
		r.text = append(r.text, text...)
		r.record.Values[field] = r.text[from:len(r.text):len(r.text)]
		r.text = append(r.text, '\n')
	}
}
