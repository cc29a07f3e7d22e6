package replay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

// A source reads the parts of one file in the file's order, each with its own time, if it states one. A part that
// cannot be read is an error that wraps errBadPart; the next call goes on behind it. Any other error ends the source.
type source interface {
	next(part *Part) error
}

var errBadPart = errors.New("unreadable part")

func badPart(err error) error { return fmt.Errorf("%w: %w", errBadPart, err) }

// entrySource reads a ztunnel's standard output, bare or as something kept it: entries that may go over several lines.
type entrySource struct {
	lines     *lineReader
	unwrapper *accesslog.Unwrapper
	splitter  *accesslog.EntrySplitter
	// ready are entries that a line completed, in buffers that are used again.
	ready [][]byte
	taken int
	err   error
}

func newEntrySource(in io.Reader, limits Limits, style accesslog.Style) *entrySource {
	return &entrySource{
		// A longer line is an entry that the parser reads the beginning of.
		lines:     newLineReader(in, limits.Entry+lineOverhead, cutLong),
		unwrapper: accesslog.NewUnwrapper(style, limits.Entry),
		splitter:  accesslog.NewEntrySplitter(style, limits.Entry, 0),
	}
}

// lineOverhead is more than what stands around the content in a line.
const lineOverhead = 4 << 10

func (s *entrySource) next(part *Part) error {
	for s.taken == len(s.ready) {
		s.ready, s.taken = s.ready[:0], 0
		if s.err != nil {
			return s.err
		}
		line, err := s.lines.next()
		if err != nil {
			s.err = err
			s.splitter.Flush(s.add)
			continue
		}
		s.unwrapper.Line(line, func(line []byte) { s.splitter.Line(line, s.add) })
	}
	part.Raw = append(part.Raw[:0], s.ready[s.taken]...)
	s.taken++
	part.own, part.timeAt = entryTime(part.Raw)
	return nil
}

// add keeps an entry, in the memory of an earlier one.
func (s *entrySource) add(entry []byte) {
	if n := len(s.ready); n < cap(s.ready) {
		s.ready = s.ready[:n+1]
		s.ready[n] = append(s.ready[n][:0], entry...)
		return
	}
	s.ready = append(s.ready, append([]byte(nil), entry...))
}

// scrapeSource reads expositions, each after a line "## scrape TIME ok|failed".
type scrapeSource struct {
	lines *lineReader
	limit int
	// waypoint holds once a body was a waypoint's; ztunnel, when other files say that the name is a ztunnel's node.
	waypoint, ztunnel bool
	head              scrapeHead
	hasHead           bool
	err               error
}

type scrapeHead struct {
	nanos  int64
	failed bool
}

var scrapePrefix = []byte("## scrape ")

func parseScrapeHead(line []byte) (scrapeHead, bool) {
	rest, ok := bytes.CutPrefix(line, scrapePrefix)
	if !ok {
		return scrapeHead{}, false
	}
	stamp, state, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
	nanos, _ := entryTime(stamp)
	return scrapeHead{nanos: nanos, failed: string(bytes.TrimSpace(state)) != "ok"}, true
}

func (s *scrapeSource) next(part *Part) error {
	for !s.hasHead {
		if s.err != nil {
			return s.err
		}
		line, err := s.lines.next()
		if errors.Is(err, errTooLong) {
			return badPart(err)
		}
		if err != nil {
			s.err = err
			return err
		}
		s.head, s.hasHead = parseScrapeHead(line)
	}
	part.own, part.Failed = s.head.nanos, s.head.failed
	part.Raw = part.Raw[:0]
	s.hasHead = false
	tooLong := false
	for !s.hasHead {
		line, err := s.lines.next()
		if errors.Is(err, errTooLong) {
			tooLong = true
			continue
		}
		if err != nil {
			s.err = err
			if !errors.Is(err, io.EOF) {
				// The body is cut: what it says of the series that are left out would be wrong.
				tooLong = true
			}
			break
		}
		if s.head, s.hasHead = parseScrapeHead(line); s.hasHead {
			break
		}
		if len(part.Raw)+len(line)+1 > s.limit {
			tooLong = true
			continue
		}
		part.Raw = append(append(part.Raw, line...), '\n')
	}
	if tooLong {
		// As a scraper would treat it: a response that is too large is a failed scrape.
		part.Failed = true
	}
	if part.Failed {
		part.Raw = part.Raw[:0]
	} else if !s.waypoint && !s.ztunnel {
		s.waypoint = isWaypoint(part.Raw)
		s.ztunnel = !s.waypoint && bytes.Contains(part.Raw, []byte(`component="ztunnel"`))
	}
	part.Waypoint = s.waypoint
	return nil
}

// isWaypoint tells whether an exposition is an Envoy's.
func isWaypoint(body []byte) bool {
	return bytes.Contains(body, []byte(`reporter="waypoint"`)) || bytes.Contains(body, []byte("istio_requests_total")) ||
		bytes.Contains(body, []byte("\nenvoy_"))
}

// dumpSource reads config dumps, one {"time","node","config_dump"} a line.
type dumpSource struct{ lines *lineReader }

func (s *dumpSource) next(part *Part) error {
	line, err := nextJSON(s.lines)
	if err != nil {
		return err
	}
	var dump struct {
		Time       string          `json:"time"`
		ConfigDump json.RawMessage `json:"config_dump"`
	}
	if err := json.Unmarshal(line, &dump); err != nil {
		return badPart(err)
	}
	part.own, _ = entryTime([]byte(dump.Time))
	part.Failed = len(dump.ConfigDump) == 0 || string(dump.ConfigDump) == "null"
	part.Raw = part.Raw[:0]
	if !part.Failed {
		part.Raw = append(part.Raw, dump.ConfigDump...)
	}
	return nil
}

func nextJSON(lines *lineReader) ([]byte, error) {
	for {
		line, err := lines.next()
		if errors.Is(err, errTooLong) {
			return nil, badPart(err)
		}
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

// xdsJSONSource reads delta responses in JSON, one a line.
type xdsJSONSource struct{ lines *lineReader }

func (s *xdsJSONSource) next(part *Part) error {
	line, err := nextJSON(s.lines)
	if err != nil {
		return err
	}
	at, response, err := xds.ReadJSON(line)
	if err != nil {
		return badPart(err)
	}
	part.own, part.Response = nanosOf(at), response
	return nil
}

// xdsBinarySource reads delta responses in their binary form.
type xdsBinarySource struct {
	in    io.Reader
	limit int
}

func (s *xdsBinarySource) next(part *Part) error {
	at, response, err := xds.ReadBinary(s.in, s.limit)
	if err != nil {
		return err
	}
	part.own, part.Response = nanosOf(at), response
	return nil
}

// spanSource reads export requests in OTLP JSON, one a line. A request's own time is the end of its newest span.
type spanSource struct {
	lines   *lineReader
	decoder ptrace.JSONUnmarshaler
}

func (s *spanSource) next(part *Part) error {
	line, err := nextJSON(s.lines)
	if err != nil {
		return err
	}
	spans, err := s.decoder.UnmarshalTraces(line)
	if err != nil {
		return badPart(err)
	}
	if spans.SpanCount() == 0 {
		return badPart(errors.New("no spans"))
	}
	part.own = 0
	for span := range eachSpan(spans) {
		if end := span.EndTimestamp(); end <= math.MaxInt64 {
			part.own = max(part.own, int64(end))
		}
	}
	part.Spans = spans
	return nil
}
