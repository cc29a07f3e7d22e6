package envoylog

import (
	"bytes"
	"errors"
	"math"

	"github.com/nephilia/nephilia/internal/rfc3339"
)

// Parser reads lines. It holds scratch space, so a Parser belongs to one goroutine.
type Parser struct {
	format  *Format
	clock   rfc3339.Clock
	scratch []byte
}

// NewParser returns a parser. format is the user's own, which is tried first; nil if there is none.
func NewParser(format *Format) *Parser { return &Parser{format: format} }

// Parse reads one line without its end.
func (p *Parser) Parse(line []byte, rec *Record) (Kind, error) {
	*rec = Record{}
	if p.format != nil {
		switch err := p.format.parse(line, rec); {
		case err == nil:
			return p.Finish(rec)
		case errors.Is(err, ErrAmbiguous):
			return KindOther, err
		}
		*rec = Record{}
	}
	var err error
	switch {
	case isProxyLine(line):
		return KindOther, nil
	case line[0] == '[':
		err = parseText(line, rec)
	case line[0] == '{':
		err = p.parseJSON(line, rec, 0)
	default:
		err = ErrForeign
	}
	switch {
	case err == nil:
		return p.Finish(rec)
	case errors.Is(err, errProxyLine):
		return KindOther, nil
	}
	return KindOther, err
}

// Begins tells whether a line begins as a line of Istio's access logs does, in text or in JSON, so that nothing stands around it.
func Begins(line []byte) bool {
	switch {
	case len(line) < len(`[2006-01-02T15:04:05`):
		return false
	case line[0] == '[':
		return isDigit(line[1]) && line[5] == '-' && line[11] == 'T'
	case line[0] == '{':
		return bytes.Contains(line, responseCodeKey) || bytes.Contains(line, startTimeKey)
	}
	return false
}

var responseCodeKey, startTimeKey = []byte(`"response_code"`), []byte(`"start_time"`)

// isProxyLine tells whether a line is of the proxy's own log or its agent's, or goes on with one of theirs.
func isProxyLine(line []byte) bool {
	const stamp = len("2006-01-02T15:04:05")
	switch {
	case len(line) == 0, line[0] == ' ', line[0] == '\t':
		return true
	case len(line) > stamp+1 && line[0] == '[' && line[5] == '-' && line[8] == '-' && line[11] == ' ':
		return true // [2006-01-02 15:04:05.000][thread][level][logger]
	case len(line) > stamp && isDigit(line[0]) && line[4] == '-' && line[7] == '-' && (line[10] == 'T' || line[10] == ' '):
		_, rest, _ := bytes.Cut(line, separator(line[stamp:]))
		level, _, _ := bytes.Cut(rest, separator(rest))
		switch string(level) {
		case "trace", "debug", "info", "warn", "warning", "error", "fatal", "critical":
			return true
		}
	case bytes.HasPrefix(line, []byte("goroutine ")), bytes.HasPrefix(line, []byte("panic: ")):
		return true
	}
	return false
}

var tab, space = []byte{'\t'}, []byte{' '}

// separator is what stands between the words of a line of the agent's.
func separator(s []byte) []byte {
	if bytes.IndexByte(s, '\t') >= 0 {
		return tab
	}
	return space
}

// Finish reads the values that are set on a record and says what they are of. Start is set before where no value says when the request
// began.
func (p *Parser) Finish(rec *Record) (Kind, error) {
	v := &rec.Values
	for i, value := range v {
		if len(value) == 1 && value[0] == '-' || len(value) == 0 {
			v[i] = nil
		}
	}
	var ok bool
	if v[StartTime] != nil || rec.Start == 0 {
		if rec.Start, ok = p.time(v[StartTime]); !ok {
			return KindOther, ErrCut
		}
	}
	rec.Duration, rec.UpstreamTime = milliseconds(v[Duration]), milliseconds(v[UpstreamTime])
	rec.Received, rec.Sent = size(v[BytesReceived]), size(v[BytesSent])
	rec.GRPC = Unknown
	if rec.Code, ok = responseCode(v[Code]); !ok {
		return KindOther, ErrCut
	}
	if unfinished(v[LogType]) {
		return KindUnfinished, nil
	}
	switch {
	case string(v[Cluster]) == "connect_originate", string(v[Method]) == "CONNECT":
		return KindTunnel, nil
	case v[Method] == nil:
		return KindConnection, nil
	case !isMethod(v[Method]):
		return KindOther, ErrCut
	}
	if v[GRPCStatus] != nil && mayBeGRPC(rec) {
		rec.GRPC = grpcStatus(v[GRPCStatus])
	}
	return KindRequest, nil
}

