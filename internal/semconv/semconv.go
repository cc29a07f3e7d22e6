// Package semconv holds the names that travel between Nephilia's components; docs/data-model.md
// says what each means and who sends it.
package semconv

// Instrumentation scopes.
const (
	ScopeReceiver       = "github.com/nephilia/nephilia/receiver/ztunnelreceiver"
	ScopeServiceGraph   = "github.com/nephilia/nephilia/processor/servicegraphprocessor"
	ScopeOutageDetector = "github.com/nephilia/nephilia/processor/outagedetector"
)

// Resource attributes.
const (
	AttrServiceName       = "service.name"
	AttrServiceNamespace  = "service.namespace"
	AttrServiceVersion    = "service.version"
	AttrServiceInstanceID = "service.instance.id"
	AttrNodeName          = "k8s.node.name"
	AttrHostName          = "host.name"
	AttrClusterName       = "k8s.cluster.name"
	AttrPodName           = "k8s.pod.name"
	AttrNamespaceName     = "k8s.namespace.name"
	AttrWaypoint          = "istio.waypoint"
	AttrGateway           = "istio.gateway"

	ServiceNameZtunnel  = "ztunnel"
	ServiceNameCNI      = "istio-cni-node"
	ServiceNameWaypoint = "waypoint"
	ServiceNameGateway  = "gateway"
)

// Metrics that the ztunnel receiver aggregates from access logs.
const (
	MetricConnectionsClosed = "ztunnel.connections.closed"
	MetricConnectionsFailed = "ztunnel.connections.failed"
	// MetricConnectionsUnanswered are connections that carried bytes to the server and none back, and did not fail.
	MetricConnectionsUnanswered = "ztunnel.connections.unanswered"
	MetricIO                    = "ztunnel.io"
	MetricConnectionDuration    = "ztunnel.connection.duration"
	MetricLookups               = "ztunnel.dns.lookups"
)

// What ztunnels' DNS proxies tell, by workload, and the labels of names that were looked up.
const (
	MetricDNSQueries   = "mesh.dns.queries"
	MetricDNSForwarded = "mesh.dns.forwarded"
	MetricDNSFailed    = "mesh.dns.failed"
	MetricDNSDuration  = "mesh.dns.duration"
	MetricDNSLookups   = "mesh.dns.lookups"

	LabelQuestionName = "dns_question_name"
	LabelQueryType    = "request_query_type"
	LabelResult       = "result"

	// LookupAnswered: ztunnel knows the name itself. LookupEmpty: it does, and has no record of that type. LookupForwarded: the resolver
	// answered. LookupNoRecords: it said that there is no such name or record, LookupServerFailure and LookupRefused that it would not
	// tell; LookupTimeout: it said nothing.
	LookupAnswered      = "answered"
	LookupEmpty         = "empty"
	LookupForwarded     = "forwarded"
	LookupNoRecords     = "no_records"
	LookupServerFailure = "server_failure"
	LookupRefused       = "refused"
	LookupTimeout       = "timeout"
	LookupOther         = "other"
)

