package proxylog

import (
	"encoding/binary"
	"fmt"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/xpdata"
)

// maxNames bounds the texts that are written as numbers.
const maxNames = 1 << 10

// packed is a record while it waits: a few hundred bytes in one piece, without the names that all records have.
type packed []byte

// packer packs records. It belongs to one goroutine.
type packer struct {
	numbers map[string]uint64 // bounded by maxNames
	names   []string
	buffer  []byte
}

// How a record is packed, and what a packed value is.
const (
	asFields byte = iota
	asProtobuf
)

const (
	packedText byte = iota
	packedInt
	packedBool
)

// pack packs a record.
func (p *packer) pack(record plog.LogRecord) packed {
	b := p.buffer[:0]
	b = append(b, asFields)
	b = binary.LittleEndian.AppendUint64(b, uint64(record.Timestamp()))
	b = binary.LittleEndian.AppendUint64(b, uint64(record.ObservedTimestamp()))
	b = binary.AppendUvarint(b, uint64(uint32(record.SeverityNumber())))
	trace, span := record.TraceID(), record.SpanID()
	b = append(append(b, trace[:]...), span[:]...)
	b = p.name(p.name(b, record.EventName()), record.SeverityText())
	b = binary.AppendUvarint(b, uint64(record.Attributes().Len()))
	ok := record.Body().Type() == pcommon.ValueTypeEmpty && record.Flags() == 0 && record.DroppedAttributesCount() == 0
	for name, value := range record.Attributes().All() {
		b = p.name(b, name)
		switch value.Type() {
		case pcommon.ValueTypeStr:
			b = appendText(append(b, packedText), value.Str())
		case pcommon.ValueTypeInt:
			b = binary.AppendVarint(append(b, packedInt), value.Int())
		case pcommon.ValueTypeBool:
			n := byte(0)
			if value.Bool() {
				n = 1
			}
			b = append(b, packedBool, n)
		default:
			ok = false
		}
	}
	if !ok {
		b = packAny(append(b[:0], asProtobuf), record)
	}
	p.buffer = b
	return append(make(packed, 0, len(b)), b...)
}

// packAny packs a record that has what those of the receiver do not have.
func packAny(b []byte, record plog.LogRecord) []byte {
	logs := plog.NewLogs()
	record.CopyTo(logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty())
	whole, err := (&plog.ProtoMarshaler{}).MarshalLogs(logs)
	if err != nil { // it never is
		panic(fmt.Errorf("packing a record: %w", err))
	}
	return append(b, whole...)
}

// name writes a text that comes again and again: its number and one more, or 0 and the text.
func (p *packer) name(b []byte, text string) []byte {
	n, known := p.numbers[text]
	if !known {
		if len(p.names) >= maxNames {
			return appendText(append(b, 0), text)
		}
		if p.numbers == nil {
			p.numbers = map[string]uint64{}
		}
		n = uint64(len(p.names))
		p.numbers[text] = n
		p.names = append(p.names, text)
	}
	return binary.AppendUvarint(b, n+1)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// unpack gives a record as it was packed.
func (p *packer) unpack(from packed) plog.LogRecord {
	if from[0] == asProtobuf {
		logs, err := (&plog.ProtoUnmarshaler{}).UnmarshalLogs(from[1:])
		if err != nil { // it never is
			panic(fmt.Errorf("unpacking a record: %w", err))
		}
		return logs.ResourceLogs().At(0).ScopeLogs().At(0).LogRecords().At(0)
	}
	record := plog.NewLogRecord()
	r := unpacking{from: from[1:], text: string(from[1:])}
	record.SetTimestamp(pcommon.Timestamp(binary.LittleEndian.Uint64(r.next(8))))
	record.SetObservedTimestamp(pcommon.Timestamp(binary.LittleEndian.Uint64(r.next(8))))
	record.SetSeverityNumber(plog.SeverityNumber(int32(uint32(r.uint()))))
	record.SetTraceID(pcommon.TraceID(r.next(16)))
	record.SetSpanID(pcommon.SpanID(r.next(8)))
	record.SetEventName(r.name(p))
	record.SetSeverityText(r.name(p))
	var attrs xpdata.MapBuilder
	attrs.EnsureCapacity(int(r.uint()))
	for r.at < len(r.from) {
		name := r.name(p)
		switch r.next(1)[0] {
		case packedText:
			attrs.AppendEmpty(name).SetStr(r.string())
		case packedInt:
			n, size := binary.Varint(r.from[r.at:])
			r.at += size
			attrs.AppendEmpty(name).SetInt(n)
		default:
			attrs.AppendEmpty(name).SetBool(r.next(1)[0] == 1)
		}
	}
	attrs.UnsafeIntoMap(record.Attributes())
	return record
}

// unpacking reads a record. Its texts are parts of one.
type unpacking struct {
	from []byte
	text string
	at   int
}

func (r *unpacking) next(n int) []byte {
	r.at += n
	return r.from[r.at-n : r.at]
}

func (r *unpacking) uint() uint64 {
	n, size := binary.Uvarint(r.from[r.at:])
	r.at += size
	return n
}

func (r *unpacking) string() string {
	n := int(r.uint())
	r.at += n
	return r.text[r.at-n : r.at]
}

func (r *unpacking) name(p *packer) string {
	if n := r.uint(); n > 0 {
		return p.names[n-1]
	}
	return r.string()
}
