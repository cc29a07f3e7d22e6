package accesslog

import "bytes"

// objectReader finds the line of a container in a JSON object that something wrapped around it.
type objectReader struct {
	style   Style
	limit   int
	scanner Parser
	// key is the member that held the entry before.
	key []byte

	// Of the object at hand: the line, the stream that it was written to, whether it is a part only, and whether Docker wrote
	// it, so that a line end tells whether it is one; ended tells that there is one.
	text                   []byte
	stream                 int
	partial, docker, ended bool
	tabs                   []byte
	// trimmed is set once lines of Docker's were seen to have lost their ends.
	trimmed bool
}

// member is a string of an object.
type member struct{ key, value []byte }

var escapedNewline, escapedBackslash = []byte(`\n`), []byte(`\\n`)

// maxMembers bounds the strings of an object among which the line is looked for.
const maxMembers = 32

// read reads an object. It is false for one that holds no line, such as an entry of ztunnel's own.
func (o *objectReader) read(line []byte) bool {
	var members [maxMembers]member
	n, others := 0, false
	o.stream, o.partial, o.docker = streamStdout, false, false
	o.scanner.escapes = bytes.IndexByte(line, '\\') >= 0
	log, hasStream, hasTime, level, scope := -1, false, false, false, false
	for s := (jsonScan{b: line, pos: 1}); ; {
		key, end, ok := o.scanner.jsonKey(&s)
		if !ok {
			return false
		}
		if end {
			break
		}
		value, typ, ok := o.scanner.jsonValue(&s)
		if !ok {
			return false
		}
		switch string(key) {
		case "log":
			log = n
		case "stream":
			hasStream = true
			if string(value) == "stderr" {
				o.stream = streamStderr
			}
		case "time":
			hasTime = true
		case "logtag", "_p":
			o.partial, others = string(value) == "P", true
		case "attrs":
		case "level":
			level = true
		case "scope":
			scope = true
		default:
			others = true
		}
		if typ == typeString && n < len(members) {
			members[n] = member{key, value}
			n++
		}
	}
	if level && scope {
		return false
	}
	found := -1
	for i := range members[:n] {
		if o.unescape(members[i].value, 128); o.style.isEntry(o.text) || o.style.isSpaced(o.text) || IsCRI(o.text) {
			found = i
			break
		}
	}
	o.docker = log >= 0 && log < n && hasStream && hasTime && !others
	if found < 0 && o.docker {
		found = log
	}
	for i := 0; i < n && found < 0 && len(o.key) > 0; i++ {
		if bytes.Equal(members[i].key, o.key) {
			found = i
		}
	}
	if found < 0 {
		return false
	}
	o.key = append(o.key[:0], members[found].key...)
	value := members[found].value
	o.ended = bytes.HasSuffix(value, escapedNewline) && !bytes.HasSuffix(value, escapedBackslash)
	o.unescape(value, o.limit)
	if o.style.isSpaced(o.text) {
		o.tabs = appendTabbed(o.tabs[:0], o.text)
		o.text, o.tabs = o.tabs, o.text
	}
	return true
}

// unescape takes a string, or not much more than its first bytes up to limit, for the text.
func (o *objectReader) unescape(value []byte, limit int) {
	if len(value) > 6*limit { // \u0041 is the longest way to write a byte
		value = value[:6*limit]
	}
	if o.text = appendJSONUnescaped(o.text[:0], value); len(o.text) > limit {
		o.text = o.text[:limit]
	}
}
