package replay

import (
	"bufio"
	"errors"
	"io"
)

// errTooLong says that a line, a body or a message is larger than the limit; the reader stands behind it.
var errTooLong = errors.New("longer than the limit")

// lineReader reads lines of bounded length.
type lineReader struct {
	in    *bufio.Reader
	limit int
	over  longLines
	long  []byte
}

// longLines says what becomes of a line over the limit.
type longLines bool

const (
	// skipLong skips the line and returns errTooLong for it.
	skipLong longLines = false
	// cutLong returns the line's beginning.
	cutLong longLines = true
)

func newLineReader(in io.Reader, limit int, over longLines) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, 64<<10), limit: limit, over: over}
}

// next returns the next line without its end, valid until the next call, and io.EOF at the end. A last line without an
// end is a line.
func (r *lineReader) next() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if err == nil {
		return trimEnd(line), nil
	}
	r.long = r.long[:0]
	tooLong := false
	for {
		if room := r.limit - len(r.long); len(line) > room {
			tooLong = true
			line = line[:room]
		}
		r.long = append(r.long, line...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			break
		}
		line, err = r.in.ReadSlice('\n')
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case tooLong && r.over == skipLong:
		return nil, errTooLong
	case len(r.long) == 0 && err != nil:
		return nil, io.EOF
	}
	return trimEnd(r.long), nil
}

func trimEnd(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}
