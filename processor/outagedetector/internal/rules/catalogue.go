// Package rules is the catalogue of what counts as an outage: rows of data that the judges read, the documentation is
// generated from and the configuration overrides.
package rules

import (
	"time"

	"github.com/nephilia/nephilia/internal/reasons"
)

// Kinds of outages, as the API names them.
const (
	KindConnectionRefused = "connection_refused"
	KindConnectionTimeout = "connection_timeout"
	KindConnectionReset   = "connection_reset"
	KindPolicyDenied      = "policy_denied"
	KindNoHealthyUpstream = "no_healthy_upstream"
	KindTLSFailure        = "tls_failure"
	KindIdentityError     = "identity_error"
	KindUnknownParty      = "unknown_party"
	KindNodeDown          = "node_down"
	KindControlPlaneDown  = "control_plane_down"
	KindHTTPErrors        = "http_errors"
	KindLatency           = "latency"
	KindTrafficLoss       = "traffic_loss"
	KindTelemetryLost     = "telemetry_lost"
	KindDNSFailure        = "dns_failure"
	KindDNSSlow           = "dns_slow"
	KindCapturePending    = "capture_pending"
	KindZtunnelOverloaded = "ztunnel_overloaded"
)

// Severities.
const (
	Critical = "critical"
	Warning  = "warning"
)

// Rule is one row of the catalogue.
type Rule struct {
	ID   string
	Kind string
	// Signal says in words what is looked at.
	Signal string
	Title  string
	// Sentence is the summary. Bare is the one for an outage without edges or figures, if it differs.
	Sentence Sentence
	Bare     Sentence
	// Severity of an outage that this rule finds and nothing else makes worse.
	Severity string
	Disabled bool
	Thresholds
}

// Thresholds are what a rule compares with. Those that it does not use are zero.
type Thresholds struct {
	// MinCount is the least number of hits: failures, slow requests, ztunnels that warn.
	MinCount uint64
	// MinRatio is what the lower bound of the hits' share (Wilson, 95 %) must reach.
	MinRatio float64
	// Chance is how likely what is seen may at most be if nothing is wrong.
	Chance float64
	// Noise is the share of hits that counts as normal on an edge whose past shows fewer.
	Noise float64
	// MinIntervals is the number of intervals that must show it.
	MinIntervals int
	// Window is how far back hits are counted together; at least one interval of the data.
	Window time.Duration
	// Factor is by how much a value must exceed what is usual for the edge (or, of a burn rate, the budget's even use).
	Factor float64
	// Hold is how long it must last.
	Hold time.Duration
	// Long is the long window of a burn rate; Window is the short one.
	Long time.Duration
}

// IDs of the rules.
const (
	Refused             = "connection_refused"
	Timeout             = "connection_timeout"
	Reset               = "connection_reset"
	NoHealthyUpstream   = "no_healthy_upstream"
	TLSFailure          = "tls_failure"
	IdentityError       = "identity_error"
	PolicyDenied        = "policy_denied"
	NewFailure          = "new_failure"
	PartialOutage       = "partial_outage"
	StalledConnections  = "stalled_connections"
	NoAnswer            = "no_answer"
	HTTPErrors          = "http_errors"
	SlowRequests        = "latency"
	SlowConnections     = "slow_connections"
	ErrorExcess         = "error_excess"
	LatencyExcess       = "latency_excess"
	TrafficLoss         = "traffic_loss"
	CertificateExpiry   = "certificate_expiry"
	CertificateFailures = "certificate_failures"
	CertificatesMissing = "certificates_missing"
	NodeDown            = "node_down"
	TelemetryLost       = "telemetry_lost"
	ControlPlaneDown    = "control_plane_down"
	NamesInVain         = "names_in_vain"
	NamesSlow           = "dns_slow"
	CapturePending      = "capture_pending"
	ZtunnelOverloaded   = "ztunnel_overloaded"
	BurnFast            = "burn_rate_1h"
	BurnMedium          = "burn_rate_6h"
	BurnSlow            = "burn_rate_3d"
)

const failedConnections = "connections that failed for this reason, of those that ended (`mesh.edge.connections.failed`, `.closed`)"

// ofReasons are the rules that judge connections by the reason for which they failed, one of each kind.
func ofReasons() []Rule {
	var list []Rule
	for _, kind := range reasons.Kinds {
		if kind.Sentence == "" {
			continue
		}
		rule := Rule{
			ID: kind.Name, Kind: kind.Name, Signal: failedConnections, Title: kind.Label, Sentence: Sentence(kind.Sentence),
			Severity: Critical, Thresholds: share,
		}
		if kind.Name == KindPolicyDenied {
			rule.Signal += "; an edge that was denied ever since it was first seen needs a policy that was added or changed meanwhile"
		}
		list = append(list, rule)
	}
	return list
}

