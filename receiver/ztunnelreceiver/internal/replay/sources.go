package replay

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	// The types of the resources that an xDS response in JSON names.
	_ "istio.io/istio/pkg/workloadapi"
	_ "istio.io/istio/pkg/workloadapi/security"
)

// A source reads the parts of one file in the file's order, each with its own time, if it states one. A part that
// cannot be read is an error that wraps errBadPart; the next call goes on behind it. Any other error ends the source.
type source interface {
	next(part *Part) error
}

var errBadPart = errors.New("unreadable part")

func badPart(err error) error { return fmt.Errorf("%w: %w", errBadPart, err) }

// entrySource reads a ztunnel's standard output: entries that may go over several lines.
type entrySource struct {
	lines *lineReader
	limit int
	// held is the first line of the entry after the one that was handed out.
	held    []byte
	hasHeld bool
	err     error
}

// startsEntry tells whether a line begins a log entry; any other line continues the one before it.
func startsEntry(line []byte) bool {
	return len(line) > 0 && (line[0] == '{' || timeLength(line) > 0)
}

func (s *entrySource) next(part *Part) error {
	part.Raw = part.Raw[:0]
	if s.hasHeld {
		part.Raw = append(part.Raw, s.held...)
		s.hasHeld = false
	} else {
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
		part.Raw = append(part.Raw, line...)
	}
	for {
		line, err := s.lines.next()
		if errors.Is(err, errTooLong) {
			// The entry that stands before it is whole; the loss is noticed as an entry that is cut short.
			continue
		}
		if err != nil {
			s.err = err
			break
		}
		if startsEntry(line) {
			s.held, s.hasHeld = append(s.held[:0], line...), true
			break
		}
		if len(part.Raw)+1+len(line) <= s.limit {
			part.Raw = append(append(part.Raw, '\n'), line...)
		}
	}
	part.own, part.timeAt, _ = entryTime(part.Raw)
	return nil
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
	nanos, _, _ := entryTime(stamp)
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
	part.own, _, _ = entryTime([]byte(dump.Time))
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

// xdsJSONSource reads delta responses, one {"time","response"} a line.
type xdsJSONSource struct{ lines *lineReader }

func (s *xdsJSONSource) next(part *Part) error {
	line, err := nextJSON(s.lines)
	if err != nil {
		return err
	}
	var message struct {
		Time     string          `json:"time"`
		Response json.RawMessage `json:"response"`
	}
	if err := json.Unmarshal(line, &message); err != nil {
		return badPart(err)
	}
	response := &discoveryv3.DeltaDiscoveryResponse{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(message.Response, response); err != nil {
		return badPart(err)
	}
	part.own, _, _ = entryTime([]byte(message.Time))
	part.Response = response
	return nil
}

// xdsBinarySource reads delta responses: 8 bytes of unix nanoseconds, 4 of length, big-endian, then the message.
type xdsBinarySource struct {
	in    io.Reader
	limit int
}

func (s *xdsBinarySource) next(part *Part) error {
	var head [12]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("reading a message's head: %w", err)
		}
		return err
	}
	nanos, size := binary.BigEndian.Uint64(head[:8]), int(binary.BigEndian.Uint32(head[8:]))
	if size > s.limit {
		if _, err := io.CopyN(io.Discard, s.in, int64(size)); err != nil {
			return fmt.Errorf("skipping a message: %w", err)
		}
		return badPart(errTooLong)
	}
	// Reading as it comes, instead of allocating what the head claims.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, s.in, int64(size)); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	response := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(body.Bytes(), response); err != nil {
		return badPart(err)
	}
	part.own = 0
	if nanos <= math.MaxInt64 {
		part.own = int64(nanos)
	}
	part.Response = response
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

func eachSpan(spans ptrace.Traces) func(yield func(ptrace.Span) bool) {
	return func(yield func(ptrace.Span) bool) {
		for _, resource := range spans.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					if !yield(span) {
						return
					}
				}
			}
		}
	}
}

// moveSpans shifts all times of the spans. A span that ends after the newest believable time, or starts absurdly long before it,
// is moved to there; moveSpans returns how many.
func moveSpans(spans ptrace.Traces, newest int64, shift time.Duration) (clamped int) {
	limit := pcommon.Timestamp(max(newest, 0))
	oldest := pcommon.Timestamp(max(newest-int64(plausible), 0))
	for span := range eachSpan(spans) {
		start, end := span.StartTimestamp(), span.EndTimestamp()
		if end > limit || end < oldest {
			end = limit
			start = limit
			clamped++
		}
		if start > end || start < oldest {
			start = end
		}
		span.SetStartTimestamp(move(start, shift))
		span.SetEndTimestamp(move(end, shift))
		for _, event := range span.Events().All() {
			event.SetTimestamp(move(min(max(event.Timestamp(), start), end), shift))
		}
	}
	return clamped
}

func move(stamp pcommon.Timestamp, shift time.Duration) pcommon.Timestamp {
	return pcommon.Timestamp(int64(stamp) + int64(shift))
}
