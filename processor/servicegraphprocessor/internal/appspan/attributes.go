package appspan

import (
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Attributes of resources.
const (
	attrServiceVersion  = "service.version"
	attrServiceInstance = "service.instance.id"
	attrClusterName     = "k8s.cluster.name"
	attrHostName        = "host.name"
	attrHostIP          = "host.ip"
	attrNetHostIP       = "net.host.ip"
	attrJaegerIP        = "ip"
	attrPodIP           = "k8s.pod.ip"
	attrDeploymentName  = "k8s.deployment.name"
	attrStatefulSetName = "k8s.statefulset.name"
	attrDaemonSetName   = "k8s.daemonset.name"
)

// Attributes of spans.
const (
	attrHTTPRoute      = "http.route"
	attrURLTemplate    = "url.template"
	attrURLFull        = "url.full"
	attrHTTPURL        = "http.url"
	attrHTTPHost       = "http.host"
	attrHTTPMethod     = "http.request.method"
	attrHTTPMethodOld  = "http.method"
	attrHTTPStatus     = "http.response.status_code"
	attrHTTPStatusOld  = "http.status_code"
	attrHTTPClientIP   = "http.client_ip"
	attrRPCSystem      = "rpc.system"
	attrRPCSystemName  = "rpc.system.name"
	attrRPCService     = "rpc.service"
	attrRPCMethod      = "rpc.method"
	attrGRPCStatus     = "rpc.grpc.status_code"
	attrRPCStatus      = "rpc.response.status_code"
	attrDBStatus       = "db.response.status_code"
	attrMessaging      = "messaging.system"
	attrMessagingOp    = "messaging.operation.type"
	attrMessagingOpOld = "messaging.operation"
	attrClientAddress  = "client.address"
	attrServerAddress  = "server.address"
	attrServerPort     = "server.port"
	attrPeerAddress    = "network.peer.address"
	attrPeerPort       = "network.peer.port"
	attrLocalAddress   = "network.local.address"
	attrSockPeerAddr   = "net.sock.peer.addr"
	attrSockPeerPort   = "net.sock.peer.port"
	attrSockPeerName   = "net.sock.peer.name"
	attrSockHostAddr   = "net.sock.host.addr"
	attrNetPeerIP      = "net.peer.ip"
	attrNetPeerName    = "net.peer.name"
	attrNetPeerPort    = "net.peer.port"
	attrNetHostName    = "net.host.name"
	attrNetHostPort    = "net.host.port"
	attrPeerService    = "peer.service"
	attrServicePeer    = "service.peer.name"
)

// Attributes of proxies' spans, as Envoy writes them.
const (
	attrNodeID          = "node_id"
	attrResponseFlags   = "response_flags"
	attrUpstreamCluster = "upstream_cluster" // "inbound-vip|PORT|PROTOCOL|HOST"
	attrEnvoyPeer       = "peer.address"
)

// failure is what makes a request a failed one: the span's status, unless a protocol's own says otherwise.
type failure struct {
	isError   bool // the span's status is Error
	http, rpc int64
	// hasRPC and hasDB tell that there is a status of that protocol.
	hasRPC, hasDB bool
}

func (f *failure) read(name string, value pcommon.Value) {
	switch name {
	case attrHTTPStatus, attrHTTPStatusOld:
		f.http = intOf(value)
	case attrGRPCStatus, attrRPCStatus:
		f.rpc, f.hasRPC = grpcCode(value), true
	case attrDBStatus:
		f.hasDB = true
	}
}

// status is HTTP's, 0 if there is none.
func (f *failure) status() uint16 {
	if f.http <= 0 || f.http >= 1000 {
		return 0
	}
	return uint16(f.http)
}

// ofServer tells whether a server failed. Its status is Error for its own faults only.
func (f *failure) ofServer() bool { return f.isError || f.http >= 500 || ServerFault(f.rpc) }

// ofClient tells whether a client saw its server fail. Its status is Error also for what was its own fault (4xx), or when it had
// no answer at all.
func (f *failure) ofClient() bool {
	if f.http > 0 || f.hasRPC {
		return f.http >= 500 || ServerFault(f.rpc)
	}
	return f.isError
}

// unanswered tells whether a client's failure says nothing of an answer.
func (f *failure) unanswered() bool { return f.isError && f.http == 0 && !f.hasRPC && !f.hasDB }

// ServerFault tells whether a gRPC status is the server's fault, as the semantic conventions for server spans list them.
func ServerFault(code int64) bool {
	switch code {
	case 2, 4, 12, 13, 14, 15: // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS
		return true
	}
	return false
}

func grpcCode(value pcommon.Value) int64 {
	if value.Type() == pcommon.ValueTypeStr {
		switch strings.ToUpper(value.Str()) {
		case "UNKNOWN":
			return 2
		case "DEADLINE_EXCEEDED":
			return 4
		case "UNIMPLEMENTED":
			return 12
		case "INTERNAL":
			return 13
		case "UNAVAILABLE":
			return 14
		case "DATA_LOSS":
			return 15
		}
	}
	return intOf(value)
}

func intOf(value pcommon.Value) int64 {
	switch value.Type() {
	case pcommon.ValueTypeInt:
		return value.Int()
	case pcommon.ValueTypeDouble:
		return int64(value.Double())
	case pcommon.ValueTypeStr:
		n, err := strconv.ParseInt(value.Str(), 10, 64)
		if err == nil {
			return n
		}
	}
	return 0
}

func portOf(value pcommon.Value) uint16 {
	if port := intOf(value); port > 0 && port <= 65535 {
		return uint16(port)
	}
	return 0
}

func stringOf(attrs pcommon.Map, name string) string {
	if v, ok := attrs.Get(name); ok && v.Type() == pcommon.ValueTypeStr {
		return v.Str()
	}
	return ""
}
