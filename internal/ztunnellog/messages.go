// Package ztunnellog knows what ztunnels log beside connections: what the messages mean that matter, and which of them are the same
// but for what they name.
package ztunnellog

import "strings"

// Message is a line that a ztunnel writes.
type Message struct {
	// Begins is how its text begins.
	Begins string
	// Meaning says what it means, in a sentence.
	Meaning string
}

// Messages are those that matter. Source: istio/ztunnel.
var Messages = []Message{
	{"XDS client connection error", "istiod cannot be reached. Everything goes on with its last word."},
	{"Stream established", "istiod is connected."},
	{"failed to connect to the Istio CNI node agent", "The CNI agent of the node cannot be reached. Captured pods go on; new ones wait."},
	{"handling new stream", "The CNI agent is connected."},
	{"received snapshot sent", "The CNI agent has told of all pods of the node."},
	{"failed to start proxy", "A pod's proxy cannot be set up, so that connections to and from the pod are refused. It is tried again every five seconds."},
	{"retrying workload failed", "A pod's proxy still cannot be set up."},
	{"retrying workload", "A pod's proxy is tried again."},
	{"scheduling retry", "A pod's proxy will be tried again."},
	{"failed to determine if IPv6 was disabled", "The network namespace that the CNI agent handed over is none."},
	{"pod received, starting proxy", "A pod came, or the ztunnel was started."},
	{"pod delete request, shutting down proxy", "A pod went."},
	{"failed to read message", "The CNI agent ended in mid-word."},
	{"process stream ended", "The CNI agent ended its stream."},
	{"Error in HBONE connection handshake", "The ztunnel or the pod at the other end went away: this follows from an outage or a deletion and causes none."},
	{"HBONE ping timeout/error", "The other end of a kept connection no longer answers."},
	{"drain duration expired with pending connections", "A rollout cut connections that lasted longer than the drain."},
	{"timed out waiting for workload", "istiod does not know the pod, so that what it begins fails."},
	{"dns lookup failed", "The host of a ServiceEntry was not resolved at a connection."},
	{"received signal", "The ztunnel was told to end."},
	{"workload proxy manager: drain requested", "The ztunnel drains its connections before it ends."},
	{"drain requested", "The ztunnel drains its connections before it ends."},
	{"certificate renewal failed", "A certificate could not be renewed. The one at hand still holds."},
	{"certificate fetch failed", "A certificate could not be had: the workload has no valid one."},
	{"failed to rebuild TLS channel after root cert rotation", "The root certificate changed, and the ztunnel asks for certificates over the old one still."},
	{"failed to initialize crl manager", "The list of revoked certificates cannot be read: none is taken for revoked."},
	{"crl file not found", "The list of revoked certificates is not there: none is taken for revoked until it is."},
	{"crl file watcher could not be started", "The list of revoked certificates is not read again before the ztunnel restarts."},
	{"crl index:", "An open connection cannot be held to a later list of revoked certificates."},
	{"failed to fetch certificate for CRL revocation enforcement", "An open connection cannot be held to a later list of revoked certificates."},
	{"node agent announcement failed", "The CNI agent could not be told that the ztunnel is there."},
	{"protocol mismatch error", "The CNI agent is of a version that the ztunnel does not understand."},
	{"failed to track", "A connection is not known to the ztunnel's list, so that a later policy does not end it."},
	{"XDS client error", "istiod ended the stream with an error. Everything goes on with its last word."},
	{"data plane task failed", "A part of the ztunnel ended, and the ztunnel with it."},
	{"WorkloadProxyManager run error", "The ztunnel can take no pods any more."},
	{"handling RBAC update", "An AuthorizationPolicy came or changed."},
	{"handling RBAC delete", "An AuthorizationPolicy went."},
}

// Meaning says what a message means, empty for one that is not known.
func Meaning(text string) string {
	for i := range Messages {
		if strings.HasPrefix(text, Messages[i].Begins) {
			return Messages[i].Meaning
		}
	}
	return ""
}

// maxTemplate bounds a template in bytes.
const maxTemplate = 160

// Template is a message without what differs from one to the next: of one that is known the beginning, of others the text with every
// word that has a digit, and everything in quotes or braces, replaced by a star.
func Template(text string) string {
	for i := range Messages {
		if strings.HasPrefix(text, Messages[i].Begins) {
			return Messages[i].Begins
		}
	}
	var b strings.Builder
	depth, quoted := 0, false
	for word := range strings.FieldsSeq(text) {
		if b.Len() > maxTemplate {
			break
		}
		inside := depth > 0 || quoted
		depth = max(depth+strings.Count(word, "{")+strings.Count(word, "[")-strings.Count(word, "}")-strings.Count(word, "]"), 0)
		if strings.Count(word, `"`)%2 == 1 {
			quoted = !quoted
		}
		if inside || depth > 0 || quoted || strings.ContainsAny(word, `0123456789"{}[]`) {
			word = "*"
			if strings.HasSuffix(b.String(), "*") {
				continue
			}
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(word)
	}
	return b.String()
}
