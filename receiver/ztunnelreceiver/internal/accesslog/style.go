package accesslog

// Style is how a log's entries are told from what stands around them. The zero value is ztunnel's.
type Style struct {
	// Begins tells whether a line begins as one of the log does by itself. In such a log each line is an entry, and nothing goes on
	// with one.
	Begins func(line []byte) bool
}

// lines tells whether each line is an entry.
func (s Style) lines() bool { return s.Begins != nil }

func (s Style) isEntry(line []byte) bool {
	if s.Begins != nil {
		return s.Begins(line)
	}
	return isEntry(line)
}

// isSpaced tells whether a line is an entry of ztunnel's with spaces for its tabs.
func (s Style) isSpaced(line []byte) bool { return s.Begins == nil && isSpaced(line) }

// prefixLength returns where in a line an entry begins that something stands before; 0 if there is none.
func (s Style) prefixLength(line []byte) int {
	for i := 1; i < len(line) && i <= maxPrefix; i++ {
		c, before := line[i], line[i-1]
		begins := c == '{' || isDigit(c) || c == '[' && s.lines()
		if begins && !isDigit(before) && (before|0x20)-'a' >= 26 && (s.isEntry(line[i:]) || s.isSpaced(line[i:])) {
			return i
		}
	}
	return 0
}
