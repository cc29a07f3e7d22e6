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

// parseJSON reads {"level":…,"time":…,"scope":…,"message":…,field:value…}. Which fields are those of an access
// entry depends on scope and message; ztunnel writes them first, and where they come later the entry is read
// twice.
func (p *Parser) parseJSON(entry []byte, rec *Record) error {
	access, err := p.scanJSON(entry, rec, true)
	if err == nil && !access && rec.Kind == KindUnknown {
		// Fields were taken for those of an access entry before the scope said otherwise.
		truncated := rec.Truncated
		rec.reset()
		rec.Truncated = truncated
		p.scratch = p.scratch[:0]
		_, err = p.scanJSON(entry, rec, false)
	}
	if err != nil {
		return err
	}
	if rec.Level == LevelUnknown || (len(rec.Scope) == 0 && len(rec.Message) == 0) {
		return ErrForeign
	}
	return nil
}

// scanJSON goes through the entry once. It sets rec.Kind unless asAccess was the wrong way to read the fields.
func (p *Parser) scanJSON(b []byte, rec *Record, asAccess bool) (access bool, err error) {
	expected := field(0)
	hasScope, hasMessage, hasTime, stored := false, false, false, false

	i, complete := 1, false
	for {
		i = skipSpace(b, i)
		if i >= len(b) {
			break
		}
		if b[i] == '}' {
			if skipSpace(b, i+1) != len(b) {
				return false, ErrCut
			}
			complete = true
			break
		}
		if i > 1 && b[i] == ',' {
			i = skipSpace(b, i+1)
			if i >= len(b) {
				break
			}
		}
		if b[i] != '"' {
			return false, ErrCut
		}

		var key []byte
		f := fieldUnknown
		if stored {
			for f = expected; f < numFields && !hasPrefix(b[i:], jsonKeys[f]); f++ {
			}
			if f < numFields {
				i += len(jsonKeys[f])
				expected = f + 1
			} else {
				f = fieldUnknown
			}
		}
		if f == fieldUnknown {
			n := p.closingQuote(b[i+1:])
			if n < 0 {
				break
			}
			key = b[i+1 : i+1+n]
			i = skipSpace(b, i+n+2)
			if i >= len(b) {
				break
			}
			if b[i] != ':' {
				return false, ErrCut
			}
			i++
			f = fieldOf(key)
		}

		i = skipSpace(b, i)
		value, typ, next := p.jsonValue(b, i)
		if next < 0 {
			if !rec.Truncated && value == nil {
				return false, ErrCut
			}
			if f == fieldError && typ == typeString && i < len(b) && rec.Truncated && asAccess {
				p.set(rec, f, b[i+1:], true)
			}
			break
		}
		i = next
		quoted := typ == typeString

		if key != nil && p.setJSONHead(rec, key, value, typ, &hasTime, &hasScope, &hasMessage) {
			access = isAccess(rec.Scope) && rec.Event != EventNone
			continue
		}
		if !stored && hasScope && hasMessage {
			asAccess = access
		}
		stored = true
		if !asAccess {
			if f != fieldUnknown && key == nil {
				key = trimmedKey(f)
			}
			p.addField(rec, key, value, quoted)
			continue
		}
		switch {
		case f == fieldUnknown || isNull(value, typ):
		case quoted || (typ == typeNumber && (f == fieldBytesSent || f == fieldBytesRecv)):
			p.set(rec, f, value, quoted)
		default:
			rec.Invalid++
		}
	}
	if !complete && !rec.Truncated {
		return false, ErrCut
	}
	if !hasTime && !hasScope {
		return false, ErrForeign
	}
	if access == asAccess || !stored {
		rec.Kind = KindMessage
		if access {
			rec.Kind = KindAccess
		}
	}
	return access, nil
}

// setJSONHead stores level, time, scope and message, and says whether the key was one of them.
func (p *Parser) setJSONHead(rec *Record, key, value []byte, typ valueType, hasTime, hasScope, hasMessage *bool) bool {
	switch string(key) {
	case "level":
		if typ == typeString {
			rec.Level = levelOf(value)
		}
	case "time":
		if typ == typeString && p.setTime(rec, value) {
			*hasTime = true
		} else {
			rec.Invalid++
		}
	case "scope":
		if typ != typeString {
			rec.Invalid++
			return true
		}
		rec.Scope = p.text(scopeOf(value), true, maxScope)
		*hasScope = true
	case "message":
		if typ != typeString {
			rec.Invalid++
			return true
		}
		rec.Message = p.text(value, true, maxMessage)
		rec.Event = eventOf(rec.Message)
		*hasMessage = true
	default:
		return false
	}
	return true
}

// jsonValue returns the value that begins at b[i], strings without their quotes and still escaped, and the
// index behind it, or -1 when the value does not end or is not JSON.
func (p *Parser) jsonValue(b []byte, i int) (value []byte, typ valueType, next int) {
	if i >= len(b) {
		return nil, typeLiteral, -1
	}
	switch c := b[i]; {
	case c == '"':
		n := p.closingQuote(b[i+1:])
		if n < 0 {
			return nil, typeString, -1
		}
		return b[i+1 : i+1+n], typeString, i + n + 2
	case c == '-' || isDigit(c):
		end := i + 1
		for end < len(b) && (isDigit(b[end]) || b[end] == '.' || b[end]|0x20 == 'e' || b[end] == '+' || b[end] == '-') {
			end++
		}
		if end == len(b) {
			return nil, typeNumber, -1
		}
		return b[i:end], typeNumber, end
	case c == '{' || c == '[':
		end := p.skipNested(b, i)
		if end < 0 {
			return nil, typeNested, -1
		}
		return b[i:end], typeNested, end
	}
	for _, literal := range [...]string{"true", "false", "null"} {
		if hasPrefix(b[i:], literal) {
			return b[i : i+len(literal)], typeLiteral, i + len(literal)
		}
	}
	return nil, typeLiteral, -1
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

var fieldNames = func() (names [numFields][]byte) {
	for f, key := range plainKeys {
		names[f] = []byte(key[:len(key)-1])
	}
	return names
}()

func trimmedKey(f field) []byte { return fieldNames[f] }
