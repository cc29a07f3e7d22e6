package accesslog

import (
	"bytes"
	"unicode/utf8"

	"github.com/nephilia/nephilia/internal/rfc3339"
	"github.com/nephilia/nephilia/internal/semconv"
)

// DefaultMaxEntry is how much of one entry is read, in bytes.
const DefaultMaxEntry = 64 << 10

// Parser reads entries. It holds scratch space, so a Parser belongs to one goroutine.
type Parser struct {
	maxEntry int
	clock    rfc3339.Clock
	scratch  []byte
	fields   [maxFields]Field

	// What is known of the entry at hand: escapes may occur, all text is clean, it is JSON.
	escapes, clean, json bool
}

// NewParser returns a parser that reads at most maxEntry bytes of an entry; 0 means DefaultMaxEntry.
func NewParser(maxEntry int) *Parser {
	if maxEntry <= 0 {
		maxEntry = DefaultMaxEntry
	}
	return &Parser{maxEntry: maxEntry}
}

// Parse reads one entry into rec, which it overwrites. An entry is a line of the log without the line end,
// together with the lines that continue it. The error is ErrForeign, ErrCut or ErrIncomplete, with
// KindUnknown; rec then holds what was read before.
func (p *Parser) Parse(entry []byte, rec *Record) (Kind, error) {
	rec.reset()
	p.scratch = p.scratch[:0]
	for len(entry) > 0 && (entry[len(entry)-1] == '\r' || entry[len(entry)-1] == '\n') {
		entry = entry[:len(entry)-1]
	}
	if len(entry) > p.maxEntry {
		end := p.maxEntry
		for end > 0 && !utf8.RuneStart(entry[end]) {
			end--
		}
		entry = entry[:end]
		rec.Truncated = true
	}
	p.clean = isClean(entry)
	p.escapes = bytes.IndexByte(entry, '\\') >= 0

	var err error
	if p.json = len(entry) > 0 && entry[0] == '{'; p.json {
		err = p.parseJSON(entry, rec)
	} else {
		err = p.parsePlain(entry, rec)
	}
	if err != nil {
		rec.Kind = KindUnknown
		return KindUnknown, err
	}
	if rec.Kind == KindAccess {
		if rec.Direction == DirectionUnknown || (len(rec.Src.Text) == 0 && len(rec.Dst.Text) == 0) {
			rec.Kind = KindUnknown
			return KindUnknown, ErrIncomplete
		}
		if len(rec.Error) > 0 {
			rec.Failure = Classify(rec)
		} else if rec.Event == EventFailed || (rec.Event == EventComplete && rec.Level == LevelError) {
			rec.Failure.Type = semconv.ErrorTypeOther
		}
	}
	return rec.Kind, nil
}

// EntryTime returns the time of an entry, in nanoseconds since the epoch, without reading the rest of it.
func (p *Parser) EntryTime(entry []byte) (nanos int64, ok bool) {
	if len(entry) == 0 {
		return 0, false
	}
	if entry[0] == '{' {
		const key = `"time":"`
		i := bytes.Index(entry, []byte(key))
		if i < 0 {
			return 0, false
		}
		entry = entry[i+len(key):]
		i = bytes.IndexByte(entry, '"')
		if i < 0 {
			return 0, false
		}
		entry = entry[:i]
	} else {
		i := bytes.IndexByte(entry, '\t')
		if i < 0 {
			return 0, false
		}
		entry = entry[:i]
	}
	nanos, ok = p.clock.Parse(entry)
	return nanos, ok && rfc3339.Plausible(nanos)
}

// StartsEntry says whether a line begins an entry; any other line continues the entry before it.
func (p *Parser) StartsEntry(line []byte) bool {
	if len(line) == 0 {
		return false
	}
	if line[0] == '{' {
		return true
	}
	if !isDigit(line[0]) {
		return false
	}
	head := line
	if len(head) > 48 {
		head = head[:48]
	}
	i := bytes.IndexByte(head, '\t')
	if i < 0 {
		return false
	}
	_, ok := p.clock.Parse(head[:i])
	return ok
}

// A field of an access entry, in the order in which ztunnel writes them.
type field int

const (
	fieldSrcAddr field = iota
	fieldSrcWorkload
	fieldSrcNamespace
	fieldSrcIdentity
	fieldSrcCluster
	fieldDstAddr
	fieldDstHBONE
	fieldDstService
	fieldDstWorkload
	fieldDstNamespace
	fieldDstIdentity
	fieldDstCluster
	fieldDirection
	fieldBytesSent
	fieldBytesRecv
	fieldDuration
	fieldError
	numFields
	fieldUnknown field = -1
)

var plainKeys = [numFields]string{
	"src.addr=", "src.workload=", "src.namespace=", "src.identity=", "src.cluster=",
	"dst.addr=", "dst.hbone_addr=", "dst.service=", "dst.workload=", "dst.namespace=", "dst.identity=", "dst.cluster=",
	"direction=", "bytes_sent=", "bytes_recv=", "duration=", "error=",
}

var jsonKeys = [numFields]string{
	`"src.addr":`, `"src.workload":`, `"src.namespace":`, `"src.identity":`, `"src.cluster":`,
	`"dst.addr":`, `"dst.hbone_addr":`, `"dst.service":`, `"dst.workload":`, `"dst.namespace":`, `"dst.identity":`, `"dst.cluster":`,
	`"direction":`, `"bytes_sent":`, `"bytes_recv":`, `"duration":`, `"error":`,
}

