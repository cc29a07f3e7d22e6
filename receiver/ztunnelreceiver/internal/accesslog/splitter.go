package accesslog

import "bytes"

const defaultMaxEntryLines = 1024

// EntrySplitter groups the lines of one file into entries. A ztunnel's plain messages may span lines (its
// configuration at start does); a line that does not begin as an entry does continues the one before it. Access
// entries and JSON never span lines and leave at once; any other entry leaves when the next one begins or at
// Flush. A line that continues nothing leaves as an entry of its own, which no ztunnel wrote.
type EntrySplitter struct {
	style              Style
	maxBytes, maxLines int
	parser             *Parser

	held      []byte
	heldLines int
	holding   bool
	over      bool

	truncated int64
}

// NewEntrySplitter returns a splitter for one file of a style that keeps at most maxBytes and maxLines of an entry; 0 means
// DefaultMaxEntry and 1024. Of a longer entry one byte more than maxBytes is kept, so that a parser with the same
// bound sees that it was cut.
func NewEntrySplitter(style Style, maxBytes, maxLines int) *EntrySplitter {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxEntry
	}
	if maxLines <= 0 {
		maxLines = defaultMaxEntryLines
	}
	return &EntrySplitter{style: style, maxBytes: maxBytes + 1, maxLines: maxLines, parser: NewParser(maxBytes)}
}

// Line takes one line without its line end and passes complete entries to emit, at most two; they are valid
// only during the call.
func (s *EntrySplitter) Line(line []byte, emit func(entry []byte)) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if s.style.lines() {
		emit(line[:min(len(line), s.maxBytes)])
		return
	}
	if !s.parser.StartsEntry(line) {
		s.continueEntry(line, emit)
		return
	}
	s.Flush(emit)
	if len(line) >= s.maxBytes {
		s.truncated++
		line = line[:s.maxBytes]
	}
	if isSingleLine(line) {
		emit(line)
		return
	}
	s.held = append(s.held[:0], line...)
	s.heldLines, s.holding, s.over = 1, true, false
}

func (s *EntrySplitter) continueEntry(line []byte, emit func(entry []byte)) {
	if !s.holding {
		if len(line) > 0 {
			emit(line[:min(len(line), s.maxBytes)])
		}
		return
	}
	if s.heldLines >= s.maxLines || len(s.held)+1+len(line) > s.maxBytes {
		if !s.over {
			s.truncated++
			s.over = true
		}
		return
	}
	if s.over {
		return
	}
	s.held = append(s.held, '\n')
	s.held = append(s.held, line...)
	s.heldLines++
}

// Flush passes on the entry that waits for lines that would continue it. Call it at the end of a file and when
// a file has been quiet for a while.
func (s *EntrySplitter) Flush(emit func(entry []byte)) {
	if s.holding {
		s.holding = false
		emit(s.held)
	}
}

// Holding says whether an entry waits for Flush.
func (s *EntrySplitter) Holding() bool { return s.holding }

// Truncated returns how many entries were cut.
func (s *EntrySplitter) Truncated() int64 { return s.truncated }

// AppendState appends the entry that waits, which belongs to a checkpoint of the file's offset.
func (s *EntrySplitter) AppendState(b []byte) []byte {
	if !s.holding {
		return b
	}
	return append(b, s.held...)
}

// SetState takes back what AppendState gave.
func (s *EntrySplitter) SetState(b []byte) {
	if len(b) > s.maxBytes {
		b = b[:s.maxBytes]
	}
	s.held = append(s.held[:0], b...)
	s.heldLines = 1 + bytes.Count(b, []byte{'\n'})
	s.holding = len(b) > 0
	s.over = false
}

// isSingleLine knows the entries that no line continues.
func isSingleLine(line []byte) bool {
	if line[0] == '{' {
		return true
	}
	tab := bytes.IndexByte(line, '\t')
	rest := line[tab+1:]
	if tab = bytes.IndexByte(rest, '\t'); tab < 0 {
		return false
	}
	rest = rest[tab+1:]
	if tab = bytes.IndexByte(rest, '\t'); tab < 0 {
		return false
	}
	return isAccess(rest[:spanStart(rest[:tab])])
}
