package flows

import (
	"math"
	"time"

	"github.com/nephilia/nephilia/internal/records"
	"github.com/nephilia/nephilia/internal/semconv"
)

// KindName is the name of the records that are flows.
const KindName = "flows"

// Fields of a flow's record by which flows are selected, beside its time. fieldSource and fieldDestination are "namespace/pod" and empty
// without a pod.
const (
	fieldUID          = "uid"
	fieldNode         = "node"
	fieldDirection    = "direction"
	fieldProtocol     = "protocol"
	fieldSource       = "source"
	fieldDestination  = "destination"
	fieldService      = "service"
	fieldSecurity     = "security"
	fieldVerdict      = "verdict"
	fieldReason       = "reason"
	fieldPolicy       = "policy"
	fieldMethod       = "method"
	fieldPath         = "path"
	fieldStatus       = "status"
	fieldRequestID    = "request_id"
	fieldRoute        = "route"
	fieldWaypoint     = "waypoint"
	fieldGRPCStatus   = "grpc_status" // one more than the status, since 0 is none
	fieldSourceNS     = "source_namespace"
	fieldSourceIP     = "source_address"
	fieldDestNS       = "destination_namespace"
	fieldDestIP       = "destination_address"
	fieldSourcePort   = "source_port"
	fieldDestPort     = "destination_port"
	fieldBytesSent    = "bytes_sent"
	fieldBytesRecv    = "bytes_received"
	fieldDuration     = "duration" // nanoseconds
	fieldResponseFlag = "response_flags"
	fieldUpstream     = "upstream_duration" // nanoseconds, and one more, since 0 is none
)

// Kind are flows as records.
var Kind = records.Kind{
	Name: KindName, Ints: []string{fieldStatus, fieldGRPCStatus, fieldSourcePort, fieldDestPort, fieldBytesSent, fieldBytesRecv, fieldDuration, fieldUpstream},
	Raw: []string{fieldUID, fieldRequestID}, Lookups: []string{fieldRequestID}, Identity: []string{fieldUID}, Share: 0.35,
}

// SampleKind are flows of outages, which are kept when they leave Kind's records.
var SampleKind = records.Kind{
	Name: "outage_flows", Ints: Kind.Ints, Raw: Kind.Raw, Lookups: Kind.Lookups, Identity: Kind.Identity, Share: 0.05, Ageless: true,
}

// text is a field of a flow that is stored as it is.
type textField struct {
	name string
	of   func(f *Flow) *string
}

var texts = []textField{
	{fieldUID, func(f *Flow) *string { return &f.UID }},
	{fieldNode, func(f *Flow) *string { return &f.Node }},
	{fieldDirection, func(f *Flow) *string { return &f.Direction }},
	{fieldProtocol, func(f *Flow) *string { return &f.Protocol }},
	{fieldService, func(f *Flow) *string { return &f.Service }},
	{fieldSecurity, func(f *Flow) *string { return &f.Security }},
	{fieldVerdict, func(f *Flow) *string { return &f.Verdict }},
	{fieldReason, func(f *Flow) *string { return &f.Reason }},
	{"message", func(f *Flow) *string { return &f.Message }},
	{fieldPolicy, func(f *Flow) *string { return &f.Policy }},
	{fieldSourceNS, func(f *Flow) *string { return &f.Source.Namespace }},
	{"source_pod", func(f *Flow) *string { return &f.Source.Pod }},
	{fieldSourceIP, func(f *Flow) *string { return &f.Source.Address }},
	{"source_identity", func(f *Flow) *string { return &f.Source.Identity }},
	{"source_cluster", func(f *Flow) *string { return &f.Source.Cluster }},
	{fieldDestNS, func(f *Flow) *string { return &f.Dest.Namespace }},
	{"destination_pod", func(f *Flow) *string { return &f.Dest.Pod }},
	{fieldDestIP, func(f *Flow) *string { return &f.Dest.Address }},
	{"destination_identity", func(f *Flow) *string { return &f.Dest.Identity }},
	{"destination_cluster", func(f *Flow) *string { return &f.Dest.Cluster }},
}

