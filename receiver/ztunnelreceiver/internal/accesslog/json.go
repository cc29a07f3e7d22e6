package accesslog

import "bytes"

// maxJSONDepth bounds the nesting of a value that is passed over.
const maxJSONDepth = 16

// valueType is the type of a JSON value, as far as fields need it.
type valueType uint8

const (
	typeString valueType = iota
	typeNumber
	typeLiteral // true, false, null
	typeNested  // object or array
)

// jsonScan is one pass over an object.
type jsonScan struct {
	b   []byte
	pos int
	// access is how the fields are read: as those of an access entry or of a message.
	access   bool
	expected field // of an access entry

	hasTime, hasScope, hasFields bool
}

// parseJSON reads {"level":…,"time":…,"scope":…,"message":…,field:value…}. Which fields are those of an access
// entry depends on scope and message; ztunnel writes them first, and where they come later the entry may be read
// twice.
func (p *Parser) parseJSON(entry []byte, rec *Record) error {
	s := jsonScan{b: entry, pos: 1, access: true}
	if n := p.scanJSONHead(entry, rec); n > 0 {
		s.pos, s.access, s.hasTime, s.hasScope = n, isAccessEntry(rec), true, true
	}
	if err := p.scanJSON(&s, rec); err != nil {
		return err
	}
	if access := isAccessEntry(rec); s.hasFields && access != s.access {
		truncated := rec.Truncated
		rec.reset()
		rec.Truncated = truncated
		p.scratch = p.scratch[:0]
		s = jsonScan{b: entry, pos: 1, access: access}
		if err := p.scanJSON(&s, rec); err != nil {
			return err
		}
	}
	if (!s.hasTime && !s.hasScope) || rec.Level == LevelUnknown || (len(rec.Scope) == 0 && len(rec.Message) == 0) {
		return ErrForeign
	}
	if rec.Kind = KindMessage; isAccessEntry(rec) {
		rec.Kind = KindAccess
	}
	return nil
}

func isAccessEntry(rec *Record) bool { return rec.Event != EventNone && isAccess(rec.Scope) }

// jsonHead is how ztunnel begins every entry; a string follows each.
var jsonHead = [...]string{`{"level":"`, `,"time":"`, `,"scope":"`, `,"message":"`}

// scanJSONHead reads what every entry of a ztunnel begins with and returns how many bytes that took, 0 when it
// begins in another way.
func (p *Parser) scanJSONHead(b []byte, rec *Record) int {
	var values [len(jsonHead)][]byte
	i := 0
	for k, key := range jsonHead {
		if !hasPrefix(b[i:], key) {
			return 0
		}
		i += len(key)
		n := p.closingQuote(b[i:])
		if n < 0 {
			return 0
		}
		values[k] = b[i : i+n]
		i += n + 1
	}
	if !p.setTime(rec, values[1]) {
		return 0
	}
	rec.Level = levelOf(values[0])
	rec.Scope = p.text(scopeOf(values[2]), true, maxScope)
	rec.Message = p.text(values[3], true, maxMessage)
	rec.Event = eventOf(rec.Message)
	return i
}

// scanJSON reads members up to the end of the object.
func (p *Parser) scanJSON(s *jsonScan, rec *Record) error {
	for {
		if s.access && p.scanExpected(s, rec) {
			continue
		}
		key, end, ok := p.jsonKey(s)
		if end && ok {
			return nil
		}
		if !ok {
			return p.cut(rec)
		}
		start := s.pos
		value, typ, ok := p.jsonValue(s)
		if !ok {
			if rec.Truncated && s.access && typ == typeString && fieldOf(key) == fieldError {
				p.set(rec, fieldError, s.b[start+1:], true)
			}
			return p.cut(rec)
		}
		if p.setJSONHead(s, rec, key, value, typ) {
			continue
		}
		s.hasFields = true
		if s.access {
			p.setJSONField(rec, fieldOf(key), value, typ)
		} else {
			p.addField(rec, key, value, typ == typeString)
		}
	}
}

// scanExpected reads the next member if it is what ztunnel writes next in an access entry, as nearly all are.
func (p *Parser) scanExpected(s *jsonScan, rec *Record) bool {
	b, i := s.b, s.pos
	if i+1 >= len(b) || b[i] != ',' {
		return false
	}
	i++
	f := s.expected
	for f < numFields && !hasPrefix(b[i:], jsonKeys[f]) {
		f++
	}
	if f == numFields {
		return false
	}
	i += len(jsonKeys[f])
	if i == len(b) {
		return false
	}
	switch {
	case b[i] == '"':
		n := p.closingQuote(b[i+1:])
		if n < 0 {
			return false
		}
		p.set(rec, f, b[i+1:i+1+n], true)
		i += n + 2
	case f == fieldBytesSent || f == fieldBytesRecv:
		end := i
		for end < len(b) && isDigit(b[end]) {
			end++
		}
		if end == i || end == len(b) || (b[end] != ',' && b[end] != '}') {
			return false
		}
		p.set(rec, f, b[i:end], false)
		i = end
	default:
		return false
	}
	s.pos, s.expected, s.hasFields = i, f+1, true
	return true
}