// share are the thresholds of what is judged by the share of attempts that fail.
var share = Thresholds{MinCount: 3, MinRatio: 0.05, Chance: 2e-6, Noise: 0.01, MinIntervals: 1, Window: 5 * time.Minute}

// Defaults is every rule as it is before it is configured, in the order of the documentation.
var Defaults = append(ofReasons(), []Rule{
	{
		ID: NewFailure, Kind: "that of the reason", Title: "A reason to fail that the edge never had",
		Signal:   "the same as above, of an error type new to an edge with a past",
		Sentence: "{edge} {fails} now and then {when}, as never before: {kind} ({failed} of {total}).",
		Severity: Warning, Thresholds: Thresholds{MinCount: 3, Chance: 2e-7, Noise: 0.002, MinIntervals: 2, Window: time.Minute},
	},
	{
		ID: PartialOutage, Kind: "that of the reason", Title: "Some endpoints fail",
		Signal:   "failures per destination pod (`mesh.endpoint.*`), the others of the workload being well",
		Sentence: "{pods} of {root} {podfails} {when}: {kind} ({failed} of {total}).",
		Severity: Warning, Thresholds: Thresholds{MinCount: 4, MinRatio: 0.3, Chance: 2e-6, Noise: 0.01, MinIntervals: 1, Window: 2 * time.Minute},
	},
	{
		ID: StalledConnections, Kind: KindConnectionTimeout, Title: "Connections hang",
		Signal:   "connections of an edge that used to be short are opened and none ends (`mesh.edge.connections.opened`, `.closed`, `.active`)",
		Sentence: "{edge} {hangs} {when}: connections to {root} {are|were} opened and none {ends|ended} ({failed} of {total}).",
		Severity: Critical, Thresholds: Thresholds{MinCount: 5, Chance: 1e-6, MinIntervals: 2, Window: time.Minute},
	},
	{
		ID: NoAnswer, Kind: KindConnectionReset, Title: "Connections are not answered",
		Signal: "connections that carried bytes to the server and none back, of an edge that used to be answered (`mesh.edge.connections.unanswered`, `.closed`); " +
			"`connection_timeout` if they last for a second or more",
		Sentence: "{edge} {fails} {when}: {root} {takes|took} connections and {answers|answered} nothing ({failed} of {total}).",
		Severity: Critical, Thresholds: Thresholds{MinCount: 3, MinRatio: 0.1, Chance: 2e-6, Noise: 0.02, MinIntervals: 1, Window: time.Minute},
	},
	{
		ID: HTTPErrors, Kind: KindHTTPErrors, Title: "Requests fail",
		Signal:   "failed requests of all requests (`mesh.edge.request.failed`, or Grafana's `traces_service_graph_request_failed_total`)",
		Sentence: "{edge} {fails} {when}: {root} {answers|answered} with errors ({failed} of {total}).",
		Severity: Critical, Thresholds: share,
	},
	{
		ID: SlowRequests, Kind: KindLatency, Title: "Requests are slow",
		Signal: "requests slower than the edge's route ever is: above its median by `factor` times and by six median absolute " +
			"deviations (or `factor` times above its 98th percentile), and above its 98th percentile (`mesh.edge.request.duration`)",
		Sentence: "{edge} {is} slow {when}: {failed} of {total} requests to {root} {take|took} longer than they ever {do|had}.",
		Severity: Warning, Thresholds: Thresholds{MinCount: 5, MinRatio: 0.3, Chance: 1e-7, Noise: 0.02, MinIntervals: 2, Window: time.Minute, Factor: 2},
	},
	{
		ID: SlowConnections, Kind: KindLatency, Title: "Connections take long",
		Signal: "the same of how long short connections last (`mesh.edge.connection.duration`), where it is not known how long requests take: a database's, or where " +
			"nobody sends spans",
		Sentence: "{edge} {is} slow {when}: {failed} of {total} connections to {root} {last|lasted} longer than they ever {do|had}.",
		Severity: Warning, Thresholds: Thresholds{MinCount: 5, MinRatio: 0.3, Chance: 1e-7, Noise: 0.02, MinIntervals: 2, Window: time.Minute, Factor: 3},
	},
	{
		ID: ErrorExcess, Kind: KindHTTPErrors, Title: "More requests fail than usual",
		Signal: "failed requests of edges of which points tell at most every ten seconds: more than the last 144 intervals show to be normal, in two in a row, " +
			"each half as far above it as both together must be",
		Sentence: "{edge} {fails} {when}: {root} {answers|answered} with more errors than usual ({failed} of {total}).",
		Severity: Critical, Thresholds: Thresholds{MinCount: 3, Chance: 2.9e-7, MinIntervals: 2},
	},
	{
		ID: LatencyExcess, Kind: KindLatency, Title: "Requests take longer than usual",
		Signal: "the mean duration of requests of such edges: above `factor` times what the last 144 intervals show to be normal, in two in a row, by at least " +
			"`min_ratio` of the seconds that users wait",
		Sentence: "{edge} {is} slow {when}: requests to {root} {take|took} {times} times as long as usual ({total} requests).",
		Severity: Warning, Thresholds: Thresholds{MinRatio: 0.04, Chance: 1.3e-12, MinIntervals: 2, Factor: 1.25},
	},
	{
		ID: TrafficLoss, Kind: KindTrafficLoss, Title: "Traffic is gone",
		Signal:   "an edge falls silent, for far longer than ever, although its source still reports and still works; counted against how often it used to be active",
		Sentence: "{edge} {is} silent {when}, though {source} {works|worked}: about {total} calls {are|were} missing.",
		Bare:     "{edge} {is} silent {when}, though {source} {works|worked}.",
		Severity: Warning, Thresholds: Thresholds{Chance: 1e-9, MinIntervals: 3, Hold: 20 * time.Second},
	},
	{
		ID: CertificateExpiry, Kind: KindIdentityError, Title: "A certificate is about to expire",
		Signal:   "a ztunnel's certificates (`istio.ztunnel` entities): less than `min_ratio` of the lifetime is left",
		Sentence: "The certificate of {root} {is|was} overdue for renewal {when} ({nodes}).",
		Severity: Warning, Thresholds: Thresholds{MinRatio: 0.1},
	},
	{
		ID: CertificateFailures, Kind: KindIdentityError, Title: "Certificates cannot be fetched",
		Signal:   "a ztunnel's own warnings about certificates (`ztunnel.log`)",
		Sentence: "{nodes} {cannot|could not} get certificates {when} ({failed} attempts).",
		Severity: Warning, Thresholds: Thresholds{MinCount: 3, Window: time.Minute},
	},
	{
		ID: CertificatesMissing, Kind: KindIdentityError, Title: "Certificates are unavailable",
		Signal:   "a ztunnel's certificates (`istio.ztunnel` entities) whose state is `Unavailable` for as long as `hold`",
		Sentence: "{nodes} {has|had} no certificate for {failed} of {total} identities {when}.",
		Severity: Warning, Thresholds: Thresholds{MinCount: 1, Hold: 20 * time.Second},
	},
	{
		ID: NodeDown, Kind: KindNodeDown, Title: "A node is down",
		Signal:   "a node's scrape fails (twice, where what runs there is merely silent) or its ztunnel falls silent, and what runs there fails or falls silent too",
		Sentence: "{root} {is|was} down {when}: {edge} {fails} ({failed} of {total}).",
		Bare:     "{root} {is|was} down {when}: nothing {is|was} heard of its ztunnel and of what runs there.",
		Severity: Critical, Thresholds: Thresholds{MinCount: 2, Chance: 1e-3, Window: time.Minute},
	},
	{
		ID: TelemetryLost, Kind: KindTelemetryLost, Title: "Telemetry is lost",
		Signal:   "a source reports that it fails (of scrapes, two in a row), or its heartbeats stop (`ztunnel.source.up`, `up`), and nothing else says that the node is down",
		Sentence: "No data from {root} {during} (its {source} stopped).",
		Severity: Warning, Thresholds: Thresholds{MinCount: 3, Hold: 25 * time.Second},
	},
	{
		ID: ControlPlaneDown, Kind: KindControlPlaneDown, Title: "The control plane is down",
		Signal:   "ztunnels that cannot reach it (their own warnings, `istio_xds_connection_terminations_total`); all of them or at least `min_count`",
		Sentence: "istiod {cannot|could not} be reached {when}: {nodes} {cannot|could not} connect. Traffic {flows|flowed} on; changes {do|did} not arrive.",
		Severity: Critical, Thresholds: Thresholds{MinCount: 2, MinIntervals: 2, Window: 20 * time.Second, Hold: 4 * time.Second},
	},
	{
		ID: NamesInVain, Kind: KindDNSFailure, Title: "Names are not resolved",
		Signal: "queries that ztunnels forward (`mesh.dns.forwarded`, `.failed`, `.duration`, `.lookups`): who used to get addresses gets none for so many " +
			"lookups, or answers take longer than ztunnel waits; a share of failures says nothing, since search domains make most queries fail",
		Sentence: "Names {are|were} not resolved {when}: {failed} of {total} queries to {root} {are|were} in vain.",
		Bare:     "Names {are|were} not resolved {when}: {root} {gives|gave} no addresses.",
		Severity: Critical, Thresholds: Thresholds{MinCount: 3, MinRatio: 0.3, Chance: 1e-5, Noise: 0.01, Window: 30 * time.Second, Hold: time.Minute},
	},
	{
		ID: NamesSlow, Kind: KindDNSSlow, Title: "Names take long to resolve",
		Signal:   "forwarded queries that take longer than a second (`mesh.dns.duration`), of all, or fewer again and again, since caches answer most; thresholds are those of `names_in_vain`",
		Sentence: "Names {take|took} long to resolve {when}: {failed} of {total} queries to {root} {take|took} more than a second.",
		Bare:     "Names {take|took} long to resolve {when}: {root} {answers|answered} late.",
		Severity: Warning, Thresholds: Thresholds{MinCount: 3, Window: 30 * time.Second},
	},
	{
		ID: CapturePending, Kind: KindCapturePending, Title: "A pod is not captured",
		Signal:   "a ztunnel that cannot set up the proxy of a pod and tries again (its own lines, or its pending proxies and its config dump)",
		Sentence: "{root} {is|was} cut off {when}: the ztunnel of {nodes} {cannot|could not} set up its proxy, so that connections to it and from it {are|were} refused ({failed} of {total}).",
		Bare:     "{root} {is|was} cut off {when}: the ztunnel of {nodes} {cannot|could not} set up its proxy.",
		Severity: Critical, Thresholds: Thresholds{MinCount: 1},
	},
	{
		ID: ZtunnelOverloaded, Kind: KindZtunnelOverloaded, Title: "A ztunnel is overloaded",
		Signal: "the share of time in which a ztunnel's threads are busy (`tokio_worker_total_busy_duration_seconds_total`), against what is usual, and for how " +
			"long they are before they rest (`tokio_worker_park_count_total`); where neither shows anything, connections that last longer than usual " +
			"(`mesh.edge.connection.duration`) on all edges of its node and on no others",
		Sentence: "The ztunnel of {root} {is|was} overloaded {when}: all that {passes|passed} it {is|was} late ({failed} of {total}).",
		Bare:     "The ztunnel of {root} {is|was} overloaded {when}: all that {passes|passed} it {is|was} late.",
		Severity: Warning, Thresholds: Thresholds{MinRatio: 0.5, Factor: 4, MinIntervals: 2},
	},
	{
		ID: BurnFast, Kind: "that of the failures", Title: "The error budget burns fast",
		Signal:   "an objective's budget use over the long and the short window",
		Sentence: "{root} {uses|used} its error budget 14 times too fast {when} ({failed} of {total} in an hour).",
		Severity: Critical, Thresholds: Thresholds{MinCount: 10, Factor: 14.4, Long: time.Hour, Window: 5 * time.Minute},
	},
	{
		ID: BurnMedium, Kind: "that of the failures", Title: "The error budget burns",
		Signal:   "an objective's budget use over the long and the short window",
		Sentence: "{root} {uses|used} its error budget 6 times too fast {when} ({failed} of {total} in six hours).",
		Severity: Critical, Thresholds: Thresholds{MinCount: 10, Factor: 6, Long: 6 * time.Hour, Window: 30 * time.Minute},
	},
	{
		ID: BurnSlow, Kind: "that of the failures", Title: "The error budget shrinks",
		Signal:   "an objective's budget use over the long and the short window",
		Sentence: "{root} {will|would} not keep its objective: its error budget {shrinks|shrank} {when} ({failed} of {total} in three days).",
		Severity: Warning, Thresholds: Thresholds{MinCount: 10, Factor: 1, Long: 72 * time.Hour, Window: 6 * time.Hour},
	},
}...)

// Apart tells whether two kinds of one root are two outages: a node that is down is another thing than one whose ztunnel cannot serve its
// pods, which it says itself.
func Apart(a, b string) bool {
	return a == KindNodeDown && b == KindCapturePending || a == KindCapturePending && b == KindNodeDown
}

// ForReason is the id of the rule that judges connections that failed with an error type, empty where they are nobody's outage.
func ForReason(errorType string) string { return reasons.Of(errorType).Kind }