// Metrics that say whether a source of telemetry is alive.
const (
	MetricUp             = "up"
	MetricSourceUp       = "ztunnel.source.up"
	MetricSourceProblem  = "ztunnel.source.problem"
	MetricSourceLastSeen = "ztunnel.source.last_seen"
	MetricHeartbeats     = "ztunnel.heartbeats"
	MetricReplayPosition = "ztunnel.replay.position"

	// MetricDropped is what a component left out of the data, by LabelComponent and LabelReason.
	MetricDropped = "nephilia.dropped"

	LabelSource = "source"
	// LabelProblem and LabelDetail are of MetricSourceProblem: one of the Problem constants, and a sentence.
	LabelProblem = "problem"
	LabelDetail  = "detail"
	LabelState   = "state"
	LabelReason  = "reason"
	// LabelComponent is the type of the component that MetricDropped is of.
	LabelComponent = "component"

	SourceAccessLog  = "access_log"
	SourceEnvoyLog   = "envoy_log"
	SourceCNILog     = "cni_log"
	SourceMetrics    = "metrics"
	SourceConfigDump = "config_dump"
	SourceXDS        = "xds"
	SourceSpans      = "spans"
	SourceKubernetes = "kubernetes"

	// ProblemNotUnderstood: lines come, and none or few are understood. ProblemLevelTooLow: a ztunnel logs warnings and errors only, so
	// that successes are missing.
	ProblemNotUnderstood = "not_understood"
	ProblemLevelTooLow   = "level_too_low"
	// ProblemSilent: nothing is heard any more, or cannot be read. ProblemRefused: the source turns down who asks it.
	ProblemSilent  = "silent"
	ProblemRefused = "refused"
	// ProblemDropped: what it says is left out beyond a bound.
	ProblemDropped = "dropped"
	// ProblemClockAhead, ProblemClockBehind: the clock of its node is wrong.
	ProblemClockAhead  = "clock_ahead"
	ProblemClockBehind = "clock_behind"

	ReplayRunning = "running"
	ReplayDone    = "done"
	ReplayFailed  = "failed"
)

// ReplayEnded tells whether a replay in that state gives nothing more.
func ReplayEnded(state string) bool { return state == ReplayDone || state == ReplayFailed }

// Edge and endpoint metrics of the service graph.
const (
	MetricGraphTime              = "mesh.graph.time"
	MetricEdgeOpened             = "mesh.edge.connections.opened"
	MetricEdgeClosed             = "mesh.edge.connections.closed"
	MetricEdgeFailed             = "mesh.edge.connections.failed"
	MetricEdgeUnanswered         = "mesh.edge.connections.unanswered"
	MetricEdgeActive             = "mesh.edge.connections.active"
	MetricEdgeIO                 = "mesh.edge.io"
	MetricEdgeConnectionDuration = "mesh.edge.connection.duration"
	MetricEdgeRequests           = "mesh.edge.requests"
	MetricEdgeRequestsFailed     = "mesh.edge.request.failed"
	MetricEdgeRequestDuration    = "mesh.edge.request.duration"

	MetricEndpointClosed         = "mesh.endpoint.connections.closed"
	MetricEndpointFailed         = "mesh.endpoint.connections.failed"
	MetricEndpointRequests       = "mesh.endpoint.requests"
	MetricEndpointRequestsFailed = "mesh.endpoint.request.failed"
)

// Labels of flow aggregates, edges and endpoints: Istio's standard-metric labels and, where Istio has none, ours.
const (
	LabelReporter = "reporter"

	LabelSourceWorkload          = "source_workload"
	LabelSourceNamespace         = "source_workload_namespace"
	LabelSourceCanonicalService  = "source_canonical_service"
	LabelSourceCanonicalRevision = "source_canonical_revision"
	LabelSourceCluster           = "source_cluster"
	LabelSourcePod               = "source_pod"
	LabelSourceAddress           = "source_address"
	LabelSourcePrincipal         = "source_principal"

	LabelDestinationWorkload          = "destination_workload"
	LabelDestinationNamespace         = "destination_workload_namespace"
	LabelDestinationCanonicalService  = "destination_canonical_service"
	LabelDestinationCanonicalRevision = "destination_canonical_revision"
	LabelDestinationCluster           = "destination_cluster"
	LabelDestinationPod               = "destination_pod"
	LabelDestinationAddress           = "destination_address"
	LabelDestinationPort              = "destination_port"
	LabelDestinationService           = "destination_service"

	LabelRequestProtocol = "request_protocol"
	LabelSecurityPolicy  = "connection_security_policy"
	LabelWaypoint        = "waypoint"
	LabelEdgeSource      = "edge_source"
	LabelErrorType       = "error_type"
	LabelPolicy          = "policy"
	LabelDirection       = "direction"
	LabelHTTPRoute       = "http_route"
	LabelNode            = "node"
	LabelOverflow        = "otel.metric.overflow"

	// Who tells of an edge that no ztunnel does.
	EdgeSourceOBI          = "obi"
	EdgeSourceHubble       = "hubble"
	EdgeSourceServiceGraph = "service_graph"

	ReporterSource      = "source"
	ReporterDestination = "destination"
	ReporterWaypoint    = "waypoint"

	DirectionSent     = "sent"
	DirectionReceived = "received"

	SecurityMutualTLS = "mutual_tls"
	SecurityNone      = "none"
	SecurityUnknown   = "unknown"

	ProtocolTCP  = "tcp"
	ProtocolHTTP = "http"
	// ProtocolDNS is that of the API's edges from workloads to the resolver that ztunnels ask for them.
	ProtocolDNS  = "dns"
	ProtocolGRPC = "grpc"
	// ProtocolMessaging is of messages that a broker delivers, from their producer to their consumer.
	ProtocolMessaging = "messaging"
)

