package als

import (
	"net"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslog "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"go.opentelemetry.io/collector/pdata/plog"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/nephilia/nephilia/internal/envoylog"
)

// isEntry tells whether a record is one of the envoyals receiver's: its body is the text of a protobuf message.
func isEntry(record plog.LogRecord) bool {
	version, ok := record.Attributes().Get("api_version")
	kind, typed := record.Attributes().Get("log_type")
	return ok && typed && version.Str() == "v3" && kind.Str() == "http"
}

// readEntry reads an HTTPAccessLogEntry.
func (r *Reader) readEntry(text string) (envoylog.Kind, error) {
	if len(text) > maxText {
		return envoylog.KindOther, envoylog.ErrCut
	}
	var entry accesslog.HTTPAccessLogEntry
	if err := (prototext.UnmarshalOptions{DiscardUnknown: true, AllowPartial: true}).Unmarshal([]byte(text), &entry); err != nil {
		return envoylog.KindOther, envoylog.ErrCut
	}
	common, request, response := entry.GetCommonProperties(), entry.GetRequest(), entry.GetResponse()
	if common.GetIntermediateLogEntry() { //nolint:staticcheck // Envoys before 1.27 say by this what others say by the log's type
		return envoylog.KindUnfinished, nil
	}
	put := func(field envoylog.Field, value string) {
		if value != "" {
			from := len(r.text)
			r.text = append(r.text, value...)
			r.record.Values[field] = r.text[from:len(r.text):len(r.text)]
			r.text = append(r.text, '\n')
		}
	}
	number := func(field envoylog.Field, n uint64) { put(field, strconv.FormatUint(n, 10)) }
	if method := request.GetRequestMethod(); method != core.RequestMethod_METHOD_UNSPECIFIED {
		put(envoylog.Method, method.String())
	}
	path := request.GetOriginalPath()
	if path == "" {
		path = request.GetPath()
	}
	put(envoylog.Path, path)
	put(envoylog.Protocol, protocols[entry.GetProtocolVersion()])
	put(envoylog.Authority, request.GetAuthority())
	put(envoylog.UserAgent, request.GetUserAgent())
	put(envoylog.ForwardedFor, request.GetForwardedFor())
	put(envoylog.RequestID, request.GetRequestId())
	put(envoylog.ContentType, request.GetRequestHeaders()["content-type"])
	number(envoylog.BytesReceived, request.GetRequestBodyBytes())
	number(envoylog.Code, uint64(response.GetResponseCode().GetValue()))
	number(envoylog.BytesSent, response.GetResponseBodyBytes())
	put(envoylog.Details, response.GetResponseCodeDetails())
	put(envoylog.UpstreamTime, response.GetResponseHeaders()["x-envoy-upstream-service-time"])
	status := response.GetResponseTrailers()["grpc-status"]
	if status == "" {
		status = response.GetResponseHeaders()["grpc-status"]
	}
	put(envoylog.GRPCStatus, status)
	put(envoylog.Flags, flagsOf(common.GetResponseFlags()))
	put(envoylog.Termination, common.GetConnectionTerminationDetails())
	put(envoylog.TransportFailure, common.GetUpstreamTransportFailureReason())
	put(envoylog.Cluster, common.GetUpstreamCluster())
	put(envoylog.Route, common.GetRouteName())
	put(envoylog.UpstreamHost, addressOf(common.GetUpstreamRemoteAddress()))
	put(envoylog.UpstreamLocal, addressOf(common.GetUpstreamLocalAddress()))
	put(envoylog.DownstreamLocal, addressOf(common.GetDownstreamLocalAddress()))
	put(envoylog.DownstreamRemote, addressOf(common.GetDownstreamRemoteAddress()))
	put(envoylog.LogType, common.GetAccessLogType().String())
	start := common.GetStartTime().AsTime()
	if common.GetStartTime() == nil {
		return envoylog.KindOther, envoylog.ErrCut
	}
	r.record.Start = start.UnixNano()
	kind, err := r.parser.Finish(&r.record)
	r.record.Duration = nanos(common.GetDuration())
	if common.GetDuration() == nil {
		r.record.Duration = nanos(common.GetTimeToLastDownstreamTxByte())
	}
	if sent, answered := common.GetTimeToLastUpstreamTxByte(), common.GetTimeToFirstUpstreamRxByte(); r.record.UpstreamTime == envoylog.Unknown && sent != nil && answered != nil {
		r.record.UpstreamTime = max(nanos(answered)-nanos(sent), 0)
	}
	return kind, err
}

var protocols = map[accesslog.HTTPAccessLogEntry_HTTPVersion]string{
	accesslog.HTTPAccessLogEntry_HTTP10: "HTTP/1.0",
	accesslog.HTTPAccessLogEntry_HTTP11: "HTTP/1.1",
	accesslog.HTTPAccessLogEntry_HTTP2:  "HTTP/2",
	accesslog.HTTPAccessLogEntry_HTTP3:  "HTTP/3",
}

func nanos(d *durationpb.Duration) int64 {
	if d == nil || d.CheckValid() != nil {
		return envoylog.Unknown
	}
	return int64(d.AsDuration())
}

// addressOf writes an address as text formats do.
func addressOf(a *core.Address) string {
	if socket := a.GetSocketAddress(); socket != nil {
		return net.JoinHostPort(socket.GetAddress(), strconv.FormatUint(uint64(socket.GetPortValue()), 10))
	}
	if internal := a.GetEnvoyInternalAddress(); internal != nil {
		return "envoy://" + internal.GetServerListenerName() + "/" + internal.GetEndpointId()
	}
	return ""
}

// flagsOf writes flags as text formats do: in short, with commas, URX before what it gave up for.
func flagsOf(f *accesslog.ResponseFlags) string {
	text := ""
	for _, flag := range [...]struct {
		set  bool
		name string
	}{
		{f.GetUpstreamRetryLimitExceeded(), "URX"},
		{f.GetFailedLocalHealthcheck(), "LH"},
		{f.GetNoHealthyUpstream(), "UH"},
		{f.GetUpstreamRequestTimeout(), "UT"},
		{f.GetLocalReset(), "LR"},
		{f.GetUpstreamRemoteReset(), "UR"},
		{f.GetUpstreamConnectionFailure(), "UF"},
		{f.GetUpstreamConnectionTermination(), "UC"},
		{f.GetUpstreamOverflow(), "UO"},
		{f.GetNoRouteFound(), "NR"},
		{f.GetDelayInjected(), "DI"},
		{f.GetFaultInjected(), "FI"},
		{f.GetRateLimited(), "RL"},
		{f.GetUnauthorizedDetails() != nil, "UAEX"},
		{f.GetRateLimitServiceError(), "RLSE"},
		{f.GetDownstreamConnectionTermination(), "DC"},
		{f.GetStreamIdleTimeout(), "SI"},
		{f.GetInvalidEnvoyRequestHeaders(), "IH"},
		{f.GetDownstreamProtocolError(), "DPE"},
		{f.GetUpstreamMaxStreamDurationReached(), "UMSDR"},
		{f.GetResponseFromCacheFilter(), "RFCF"},
		{f.GetNoFilterConfigFound(), "NFCF"},
		{f.GetDurationTimeout(), "DT"},
		{f.GetUpstreamProtocolError(), "UPE"},
		{f.GetNoClusterFound(), "NC"},
		{f.GetOverloadManager(), "OM"},
		{f.GetDnsResolutionFailure(), "DF"},
		{f.GetDownstreamRemoteReset(), "DR"},
	} {
		if flag.set {
			if text != "" {
				text += ","
			}
			text += flag.name
		}
	}
	return text
}
