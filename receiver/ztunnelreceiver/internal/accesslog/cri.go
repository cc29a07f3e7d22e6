package accesslog

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/nephilia/nephilia/internal/rfc3339"
)

// A stream of a container, as the runtime names it.
const (
	streamStdout = iota
	streamStderr
	numStreams
)

// CRIJoiner takes the lines of one Kubernetes log file, "TIME stdout|stderr P|F CONTENT", and gives back what the
// container wrote. A runtime cuts long lines into parts: P is a part, F the last one. The two streams of a
// container are interleaved in one file.
type CRIJoiner struct {
	maxLine int
	parts   [numStreams]part
	clock   rfc3339.Clock

	malformed, truncated int64
}

type part struct {
	text []byte
	open bool
	over bool // more was written than fits
}

// NewCRIJoiner returns a joiner for one file that keeps at most maxLine bytes of a joined line; 0 means
// DefaultMaxEntry. Of a longer line one byte more is kept, so that a parser with the same bound sees that it was
// cut.
func NewCRIJoiner(maxLine int) *CRIJoiner {
	if maxLine <= 0 {
		maxLine = DefaultMaxEntry
	}
	return &CRIJoiner{maxLine: maxLine + 1}
}

// Line takes one line without its line end. When that completes a line of the container it returns it with true;
// it is valid until the next call. A line that is not in the CRI format is counted and left out.
func (j *CRIJoiner) Line(line []byte) ([]byte, bool) {
	stream, last, content, ok := j.split(line)
	if !ok {
		j.malformed++
		return nil, false
	}
	return j.join(stream, last, content)
}

func (j *CRIJoiner) join(stream int, last bool, content []byte) ([]byte, bool) {
	p := &j.parts[stream]
	if last && !p.open {
		if len(content) >= j.maxLine {
			j.truncated++
			content = content[:j.maxLine]
		}
		return content, true
	}
	if !p.open {
		p.text, p.open, p.over = p.text[:0], true, false
	}
	if room := j.maxLine - len(p.text); len(content) >= room {
		content = content[:room]
		p.over = true
	}
	p.text = append(p.text, content...)
	if !last {
		return nil, false
	}
	if p.over {
		j.truncated++
	}
	p.open = false
	return p.text, true
}

// Malformed returns how many lines were not in the CRI format.
func (j *CRIJoiner) Malformed() int64 { return j.malformed }

// Truncated returns how many joined lines were cut.
func (j *CRIJoiner) Truncated() int64 { return j.truncated }

func (j *CRIJoiner) split(line []byte) (stream int, last bool, content []byte, ok bool) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	space := bytes.IndexByte(line, ' ')
	if space < 20 || space > 40 {
		return 0, false, nil, false
	}
	if _, ok := j.clock.Parse(line[:space]); !ok {
		return 0, false, nil, false
	}
	rest := line[space+1:]
	switch {
	case hasPrefix(rest, "stdout "):
		stream = streamStdout
	case hasPrefix(rest, "stderr "):
		stream = streamStderr
	default:
		return 0, false, nil, false
	}
	rest = rest[len("stdout "):]
	// The tag may grow more letters, "F:…"; the first one decides.
	tag := rest
	if space = bytes.IndexByte(rest, ' '); space >= 0 {
		tag, rest = rest[:space], rest[space+1:]
	} else {
		rest = nil
	}
	if len(tag) == 0 || (len(tag) > 1 && tag[1] != ':') || (tag[0] != 'F' && tag[0] != 'P') {
		return 0, false, nil, false
	}
	return stream, tag[0] == 'F', rest, true
}

// AppendState appends the unfinished parts, which belong to a checkpoint of the file's offset.
func (j *CRIJoiner) AppendState(b []byte) []byte {
	for i := range j.parts {
		p := &j.parts[i]
		flags := byte(0)
		if p.open {
			flags |= 1
		}
		if p.over {
			flags |= 2
		}
		b = append(b, flags)
		text := p.text
		if !p.open {
			text = nil
		}
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
	}
	return b
}

var errState = errors.New("damaged state of a log file")

// SetState takes back what AppendState gave.
func (j *CRIJoiner) SetState(b []byte) error {
	var parts [numStreams]part
	for i := range parts {
		if len(b) == 0 || b[0] > 3 {
			return errState
		}
		flags := b[0]
		text, rest, ok := cutBytes(b[1:])
		if !ok {
			return errState
		}
		if len(text) > j.maxLine {
			text = text[:j.maxLine]
		}
		parts[i] = part{text: bytes.Clone(text), open: flags&1 != 0, over: flags&2 != 0}
		b = rest
	}
	if len(b) != 0 {
		return errState
	}
	j.parts = parts
	return nil
}

// cutBytes takes a length and as many bytes from b.
func cutBytes(b []byte) (value, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

// IsCRI says whether a line is in the CRI format, so that a reader can tell a Kubernetes file from a bare one.
func IsCRI(line []byte) bool {
	var j CRIJoiner
	_, _, _, ok := j.split(line)
	return ok
}
