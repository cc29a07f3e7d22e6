package accesslog

import "bytes"

// A shape is what stands around the entries of a file.
type shape uint8

const (
	shapeUnknown shape = iota
	// shapeBare is what ztunnel wrote, as it is.
	shapeBare
	// shapeCRI is a Kubernetes log file, shapeJSON an object a line that holds the line in a string: Docker's json-file, Loki's
	// and other collectors' exports.
	shapeCRI
	shapeJSON
	// shapePrefixed has something before each line: what stern, kubectl logs --prefix and --timestamps print.
	shapePrefixed
	// shapeSpaced has spaces where ztunnel wrote tabs: a log that was pasted.
	shapeSpaced
)

const (
	// maxSure is how many lines of another shape must follow each other, at most, until a file is believed to have that one.
	maxSure = 8
	// maxPrefix bounds what may stand before an entry, in bytes.
	maxPrefix = 512
)

// Unwrapper takes the lines of one log file, whoever keeps it, and gives back what the container wrote. Each line says of itself
// what stands around it; of one that does not, the lines before decide, and a foreign line or a few do not change that. What would
// be an entry only by that is not believed amid entries that are so by themselves: the text of others may stand in a log.
type Unwrapper struct {
	style Style
	cri   *CRIJoiner
	shape shape
	// sure is how often the shape was seen, less how often another one.
	sure int

	object objectReader
	// prefix is what stood before the last line of a file with prefixes.
	prefix []byte
	plain  []byte // without colours
	tabs   []byte // with tabs for spaces
}

// NewUnwrapper returns an unwrapper for one file of a style; the bound is that of NewCRIJoiner.
func NewUnwrapper(style Style, maxLine int) *Unwrapper {
	u := &Unwrapper{style: style, cri: NewCRIJoiner(maxLine)}
	u.object.limit, u.object.style = u.cri.maxLine, style
	return u
}

// Line takes one line without its line end and passes on the lines of the container that it completes. They are valid only during
// the call.
func (u *Unwrapper) Line(line []byte, emit func(line []byte)) {
	if u.shape != shapeCRI && u.style.isEntry(line) {
		u.saw(shapeBare)
		emit(line)
		return
	}
	if stream, last, content, ok := u.cri.split(line); ok {
		u.saw(shapeCRI)
		u.join(stream, last, content, emit)
		return
	}
	u.other(line, emit)
}

// CRILine is Line for a file that is known to be in the CRI format; what is not, is counted and left out.
func (u *Unwrapper) CRILine(line []byte, emit func(line []byte)) {
	if text, ok := u.cri.Line(line); ok {
		emit(text)
	}
}

func (u *Unwrapper) other(line []byte, emit func(line []byte)) {
	if framed := len(line); framed > 0 {
		if line = trimFrame(line); len(line) > 0 && len(line) < framed {
			u.Line(line, emit)
			return
		}
	}
	if len(line) == 0 {
		emit(line)
		return
	}
	if bytes.IndexByte(line, escape) >= 0 {
		u.plain = appendUncoloured(u.plain[:0], line)
		line = u.plain
	}
	switch {
	case u.style.isEntry(line):
		u.saw(shapeBare)
		emit(line)
	case len(line) > 0 && line[0] == '{':
		u.unwrapObject(line, emit)
	case u.style.isSpaced(line):
		if u.saw(shapeSpaced) {
			u.tabs = appendTabbed(u.tabs[:0], line)
			line = u.tabs
		}
		emit(line)
	default:
		u.prefixed(line, emit)
	}
}

// join passes on a line of the container once all its parts are there.
func (u *Unwrapper) join(stream int, last bool, content []byte, emit func(line []byte)) {
	if text, ok := u.cri.join(stream, last, content); ok {
		emit(text)
	}
}