// Values of error_type and error.type that code decides on; package reasons has all of them.
const (
	ErrorTypeConnectionRefused = "connection_refused"
	ErrorTypeConnectionTimeout = "connection_timeout"
	ErrorTypeConnectionReset   = "connection_reset"
	ErrorTypePolicyDenied      = "policy_denied"
	ErrorTypeNoHealthyUpstream = "no_healthy_upstream"
	ErrorTypeTLSFailure        = "tls_failure"
	ErrorTypeIdentityError     = "identity_error"
	ErrorTypeRevoked           = "certificate_revoked"
	ErrorTypeDNSFailure        = "dns_failure"
	ErrorTypeHBONEBlocked      = "hbone_blocked"
	ErrorTypeNotRouted         = "not_routed"
	ErrorTypeUnknownParty      = "unknown_party"
	ErrorTypeUnknownWaypoint   = "unknown_waypoint"
	ErrorTypeClientAborted     = "client_aborted"
	ErrorTypeClientExhausted   = "client_exhausted"
	// ErrorTypeConnectFailed is the client's side of a refused tunnel (response flag CONNECT) whose reason only
	// the server's side can tell.
	ErrorTypeConnectFailed = "connect_failed"
	ErrorTypeOther         = "other"

	// Of requests, as waypoints and gateways tell.
	ErrorTypeTimeout       = "timeout"
	ErrorTypeRateLimited   = "rate_limited"
	ErrorTypeOverloaded    = "overloaded"
	ErrorTypeFaultInjected = "fault_injected"
	ErrorTypeHTTPError     = "http_error"
	ErrorTypeGRPCError     = "grpc_error"
)

// Flow records and flow spans.
const (
	EventAccess     = "ztunnel.access"
	EventZtunnelLog = "ztunnel.log"
	EventCNILog     = "istio_cni.log"
	EventLookup     = "ztunnel.dns"
	EventOutage     = "mesh.outage"
	EventChronic    = "mesh.chronic"

	AttrDirection            = "ztunnel.direction"
	AttrSourceAddress        = "source.address"
	AttrSourcePort           = "source.port"
	AttrSourcePod            = "source.k8s.pod.name"
	AttrSourceNamespace      = "source.k8s.namespace.name"
	AttrSourceIdentity       = "source.identity"
	AttrSourceCluster        = "source.cluster"
	AttrDestinationAddress   = "destination.address"
	AttrDestinationPort      = "destination.port"
	AttrDestinationHBONE     = "destination.hbone_address"
	AttrDestinationService   = "destination.service"
	AttrDestinationPod       = "destination.k8s.pod.name"
	AttrDestinationNamespace = "destination.k8s.namespace.name"
	AttrDestinationIdentity  = "destination.identity"
	AttrDestinationCluster   = "destination.cluster"
	AttrBytesSent            = "ztunnel.bytes_sent"
	AttrBytesRecv            = "ztunnel.bytes_recv"
	AttrDuration             = "ztunnel.duration"
	AttrErrorType            = "error.type"
	AttrErrorMessage         = "error.message"
	AttrPolicy               = "istio.policy"
	AttrRecordUID            = "log.record.uid"
	AttrScope                = "ztunnel.scope"
	AttrFieldPrefix          = "ztunnel.field."
	AttrQuestionName         = "dns.question.name"
	AttrQuestionType         = "dns.question.type"
	AttrLookupResult         = "ztunnel.dns.result"

	DirectionInbound  = "inbound"
	DirectionOutbound = "outbound"
)