var requestTexts = []textField{
	{fieldMethod, func(f *Flow) *string { return &f.Method }},
	{fieldPath, func(f *Flow) *string { return &f.Path }},
	{fieldResponseFlag, func(f *Flow) *string { return &f.Flags }},
	{"details", func(f *Flow) *string { return &f.Details }},
	{fieldRoute, func(f *Flow) *string { return &f.Route }},
	{fieldRequestID, func(f *Flow) *string { return &f.ID }},
	{fieldWaypoint, func(f *Flow) *string { return &f.Waypoint }},
}

func encode(f *Flow) records.Record {
	fields := make([]records.Field, 0, len(texts)+len(requestTexts)+9)
	for i := range texts {
		fields = append(fields, records.Field{Name: texts[i].name, Text: *texts[i].of(f)})
	}
	number := func(name string, n int64) { fields = append(fields, records.Field{Name: name, Number: n}) }
	number(fieldSourcePort, int64(f.Source.Port))
	number(fieldDestPort, int64(f.Dest.Port))
	number(fieldBytesSent, f.BytesSent)
	number(fieldBytesRecv, f.BytesRecv)
	number(fieldDuration, int64(math.Round(f.DurationMS*1e6)))
	fields = append(fields, records.Field{Name: fieldSource, Text: f.Source.name()}, records.Field{Name: fieldDestination, Text: f.Dest.name()})
	if f.Lookup != nil {
		for i := range lookupTexts {
			fields = append(fields, records.Field{Name: lookupTexts[i].name, Text: *lookupTexts[i].of(f)})
		}
	}
	if f.Request != nil {
		for i := range requestTexts {
			fields = append(fields, records.Field{Name: requestTexts[i].name, Text: *requestTexts[i].of(f)})
		}
		number(fieldStatus, int64(f.Status))
		if f.GRPCStatus != nil {
			number(fieldGRPCStatus, *f.GRPCStatus+1)
		}
		if f.UpstreamMS != nil {
			number(fieldUpstream, int64(math.Round(*f.UpstreamMS*1e6))+1)
		}
	}
	return records.Record{Time: f.Time.UnixNano(), Fields: fields}
}

func decode(r records.Row) *Flow {
	f := &Flow{
		Cursor: r.Sequence(), Time: time.Unix(0, r.Time()).UTC(),
		BytesSent: r.Number(fieldBytesSent), BytesRecv: r.Number(fieldBytesRecv), DurationMS: float64(r.Number(fieldDuration)) / 1e6,
	}
	for i := range texts {
		*texts[i].of(f) = r.Text(texts[i].name)
	}
	f.Source.Port, f.Dest.Port = uint16(r.Number(fieldSourcePort)), uint16(r.Number(fieldDestPort))
	if f.Protocol == semconv.ProtocolDNS {
		f.Lookup = &Lookup{}
		for i := range lookupTexts {
			*lookupTexts[i].of(f) = r.Text(lookupTexts[i].name)
		}
	}
	if isRequest(f.Protocol) {
		f.Request = &Request{Status: int(r.Number(fieldStatus))}
		for i := range requestTexts {
			*requestTexts[i].of(f) = r.Text(requestTexts[i].name)
		}
		if status := r.Number(fieldGRPCStatus); status != 0 {
			status--
			f.GRPCStatus = &status
		}
		if took := r.Number(fieldUpstream); took != 0 {
			f.UpstreamMS = milliseconds(took - 1)
		}
	}
	return f
}

// name is "namespace/pod", empty without a pod.
func (p *Party) name() string {
	if p.Pod == "" {
		return ""
	}
	return p.Namespace + "/" + p.Pod
}