// unwrapObject takes a line that is a JSON object, of ztunnel's own or around a line.
func (u *Unwrapper) unwrapObject(line []byte, emit func(line []byte)) {
	o := &u.object
	if !o.read(line) {
		emit(line) // an entry of ztunnel's, or foreign: the parser knows
		return
	}
	u.saw(shapeJSON)
	last := true
	if o.docker {
		// Docker ends each line, and cuts long ones. Whoever takes its line ends away leaves nothing to tell parts by, but that
		// another entry begins.
		part := &u.cri.parts[o.stream]
		switch {
		case o.ended:
			o.trimmed = false
		case o.trimmed:
		case part.open && u.style.isEntry(o.text):
			o.trimmed, part.open = true, false
			emit(part.text)
		default:
			last = false
		}
	} else if o.partial {
		last = false
	}
	text := bytes.TrimSuffix(o.text, newline)
	if stream, whole, content, ok := u.cri.split(text); ok {
		u.join(stream, whole, content, emit)
		return
	}
	if text, ok := u.cri.join(o.stream, last, text); ok {
		for part := range bytes.SplitSeq(text, newline) {
			emit(bytes.TrimSuffix(part, carriageReturn))
		}
	}
}

// prefixed takes a line that does not begin as an entry: one with something before it, or one that continues an entry.
func (u *Unwrapper) prefixed(line []byte, emit func(line []byte)) {
	known := 0
	if u.shape == shapePrefixed {
		known = u.samePrefix(line)
	}
	if known == 0 {
		n := u.style.prefixLength(line)
		if n == 0 || !u.saw(shapePrefixed) {
			u.rest(line, emit)
			return
		}
		u.prefix = append(u.prefix[:0], line[:n]...)
		known = n
	} else {
		u.saw(shapePrefixed)
	}
	line = line[known:]
	if u.style.isSpaced(line) {
		u.tabs = appendTabbed(u.tabs[:0], line)
		line = u.tabs
	}
	emit(line)
}

// rest takes a line that says nothing of itself.
func (u *Unwrapper) rest(line []byte, emit func(line []byte)) {
	switch u.shape {
	case shapeCRI, shapeJSON, shapePrefixed:
		u.cri.malformed++
		u.saw(shapeUnknown)
	default:
		emit(line)
	}
}

// saw notes a line of a shape, and tells whether the file has it.
func (u *Unwrapper) saw(s shape) bool {
	switch {
	case u.shape == s:
		u.sure = min(u.sure+1, maxSure)
	case u.sure > 0:
		u.sure--
	default:
		u.shape, u.sure = s, 1
	}
	return u.shape == s
}

// samePrefix returns the length of what a line begins with if that is what the last prefix was, but for its times; else 0.
func (u *Unwrapper) samePrefix(line []byte) int {
	prefix, n := u.prefix, 0
	for len(prefix) > 0 {
		word := wordLength(prefix)
		other := wordLength(line[n:])
		if prefix[word-1] != ' ' {
			other = min(word, len(line)-n)
		}
		if !bytes.Equal(prefix[:word], line[n:n+other]) {
			_, was := u.cri.clock.Parse(bytes.TrimRight(prefix[:word], " "))
			_, is := u.cri.clock.Parse(bytes.TrimRight(line[n:n+other], " "))
			if !was || !is {
				return 0
			}
		}
		prefix, n = prefix[word:], n+other
	}
	return n
}

// wordLength is the length of a text's first word with the space behind it.
func wordLength(s []byte) int {
	if i := bytes.IndexByte(s, ' '); i >= 0 {
		return i + 1
	}
	return len(s)
}

// Malformed returns how many lines were not in the file's shape.
func (u *Unwrapper) Malformed() int64 { return u.cri.malformed }

// Wrapped tells whether a runtime keeps the file in the CRI format, as far as is known.
func (u *Unwrapper) Wrapped() bool { return u.shape == shapeCRI }

// SetWrapped takes back what Wrapped gave.
func (u *Unwrapper) SetWrapped(wrapped bool) {
	if wrapped {
		u.shape, u.sure = shapeCRI, 1
	}
}

// AppendState appends the unfinished parts, which belong to a checkpoint of the file's offset.
func (u *Unwrapper) AppendState(b []byte) []byte { return u.cri.AppendState(b) }

// SetState takes back what AppendState gave.
func (u *Unwrapper) SetState(b []byte) error { return u.cri.SetState(b) }

