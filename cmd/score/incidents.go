package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
)

// Incident is what is known of a recording in which users felt one fault, or in which nothing happened: hours of healthy rows, then the
// rows of the fault.
type Incident struct {
	// Root is whose fault it was, Target where users felt it.
	Root   string `json:"root"`
	Target struct {
		Node   string `json:"node"`
		Metric string `json:"metric"`
	} `json:"target"`
	// From is when the first row of the incident began, in unix seconds; the row is healthy itself.
	From float64 `json:"issue_from"`
	// QuietHours is how long nothing happened, where nothing did.
	QuietHours float64 `json:"quiet_hours"`
}

const (
	// healthyRow is how long the first row of an incident lasts.
	healthyRow = 5 * time.Minute
	// healthyHours is how long nothing happens before an incident.
	healthyHours = 3
)

// Blame is how well an incident was blamed.
type Blame struct {
	Incident Incident
	// Ranked are the roots in question, the likeliest first.
	Ranked []string
	// Early, Late are outages before and in the incident, More those of the latter that are critical and not the one that users felt.
	Early, Late, More int
}

// blame takes of an incident's outages the one that users felt.
func (i *Incident) blame(outages []*outage.Outage) *Blame {
	b := &Blame{Incident: *i}
	if i.QuietHours > 0 {
		b.Early = len(outages)
		return b
	}
	begins := time.Unix(0, int64(i.From*float64(time.Second))).Add(healthyRow)
	var late []*outage.Outage
	for _, o := range outages {
		if o.DetectedAt.Before(begins) {
			b.Early++
		} else {
			late = append(late, o)
		}
	}
	b.Late = len(late)
	if len(late) == 0 {
		return b
	}
	slices.SortStableFunc(late, func(a, b *outage.Outage) int {
		return cmp.Or(order(!i.felt(a), !i.felt(b)), order(a.Severity != "critical", b.Severity != "critical"), a.DetectedAt.Compare(b.DetectedAt))
	})
	add := func(name string) {
		if !slices.Contains(b.Ranked, name) {
			b.Ranked = append(b.Ranked, name)
		}
	}
	add(late[0].Root.Name)
	for _, c := range late[0].Candidates {
		add(c.Name)
	}
	for _, o := range late[1:] {
		b.More += count(o.Severity == "critical")
	}
	return b
}

func order(a, b bool) int { return cmp.Compare(count(a), count(b)) }

// felt tells whether an outage shows the service at which users felt the incident.
func (i *Incident) felt(o *outage.Outage) bool {
	return slices.ContainsFunc(o.Edges, func(e outage.Edge) bool { return e.Source.Name == i.Target.Node || e.Destination.Name == i.Target.Node }) ||
		slices.ContainsFunc(o.Impact, func(one outage.Impact) bool { return one.Name.Name == i.Target.Node })
}

// Top tells whether the root is among the first n in question.
func (b *Blame) Top(n int) bool {
	return slices.Contains(b.Ranked[:min(n, len(b.Ranked))], b.Incident.Root)
}

// perfect tells whether all was as it must be.
func (b *Blame) perfect() bool {
	return b.Early == 0 && (b.Incident.QuietHours > 0 || b.Top(1) && b.More == 0)
}

// printBlames adds incidents up.
func printBlames(out io.Writer, results []Result) {
	var incidents, found, top1, top3, early, late, more int
	var quiet float64
	alarms := 0
	for i := range results {
		b := results[i].Blame
		switch {
		case b == nil:
		case b.Incident.QuietHours > 0:
			quiet += b.Incident.QuietHours
			alarms += b.Early
			fmt.Fprintf(out, "%s: %d outages in %.0f hours in which nothing happened\n", results[i].Name, b.Early, b.Incident.QuietHours)
		default:
			incidents++
			found, top1, top3 = found+count(b.Late > 0), top1+count(b.Top(1)), top3+count(b.Top(3))
			early, late, more = early+b.Early, late+b.Late, more+b.More
			fmt.Fprintf(out, "%s: %s of %s; blamed %v; %d outages, %d before it, %d further critical ones\n", results[i].Name,
				b.Incident.Target.Metric, b.Incident.Root, b.Ranked[:min(3, len(b.Ranked))], b.Late, b.Early, b.More)
		}
	}
	if incidents > 0 {
		share := func(k int) float64 { return float64(k) / float64(incidents) }
		fmt.Fprintf(out, "%d incidents: found %.3f, root right %.3f, among the first three %.3f; %.2f outages each, %.2f further critical ones; %.2f alarms per healthy hour\n",
			incidents, share(found), share(top1), share(top3), share(late), share(more), share(early)/healthyHours)
	}
	if quiet > 0 {
		fmt.Fprintf(out, "%.0f quiet hours: %.3f alarms per hour\n", quiet, float64(alarms)/quiet)
	}
}
