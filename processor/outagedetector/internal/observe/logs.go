package observe

import (
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Change is a change of the mesh's state, after what was there when observation began.
type Change struct {
	Time int64
	Text string
	// Policy is "namespace/name" of the policy, App the workload, that changed.
	Policy string
	App    outage.Name
	Node   string
	Gone   bool
	// Pods tells that pods of the app came, went, or became ready or unready.
	Pods bool
	// Source says who told it: istiod, or Kubernetes.
	Source string
}

// The sources of changes.
const (
	fromIstiod     = "istiod"
	fromKubernetes = "kubernetes"
)

const (
	maxChanges = 256
	// settling is how long after the beginning entities may arrive that were there before.
	settling = int64(15 * time.Second)
	maxText  = 400
)

// Logs takes over a batch: mesh state, failed flow records and the ztunnels' own messages.
func (s *Store) Logs(batch plog.Logs) {
	resources := batch.ResourceLogs()
	for i := range resources.Len() {
		resource := resources.At(i)
		node := attr(resource.Resource().Attributes(), semconv.AttrNodeName)
		for j := range resource.ScopeLogs().Len() {
			scope := resource.ScopeLogs().At(j)
			entities := mesh.IsEntityScope(scope.Scope())
			for k := range scope.LogRecords().Len() {
				record := scope.LogRecords().At(k)
				switch {
				case entities:
					s.entity(record)
				case record.EventName() == semconv.EventAccess:
					s.flow(record, node)
				case record.EventName() == semconv.EventZtunnelLog:
					s.message(record, node)
				case record.EventName() == semconv.EventChange:
					s.kubernetes(record)
				}
			}
		}
	}
}

func (s *Store) entity(record plog.LogRecord) {
	event, err := mesh.ParseEvent(record)
	if err != nil {
		s.Drops.Malformed++
		return
	}
	t, ok := s.timeOf(event.Time)
	if !ok {
		return
	}
	s.began(t)
	previous, taken := s.State.Apply(event)
	if !taken {
		s.Drops.Entities++
		return
	}
	initial := t-s.Begin <= settling
	switch e := event.Entity.(type) {
	case *mesh.Policy:
		s.policyChange(e, previous, event.Deleted, t, initial)
	case *mesh.Ztunnel:
		if event.Deleted {
			s.left(e.Node)
		}
	case *mesh.Workload:
		s.podsStale, s.stateKnown = true, true
		if !event.Deleted && len(s.serviceApps) < s.limits.Entities {
			for service := range e.Services {
				s.serviceApps[service] = outage.Name{Namespace: e.Namespace, Name: e.App()}
			}
		}
		if !initial {
			s.workloadChange(e, previous, event.Deleted, t)
		}
	}
}

func (s *Store) policyChange(p *mesh.Policy, previous mesh.Entity, deleted bool, t int64, initial bool) {
	var what string
	old, known := previous.(*mesh.Policy)
	switch {
	case deleted:
		what = "deleted"
	case initial && !known:
		return
	case !known:
		what = "added"
	case old.Rules != p.Rules || old.Action != p.Action || old.Scope != p.Scope || old.DryRun != p.DryRun:
		what = "changed"
	default:
		return
	}
	key := p.Key()
	s.policies[key] = t
	s.change(Change{Time: t, Source: fromIstiod, Policy: key, Gone: deleted, Text: "AuthorizationPolicy " + key + " " + what})
}

func (s *Store) workloadChange(w *mesh.Workload, previous mesh.Entity, deleted bool, t int64) {
	old, known := previous.(*mesh.Workload)
	var what string
	switch {
	case deleted:
		what = "removed"
	case !known:
		what = "added"
	case old.Healthy && !w.Healthy:
		what = "unhealthy"
	case !old.Healthy && w.Healthy:
		what = "healthy again"
	default:
		return
	}
	app := w
	if deleted && known {
		app = old
	}
	s.change(Change{
		Time: t, Source: fromIstiod, Pods: true, App: outage.Name{Namespace: app.Namespace, Name: app.App()}, Node: app.Node, Gone: deleted || what == "unhealthy",
		Text: "pod " + app.Namespace + "/" + app.Name + " " + what,
	})
}

func (s *Store) change(c Change) {
	if len(s.Changes) >= maxChanges {
		s.Changes = slices.Delete(s.Changes, 0, maxChanges/4)
	}
	s.Changes = append(s.Changes, c)
}

// PolicyChanged is when a policy was last added, changed or deleted under observation; 0 if never.
func (s *Store) PolicyChanged(key string) int64 { return s.policies[key] }

func (s *Store) flow(record plog.LogRecord, node string) {
	attrs := record.Attributes()
	errorType := attr(attrs, semconv.AttrErrorType)
	if errorType == "" || !counts(errorType) {
		return
	}
	t, ok := s.timeOf(record.Timestamp())
	if !ok {
		return
	}
	s.began(t)
	source := s.partyOf(attrs, semconv.AttrSourceNamespace, semconv.AttrSourcePod, semconv.AttrSourceAddress)
	hbone := attr(attrs, semconv.AttrDestinationHBONE)
	destination := s.partyOf(attrs, semconv.AttrDestinationNamespace, semconv.AttrDestinationPod, semconv.AttrDestinationAddress)
	if source.Name == "" || destination.Name == "" {
		s.Drops.Malformed++
		return
	}
	p := s.pair(source, destination, t, s.slotLength())
	if p == nil {
		return
	}
	if p.keys == 0 {
		// Nothing has counted it yet; should nothing ever, the edge is forgotten like any other.
		p.FirstSeen = t
	}
	p.recorded(Failed, t)
	outbound := attr(attrs, semconv.AttrDirection) == semconv.DirectionOutbound
	if outbound {
		p.records[0]++
	} else {
		p.records[1]++
	}
	// The client's side of a refused tunnel does not know why; the server's record does.
	r := p.reason(strings.Clone(errorType), strings.Clone(attr(attrs, semconv.AttrPolicy)), t)
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
	if outbound && hbone != "" && unreached(errorType) {
		namespace, pod := attr(attrs, semconv.AttrDestinationNamespace), attr(attrs, semconv.AttrDestinationPod)
		if pod == "" {
			return
		}
		if e := s.endpoint(namespace, pod, s.app(destination), "", t); e != nil {
			e.Tunnel = max(e.Tunnel, t)
		}
	}
}

// counts tells whether failures of an error type can be somebody's outage: that a client left is not.
func counts(errorType string) bool { return reasons.Of(errorType).Kind != "" }

// unreached tells whether a client's ztunnel did not reach what the tunnel leads to.
func unreached(errorType string) bool {
	switch errorType {
	case semconv.ErrorTypeConnectionRefused, semconv.ErrorTypeConnectionTimeout, semconv.ErrorTypeHBONEBlocked:
		return true
	}
	return false
}

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

func (s *Store) message(record plog.LogRecord, node string) {
	n := s.node(node)
	if n == nil {
		return
	}
	t, ok := s.timeOf(record.Timestamp())
	if !ok {
		return
	}
	s.began(t)
	scope := attr(record.Attributes(), semconv.AttrScope)
	body := record.Body().AsString()
	warned := record.SeverityNumber() >= plog.SeverityNumberWarn
	evidence := outage.Evidence{Time: time.Unix(0, t).UTC(), Text: bounded(body), Source: ztunnelOf(node), Kind: outage.EvidenceLog}
	switch {
	case strings.HasPrefix(scope, "xds"), strings.HasPrefix(body, "XDS client"):
		switch {
		case warned && strings.Contains(body, "error"):
			n.XDS.add(t, 1, evidence)
		case !warned && (strings.Contains(body, "established") || strings.Contains(body, "received response")):
			n.XDS.Good = max(n.XDS.Good, t)
		}
	case warned && (strings.HasPrefix(scope, "identity") || strings.Contains(strings.ToLower(body), "fetch certificate")):
		n.Certificates.add(t, 1, evidence)
	}
}
