package envoylog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Format is a user's own format, compiled from Envoy's format string, or from the JSON object of a JSON format.
type Format struct {
	// head stands before the first field.
	head  []byte
	steps []step
	// keys are the fields by their names in a JSON format; nil in a text format.
	keys map[string]Field // bounded by the configuration
}

// step is a field and the text behind it.
type step struct {
	field Field
	after []byte
}

const (
	// maxSteps bounds the operators of a format, maxVisits the places at which a line is tried to be read.
	maxSteps  = 64
	maxVisits = 4096
)

// operators are the fields that operators tell, those of headers by the header's name.
var operators = map[string]Field{
	"START_TIME": StartTime, "PROTOCOL": Protocol, "RESPONSE_CODE": Code, "RESPONSE_FLAGS": Flags, "RESPONSE_FLAGS_LONG": Flags,
	"RESPONSE_CODE_DETAILS": Details, "CONNECTION_TERMINATION_DETAILS": Termination, "UPSTREAM_TRANSPORT_FAILURE_REASON": TransportFailure,
	"BYTES_RECEIVED": BytesReceived, "BYTES_SENT": BytesSent, "DURATION": Duration, "UPSTREAM_HOST": UpstreamHost,
	"UPSTREAM_REMOTE_ADDRESS": UpstreamHost, "UPSTREAM_CLUSTER": Cluster, "UPSTREAM_CLUSTER_RAW": Cluster,
	"UPSTREAM_LOCAL_ADDRESS": UpstreamLocal, "DOWNSTREAM_LOCAL_ADDRESS": DownstreamLocal, "DOWNSTREAM_REMOTE_ADDRESS": DownstreamRemote,
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS": DownstreamRemote, "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": DownstreamRemote,
	"REQUESTED_SERVER_NAME": ServerName, "ROUTE_NAME": Route, "GRPC_STATUS": GRPCStatus, "GRPC_STATUS_NUMBER": GRPCStatus,
	"CONNECTION_ID": ConnectionID, "UPSTREAM_CONNECTION_ID": UpstreamConnectionID, "ACCESS_LOG_TYPE": LogType,
	"REQ :METHOD": Method, "REQ :PATH": Path, "REQ X-ENVOY-ORIGINAL-PATH": Path, "PATH": Path, "REQ :AUTHORITY": Authority,
	"REQ X-FORWARDED-FOR": ForwardedFor, "REQ USER-AGENT": UserAgent, "REQ X-REQUEST-ID": RequestID, "REQ CONTENT-TYPE": ContentType,
	"RESP X-ENVOY-UPSTREAM-SERVICE-TIME": UpstreamTime, "RESP GRPC-STATUS": GRPCStatus, "TRAILER GRPC-STATUS": GRPCStatus,
}

// operator is one operator of a format: its name, its argument, the bound on its length.
var operator = regexp.MustCompile(`%([A-Z_0-9]+)(?:\(((?:[^()]|\([^()]*\))*)\))?(?::\d+)?%`)

// NewFormat compiles a format. It must have START_TIME, RESPONSE_CODE and REQ(:METHOD).
func NewFormat(text string) (*Format, error) {
	f := &Format{}
	var fields []Field
	if object := map[string]any{}; json.Unmarshal([]byte(text), &object) == nil {
		f.keys = map[string]Field{}
		for key, value := range object {
			whole, _ := value.(string)
			match := operator.FindStringSubmatch(whole)
			if match == nil || match[0] != whole {
				continue
			}
			field, err := fieldOf(match[1], match[2])
			if err != nil {
				return nil, err
			}
			f.keys[key] = field
			fields = append(fields, field)
		}
	} else {
		text = strings.TrimRight(text, "\r\n")
		if strings.Contains(text, "\n") {
			return nil, errors.New("a format of several lines is not read")
		}
		matches := operator.FindAllStringSubmatchIndex(text, maxSteps+1)
		if len(matches) > maxSteps {
			return nil, fmt.Errorf("more than %d operators", maxSteps)
		}
		literal := func(from, to int) []byte { return []byte(strings.ReplaceAll(text[from:to], "%%", "%")) }
		for i, m := range matches {
			argument := ""
			if m[4] >= 0 {
				argument = text[m[4]:m[5]]
			}
			field, err := fieldOf(text[m[2]:m[3]], argument)
			if err != nil {
				return nil, err
			}
			next := len(text)
			if i+1 < len(matches) {
				next = matches[i+1][0]
			}
			if i == 0 {
				f.head = literal(0, m[0])
			}
			f.steps = append(f.steps, step{field, literal(m[1], next)})
			fields = append(fields, field)
		}
	}
	for _, needed := range [...]struct {
		field    Field
		operator string
	}{{StartTime, "%START_TIME%"}, {Code, "%RESPONSE_CODE%"}, {Method, "%REQ(:METHOD)%"}} {
		if !slices.Contains(fields, needed.field) {
			return nil, fmt.Errorf("%s is missing", needed.operator)
		}
	}
	return f, nil
}

