package reasons

// Kind is a kind of outage that connections which fail for a reason make.
type Kind struct {
	// Name is the kind as the API gives it, and the id of the rule that judges it.
	Name string
	// Label is the kind in two or three words.
	Label string
	// Sentence is the summary of such an outage, in two tenses (the outage detector's package rules).
	Sentence string
}

// Kinds are those of failed connections.
var Kinds = []Kind{
	{"connection_refused", "Connections refused", "{edge} {fails} {when}: {root} {refuses|refused} connections ({failed} of {total})."},
	{"connection_timeout", "Connections time out", "{edge} {fails} {when}: connections to {root} {time|timed} out ({failed} of {total})."},
	{"connection_reset", "Connections reset", "{edge} {fails} {when}: connections to {root} {are|were} cut ({failed} of {total})."},
	{"connection_failed", "Connections fail", "{edge} {fails} {when}: connections to {root} {fail|failed}, with an error that says no more ({failed} of {total})."},
	{
		"hbone_blocked", "HBONE port blocked",
		"{edge} {fails} {when}: port 15008 of {root} {takes|took} no connections; a NetworkPolicy may block it, or its ztunnel {is|was} gone ({failed} of {total}).",
	},
	{"no_healthy_upstream", "No healthy endpoint", "{edge} {fails} {when}: {root} {has|had} no healthy endpoint ({failed} of {total})."},
	{"unknown_waypoint", "Waypoint missing", "{edge} {fails} {when}: the waypoint of {root} {does|did} not exist or {has|had} no ready pod ({failed} of {total})."},
	{"not_routed", "No route", "{edge} {fails} {when}: the gateway in front of {root} {has|had} no route to it ({failed} of {total})."},
	{"unknown_party", "Not known to ztunnel", "{edge} {fails} {when}: the ztunnel {has|had} not heard of {root} from istiod ({failed} of {total})."},
	{"dns_failure", "Name not resolved", "{edge} {fails} {when}: the name of {root} {is|was} not resolved ({failed} of {total})."},
	{"client_exhausted", "Client out of ports", "{edge} {fails} {when}: {root} {has|had} no local port left to connect from ({failed} of {total})."},
	{"tls_failure", "TLS failure", "{edge} {fails} {when}: the TLS handshake with {root} {fails|failed} ({failed} of {total})."},
	{"identity_error", "Identity error", "{edge} {fails} {when}: the identity of {root} {is|was} not accepted ({failed} of {total})."},
	{"policy_denied", "Denied by policy", "{edge} {fails} {when}: {policy} {denies|denied} it ({failed} of {total})."},
}

// FaultOf is whose doing the failures are that make a kind of outage; Unknown for other kinds.
func FaultOf(kind string) Side {
	for i := range All {
		if All[i].Kind == kind {
			return All[i].Fault
		}
	}
	return Unknown
}
