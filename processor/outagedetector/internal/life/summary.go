package life

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// summary is the outage in the sentence that a person would write at 3 a.m.
func summary(o *entry, e *cause.Explanation) string {
	out := &o.Outage
	failed, total := e.Failed, e.Total
	if len(out.Edges) > 0 {
		failed, total = 0, 0
		for _, edge := range out.Edges {
			failed += edge.Failed
			total += edge.Total
		}
	}
	sentence := "{root} is in trouble since {since}: {kind} ({failed} of {total})."
	if e.Rule != nil {
		sentence = e.Rule.Sentence
		if e.Rule.Bare != "" && (len(out.Edges) == 0 || total < 2) {
			sentence = e.Rule.Bare
		}
	}
	policy := "a policy"
	if out.Policy != "" {
		policy = "AuthorizationPolicy " + out.Policy
	}
	source := e.Source
	if len(out.Edges) > 0 {
		source = out.Edges[0].Source.Name
	}
	number := func(n int, one, many string) string {
		if n > 1 {
			return many
		}
		return one
	}
	text := strings.NewReplacer(
		"{edge}", edgeText(out), "{root}", nameOf(out.Root), "{kind}", strings.ReplaceAll(out.Kind, "_", " "),
		"{since}", at(o.Since).Format("15:04:05"), "{failed}", strconv.FormatUint(failed, 10), "{total}", strconv.FormatUint(total, 10),
		"{policy}", policy, "{pods}", orText(list(out.Pods, 3), "a pod"), "{nodes}", orText(list(e.Nodes, 3), "a ztunnel"),
		"{source}", orText(source, "telemetry"), "{podfails}", number(len(out.Pods), "fails", "fail"),
		"{fails}", number(len(out.Edges), "fails", "fail"), "{hangs}", number(len(out.Edges), "hangs", "hang"),
		"{is}", number(len(out.Edges), "is", "are"),
	).Replace(sentence)
	if len(out.Pods) > 0 && e.Rule != nil && e.Rule.ID != rules.PartialOutage {
		text += " Only " + list(out.Pods, 3) + number(len(out.Pods), " is at fault.", " are at fault.")
	}
	return text + impactText(out)
}

func edgeText(o *outage.Outage) string {
	if len(o.Edges) == 0 {
		return nameOf(o.Root)
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

func nameOf(s outage.Subject) string { return s.Name }

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