// timeFormats are the formats of START_TIME that are read: seconds or milliseconds since the epoch, and RFC 3339.
var timeFormats = regexp.MustCompile(`^("?)(|%s(\.%[1-9]?f)?|%s%3f|%Y-%m-%dT%H:%M:%S(\.%[1-9]?f)?(Z|%Ez)|%FT%T(\.%[1-9]?f)?(Z|%Ez))("?)$`)

func fieldOf(name, argument string) (Field, error) {
	switch name {
	case "START_TIME":
		if !timeFormats.MatchString(argument) {
			return ignored, fmt.Errorf("START_TIME(%s) is not read: RFC 3339, %%s, %%s.%%3f and %%s%%3f are", argument)
		}
	case "REQ", "RESP", "TRAILER":
		for header := range strings.SplitSeq(argument, "?") {
			if field, ok := operators[name+" "+strings.ToUpper(header)]; ok {
				return field, nil
			}
		}
		return ignored, nil
	}
	if field, ok := operators[name]; ok {
		return field, nil
	}
	return ignored, nil
}

// Begins tells whether a line is one of the format, which may be nil, or begins as one of Istio's, with nothing around it.
func (f *Format) Begins(line []byte) bool {
	switch {
	case f == nil, Begins(line):
		return Begins(line)
	case f.keys != nil:
		return len(line) > 0 && line[0] == '{'
	}
	var rec Record
	err := f.parse(line, &rec)
	return err == nil || errors.Is(err, ErrAmbiguous)
}

// parse reads a line of a text format.
func (f *Format) parse(line []byte, rec *Record) error {
	if f.keys != nil || !bytes.HasPrefix(line, f.head) {
		return ErrForeign
	}
	m := matcher{format: f, line: line, record: rec}
	m.match(0, len(f.head))
	switch {
	case m.ambiguous, m.visits >= maxVisits:
		return ErrAmbiguous
	case m.found == 0:
		return ErrForeign
	}
	return nil
}

// matcher looks for the ways in which a line can be read.
type matcher struct {
	format *Format
	line   []byte
	record *Record
	values [numFields][]byte
	visits int
	found  int
	// ambiguous is set once two ways do not say the same of what decides.
	ambiguous bool
}

// match reads the fields from a step on, the first of which begins at a place of the line.
func (m *matcher) match(i, at int) {
	if i == len(m.format.steps) {
		if at == len(m.line) {
			m.take()
		}
		return
	}
	s := &m.format.steps[i]
	rest := m.line[at:]
	last := i+1 == len(m.format.steps)
	for end := 0; end <= len(rest) && !m.ambiguous; end++ {
		if m.visits++; m.visits >= maxVisits {
			return
		}
		switch {
		case last && len(s.after) == 0:
			end = len(rest)
		case len(s.after) > 0:
			next := bytes.Index(rest[end:], s.after)
			if next < 0 {
				return
			}
			end += next
		}
		value := rest[:end]
		switch valid(s.field, value) {
		case never:
			return
		case yes:
			before := m.set(s.field, value)
			m.match(i+1, at+end+len(s.after))
			m.unset(s.field, before)
		}
	}
}

func (m *matcher) set(field Field, value []byte) (before []byte) {
	if field >= numFields {
		return nil
	}
	before = m.values[field]
	if len(before) == 0 || string(before) == "-" {
		m.values[field] = value
	}
	return before
}

func (m *matcher) unset(field Field, before []byte) {
	if field < numFields {
		m.values[field] = before
	}
}

// take takes a way to read the line.
func (m *matcher) take() {
	m.found++
	if m.found == 1 {
		m.record.Values = m.values
		return
	}
	for i := range m.values {
		if !chosenByClients(Field(i)) && !bytes.Equal(m.values[i], m.record.Values[i]) {
			m.ambiguous = true
		}
	}
}

// chosenByClients tells whether a field's text is the client's, so that quotes, spaces and what else may stand in it.
func chosenByClients(field Field) bool {
	switch field {
	case Path, ForwardedFor, UserAgent, RequestID, Authority, ServerName, ContentType, ignored:
		return true
	}
	return false
}

// validity is whether a text is one of a field; never tells that no longer one is, either.
type validity uint8

const (
	no validity = iota
	yes
	never
)

func valid(field Field, s []byte) validity {
	if chosenByClients(field) || field == Details || field == Termination || field == TransportFailure {
		return yes
	}
	if len(s) == 0 {
		return no
	}
	if len(s) == 1 && s[0] == '-' {
		return yes
	}
	ok := true
	switch field {
	case Code, BytesReceived, BytesSent, Duration, UpstreamTime, ConnectionID, UpstreamConnectionID:
		_, ok = number(s)
	case Method:
		ok = isMethod(s)
	case Flags:
		ok = areFlags(s)
	case Protocol:
		if protocolLength(s, false) != len(s) {
			return no
		}
	default:
		ok = bytes.IndexByte(s, ' ') < 0 && bytes.IndexByte(s, '"') < 0
	}
	if !ok {
		return never
	}
	return yes
}
