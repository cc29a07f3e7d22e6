package reasons

import (
	"cmp"
	"strings"
)

// Kind is a kind of outage.
type Kind struct {
	// Name is the kind as the API gives it. Where it has a sentence, it is also the id of the rule that judges it.
	Name string
	// Label is the kind in two or three words.
	Label string
	// Sentence is the summary of an outage of connections that fail for the reasons of this kind, in two tenses (the outage
	// detector's package rules). Other kinds are judged by rules of their own, which have theirs.
	Sentence string
	// Advice is where to look first.
	Advice string
}

// Kinds are all kinds of outages, in the order of the documentation.
var Kinds = []Kind{
	{
		"connection_refused", "Connections refused", "{edge} {fails} {when}: {root} {refuses|refused} connections ({failed} of {total}).",
		"Is the server running, and does it listen on the port that the service names? Look at its restarts and readiness.",
	},
	{
		"hbone_blocked", "HBONE port blocked",
		"{edge} {fails} {when}: port 15008 of {root} {takes|took} no connections; a NetworkPolicy may block it, or its ztunnel {is|was} gone ({failed} of {total}).",
		"Look at the ztunnel of the server's node, then for a NetworkPolicy that does not admit port 15008.",
	},
	{
		"connection_timeout", "Connections time out", "{edge} {fails} {when}: connections to {root} {time|timed} out ({failed} of {total}).",
		"Look for dropped packets: a NetworkPolicy, the node's network, a server that no longer accepts.",
	},
	{
		"connection_reset", "Connections reset", "{edge} {fails} {when}: connections to {root} {are|were} cut ({failed} of {total}).",
		"Look at the server's log and restarts: it, or something before it, ends connections before it answers.",
	},
	{
		"connection_failed", "Connections fail",
		"{edge} {fails} {when}: connections to {root} {fail|failed} with errors that are not known ({failed} of {total}).",
		"Read the errors in the evidence; ztunnel may be newer than Nephilia.",
	},
	{
		"no_healthy_upstream", "No healthy endpoint", "{edge} {fails} {when}: {root} {has|had} no healthy endpoint ({failed} of {total}).",
		"Look at the readiness of the service's pods, its selector and its ports.",
	},
	{
		"unknown_waypoint", "Waypoint missing",
		"{edge} {fails} {when}: the waypoint of {root} {does|did} not exist or {has|had} no ready pod ({failed} of {total}).",
		"Look at the Gateway that the label istio.io/use-waypoint names, and at its pods.",
	},
	{
		"not_routed", "No route", "{edge} {fails} {when}: the gateway in front of {root} {has|had} no route to it ({failed} of {total}).",
		"Look at the gateway's or waypoint's routes, and whether the service is exported to its namespace.",
	},
	{
		"unknown_party", "Not known to ztunnel", "{edge} {fails} {when}: the ztunnel {has|had} not heard of {root} from istiod ({failed} of {total}).",
		"Look at istiod and at the ztunnel's connection to it; a pod that has just started is not known yet.",
	},
	{
		"dns_failure", "Name not resolved", "{edge} {fails} {when}: the name of {root} {is|was} not resolved ({failed} of {total}).",
		"Look at the host's name in the ServiceEntry and at the cluster's resolver.",
	},
	{
		"dns_slow", "Names resolved slowly", "",
		"Look at the load of the cluster's resolver (CoreDNS) and at what it forwards to.",
	},
	{
		"client_exhausted", "Client out of ports", "{edge} {fails} {when}: {root} {has|had} no local port left to connect from ({failed} of {total}).",
		"The client opens connections faster than the system frees their ports. Let it keep and reuse them.",
	},
	{
		"tls_failure", "TLS failure", "{edge} {fails} {when}: the TLS handshake with {root} {fails|failed} ({failed} of {total}).",
		"Compare both ends' certificates and trust domains; a changed root certificate must reach all.",
	},
	{
		"identity_error", "Identity error", "{edge} {fails} {when}: the identity of {root} {is|was} not accepted ({failed} of {total}).",
		"Look at the CA and at the ztunnel's warnings about certificates.",
	},
	{
		"policy_denied", "Denied by policy", "{edge} {fails} {when}: {policy} {denies|denied} it ({failed} of {total}).",
		"Look at the AuthorizationPolicy and what changed in it. Behind a waypoint, it must admit the waypoint's identity.",
	},
	{
		"http_errors", "HTTP errors", "",
		"Look at the server's log and traces, and at what it calls itself.",
	},
	{
		"latency", "Slow responses", "",
		"Look at the server's load and at what it calls itself.",
	},
	{
		"traffic_loss", "Traffic lost", "",
		"Look at the client: it no longer calls. Its configuration or the resolving of names may have changed.",
	},
	{
		"node_down", "Node down", "",
		"Look at the node and at its ztunnel.",
	},
	{
		"telemetry_lost", "Telemetry lost", "",
		"Look at the agent of the node and at its way to the gateway. What is not seen is not known to be well.",
	},
	{
		"capture_pending", "Pod not captured", "",
		"Read the error: mostly a port of ztunnel's (15001, 15006, 15008, 15053) is taken in the pod, or the CNI agent handed over a wrong network namespace.",
	},
	{
		"ztunnel_overloaded", "Ztunnel overloaded", "",
		"Look at the CPU limit and the load of that node's ztunnel, and at what makes so many connections there.",
	},
	{
		"control_plane_down", "Control plane down", "",
		"Look at istiod and at the network between it and the nodes.",
	},
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

// Label is why connections fail in two or three words, in lower case but for names.
func Label(name string) string {
	label := Of(name).Label
	for i := range Kinds {
		if label == "" && Kinds[i].Name == name {
			label = Kinds[i].Label
		}
	}
	if len(label) > 1 && label[1] >= 'a' && label[1] <= 'z' {
		return strings.ToLower(label[:1]) + label[1:]
	}
	return cmp.Or(label, name)
}
