package observe

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
)

// flow takes over a flow record. Those that failed name the reasons sooner and in more detail than the counters.
func (s *Store) flow(record plog.LogRecord, node string) {
	attrs := record.Attributes()
	errorType := attr(attrs, semconv.AttrErrorType)
	if errorType == "" || !counts(errorType) {
		return
	}
	t, ok := s.at(record.Timestamp())
	if !ok {
		return
	}
	source := s.party(attrs, node, semconv.AttrSourceNamespace, semconv.AttrSourcePod, semconv.AttrSourceAddress)
	destination := s.party(attrs, node, semconv.AttrDestinationNamespace, semconv.AttrDestinationPod, semconv.AttrDestinationAddress)
	if source.Name == "" || destination.Name == "" {
		s.Drops.Malformed++
		return
	}
	p := s.Edges.pair(source, destination, t, s.slotLength())
	if p == nil || p.Behind && !reasons.Decisive(errorType) {
		return
	}
	if p.told.series == 0 {
		// Nothing has counted it yet.
		p.FirstSeen = t
	}
	p.runs.recorded(Failed, t)
	outbound := attr(attrs, semconv.AttrDirection) == semconv.DirectionOutbound
	answer := semconv.AttrBytesRecv
	if outbound {
		p.runs.records[0]++
		if reasons.Of(errorType).Lost && number(attrs, answer) == 0 {
			to := s.Mesh.state.Pod(attr(attrs, semconv.AttrDestinationNamespace), attr(attrs, semconv.AttrDestinationPod))
			if to != nil && to.Node != "" && node != "" {
				p.Apart.failed(strings.Clone(node), to.Node, t)
			}
		}
	} else {
		p.runs.records[1]++
		answer = semconv.AttrBytesSent
	}
	if number(attrs, answer) == 0 {
		p.runs.waited(t - max(number(attrs, semconv.AttrDuration), 0))
	}
	// The client's side of a refused tunnel does not know why; the server's record does.
	r := reasonIn(&p.Reasons, strings.Clone(errorType), strings.Clone(attr(attrs, semconv.AttrPolicy)), t)
	text := attr(attrs, semconv.AttrErrorMessage)
	if text == "" {
		text = record.Body().AsString()
	}
	if !outbound {
		r.Told = max(r.Told, t)
	}
	r.addRecord(t, outage.Evidence{
		Time: time.Unix(0, t).UTC(), Text: bounded(text), Source: ztunnelOf(node), Kind: outage.EvidenceLog,
	})
}

// request takes over a request that a waypoint or gateway logged. One that it denied itself no counter calls failed: the client is told
// that it may not.
func (s *Store) request(record plog.LogRecord) {
	attrs := record.Attributes()
	if attr(attrs, semconv.AttrErrorType) != semconv.ErrorTypePolicyDenied {
		return
	}
	if _, repeated := attrs.Get(semconv.AttrRepeated); repeated {
		return
	}
	key := edge.KeyOf(attrs)
	source, destination := s.Mesh.partyName(&key.Source, ""), s.Mesh.partyName(&key.Destination, key.Service)
	if key.Source.Workload == "" {
		// The record does not say on which edge it counts: it names the client's address and the service.
		host := attr(attrs, semconv.AttrDestinationService)
		source = s.Mesh.partyOf("", "", "", attr(attrs, semconv.AttrSourceAddress))
		destination = s.Mesh.partyName(&edge.Party{Workload: host}, host)
	}
	if source.Namespace == "" || destination.Namespace == "" {
		return // nobody's, or nobody's who is known
	}
	t, ok := s.at(record.Timestamp())
	if !ok {
		return
	}
	p := s.Edges.pair(source, destination, t, s.slotLength())
	if p == nil {
		return
	}
	p.runs.recorded(RequestsFailed, t)
	s.Edges.count(p, t, RequestsFailed, 1)
	details := attr(attrs, semconv.AttrResponseDetails)
	reasonIn(&p.Denied, semconv.ErrorTypePolicyDenied, strings.Clone(attr(attrs, semconv.AttrPolicy)), t).addRecord(t, outage.Evidence{
		Time: time.Unix(0, t).UTC(), Text: bounded("request denied: " + details), Source: "waypoint " + key.Waypoint, Kind: outage.EvidenceLog,
	})
}

// counts tells whether failures of an error type can be somebody's outage: that a client left is not.
func counts(errorType string) bool { return reasons.Of(errorType).Kind != "" }

// party is what a party of a node's flow record is called.
func (s *Store) party(attrs pcommon.Map, node, namespaceAttr, podAttr, addressAttr string) outage.Name {
	name := s.Mesh.partyOf(node, attr(attrs, namespaceAttr), attr(attrs, podAttr), attr(attrs, addressAttr))
	if name.Namespace == "" && name.Name != "" {
		return s.Edges.external(name)
	}
	return name
}

// maxText bounds a text that is kept.
const maxText = 400

func ztunnelOf(node string) string {
	if node == "" {
		return "ztunnel"
	}
	return "ztunnel " + node
}

func bounded(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return strings.Clone(text)
}
