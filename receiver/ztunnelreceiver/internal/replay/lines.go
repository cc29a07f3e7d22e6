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
	long  []byte
}

func newLineReader(in io.Reader, limit int) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, 64<<10), limit: limit}
}

// next returns the next line without its end, valid until the next call. It returns errTooLong for a line over the
// limit, which is skipped, and io.EOF at the end. A last line without an end is a line.
func (r *lineReader) next() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if err == nil {
		return trimEnd(line), nil
	}
	r.long = r.long[:0]
	tooLong := false
	for {
		if len(r.long)+len(line) > r.limit {
			tooLong = true
		} else {
			r.long = append(r.long, line...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			break
		}
		line, err = r.in.ReadSlice('\n')
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, err
	case tooLong:
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