// What OpenTelemetry calls the ends of a connection, in flow spans.
const (
	AttrPeerService        = "peer.service"
	AttrServerAddress      = "server.address"
	AttrServerPort         = "server.port"
	AttrNetworkTransport   = "network.transport"
	AttrNetworkPeerAddress = "network.peer.address"
	AttrNetworkPeerPort    = "network.peer.port"
)

// Request records: what a waypoint or gateway logs of a request. The addresses, services, errors and policies have the names that they
// have in flow records.
const (
	EventRequest = "envoy.access"

	AttrRequestMethod      = "http.request.method"
	AttrURLPath            = "url.path"
	AttrResponseStatusCode = "http.response.status_code"
	AttrRequestBodySize    = "http.request.body.size"
	AttrResponseBodySize   = "http.response.body.size"
	AttrForwardedFor       = "http.request.header.x-forwarded-for"
	AttrProtocolVersion    = "network.protocol.version"
	AttrUserAgent          = "user_agent.original"
	AttrGRPCStatusCode     = "rpc.grpc.status_code"
	AttrServicePort        = "destination.service.port"
	AttrRequestID          = "envoy.request_id"
	AttrResponseFlags      = "envoy.response_flags"
	AttrResponseDetails    = "envoy.response_code_details"
	AttrTerminationDetails = "envoy.connection_termination_details"
	AttrTransportFailure   = "envoy.upstream_transport_failure_reason"
	AttrRouteName          = "envoy.route_name"
	AttrUpstreamCluster    = "envoy.upstream_cluster"
	AttrDownstreamLocal    = "envoy.downstream_local_address"
	AttrConnectionID       = "envoy.connection_id"
	AttrUpstreamConnection = "envoy.upstream_connection_id"
	AttrRequestDuration    = "envoy.duration"
	AttrUpstreamTime       = "envoy.upstream_service_time"
	// AttrRepeated is set on a record whose request another proxy's record tells, too.
	AttrRepeated = "mesh.request.repeated"

	// MetricEdgeResponses are an edge's requests by what answered them.
	MetricEdgeResponses = "mesh.edge.responses"

	LabelResponseCode  = "response_code"
	LabelResponseFlags = "response_flags"
	LabelRequestSource = "request_source"

	// The sources of an edge's requests, the one that knows most first.
	RequestSourceWaypointLog     = "waypoint_log"
	RequestSourceGatewayLog      = "gateway_log"
	RequestSourceWaypointMetrics = "waypoint_metrics"
	RequestSourceWaypointSpans   = "waypoint_spans"
	RequestSourceSpans           = "spans"
)

// Changes in Kubernetes.
const (
	EventChange = "k8s.change"

	AttrChangeReason     = "k8s.change.reason"
	AttrObjectKind       = "k8s.object.kind"
	AttrObjectName       = "k8s.object.name"
	AttrCanonicalService = "istio.canonical_service"
)

// Outages.
const (
	MetricOutage = "mesh.outage"
	// MetricChronic is the share that fails of an edge of which a part always fails.
	MetricChronic = "mesh.chronic"

	AttrOutageID         = "outage.id"
	AttrOutageTransition = "outage.transition"

	LabelOutageID       = "outage_id"
	LabelKind           = "kind"
	LabelSeverity       = "severity"
	LabelRootType       = "root_type"
	LabelRootNamespace  = "root_namespace"
	LabelRootName       = "root_name"
	TransitionOpened    = "opened"
	TransitionChanged   = "changed"
	TransitionClosed    = "closed"
	TransitionStale     = "stale"
	OutageStateOpen     = "open"
	OutageStateResolved = "resolved"
	OutageStateStale    = "stale"
)
