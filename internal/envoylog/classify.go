package envoylog

import (
	"bytes"
	"strconv"

	"github.com/nephilia/nephilia/internal/semconv"
)

// Failure is why a request failed, or was denied.
type Failure struct {
	// Type is one of semconv's ErrorType constants, empty if the request did neither.
	Type string
	// Failed tells that the request counts as failed: by the server's doing, or the mesh's.
	Failed bool
}

// reasonsOfFlags are what response flags say of why a request failed, the one that says most first. UF says no more than that the upstream
// could not be connected to.
var reasonsOfFlags = [...]struct{ flag, long, reason string }{
	{"DC", "DownstreamConnectionTermination", semconv.ErrorTypeClientAborted},
	{"DR", "DownstreamRemoteReset", semconv.ErrorTypeClientAborted},
	{"UH", "NoHealthyUpstream", semconv.ErrorTypeNoHealthyUpstream},
	{"LH", "FailedLocalHealthCheck", semconv.ErrorTypeNoHealthyUpstream},
	{"NR", "NoRouteFound", semconv.ErrorTypeNotRouted},
	{"NC", "NoClusterFound", semconv.ErrorTypeNotRouted},
	{"DF", "DnsResolutionFailed", semconv.ErrorTypeDNSFailure},
	{"UF", "UpstreamConnectionFailure", semconv.ErrorTypeConnectFailed},
	{"UO", "UpstreamOverflow", semconv.ErrorTypeOverloaded},
	{"OM", "OverloadManagerTerminated", semconv.ErrorTypeOverloaded},
	{"DO", "DropOverLoad", semconv.ErrorTypeOverloaded},
	{"UDO", "UnconditionalDropOverload", semconv.ErrorTypeOverloaded},
	{"UT", "UpstreamRequestTimeout", semconv.ErrorTypeTimeout},
	{"SI", "StreamIdleTimeout", semconv.ErrorTypeTimeout},
	{"DT", "DurationTimeout", semconv.ErrorTypeTimeout},
	{"UMSDR", "UpstreamMaxStreamDurationReached", semconv.ErrorTypeTimeout},
	{"RL", "RateLimited", semconv.ErrorTypeRateLimited},
	{"FI", "FaultInjected", semconv.ErrorTypeFaultInjected},
	{"UC", "UpstreamConnectionTermination", semconv.ErrorTypeConnectionReset},
	{"UR", "UpstreamRemoteReset", semconv.ErrorTypeConnectionReset},
	{"LR", "LocalReset", semconv.ErrorTypeConnectionReset},
	{"UPE", "UpstreamProtocolError", semconv.ErrorTypeConnectionReset},
}

// connectionFailures are what a transport failure's text, in small letters and without its underscores, says of a connection that failed.
var connectionFailures = [...]struct{ text, reason string }{
	{"tls", semconv.ErrorTypeTLSFailure},
	{"certificate", semconv.ErrorTypeTLSFailure},
	{"tunnel_response:401", semconv.ErrorTypePolicyDenied},
	{"refused", semconv.ErrorTypeConnectionRefused},
	{"timed_out", semconv.ErrorTypeConnectionTimeout},
	{"timed out", semconv.ErrorTypeConnectionTimeout},
	{"timeout", semconv.ErrorTypeConnectionTimeout},
	{"no_route_to_host", semconv.ErrorTypeConnectionTimeout},
	{"reset", semconv.ErrorTypeConnectionReset},
	{"tunnel_response:503", semconv.ErrorTypeConnectionRefused},
}

