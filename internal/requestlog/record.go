// Package requestlog writes what an access log says of a request into a log record (docs/data-model.md, section 2).
package requestlog

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/xpdata"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/internal/semconv"
)

const (
	// maxPath and maxText bound what clients choose, in bytes.
	maxPath = 1024
	maxText = 256
	// maxCachedTexts bounds the cache of texts, which starts over when it is full.
	maxCachedTexts = 16_384
)

// attributes are the fields that become attributes as they are.
var attributes = [...]struct {
	field envoylog.Field
	name  string
}{
	{envoylog.Method, semconv.AttrRequestMethod},
	{envoylog.Flags, semconv.AttrResponseFlags},
	{envoylog.Details, semconv.AttrResponseDetails},
	{envoylog.Termination, semconv.AttrTerminationDetails},
	{envoylog.TransportFailure, semconv.AttrTransportFailure},
	{envoylog.ForwardedFor, semconv.AttrForwardedFor},
	{envoylog.UserAgent, semconv.AttrUserAgent},
	{envoylog.Authority, semconv.AttrServerAddress},
	{envoylog.Cluster, semconv.AttrUpstreamCluster},
	{envoylog.DownstreamLocal, semconv.AttrDownstreamLocal},
	{envoylog.Route, semconv.AttrRouteName},
}

// unique are those whose values hardly come again.
var unique = [...]struct {
	field envoylog.Field
	name  string
}{
	{envoylog.RequestID, semconv.AttrRequestID},
	{envoylog.ConnectionID, semconv.AttrConnectionID},
	{envoylog.UpstreamConnectionID, semconv.AttrUpstreamConnection},
}

// maxAttributes is how many attributes a record has at most.
const maxAttributes = 30

// Writer writes records. The zero value is ready; it belongs to one goroutine.
type Writer struct {
	texts texts
	attrs xpdata.MapBuilder
}

// Write fills a new record with what is said of a request that ended at a time, in nanoseconds since the epoch. id is the same when it is read
// twice.
func (w *Writer) Write(record plog.LogRecord, rec *envoylog.Record, end int64, id string) {
	failure := rec.Failure()
	record.SetTimestamp(pcommon.Timestamp(end))
	record.SetObservedTimestamp(pcommon.Timestamp(end))
	record.SetEventName(semconv.EventRequest)
	record.SetSeverityNumber(plog.SeverityNumberInfo)
	if failure.Failed {
		record.SetSeverityNumber(plog.SeverityNumberError)
	}
	record.SetSeverityText(record.SeverityNumber().String())
	w.attrs.EnsureCapacity(maxAttributes)
	v := &rec.Values
	for i := range attributes {
		w.put(attributes[i].name, cut(v[attributes[i].field], maxText))
	}
	for i := range unique {
		if value := v[unique[i].field]; len(value) > 0 {
			w.putStr(unique[i].name, validText(cut(value, maxText)))
		}
	}
	path, _, _ := bytes.Cut(v[envoylog.Path], []byte{'?'})
	w.put(semconv.AttrURLPath, cut(path, maxPath))
	if version, ok := bytes.CutPrefix(v[envoylog.Protocol], []byte("HTTP/")); ok {
		w.put(semconv.AttrProtocolVersion, cut(version, maxText))
	}
	w.putInt(semconv.AttrResponseStatusCode, int64(rec.Code))
	if rec.GRPC != envoylog.Unknown {
		w.putInt(semconv.AttrGRPCStatusCode, int64(rec.GRPC))
	}
	w.putInt(semconv.AttrRequestBodySize, int64(rec.Received))
	w.putInt(semconv.AttrResponseBodySize, int64(rec.Sent))
	if rec.Duration != envoylog.Unknown {
		w.putInt(semconv.AttrRequestDuration, rec.Duration)
	}
	if rec.UpstreamTime != envoylog.Unknown {
		w.putInt(semconv.AttrUpstreamTime, rec.UpstreamTime)
	}
	w.putAddress(v[envoylog.DownstreamRemote], semconv.AttrSourceAddress, semconv.AttrSourcePort)
	w.putAddress(v[envoylog.UpstreamHost], semconv.AttrDestinationAddress, semconv.AttrDestinationPort)
	if service := rec.Service(); service.Port != 0 {
		w.put(semconv.AttrDestinationService, cut(service.Host, maxText))
		w.putInt(semconv.AttrServicePort, int64(service.Port))
	}
	if failure.Type != "" {
		w.putStr(semconv.AttrErrorType, failure.Type)
		w.texts.policy = rec.AppendPolicy(w.texts.policy[:0])
		w.put(semconv.AttrPolicy, cut(w.texts.policy, maxText))
	}
	w.putStr(semconv.AttrRecordUID, id)
	w.attrs.UnsafeIntoMap(record.Attributes())
}

func (w *Writer) putStr(name, value string)       { w.attrs.AppendEmpty(name).SetStr(value) }
func (w *Writer) putInt(name string, value int64) { w.attrs.AppendEmpty(name).SetInt(value) }

// put sets an attribute, unless the value is empty.
func (w *Writer) put(name string, value []byte) {
	if len(value) > 0 {
		w.putStr(name, w.texts.get(value))
	}
}

// putAddress writes "ip:port", "[ip6]:port" or "envoy://connect_originate/ip:port". What is no IP address, such as an internal one of Envoy's,
// is left out.
func (w *Writer) putAddress(text []byte, address, port string) {
	text = text[bytes.LastIndexByte(text, '/')+1:]
	colon := bytes.LastIndexByte(text, ':')
	host, number := text, []byte(nil)
	if colon > 0 && (text[0] == '[' && text[colon-1] == ']' || bytes.IndexByte(text, ':') == colon) {
		host, number = text[:colon], text[colon+1:]
	}
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	name := w.texts.get(cut(host, maxText))
	if !w.texts.isAddress(name) {
		return
	}
	w.putStr(address, name)
	if n, err := strconv.ParseUint(string(number), 10, 16); err == nil && n <= math.MaxUint16 {
		w.putInt(port, int64(n))
	}
}

// cut is a text's beginning of whole characters.
func cut(text []byte, most int) []byte {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// ID identifies a line: the same line of the same proxy read twice has the same one. shift tells the rounds of a replay apart.
func ID(proxy string, line []byte, shift time.Duration) string {
	var id [16]byte
	for half := range uint64(2) {
		var d xxhash.Digest
		d.ResetWithSeed(half)
		_, _ = d.WriteString(proxy)
		var head [9]byte // a separator, and the shift
		binary.LittleEndian.PutUint64(head[1:], uint64(shift))
		_, _ = d.Write(head[:])
		_, _ = d.Write(line)
		binary.BigEndian.PutUint64(id[8*half:], d.Sum64())
	}
	var text [2 * len(id)]byte
	hex.Encode(text[:], id[:])
	return string(text[:])
}
