package accesslog

import (
	"bytes"

	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Failure is the class of an access entry's error.
type Failure struct {
	// Type is one of semconv.ErrorType*, empty for a connection that did not fail.
	Type string
	// Policy is "namespace/name" of the policy that denied, where the error names it. It points into the
	// error's text.
	Policy []byte
	// Drained is set for a connection that ztunnel closed because it or its peer was being drained.
	Drained bool
	// Closing is set for a connection that was answered and whose error says only how it was closed.
	Closing bool
}

// Wrappers say which half of a connection an error belongs to; the cause follows.
var (
	wrapperClosing = []byte("while closing connection: ")
	wrappers       = [...][]byte{wrapperClosing, []byte("receive: "), []byte("send: ")}
)

var (
	prefixDenied = []byte("connection closed due to policy rejection: explicitly denied by: ")
	prefixStatus = []byte("http status: ")
)

// pattern is a text of package reasons.
type pattern struct {
	text      []byte
	errorType string
	closing   bool
}

func patterns(match reasons.Match) []pattern {
	var list []pattern
	for i := range reasons.All {
		for _, t := range reasons.All[i].Texts {
			if t.Match == match {
				list = append(list, pattern{[]byte(t.Text), reasons.All[i].Name, t.Closing})
			}
		}
	}
	return list
}

var (
	byBeginning = patterns(reasons.Begins)
	byCause     = patterns(reasons.Contains)
	byWrapper   = patterns(reasons.Wraps)
)

var drained = [...][]byte{
	[]byte("connection closed due to connection drain"),
	[]byte("connection failed to drain within the timeout"),
	[]byte("pool draining"),
}

// hbonePort is where a ztunnel takes tunnels for the pods of its node.
const hbonePort = 15008

// Classify tells what a record's error means. It does not allocate.
func Classify(rec *Record) Failure {
	text, closing := unwrap(rec.Error)
	for _, prefix := range drained {
		if bytes.HasPrefix(text, prefix) {
			return Failure{Drained: true}
		}
	}
	if policy, ok := bytes.CutPrefix(text, prefixDenied); ok {
		return Failure{Type: semconv.ErrorTypePolicyDenied, Policy: policyName(policy)}
	}
	if status, ok := bytes.CutPrefix(text, prefixStatus); ok {
		return Failure{Type: byStatus(status)}
	}
	found := find(text)
	switch {
	case (closing || found.closing) && rec.answered():
		return Failure{Closing: true}
	case found.errorType == semconv.ErrorTypeConnectionRefused && rec.atHBONEPort():
		return Failure{Type: semconv.ErrorTypeHBONEBlocked}
	}
	return Failure{Type: found.errorType}
}

// answered tells whether the client received anything.
func (r *Record) answered() bool {
	if r.Direction == DirectionInbound {
		return r.BytesSent > 0
	}
	return r.BytesRecv > 0
}

// atHBONEPort tells whether a client's ztunnel called the port of the server's: a gateway or waypoint takes tunnels to
// addresses other than its own.
func (r *Record) atHBONEPort() bool {
	return r.Direction == DirectionOutbound && r.Dst.Port == hbonePort && len(r.HBONE.Host) > 0 && bytes.Equal(r.HBONE.Host, r.Dst.Host)
}

// unwrap returns the cause and whether the error came while the connection was being closed.
func unwrap(text []byte) (cause []byte, closing bool) {
	for {
		before := len(text)
		for i, wrapper := range wrappers {
			if rest, ok := bytes.CutPrefix(text, wrapper); ok {
				text, closing = rest, closing || i == 0
			}
		}
		if len(text) == before {
			return text, closing
		}
	}
}

var unknownError = pattern{errorType: semconv.ErrorTypeOther}

func find(text []byte) *pattern {
	for i := range byBeginning {
		if bytes.HasPrefix(text, byBeginning[i].text) {
			return &byBeginning[i]
		}
	}
	for i := range byCause {
		if bytes.Contains(text, byCause[i].text) {
			return &byCause[i]
		}
	}
	for i := range byWrapper {
		if bytes.HasPrefix(text, byWrapper[i].text) {
			return &byWrapper[i]
		}
	}
	return &unknownError
}

// byStatus reads the answer to a tunnel request. A ztunnel answers 401 to what its authorization policies turn
// down and a waypoint 403; 404 is a gateway without a route, 503 a ztunnel that could not reach its workload.
func byStatus(status []byte) string {
	switch {
	case hasPrefix(status, "401"), hasPrefix(status, "403"):
		return semconv.ErrorTypePolicyDenied
	case hasPrefix(status, "404"):
		return semconv.ErrorTypeNotRouted
	case hasPrefix(status, "408"), hasPrefix(status, "504"):
		return semconv.ErrorTypeConnectionTimeout
	}
	return semconv.ErrorTypeConnectFailed
}

// policyName returns "namespace/name", or nothing when the text does not have that form.
func policyName(s []byte) []byte {
	slash := bytes.IndexByte(s, '/')
	if slash <= 0 || slash == len(s)-1 || len(s) > 2*maxLabel+1 || !isHostName(s[:slash]) || !isHostName(s[slash+1:]) {
		return nil
	}
	return s
}
