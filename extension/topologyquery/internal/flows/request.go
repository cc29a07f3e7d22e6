package flows

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/pathtemplate"
	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/semconv"
)

// maxPath bounds a request's path in bytes, as its records do.
const maxPath = 1024

// Request is what a flow says of a request, beside what it says of a connection.
type Request struct {
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	Status int    `json:"status"` // 0: nobody answered
	// Flags and Details are Envoy's words; Route is the route that it took, NAMESPACE.NAME.RULE of an HTTPRoute.
	Flags   string `json:"response_flags,omitempty"`
	Details string `json:"details,omitempty"`
	Route   string `json:"route,omitempty"`
	ID      string `json:"request_id,omitempty"`
	// Waypoint is "namespace/name" of the waypoint or gateway that logged the request.
	Waypoint   string `json:"waypoint,omitempty"`
	GRPCStatus *int64 `json:"grpc_status,omitempty"`
	// UpstreamMS is how long the server behind the proxy took to begin its answer; the rest of the flow's duration is the proxy's and the
	// transfer's. It is nil where no server answered.
	UpstreamMS *float64 `json:"upstream_ms,omitempty"`
}

func parseRequest(resource pcommon.Map, record plog.LogRecord) Flow {
	attrs := record.Attributes()
	key := edge.KeyOf(attrs)
	f := parse(record)
	f.Protocol = cmp.Or(key.Protocol, semconv.ProtocolHTTP)
	f.Service = cmp.Or(key.Service, f.Service)
	f.Source.Namespace, f.Dest.Namespace = cmp.Or(f.Source.Namespace, key.Source.Namespace), cmp.Or(f.Dest.Namespace, key.Destination.Namespace)
	f.Security = securities[key.Security]
	f.BytesSent, f.BytesRecv = integer(attrs, semconv.AttrRequestBodySize), integer(attrs, semconv.AttrResponseBodySize)
	f.DurationMS = float64(integer(attrs, semconv.AttrRequestDuration)) / float64(time.Millisecond)
	path := ""
	if value, ok := attrs.Get(semconv.AttrURLPath); ok {
		path = clip(value.AsString(), maxPath)
	}
	details := []string{
		text(attrs, semconv.AttrResponseDetails), text(attrs, semconv.AttrTerminationDetails), text(attrs, semconv.AttrTransportFailure),
	}
	f.Request = &Request{
		Method:   text(attrs, semconv.AttrRequestMethod),
		Path:     path,
		Status:   int(integer(attrs, semconv.AttrResponseStatusCode)),
		Flags:    text(attrs, semconv.AttrResponseFlags),
		Details:  join(details),
		Route:    text(attrs, semconv.AttrRouteName),
		ID:       text(attrs, semconv.AttrRequestID),
		Waypoint: cmp.Or(text(resource, semconv.AttrWaypoint), text(resource, semconv.AttrGateway)),
	}
	if took, ok := attrs.Get(semconv.AttrUpstreamTime); ok && took.Type() == pcommon.ValueTypeInt && took.Int() >= 0 {
		f.UpstreamMS = milliseconds(took.Int())
	}
	if status, ok := attrs.Get(semconv.AttrGRPCStatusCode); ok && status.Type() == pcommon.ValueTypeInt {
		code := status.Int()
		f.GRPCStatus, f.Protocol = &code, semconv.ProtocolGRPC
	}
	return f
}

// milliseconds are those of nanoseconds.
func milliseconds(ns int64) *float64 {
	ms := float64(ns) / float64(time.Millisecond)
	return &ms
}

// securities are the words of flows for those of edges; a request of which no edge is known has none of them.
var securities = map[string]string{
	semconv.SecurityMutualTLS: securityMutualTLS, semconv.SecurityNone: securityPlaintext, semconv.SecurityUnknown: securityUnknown, "": securityUnknown,
}

// join puts together what is not empty.
func join(parts []string) string {
	kept := parts[:0]
	for _, part := range parts {
		if part != "" {
			kept = append(kept, part)
		}
	}
	return clip(strings.Join(kept, "; "), maxText)
}

// RequestFilter selects requests; an empty field selects all flows.
type RequestFilter struct {
	// Protocol is tcp, http, grpc or dns; gRPC is HTTP, too. Without one, all are selected but dns: names are asked for all the time.
	Protocol string
	// Status are codes and classes of them with commas, such as "404,5xx".
	Status string
	Method string
	// Path is a template or, without a leading slash, part of a path.
	Path      string
	RequestID string
}

// where is what a record of a flow that is asked for has.
func (f *RequestFilter) where() (clauses []records.Clause) {
	judge := func(field string, set bool, wanted func(value string) bool) {
		if set {
			clauses = append(clauses, records.Clause{{Field: field, Text: wanted}})
		}
	}
	judge(fieldProtocol, f.Protocol == "", func(protocol string) bool { return protocol != semconv.ProtocolDNS })
	judge(fieldProtocol, f.Protocol != "", func(protocol string) bool {
		return protocol == f.Protocol || f.Protocol == semconv.ProtocolHTTP && protocol == semconv.ProtocolGRPC
	})
	judge(fieldProtocol, f.Status != "" || f.Method != "" || f.Path != "" || f.RequestID != "", isRequest)
	if f.Status != "" {
		clauses = append(clauses, records.Clause{{Field: fieldStatus, Number: func(status int64) bool { return matchStatus(f.Status, int(status)) }}})
	}
	judge(fieldMethod, f.Method != "", func(method string) bool { return strings.EqualFold(f.Method, method) })
	judge(fieldPath, f.Path != "", func(path string) bool { return matchPath(f.Path, path) })
	judge(fieldRequestID, f.RequestID != "", func(id string) bool { return id == f.RequestID })
	return clauses
}

// isRequest tells whether flows of a protocol are requests.
func isRequest(protocol string) bool {
	return protocol != semconv.ProtocolTCP && protocol != semconv.ProtocolDNS
}

func matchStatus(want string, status int) bool {
	for one := range strings.SplitSeq(want, ",") {
		one = strings.ToLower(strings.TrimSpace(one))
		if class, ok := strings.CutSuffix(one, "xx"); ok && class == strconv.Itoa(status/100) || one == strconv.Itoa(status) {
			return true
		}
	}
	return false
}

func matchPath(want, path string) bool {
	if !strings.HasPrefix(want, "/") && !strings.HasPrefix(want, "*") {
		return strings.Contains(path, want)
	}
	return pathtemplate.Match(want, path)
}