// reasonsOfDetails are what details say of failures that have no flag, or have none in every version of Envoy.
var reasonsOfDetails = map[string]string{
	"max_duration_timeout": semconv.ErrorTypeTimeout, "duration_timeout": semconv.ErrorTypeTimeout, "response_timeout": semconv.ErrorTypeTimeout,
	"request_overall_timeout": semconv.ErrorTypeTimeout, "stream_idle_timeout": semconv.ErrorTypeTimeout, "overload": semconv.ErrorTypeOverloaded,
	"local_rate_limited": semconv.ErrorTypeRateLimited, "request_rate_limited": semconv.ErrorTypeRateLimited, "fault_filter_abort": semconv.ErrorTypeFaultInjected,
	"no_healthy_upstream": semconv.ErrorTypeNoHealthyUpstream, "route_not_found": semconv.ErrorTypeNotRouted, "cluster_not_found": semconv.ErrorTypeNotRouted,
}

var (
	deniedByPolicy = []byte("rbac_access_denied")
	deniedByAuthz  = []byte("ext_authz_denied")
)

// Failure says why a request failed. The code decides whether it did: 0 is one that nobody answered, which is the client's doing unless
// a flag says otherwise; 101 is a connection that was handed over, whatever ended it.
func (r *Record) Failure() Failure {
	v := &r.Values
	denied := bytes.HasPrefix(v[Details], deniedByPolicy)
	switch {
	case denied && r.Code >= 400:
		return Failure{Type: semconv.ErrorTypePolicyDenied}
	case r.Code == 101:
		return Failure{}
	}
	reason := reasonOfFlags(v[Flags])
	if reason == "" && r.Code >= 400 {
		reason = reasonsOfDetails[string(v[Details])]
	}
	if reason == semconv.ErrorTypeConnectFailed {
		_, cause, _ := bytes.Cut(v[Details], []byte{'{'})
		reason = reasonOfConnection(v[TransportFailure], cause)
	}
	switch {
	case reason == semconv.ErrorTypeClientAborted, r.Code == 0 && reason == "":
		return Failure{Type: semconv.ErrorTypeClientAborted}
	case r.Code == 0, r.Code >= 500:
		if reason == "" {
			reason = semconv.ErrorTypeHTTPError
		}
		return Failure{Type: reason, Failed: true}
	case r.Code == 401, r.Code == 403:
		if bytes.HasPrefix(v[Details], deniedByAuthz) {
			return Failure{Type: semconv.ErrorTypePolicyDenied}
		}
	case r.Code >= 400:
		// Answered by the proxy itself in the place of the server: not routed, limited, timed out.
		return Failure{Type: reason}
	case serverFault(r.GRPC):
		if reason == "" {
			reason = semconv.ErrorTypeGRPCError
		}
		return Failure{Type: reason, Failed: true}
	}
	return Failure{}
}

// reasonOfFlags is what the flags say; empty if they say nothing that is a reason.
func reasonOfFlags(flags []byte) string {
	if flags == nil {
		return ""
	}
	for i := range reasonsOfFlags {
		if hasFlag(flags, reasonsOfFlags[i].flag) || hasFlag(flags, reasonsOfFlags[i].long) {
			return reasonsOfFlags[i].reason
		}
	}
	return ""
}

func hasFlag(flags []byte, flag string) bool {
	for len(flags) > 0 {
		end := bytes.IndexByte(flags, ',')
		if end < 0 {
			end = len(flags)
		}
		if string(flags[:end]) == flag {
			return true
		}
		flags = flags[min(end+1, len(flags)):]
	}
	return false
}

// reasonOfConnection is why the upstream could not be connected to.
func reasonOfConnection(texts ...[]byte) string {
	for _, text := range texts {
		for i := range connectionFailures {
			if containsFold(text, connectionFailures[i].text) {
				return connectionFailures[i].reason
			}
		}
	}
	return semconv.ErrorTypeConnectFailed
}

// containsFold tells whether a text has a part, which is in small letters, in letters of any size.
func containsFold(text []byte, part string) bool {
	for i := 0; i+len(part) <= len(text); i++ {
		j := 0
		for j < len(part) && (text[i+j] == part[j] || part[j]-'a' < 26 && text[i+j]|0x20 == part[j]) {
			j++
		}
		if j == len(part) {
			return true
		}
	}
	return false
}

