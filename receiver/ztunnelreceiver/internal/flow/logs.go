package flow

import (
	"bytes"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// logBatch gathers log records by node. It is bounded by the nodes of one batch.
type logBatch struct {
	logs   plog.Logs
	byNode map[int]plog.LogRecordSlice // bounded by Config.MaxNodes
	count  int
}

// FlushLogs returns the flow records and the ztunnels' own messages since the last call.
func (p *Processor) FlushLogs() plog.Logs {
	defer p.report()
	logs := p.logs.logs
	if p.logs.count == 0 {
		logs = plog.NewLogs()
	}
	p.logs = logBatch{}
	return logs
}

// newLog returns a new log record of a node with what all have in common, or false when there are too many.
func (p *Processor) newLog(n *node, event string) (plog.LogRecord, bool) {
	b := &p.logs
	if b.count >= p.cfg.MaxRecords {
		p.counts[CountLogsDropped]++
		n.reading.dropped++
		return plog.LogRecord{}, false
	}
	if b.count == 0 {
		b.logs = plog.NewLogs()
		b.byNode = make(map[int]plog.LogRecordSlice)
	}
	records, ok := b.byNode[n.id]
	if !ok {
		rl := b.logs.ResourceLogs().AppendEmpty()
		putResource(rl.Resource().Attributes(), n.name, p.cfg.Cluster)
		sl := rl.ScopeLogs().AppendEmpty()
		sl.Scope().SetName(semconv.ScopeReceiver)
		records = sl.LogRecords()
		b.byNode[n.id] = records
	}
	b.count++
	record := records.AppendEmpty()
	record.SetTimestamp(pcommon.Timestamp(p.rec.Time))
	record.SetObservedTimestamp(pcommon.Timestamp(p.rec.Time))
	record.SetEventName(event)
	severity := severities[p.rec.Level]
	record.SetSeverityNumber(severity)
	record.SetSeverityText(p.rec.Level.String())
	record.Body().SetStr(p.texts.get(p.rec.Message))
	return record, true
}

var severities = [...]plog.SeverityNumber{
	accesslog.LevelUnknown: plog.SeverityNumberUnspecified,
	accesslog.LevelTrace:   plog.SeverityNumberTrace,
	accesslog.LevelDebug:   plog.SeverityNumberDebug,
	accesslog.LevelInfo:    plog.SeverityNumberInfo,
	accesslog.LevelWarn:    plog.SeverityNumberWarn,
	accesslog.LevelError:   plog.SeverityNumberError,
}

func (p *Processor) addAccessLog(n *node, entry []byte) {
	record, ok := p.newLog(n, semconv.EventAccess)
	if !ok {
		return
	}
	attrs := record.Attributes()
	p.putAccess(attrs, n, entry)
}

// putAccess writes the attributes of an access entry, the same for flow records and flow spans.
func (p *Processor) putAccess(attrs pcommon.Map, n *node, entry []byte) {
	rec := &p.rec
	attrs.EnsureCapacity(22)
	direction := semconv.DirectionOutbound
	if rec.Direction == accesslog.DirectionInbound {
		direction = semconv.DirectionInbound
	}
	attrs.PutStr(semconv.AttrDirection, direction)
	p.texts.putAddr(attrs, &rec.Src.Addr, semconv.AttrSourceAddress, semconv.AttrSourcePort)
	p.texts.put(attrs, semconv.AttrSourcePod, rec.Src.Workload)
	p.texts.put(attrs, semconv.AttrSourceNamespace, rec.Src.Namespace)
	p.texts.put(attrs, semconv.AttrSourceIdentity, rec.Src.Identity)
	p.texts.put(attrs, semconv.AttrSourceCluster, rec.Src.Cluster)
	p.texts.putAddr(attrs, &rec.Dst.Addr, semconv.AttrDestinationAddress, semconv.AttrDestinationPort)
	p.texts.put(attrs, semconv.AttrDestinationHBONE, rec.HBONE.Text)
	p.texts.put(attrs, semconv.AttrDestinationService, rec.DstService)
	p.texts.put(attrs, semconv.AttrDestinationPod, rec.Dst.Workload)
	p.texts.put(attrs, semconv.AttrDestinationNamespace, rec.Dst.Namespace)
	p.texts.put(attrs, semconv.AttrDestinationIdentity, rec.Dst.Identity)
	p.texts.put(attrs, semconv.AttrDestinationCluster, rec.Dst.Cluster)
	if rec.Event == accesslog.EventComplete {
		attrs.PutInt(semconv.AttrBytesSent, int64(rec.BytesSent))
		attrs.PutInt(semconv.AttrBytesRecv, int64(rec.BytesRecv))
	}
	if rec.HasDuration {
		attrs.PutInt(semconv.AttrDuration, rec.Duration)
	}
	if rec.Failed() {
		attrs.PutStr(semconv.AttrErrorType, rec.Failure.Type)
	}
	p.texts.put(attrs, semconv.AttrErrorMessage, rec.Error)
	p.texts.put(attrs, semconv.AttrPolicy, rec.Failure.Policy)
	attrs.PutStr(semconv.AttrRecordUID, newRecordID(n.name, entry, p.shift).String())
}

// textCache gives the same texts the same strings: the names in a log are few and come again and again. It is bounded by maxCachedTexts.
type textCache struct{ known map[string]string }

// maxCachedTexts bounds the cache, which starts over when it is full.
const maxCachedTexts = 16_384

func (c *textCache) get(text []byte) string {
	if s, ok := c.known[string(text)]; ok {
		return s
	}
	if c.known == nil || len(c.known) >= maxCachedTexts {
		c.known = make(map[string]string)
	}
	s := string(text)
	c.known[s] = s
	return s
}

// put sets an attribute, unless the value is empty.
func (c *textCache) put(attrs pcommon.Map, name string, value []byte) {
	if len(value) > 0 {
		attrs.PutStr(name, c.get(value))
	}
}

func (c *textCache) putAddr(attrs pcommon.Map, addr *accesslog.Addr, address, port string) {
	if len(addr.Host) > 0 {
		attrs.PutStr(address, c.get(addr.Host))
		attrs.PutInt(port, int64(addr.Port))
	}
}

// notableScopes begin the scopes of which messages of any level are kept: the control plane's stream, certificates, and pods that
// come and go.
var notableScopes = [...][]byte{
	[]byte("xds"), []byte("identity"), []byte("tls"), []byte("cert"), []byte("ca"), []byte("inpod"), []byte("signal"),
}

// isNotable says whether a ztunnel's own message is worth a record.
func isNotable(rec *accesslog.Record) bool {
	if rec.Level == accesslog.LevelWarn || rec.Level == accesslog.LevelError {
		return true
	}
	name := rec.Scope
	if i := bytes.IndexByte(name, ':'); i >= 0 {
		name = name[:i]
	}
	for _, scope := range notableScopes {
		if bytes.Equal(name, scope) {
			return true
		}
	}
	return false
}

func (p *Processor) addMessageLog(n *node, entry []byte) {
	record, ok := p.newLog(n, semconv.EventZtunnelLog)
	if !ok {
		return
	}
	rec := &p.rec
	attrs := record.Attributes()
	attrs.EnsureCapacity(len(rec.Fields) + 2)
	p.texts.put(attrs, semconv.AttrScope, rec.Scope)
	for i := range rec.Fields {
		f := &rec.Fields[i]
		attrs.PutStr(semconv.AttrFieldPrefix+string(f.Key), string(f.Value))
	}
	attrs.PutStr(semconv.AttrRecordUID, newRecordID(n.name, entry, p.shift).String())
}
