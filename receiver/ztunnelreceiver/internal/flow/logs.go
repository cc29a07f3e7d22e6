package flow

import (
	"bytes"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/xpdata"

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
	record.Body().SetStr(p.attrs.texts.get(p.rec.Message))
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
	p.access(n, entry, 0).UnsafeIntoMap(record.Attributes())
}

const (
	// accessAttributes is how many attributes an access entry has that did not fail, failureAttributes how many more one may have that
	// did, networkAttributes how many more a span has.
	accessAttributes  = 19
	failureAttributes = 3
	networkAttributes = 5
)

// attributes are those of one record or span at a time, each set once.
type attributes struct {
	xpdata.MapBuilder
	texts textCache
}

// access gives the attributes of an access entry, the same for flow records and flow spans; as many more may follow.
func (p *Processor) access(n *node, entry []byte, more int) *attributes {
	rec, attrs := &p.rec, p.attrs
	size := accessAttributes + more
	if len(rec.Error) > 0 || rec.Failed() {
		size += failureAttributes
	}
	attrs.EnsureCapacity(size)
	direction := semconv.DirectionOutbound
	if rec.Direction == accesslog.DirectionInbound {
		direction = semconv.DirectionInbound
	}
	attrs.putStr(semconv.AttrDirection, direction)
	attrs.putAddr(&rec.Src.Addr, semconv.AttrSourceAddress, semconv.AttrSourcePort)
	attrs.put(semconv.AttrSourcePod, rec.Src.Workload)
	attrs.put(semconv.AttrSourceNamespace, rec.Src.Namespace)
	attrs.put(semconv.AttrSourceIdentity, rec.Src.Identity)
	attrs.put(semconv.AttrSourceCluster, rec.Src.Cluster)
	attrs.putAddr(&rec.Dst.Addr, semconv.AttrDestinationAddress, semconv.AttrDestinationPort)
	attrs.put(semconv.AttrDestinationHBONE, rec.HBONE.Text)
	attrs.put(semconv.AttrDestinationService, rec.DstService)
	attrs.put(semconv.AttrDestinationPod, rec.Dst.Workload)
	attrs.put(semconv.AttrDestinationNamespace, rec.Dst.Namespace)
	attrs.put(semconv.AttrDestinationIdentity, rec.Dst.Identity)
	attrs.put(semconv.AttrDestinationCluster, rec.Dst.Cluster)
	if rec.Event == accesslog.EventComplete {
		attrs.putInt(semconv.AttrBytesSent, int64(rec.BytesSent))
		attrs.putInt(semconv.AttrBytesRecv, int64(rec.BytesRecv))
	}
	if rec.HasDuration {
		attrs.putInt(semconv.AttrDuration, rec.Duration)
	}
	if rec.Failed() {
		attrs.putStr(semconv.AttrErrorType, rec.Failure.Type)
	}
	attrs.put(semconv.AttrErrorMessage, rec.Error)
	attrs.put(semconv.AttrPolicy, rec.Failure.Policy)
	attrs.putStr(semconv.AttrRecordUID, newRecordID(n.name, entry, p.shift).String())
	return attrs
}

func (a *attributes) putStr(name, value string)       { a.AppendEmpty(name).SetStr(value) }
func (a *attributes) putInt(name string, value int64) { a.AppendEmpty(name).SetInt(value) }

// put sets an attribute, unless the value is empty.
func (a *attributes) put(name string, value []byte) {
	if len(value) > 0 {
		a.putStr(name, a.texts.get(value))
	}
}

func (a *attributes) putAddr(addr *accesslog.Addr, address, port string) {
	if len(addr.Host) > 0 {
		a.putStr(address, a.texts.get(addr.Host))
		a.putInt(port, int64(addr.Port))
	}
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
	p.attrs.texts.put(attrs, semconv.AttrScope, rec.Scope)
	for i := range rec.Fields {
		f := &rec.Fields[i]
		attrs.PutStr(semconv.AttrFieldPrefix+string(f.Key), string(f.Value))
	}
	attrs.PutStr(semconv.AttrRecordUID, newRecordID(n.name, entry, p.shift).String())
}

// lookupAttributes is how many attributes a lookup has that failed.
const lookupAttributes = 8

// log adds the record of a lookup. That a name has no record is no failure: search domains make most be asked for in vain.
func (l *lookup) log(p *Processor, n *node, entry []byte) {
	if l.outcome == "" {
		return
	}
	record, ok := p.newLog(n, semconv.EventLookup)
	if !ok {
		return
	}
	attrs := p.attrs
	attrs.EnsureCapacity(lookupAttributes)
	put := func(name, value string) {
		if value != "" {
			attrs.putStr(name, value)
		}
	}
	put(semconv.AttrSourcePod, l.pod)
	put(semconv.AttrSourceNamespace, l.namespace)
	put(semconv.AttrQuestionName, l.name)
	put(semconv.AttrQuestionType, l.query)
	put(semconv.AttrLookupResult, l.outcome)
	switch l.outcome {
	case semconv.LookupAnswered, semconv.LookupForwarded, semconv.LookupEmpty, semconv.LookupNoRecords:
	default:
		put(semconv.AttrErrorType, semconv.ErrorTypeDNSFailure)
	}
	for i := range p.rec.Fields {
		if f := &p.rec.Fields[i]; string(f.Key) == "result" && l.outcome != semconv.LookupAnswered && l.outcome != semconv.LookupForwarded {
			put(semconv.AttrErrorMessage, p.attrs.texts.get(f.Value))
		}
	}
	put(semconv.AttrRecordUID, newRecordID(n.name, entry, p.shift).String())
	attrs.UnsafeIntoMap(record.Attributes())
}
