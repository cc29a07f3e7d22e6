package envoylog

import (
	"bytes"
	"errors"
	"strconv"
	"unicode/utf8"
)

// errProxyLine is what parseJSON returns for a line of the proxy's own log, or of the agent's.
var errProxyLine = errors.New("the proxy's own line")

// keys are the names of fields in JSON formats: Istio's, Envoy's documentation's, Envoy Gateway's.
var keys = map[string]Field{
	"start_time": StartTime,
	"method":     Method, ":method": Method,
	"path": Path, ":path": Path, "x-envoy-origin-path": Path, "x-envoy-original-path": Path,
	"protocol":      Protocol,
	"response_code": Code, "response_flags": Flags, "response_code_details": Details,
	"connection_termination_details":    Termination,
	"upstream_transport_failure_reason": TransportFailure,
	"bytes_received":                    BytesReceived, "bytes_sent": BytesSent,
	"duration": Duration, "upstream_service_time": UpstreamTime, "x-envoy-upstream-service-time": UpstreamTime,
	"x_forwarded_for": ForwardedFor, "x-forwarded-for": ForwardedFor,
	"user_agent": UserAgent, "user-agent": UserAgent,
	"request_id": RequestID, "x-request-id": RequestID,
	"authority": Authority, ":authority": Authority,
	"upstream_host": UpstreamHost, "upstream_cluster": Cluster, "upstream_cluster_raw": Cluster,
	"upstream_local_address": UpstreamLocal, "downstream_local_address": DownstreamLocal, "downstream_remote_address": DownstreamRemote,
	"requested_server_name": ServerName, "route_name": Route,
	"grpc_status": GRPCStatus, "grpc_status_number": GRPCStatus, "grpc-status": GRPCStatus, "response.grpc_status": GRPCStatus,
	"connection_id": ConnectionID, "upstream_connection_id": UpstreamConnectionID,
	"access_log_type": LogType, "log_type": LogType, "content_type": ContentType, "content-type": ContentType,
}

// parseJSON reads an object whose keys are the usual names of the fields. depth is how often one was found within a string of another:
// a format that is given as a string within JSON is printed so.
func (p *Parser) parseJSON(line []byte, rec *Record, depth int) error {
	if depth == 0 {
		p.scratch = p.scratch[:0]
	}
	s := objectScan{text: line, at: 1, scratch: p.scratch}
	var only []byte
	members, told, level, message := 0, false, false, false
	for {
		key, value, err := s.member()
		if errors.Is(err, errEnd) {
			break
		}
		if err != nil {
			return err
		}
		members++
		only = value
		switch string(key) {
		case "level":
			level = true
		case "msg", "message":
			message = true
		}
		field, known := p.Field(key)
		if !known {
			continue
		}
		if rec.Values[field] != nil && field != Path && field != GRPCStatus {
			return ErrAmbiguous // a second one of a name, which a header without escapes may have forged
		}
		if len(value) > 0 {
			rec.Values[field] = value
			told = true
		}
	}
	p.scratch = s.scratch
	v := &rec.Values
	switch {
	case v[StartTime] != nil && v[Code] != nil:
		return nil
	case !told && level && message:
		return errProxyLine
	case members == 1 && depth == 0 && len(only) > 1 && only[0] == '{':
		return p.parseJSON(only, rec, 1)
	}
	return ErrForeign
}

// Field finds the field that a name stands for: a key of a JSON format, or an attribute.
func (p *Parser) Field(key []byte) (Field, bool) {
	if p.format != nil && p.format.keys != nil {
		field, ok := p.format.keys[string(key)]
		return field, ok && field < numFields
	}
	field, ok := keys[string(key)]
	return field, ok
}

// errEnd says that an object has no more members.
var errEnd = errors.New("end of the object")

// objectScan reads the members of an object. Nested values are passed over.
type objectScan struct {
	text    []byte
	at      int
	scratch []byte
}

// member returns the next member. The value is a string's content, a number or a literal; nil of null and of what is nested.
func (s *objectScan) member() (key, value []byte, err error) {
	s.space()
	if s.peek() == '}' {
		s.at++
		if s.space(); s.at != len(s.text) {
			return nil, nil, ErrCut
		}
		return nil, nil, errEnd
	}
	if s.peek() == ',' {
		s.at++
		s.space()
	}
	if key, err = s.string(); err != nil {
		return nil, nil, err
	}
	s.space()
	if s.peek() != ':' {
		return nil, nil, ErrCut
	}
	s.at++
	s.space()
	if value, err = s.value(); err != nil {
		return nil, nil, err
	}
	if s.space(); s.peek() != ',' && s.peek() != '}' {
		return nil, nil, ErrCut
	}
	return key, value, nil
}

func (s *objectScan) value() ([]byte, error) {
	switch c := s.peek(); c {
	case '"':
		return s.string()
	case '{', '[':
		return nil, s.nested()
	case 0:
		return nil, ErrCut
	default:
		from := s.at
		for s.at < len(s.text) && bytes.IndexByte([]byte(",}] \t"), s.text[s.at]) < 0 {
			s.at++
		}
		value := s.text[from:s.at]
		if string(value) == "null" {
			return nil, nil
		}
		if len(value) == 0 || c != '-' && c != 't' && c != 'f' && !isDigit(c) {
			return nil, ErrCut
		}
		return value, nil
	}
}

// nested passes over an object or an array.
func (s *objectScan) nested() error {
	depth := 0
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '"':
			if _, err := s.string(); err != nil {
				return err
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.at++
		if depth == 0 {
			return nil
		}
	}
	return ErrCut
}

func (s *objectScan) string() ([]byte, error) {
	if s.peek() != '"' {
		return nil, ErrCut
	}
	s.at++
	rest := s.text[s.at:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		return nil, ErrCut
	}
	if bytes.IndexByte(rest[:end], '\\') < 0 {
		s.at += end + 1
		return rest[:end], nil
	}
	from := len(s.scratch)
	for i := 0; i < len(rest); i++ {
		switch c := rest[i]; {
		case c == '"':
			s.at += i + 1
			return s.scratch[from:], nil
		case c != '\\':
			s.scratch = append(s.scratch, c)
		case i+1 == len(rest):
			return nil, ErrCut
		default:
			n, ok := s.escape(rest[i+1:])
			if !ok {
				return nil, ErrCut
			}
			i += n
		}
	}
	return nil, ErrCut
}

// escape appends what stands behind a backslash and returns its length.
func (s *objectScan) escape(rest []byte) (int, bool) {
	c := rest[0]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		if len(rest) < 5 {
			return 0, false
		}
		n, err := strconv.ParseUint(string(rest[1:5]), 16, 32)
		if err != nil {
			return 0, false
		}
		s.scratch = utf8.AppendRune(s.scratch, rune(n))
		return 5, true
	default:
		return 0, false
	}
	s.scratch = append(s.scratch, c)
	return 1, true
}

func (s *objectScan) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *objectScan) space() {
	for s.at < len(s.text) && (s.text[s.at] == ' ' || s.text[s.at] == '\t') {
		s.at++
	}
}
