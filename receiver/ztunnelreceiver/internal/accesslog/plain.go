package accesslog

import "bytes"

// parsePlain reads "time⇥level⇥target[:spans]⇥message⇥k=v k=v".
func (p *Parser) parsePlain(entry []byte, rec *Record) error {
	if len(entry) == 0 || !isDigit(entry[0]) {
		return ErrForeign
	}
	tab := bytes.IndexByte(entry, '\t')
	if tab < 0 || !p.setTime(rec, entry[:tab]) {
		return ErrForeign
	}
	rest := entry[tab+1:]
	tab = bytes.IndexByte(rest, '\t')
	if tab < 0 {
		return ErrCut
	}
	if rec.Level = levelOf(rest[:tab]); rec.Level == LevelUnknown {
		return ErrForeign
	}
	rest = rest[tab+1:]
	tab = bytes.IndexByte(rest, '\t')
	if tab < 0 {
		// An event without message and fields ends with its target.
		rec.Kind = KindMessage
		p.setTarget(rec, rest)
		return nil
	}
	target := rest[:tab]
	rest = rest[tab+1:]
	p.setTarget(rec, target)

	if isAccess(rec.Scope) {
		if tab = bytes.IndexByte(rest, '\t'); tab >= 0 {
			if rec.Event = eventOf(rest[:tab]); rec.Event != EventNone {
				rec.Kind = KindAccess
				rec.Message = rest[:tab]
				return p.parsePlainAccess(rest[tab+1:], rec)
			}
		} else if !rec.Truncated {
			return ErrCut
		}
	}
	rec.Kind = KindMessage
	// A message may hold tabs of its own; fields never do, they are escaped.
	fields := []byte(nil)
	if tab = bytes.LastIndexByte(rest, '\t'); tab >= 0 {
		rest, fields = rest[:tab], rest[tab+1:]
	} else if string(rec.Scope) == ScopeDNS {
		// What the DNS proxy writes of a query has no message.
		rest, fields = nil, rest
	}
	rec.Message = p.text(rest, false, maxMessage)
	p.parsePlainFields(fields, rec)
	return nil
}

// setTarget takes a target apart, "xds::client:xds{id=1}:…": its scope, and the spans that the event lies in.
// The JSON format gives spans as fields, so they become fields here as well.
func (p *Parser) setTarget(rec *Record, target []byte) {
	target = scopeOf(target)
	end := spanStart(target)
	rec.Scope = p.text(target[:end], false, maxScope)
	for spans := target[end:]; len(spans) > 1 && len(rec.Fields) < maxFields; {
		spans = spans[1:]
		end = spanStart(spans)
		name, fields := spans[:end], []byte(nil)
		if i := bytes.IndexByte(spans, '{'); i >= 0 && i < end {
			name = spans[:i]
			if n := bytes.IndexByte(spans[i:], '}'); n >= 0 {
				fields = spans[i+1 : i+n]
				end = i + n + 1
			}
		}
		p.addField(rec, name, fields, false)
		spans = spans[min(end, len(spans)):]
	}
}

// spanStart returns the index of the colon before the first span, or the length of s. Two colons belong to a
// path.
func spanStart(s []byte) int {
	for i := 0; i < len(s); i++ {
		if s[i] == ':' {
			if i+1 < len(s) && s[i+1] == ':' {
				i++
				continue
			}
			return i
		}
	}
	return len(s)
}

// parsePlainAccess reads the fields of an access entry. It expects them in ztunnel's order and looks a key up
// only when it finds another.
func (p *Parser) parsePlainAccess(b []byte, rec *Record) error {
	expected := field(0)
	for i := 0; i < len(b); {
		if b[i] == ' ' {
			i++
			continue
		}
		f := expected
		for f < numFields && !hasPrefix(b[i:], plainKeys[f]) {
			f++
		}
		if f < numFields {
			i += len(plainKeys[f])
			expected = f + 1
		} else {
			n := bytes.IndexByte(b[i:], '=')
			if n <= 0 || bytes.IndexByte(b[i:i+n], ' ') >= 0 {
				return p.cut(rec)
			}
			f = fieldOf(b[i : i+n])
			i += n + 1
		}
		if i < len(b) && b[i] == '"' {
			i++
			n := p.closingQuote(b[i:])
			if n < 0 {
				if rec.Truncated && f == fieldError {
					p.set(rec, f, b[i:], true)
				}
				return p.cut(rec)
			}
			p.set(rec, f, b[i:i+n], true)
			i += n + 1
			if i < len(b) && b[i] != ' ' {
				return ErrCut
			}
			continue
		}
		if addr := p.addrOf(rec, f); addr != nil {
			if n := scanIPv4(b[i:], addr); n > 0 && (i+n == len(b) || b[i+n] == ' ') && !rec.Truncated {
				i += n
				continue
			}
		}
		n := bytes.IndexByte(b[i:], ' ')
		if f == fieldError {
			// Until 1.22 it is not quoted. It comes last.
			n = -1
		}
		if n < 0 {
			if rec.Truncated && f != fieldError {
				return nil
			}
			n = len(b) - i
		}
		p.set(rec, f, b[i:i+n], false)
		i += n
	}
	return nil
}

// cut is the outcome of an entry that ends too early: expected when the parser itself cut it.
func (p *Parser) cut(rec *Record) error {
	if rec.Truncated {
		return nil
	}
	return ErrCut
}

// closingQuote finds the quote that ends a string, or returns -1.
func (p *Parser) closingQuote(b []byte) int {
	if !p.escapes {
		return bytes.IndexByte(b, '"')
	}
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i
		case '\\':
			i++
		}
	}
	return -1
}

// parsePlainFields reads the fields of a message. Their values are whatever Rust's Debug makes of them, so an
// unquoted one ends only where another key begins.
func (p *Parser) parsePlainFields(b []byte, rec *Record) {
	for len(b) > 0 && len(rec.Fields) < maxFields {
		if b[0] == ' ' {
			b = b[1:]
			continue
		}
		n := keyLength(b)
		if n == 0 {
			return
		}
		key := b[:n]
		b = b[n+1:]
		var value []byte
		if len(b) > 0 && b[0] == '"' {
			b = b[1:]
			n = p.closingQuote(b)
			if n < 0 {
				value, b = b, nil
			} else {
				value, b = b[:n], b[n+1:]
			}
			p.addField(rec, key, value, true)
			continue
		}
		n = 0
		for n < len(b) && (b[n] != ' ' || keyLength(b[n+1:]) == 0) {
			if b[n] == '"' {
				if end := p.closingQuote(b[n+1:]); end >= 0 {
					n += end + 1
				}
			}
			n++
		}
		value, b = b[:n], b[n:]
		p.addField(rec, key, value, false)
	}
}

// keyLength returns the length of the key that b begins with, 0 when it begins with none.
func keyLength(b []byte) int {
	for i, c := range b {
		switch {
		case c == '=':
			return i
		case (c|0x20)-'a' < 26, isDigit(c), c == '_', c == '.', c == '-', c == '#':
			if i >= 64 {
				return 0
			}
		default:
			return 0
		}
	}
	return 0
}

func (p *Parser) addField(rec *Record, key, value []byte, quoted bool) {
	n := len(rec.Fields)
	if n == maxFields {
		return
	}
	p.fields[n] = Field{
		Key:   p.text(key, quoted && p.json, maxLabel),
		Value: p.text(value, quoted, maxValue),
	}
	rec.Fields = p.fields[:n+1]
}
