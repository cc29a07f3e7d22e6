package accesslog

import (
	"bytes"

	"github.com/nephilia/nephilia/internal/rfc3339"
)

// StampSplitter splits lines as the Kubernetes API server gives them with timestamps=true: "TIME TEXT", TIME being when the
// container's runtime took the line. The zero value is ready; it belongs to one goroutine.
type StampSplitter struct{ clock rfc3339.Clock }

// Split returns the time of a line without its line end, in nanoseconds since the epoch, and what the container wrote. ok is
// false for a line that does not begin with a time, which is no line of the container.
func (s *StampSplitter) Split(line []byte) (nanos int64, text []byte, ok bool) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	stamp := line
	if space := bytes.IndexByte(line, ' '); space >= 0 {
		stamp, text = line[:space], line[space+1:]
	}
	nanos, ok = s.clock.Parse(stamp)
	if !ok || !rfc3339.Plausible(nanos) {
		return 0, nil, false
	}
	return nanos, text, true
}