// jsonKey moves to the value of the next member and returns its key, or end at the end of the object. It is not
// ok where the text stops being JSON.
func (p *Parser) jsonKey(s *jsonScan) (key []byte, end, ok bool) {
	b := s.b
	i := skipSpace(b, s.pos)
	if i < len(b) && b[i] == '}' {
		return nil, true, skipSpace(b, i+1) == len(b)
	}
	if s.pos > 1 && i < len(b) && b[i] == ',' {
		i = skipSpace(b, i+1)
	}
	if i >= len(b) || b[i] != '"' {
		return nil, false, false
	}
	n := p.closingQuote(b[i+1:])
	if n < 0 {
		return nil, false, false
	}
	key = b[i+1 : i+1+n]
	i = skipSpace(b, i+n+2)
	if i >= len(b) || b[i] != ':' {
		return nil, false, false
	}
	s.pos = skipSpace(b, i+1)
	return key, false, true
}

// jsonValue returns the value at the scan's position, strings without their quotes and still escaped, and moves
// behind it. It is not ok when the value does not end or is not JSON.
func (p *Parser) jsonValue(s *jsonScan) (value []byte, typ valueType, ok bool) {
	b, i := s.b, s.pos
	if i >= len(b) {
		return nil, typeLiteral, false
	}
	switch c := b[i]; {
	case c == '"':
		n := p.closingQuote(b[i+1:])
		if n < 0 {
			return nil, typeString, false
		}
		s.pos = i + n + 2
		return b[i+1 : i+1+n], typeString, true
	case c == '-' || isDigit(c):
		end := i + 1
		for end < len(b) && (isDigit(b[end]) || b[end] == '.' || b[end]|0x20 == 'e' || b[end] == '+' || b[end] == '-') {
			end++
		}
		s.pos = end
		return b[i:end], typeNumber, end < len(b)
	case c == '{' || c == '[':
		end := p.skipNested(b, i)
		if end < 0 {
			return nil, typeNested, false
		}
		s.pos = end
		return b[i:end], typeNested, true
	}
	for _, literal := range [...]string{"true", "false", "null"} {
		if hasPrefix(b[i:], literal) {
			s.pos = i + len(literal)
			return b[i:s.pos], typeLiteral, true
		}
	}
	return nil, typeLiteral, false
}

// skipNested returns the index behind the object or array that begins at b[i], -1 when it does not end or nests
// too deeply.
func (p *Parser) skipNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '{', '[':
			if depth++; depth > maxJSONDepth {
				return -1
			}
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			n := p.closingQuote(b[i+1:])
			if n < 0 {
				return -1
			}
			i += n + 1
		}
		i++
	}
	return -1
}

// setJSONHead stores level, time, scope and message, and says whether the key was one of them.
func (p *Parser) setJSONHead(s *jsonScan, rec *Record, key, value []byte, typ valueType) bool {
	switch string(key) {
	case "level", "time", "scope", "message":
	case "msg": // istio-cni-node's
		if len(rec.Message) > 0 {
			return false
		}
	default:
		return false
	}
	if typ != typeString {
		rec.Invalid++
		return true
	}
	switch key[0] {
	case 'l':
		rec.Level = levelOf(value)
	case 't':
		if p.setTime(rec, value) {
			s.hasTime = true
		} else {
			rec.Invalid++
		}
	case 's':
		rec.Scope = p.text(scopeOf(value), true, maxScope)
		s.hasScope = true
	case 'm':
		rec.Message = p.text(value, true, maxMessage)
		rec.Event = eventOf(rec.Message)
	}
	return true
}

// setJSONField stores a field of an access entry that did not come where it was expected.
func (p *Parser) setJSONField(rec *Record, f field, value []byte, typ valueType) {
	switch {
	case f == fieldUnknown || isNull(value, typ):
	case typ == typeString || (typ == typeNumber && (f == fieldBytesSent || f == fieldBytesRecv)):
		p.set(rec, f, value, typ == typeString)
	default:
		rec.Invalid++
	}
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

func isNull(value []byte, typ valueType) bool {
	return typ == typeLiteral && bytes.Equal(value, null)
}

var null = []byte("null")