// AppendPolicy appends the "namespace/name" of the policy that denied the request, as the details have it:
// "rbac_access_denied_matched_policy[ns[shop]-policy[no-get]-rule[0]]". Without one it appends nothing.
func (r *Record) AppendPolicy(to []byte) []byte {
	details := r.Values[Details]
	if !bytes.HasPrefix(details, deniedByPolicy) {
		return to
	}
	_, rest, _ := bytes.Cut(details, []byte("[ns["))
	namespace, rest, _ := bytes.Cut(rest, []byte("]-policy["))
	name, _, ok := bytes.Cut(rest, []byte("]-rule["))
	if !ok || len(namespace) == 0 || len(name) == 0 {
		return to
	}
	return append(append(append(to, namespace...), '/'), name...)
}

// grpcNames are the names of gRPC's status codes in capitals without underscores, so that they are found however they are written.
var grpcNames = [...]string{
	"OK", "CANCELED", "UNKNOWN", "INVALIDARGUMENT", "DEADLINEEXCEEDED", "NOTFOUND", "ALREADYEXISTS", "PERMISSIONDENIED",
	"RESOURCEEXHAUSTED", "FAILEDPRECONDITION", "ABORTED", "OUTOFRANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATALOSS",
	"UNAUTHENTICATED",
}

// grpcStatus reads a status as a number or by its name; Unknown if it is neither.
func grpcStatus(text []byte) int {
	if n, ok := number(whole(text)); ok {
		if n < uint64(len(grpcNames)) {
			return int(n)
		}
		return Unknown
	}
	var buffer [24]byte
	name := buffer[:0]
	for _, c := range text {
		if c == '_' {
			continue
		}
		if len(name) == cap(name) {
			return Unknown
		}
		if (c|0x20)-'a' < 26 {
			c &^= 0x20
		}
		name = append(name, c)
	}
	if string(name) == "CANCELLED" {
		name = append(name[:0], "CANCELED"...)
	}
	for code := range grpcNames {
		if string(name) == grpcNames[code] {
			return code
		}
	}
	return Unknown
}

// serverFault tells whether a gRPC status is the server's fault, as the semantic conventions for server spans list them.
func serverFault(code int) bool {
	switch code {
	case 2, 4, 12, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return false
}

// Destination is what a cluster names: "inbound-vip|8080|http/v2|oven.bakery.svc.cluster.local;" or "outbound|8080|v2|oven…".
type Destination struct {
	Host []byte
	Port uint16
}

// Service is the service that the request was for, as the cluster names it; the zero value if it names none.
func (r *Record) Service() (d Destination) {
	cluster := bytes.TrimRight(r.Values[Cluster], ";")
	_, rest, ok := bytes.Cut(cluster, []byte{'|'})
	if !ok {
		// Of the form "outbound_.8080_.v2_.oven.bakery.svc.cluster.local", as statistics write it.
		if _, rest, ok = bytes.Cut(cluster, []byte("_.")); !ok {
			return d
		}
		port, rest, _ := bytes.Cut(rest, []byte("_."))
		_, host, _ := bytes.Cut(rest, []byte("_."))
		return destination(port, host)
	}
	port, rest, _ := bytes.Cut(rest, []byte{'|'})
	return destination(port, rest[bytes.LastIndexByte(rest, '|')+1:])
}

// OfWaypoint tells whether a cluster is one that only waypoints have, OfSidecar whether only sidecars do.
func OfWaypoint(cluster []byte) bool { return hasPrefix(cluster, "inbound-vip|") }

// OfSidecar is said with OfWaypoint.
func OfSidecar(cluster []byte) bool { return hasPrefix(cluster, "inbound|") }

func destination(port, host []byte) (d Destination) {
	n, err := strconv.ParseUint(string(port), 10, 16)
	if err != nil || len(host) == 0 {
		return d
	}
	return Destination{Host: host, Port: uint16(n)}
}