// isEntry tells whether a line begins as ztunnel itself begins its entries: in the plain format with a time and a tab, in JSON
// with level, time and scope.
func isEntry(line []byte) bool {
	if len(line) == 0 {
		return false
	}
	if line[0] != '{' {
		return startsPlain(line)
	}
	for _, key := range jsonHead[:2] {
		if !hasPrefix(line, key) {
			return false
		}
		line = line[len(key):]
		end := bytes.IndexByte(line[:min(len(line), 48)], '"')
		if end < 0 {
			return false
		}
		line = line[end+1:]
	}
	return hasPrefix(line, jsonHead[2])
}

var (
	newline        = []byte{'\n'}
	carriageReturn = []byte{'\r'}
	byteOrderMark  = []byte("\uFEFF")
)

// trimFrame takes away what editors and crashes leave before and behind a line: a byte-order mark, NULs, a carriage return.
func trimFrame(line []byte) []byte {
	line = bytes.TrimSuffix(bytes.TrimPrefix(line, byteOrderMark), carriageReturn)
	return bytes.TrimLeft(line, "\x00")
}

const escape = 0x1b

// appendUncoloured appends a line without the sequences that colour it in a terminal, ESC [ … letter.
func appendUncoloured(dst, line []byte) []byte {
	for {
		i := bytes.IndexByte(line, escape)
		if i < 0 {
			return append(dst, line...)
		}
		dst = append(dst, line[:i]...)
		line = line[i+1:]
		if len(line) == 0 || line[0] != '[' {
			continue
		}
		for i = 1; i < len(line) && (isDigit(line[i]) || line[i] == ';'); i++ {
		}
		line = line[min(i+1, len(line)):]
	}
}

// scopeHTTPAccess is the target of the lines of requests; no other has a space.
const scopeHTTPAccess = "http access"

// isSpaced tells whether a line is an entry in the plain format with spaces for its tabs: a time, a level, a target.
func isSpaced(line []byte) bool {
	const shortest = len("2006-01-02T15:04:05Z info x")
	if len(line) < shortest || line[4] != '-' || line[10] != 'T' {
		return false
	}
	time, rest := cutSpaces(line)
	level, rest := cutSpaces(rest)
	return len(time) >= 20 && len(time) <= 40 && levelOf(level) != LevelUnknown && len(rest) > 0
}

// cutSpaces returns the word that a text begins with, and what follows the spaces behind it.
func cutSpaces(s []byte) (word, rest []byte) {
	i := bytes.IndexByte(s, ' ')
	if i < 0 {
		return s, nil
	}
	return s[:i], bytes.TrimLeft(s[i:], " ")
}

// appendTabbed appends such a line with its tabs.
func appendTabbed(dst, line []byte) []byte {
	time, rest := cutSpaces(line)
	level, rest := cutSpaces(rest)
	target := spacedTarget(rest)
	dst = append(append(append(append(dst, time...), '\t'), level...), '\t')
	dst = append(dst, rest[:target]...)
	rest = bytes.TrimLeft(rest[target:], " ")
	if len(rest) == 0 {
		return dst
	}
	dst = append(dst, '\t')
	for i := range rest {
		if (i == 0 || rest[i-1] == ' ') && keyLength(rest[i:]) > 0 {
			dst = append(append(dst, bytes.TrimRight(rest[:i], " ")...), '\t')
			return append(dst, rest[i:]...)
		}
	}
	return append(dst, rest...)
}

// spacedTarget returns the length of the target at the beginning of a text; its spans hold spaces in their braces.
func spacedTarget(s []byte) int {
	if hasPrefix(s, scopeHTTPAccess+" ") {
		return len(scopeHTTPAccess)
	}
	depth := 0
	for i, c := range s {
		switch {
		case c == '{':
			depth++
		case c == '}':
			depth--
		case c == ' ' && depth <= 0:
			return i
		}
	}
	return len(s)
}

// startsPlain tells whether a line begins as ztunnel's plain format does: a time, a tab, a level.
func startsPlain(line []byte) bool {
	const shortest = len("2006-01-02T15:04:05Z")
	if len(line) <= shortest || line[4] != '-' || line[10] != 'T' {
		return false
	}
	tab := bytes.IndexByte(line[shortest:min(len(line), shortest+20)], '\t')
	return tab >= 0 && (shortest+tab+1 == len(line) || line[shortest+tab+1] != escape)
}
