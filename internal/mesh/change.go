package mesh

import (
	"errors"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
)

// ChangeReason says in a word what changed.
type ChangeReason string

// The reasons of changes in Kubernetes.
const (
	// Of Deployments, StatefulSets and DaemonSets.
	ChangeCreated      ChangeReason = "created"
	ChangeDeleted      ChangeReason = "deleted"
	ChangeRollout      ChangeReason = "rollout"
	ChangeRolledOut    ChangeReason = "rolled_out"
	ChangeRolloutStuck ChangeReason = "rollout_stuck"
	ChangeScaled       ChangeReason = "scaled"
	// Of pods.
	ChangeRestarted   ChangeReason = "restarted"
	ChangeOOMKilled   ChangeReason = "oom_killed"
	ChangeCrashLoop   ChangeReason = "crash_loop"
	ChangeCannotStart ChangeReason = "cannot_start"
	ChangeEvicted     ChangeReason = "evicted"
	// Of nodes.
	ChangeAdded      ChangeReason = "added"
	ChangeRemoved    ChangeReason = "removed"
	ChangeReady      ChangeReason = "ready"
	ChangeNotReady   ChangeReason = "not_ready"
	ChangePressure   ChangeReason = "pressure"
	ChangeRelieved   ChangeReason = "relieved"
	ChangeCordoned   ChangeReason = "cordoned"
	ChangeUncordoned ChangeReason = "uncordoned"
	ChangeRebooted   ChangeReason = "rebooted"
	// ChangeEvent is a Kubernetes Event of type Warning.
	ChangeEvent ChangeReason = "event"
)

// Change is a change of what a mesh runs on (docs/data-model.md, section 2.4).
type Change struct {
	// Time is when it happened, as far as Kubernetes says, else when it was seen; Observed is when it was seen.
	Time, Observed pcommon.Timestamp
	Reason         ChangeReason
	// Kind, Namespace and Name are the object's, as Kubernetes names them; a node has no namespace.
	Kind, Namespace, Name string
	// App is the canonical service that the object belongs to; empty where it is not known or there is none.
	App string
	// Node is the node of a pod, or the node itself.
	Node string
	// Text is a sentence for people.
	Text string
	// Warning tells that the change is no intention of anybody's.
	Warning bool
}

// AppendTo writes the change as a log record.
func (c Change) AppendTo(records plog.LogRecordSlice) {
	record := records.AppendEmpty()
	record.SetTimestamp(c.Time)
	record.SetObservedTimestamp(c.Observed)
	record.SetEventName(semconv.EventChange)
	record.SetSeverityNumber(plog.SeverityNumberInfo)
	if c.Warning {
		record.SetSeverityNumber(plog.SeverityNumberWarn)
	}
	record.SetSeverityText(record.SeverityNumber().String())
	record.Body().SetStr(c.Text)
	attrs := record.Attributes()
	attrs.PutStr(semconv.AttrChangeReason, string(c.Reason))
	attrs.PutStr(semconv.AttrObjectKind, c.Kind)
	attrs.PutStr(semconv.AttrObjectName, c.Name)
	for _, optional := range [...]struct{ name, value string }{
		{semconv.AttrNamespaceName, c.Namespace}, {semconv.AttrCanonicalService, c.App}, {semconv.AttrNodeName, c.Node},
	} {
		if optional.value != "" {
			attrs.PutStr(optional.name, optional.value)
		}
	}
}

// ParseChange reads a change back from a log record of that event name.
func ParseChange(record plog.LogRecord) (Change, error) {
	attrs := record.Attributes()
	text := func(name string) string {
		value, ok := attrs.Get(name)
		if !ok || value.Type() != pcommon.ValueTypeStr {
			return ""
		}
		return value.Str()
	}
	c := Change{
		Time: record.Timestamp(), Observed: record.ObservedTimestamp(), Reason: ChangeReason(text(semconv.AttrChangeReason)),
		Kind: text(semconv.AttrObjectKind), Namespace: text(semconv.AttrNamespaceName), Name: text(semconv.AttrObjectName),
		App: text(semconv.AttrCanonicalService), Node: text(semconv.AttrNodeName), Text: record.Body().AsString(),
		Warning: record.SeverityNumber() >= plog.SeverityNumberWarn,
	}
	if c.Reason == "" || c.Kind == "" || c.Name == "" {
		return Change{}, errors.New("change without " + semconv.AttrChangeReason + ", " + semconv.AttrObjectKind + " or " + semconv.AttrObjectName)
	}
	return c, nil
}
