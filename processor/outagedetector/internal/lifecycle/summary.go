package lifecycle

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// fallback is the sentence of what no rule names.
const fallback rules.Sentence = "{root} {is|was} in trouble {when}: {kind} ({failed} of {total})."

// summary is the outage in the sentence that a person would write at 3 a.m. or, once it is over, the morning after.
func summary(o *entry) string {
	out := &o.Outage
	failed, total := o.Failed, o.Total
	if len(out.Edges) > 0 {
		failed, total = 0, 0
		for _, edge := range out.Edges {
			failed += edge.Failed
			total += edge.Total
		}
	}
	sentence := fallback
	if rule := rules.Named(o.Rule); rule != nil {
		sentence = rule.Sentence
		if rule.Bare != "" && (len(out.Edges) == 0 || total < 2) {
			sentence = rule.Bare
		}
	}
	policy := "a policy"
	if out.Policy != "" {
		policy = "AuthorizationPolicy " + out.Policy
	}
	source := strings.ReplaceAll(o.Source, "_", " ")
	if len(out.Edges) > 0 {
		source = out.Edges[0].Source.Name
	}
	past := out.State != semconv.OutageStateOpen && out.EndedAt != nil
	verb := func(n int, one, many, then string) string {
		switch {
		case past:
			return then
		case n > 1:
			return many
		}
		return one
	}
	were := "was"
	if len(out.Edges) > 1 {
		were = "were"
	}
	text := sentence.Fill(map[string]string{
		"edge": edgeText(out), "root": out.Root.Name, "kind": strings.ReplaceAll(out.Kind, "_", " "), "when": when(o, past), "during": during(o, past),
		"times":  strconv.FormatFloat(o.Times, 'f', 1, 64),
		"failed": strconv.FormatUint(failed, 10), "total": strconv.FormatUint(total, 10), "policy": policy,
		"pods": orText(list(out.Pods, 3), "a pod"), "nodes": orText(list(o.Nodes, 3), "a ztunnel"), "source": orText(source, "telemetry"),
		"podfails": verb(len(out.Pods), "fails", "fail", "failed"), "fails": verb(len(out.Edges), "fails", "fail", "failed"),
		"hangs": verb(len(out.Edges), "hangs", "hang", "hung"), "is": verb(len(out.Edges), "is", "are", were),
	}, past)
	if len(out.Pods) > 0 && o.Rule != rules.PartialOutage {
		text += " Only " + list(out.Pods, 3) + pick(len(out.Pods) > 1, pick(past, " were", " are"), pick(past, " was", " is")) + " at fault."
	}
	if o.Waypoint != "" {
		text += waypointText(o, past)
	}
	text += impactText(out)
	if out.State == semconv.OutageStateStale && past {
		text += " Nothing has been heard of it since."
	}
	return text
}

// waypointText tells that what fails are not the callers' own connections.
func waypointText(o *entry, past bool) string {
	text := " The traffic " + pick(past, "came", "comes") + " through the waypoint " + o.Waypoint
	if o.Outage.Kind == rules.KindPolicyDenied {
		text += ", whose identity " + pick(past, "was", "is") + " not admitted"
	}
	return text + "."
}

const clock = "15:04:05"

// when is the outage's time in words; an end that nobody saw is none.
func when(o *entry, past bool) string {
	since := at(o.Since).Format(clock)
	switch {
	case !past:
		return "since " + since
	case o.Outage.State == semconv.OutageStateStale:
		return "from " + since + " on"
	}
	return "from " + since + " to " + o.Outage.EndedAt.Format(clock)
}

// during is the same for a sentence about what did not happen.
func during(o *entry, past bool) string {
	since := at(o.Since).Format(clock)
	if !past || o.Outage.State == semconv.OutageStateStale {
		return "since " + since
	}
	return "between " + since + " and " + o.Outage.EndedAt.Format(clock)
}

func pick(first bool, one, other string) string {
	if first {
		return one
	}
	return other
}

func edgeText(o *outage.Outage) string {
	if len(o.Edges) == 0 {
		return o.Root.Name
	}
	first := o.Edges[0]
	switch len(o.Edges) {
	case 1:
		return first.Source.Name + " → " + first.Destination.Name
	default:
		return first.Source.Name + " → " + first.Destination.Name + " and " + countOf(len(o.Edges)-1, "other edge")
	}
}

// impactText names those who feel it without being part of it.
func impactText(o *outage.Outage) string {
	var names []string
	for _, i := range o.Impact {
		named := false
		for _, e := range o.Edges {
			named = named || e.Source == i.Name
		}
		if !named {
			names = append(names, i.Name.Name)
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return " " + names[0] + " depends on it."
	default:
		return fmt.Sprintf(" %s and %d more depend on it.", names[0], len(names)-1)
	}
}

func countOf(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func list(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + " and " + strconv.Itoa(len(names)-most) + " more"
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