func fieldOf(key []byte) field {
	for f, name := range plainKeys {
		if len(key) == len(name)-1 && string(key) == name[:len(key)] {
			return field(f)
		}
	}
	return fieldUnknown
}

// set stores the value of an access field. raw is the value without quotes, still escaped if quoted.
func (p *Parser) set(rec *Record, f field, raw []byte, quoted bool) {
	switch f {
	case fieldSrcAddr:
		p.setAddr(rec, &rec.Src.Addr, raw, quoted)
	case fieldDstAddr:
		p.setAddr(rec, &rec.Dst.Addr, raw, quoted)
	case fieldDstHBONE:
		p.setAddr(rec, &rec.HBONE, raw, quoted)
	case fieldSrcWorkload:
		rec.Src.Workload = p.text(raw, quoted, maxLabel)
	case fieldSrcNamespace:
		rec.Src.Namespace = p.text(raw, quoted, maxLabel)
	case fieldSrcIdentity:
		rec.Src.Identity = p.text(raw, quoted, maxIdentity)
	case fieldSrcCluster:
		rec.Src.Cluster = p.text(raw, quoted, maxLabel)
	case fieldDstService:
		rec.DstService = p.text(raw, quoted, maxLabel)
	case fieldDstWorkload:
		rec.Dst.Workload = p.text(raw, quoted, maxLabel)
	case fieldDstNamespace:
		rec.Dst.Namespace = p.text(raw, quoted, maxLabel)
	case fieldDstIdentity:
		rec.Dst.Identity = p.text(raw, quoted, maxIdentity)
	case fieldDstCluster:
		rec.Dst.Cluster = p.text(raw, quoted, maxLabel)
	case fieldDirection:
		switch string(raw) {
		case semconv.DirectionOutbound:
			rec.Direction = DirectionOutbound
		case semconv.DirectionInbound:
			rec.Direction = DirectionInbound
		default:
			rec.Direction = DirectionUnknown
			rec.Invalid++
		}
	case fieldBytesSent:
		rec.BytesSent = number(rec, raw)
	case fieldBytesRecv:
		rec.BytesRecv = number(rec, raw)
	case fieldDuration:
		if rec.Duration, rec.HasDuration = parseDuration(raw); !rec.HasDuration {
			rec.Invalid++
		}
	case fieldError:
		rec.Error = p.text(raw, quoted, maxError)
	}
}

// addrOf returns where the address of a field is stored, nil for any other field.
func (p *Parser) addrOf(rec *Record, f field) *Addr {
	switch f {
	case fieldSrcAddr:
		return &rec.Src.Addr
	case fieldDstAddr:
		return &rec.Dst.Addr
	case fieldDstHBONE:
		return &rec.HBONE
	}
	return nil
}

func (p *Parser) setAddr(rec *Record, dst *Addr, raw []byte, quoted bool) {
	if quoted && p.escapes {
		raw = p.text(raw, true, maxLabel+8)
	}
	if scanIPv4(raw, dst) == len(raw) && len(raw) > 0 {
		return
	}
	addr, ok := parseAddr(raw)
	if !ok {
		rec.Invalid++
	}
	*dst = addr
}

func number(rec *Record, raw []byte) uint64 {
	n, ok := parseUint(raw)
	if !ok {
		rec.Invalid++
		return 0
	}
	return n
}

// text returns a value as it may be used in a label: unescaped if it was quoted, clean, at most limit bytes.
func (p *Parser) text(raw []byte, quoted bool, limit int) []byte {
	if p.escapes && quoted && bytes.IndexByte(raw, '\\') >= 0 {
		start := len(p.scratch)
		if p.json {
			p.scratch = appendJSONUnescaped(p.scratch, raw)
		} else {
			p.scratch = appendRustUnescaped(p.scratch, raw)
		}
		raw = p.scratch[start:len(p.scratch):len(p.scratch)]
	}
	if !p.clean && !isClean(raw) {
		start := len(p.scratch)
		p.scratch = appendClean(p.scratch, raw)
		raw = p.scratch[start:len(p.scratch):len(p.scratch)]
	}
	return bound(raw, limit)
}

func (p *Parser) setTime(rec *Record, s []byte) bool {
	t, ok := p.clock.Parse(s)
	if ok && rfc3339.Plausible(t) {
		rec.Time, rec.HasTime = t, true
	}
	return ok
}

func levelOf(s []byte) Level {
	switch string(s) {
	case "info":
		return LevelInfo
	case "error":
		return LevelError
	case "warn":
		return LevelWarn
	case "debug":
		return LevelDebug
	case "trace":
		return LevelTrace
	}
	return LevelUnknown
}

// isAccess says whether a scope is that of the access log.
func isAccess(scope []byte) bool { return string(scope) == "access" }

func eventOf(message []byte) Event {
	switch string(message) {
	case "connection complete":
		return EventComplete
	case "connection failed":
		return EventFailed
	case "connection opened":
		return EventOpened
	}
	return EventNone
}

// scopeOf drops the crate's name, as ztunnel itself does in the plain format.
func scopeOf(target []byte) []byte {
	return bytes.TrimPrefix(target, cratePrefix)
}

var cratePrefix = []byte("ztunnel::")