// time reads RFC 3339, or seconds or milliseconds since the epoch.
func (p *Parser) time(text []byte) (int64, bool) {
	if nanos, ok := p.clock.Parse(text); ok && rfc3339.Plausible(nanos) {
		return nanos, true
	}
	whole, fraction, _ := bytes.Cut(text, []byte{'.'})
	if len(whole) < 10 || len(whole) > 13 || len(fraction) > 9 {
		return 0, false
	}
	n, ok := number(whole)
	part, okPart := number(fraction)
	if !ok || !okPart && len(fraction) > 0 {
		return 0, false
	}
	for range 9 - len(fraction) {
		part *= 10
	}
	if len(whole) == 13 {
		return int64(n) * 1_000_000, true
	}
	return int64(n)*1_000_000_000 + int64(part), len(whole) == 10
}

const (
	// maxMilliseconds is ten years: longer than any request takes.
	maxMilliseconds = 10 * 365 * 86_400_000
	maxSize         = uint64(1) << 60
)

func milliseconds(text []byte) int64 {
	n, ok := number(whole(text))
	if !ok || n > maxMilliseconds {
		return Unknown
	}
	return int64(n) * 1_000_000
}

func size(text []byte) uint64 {
	n, ok := number(whole(text))
	if !ok || n > maxSize {
		return 0
	}
	return n
}

// responseCode reads a code; a line without any is one of a connection.
func responseCode(text []byte) (int, bool) {
	if text == nil {
		return 0, true
	}
	n, ok := number(whole(text))
	return int(n), ok && (n == 0 || n >= 100 && n <= 999)
}

// whole takes away a fraction of zeros: JSON with sorted keys prints 200.0.
func whole(text []byte) []byte {
	n := len(text)
	for n > 0 && text[n-1] == '0' {
		n--
	}
	if n > 1 && text[n-1] == '.' && n < len(text) {
		return text[:n-1]
	}
	return text
}

func number(text []byte) (n uint64, ok bool) {
	if len(text) == 0 || len(text) > 19 {
		return 0, false
	}
	for _, c := range text {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= math.MaxInt64
}

func isDigit(c byte) bool { return c-'0' < 10 }

// isMethod tells whether a text may be a request's method.
func isMethod(text []byte) bool {
	if len(text) == 0 || len(text) > 32 {
		return false
	}
	for _, c := range text {
		if (c|0x20)-'a' >= 26 && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// unfinished tells whether a line of a type (ACCESS_LOG_TYPE) is about a request that goes on, or of what the upstream side tells of one.
func unfinished(logType []byte) bool {
	switch string(logType) {
	case "", "NotSet", "DownstreamEnd", "TcpConnectionEnd":
		return false
	case "TcpUpstreamConnected", "TcpPeriodic", "DownstreamStart", "DownstreamPeriodic", "DownstreamTunnelSuccessfullyEstablished",
		"UpstreamPoolReady", "UpstreamPeriodic", "UpstreamEnd", "UdpTunnelUpstreamConnected", "UdpPeriodic", "UdpSessionEnd":
		return true
	}
	return false
}

// mayBeGRPC tells whether a request can be one of gRPC: Envoy computes a status for others, too.
func mayBeGRPC(rec *Record) bool {
	v := &rec.Values
	if v[ContentType] != nil {
		return bytes.HasPrefix(v[ContentType], []byte("application/grpc"))
	}
	if string(v[Method]) != "POST" || bytes.HasPrefix(v[Protocol], []byte("HTTP/1")) {
		return false
	}
	return isRPC(withoutQuery(v[Path]))
}

// isRPC tells whether a path is /package.Service/Method: names of a protocol's, the method's with a capital unless the service has a package.
func isRPC(path []byte) bool {
	if len(path) == 0 || path[0] != '/' {
		return false
	}
	service, method, ok := bytes.Cut(path[1:], []byte{'/'})
	if !ok || !isName(method) || !isName(service) {
		return false
	}
	return method[0]-'A' < 26 || bytes.IndexByte(service, '.') > 0
}

// isName tells whether a text is a name, or several with dots between, as protocols have them.
func isName(text []byte) bool {
	begins := true
	for _, c := range text {
		letter := (c|0x20)-'a' < 26 || c == '_'
		if begins && !letter || !letter && !isDigit(c) && c != '.' {
			return false
		}
		begins = c == '.'
	}
	return !begins
}

// withoutQuery is a path without query and fragment.
func withoutQuery(path []byte) []byte {
	if i := bytes.IndexAny(path, "?#"); i >= 0 {
		return path[:i]
	}
	return path
}
