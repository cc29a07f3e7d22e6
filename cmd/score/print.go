package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
)

func printResults(out io.Writer, results []Result, failures []error, verbose, events bool) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	heading := slices.ContainsFunc(results, func(r Result) bool { return r.Blame == nil })
	if heading {
		fmt.Fprintln(w, "recording\texpected\tfound\troot\tkind\tedges\tdelay\tclosed after\tfalse alarms")
	}
	var total tally
	for i := range results {
		r := &results[i]
		if failures[i] != nil || r.Blame != nil {
			continue
		}
		total.add(r)
		if len(r.Expected) == 0 {
			fmt.Fprintf(w, "%s\tnothing\t\t\t\t\t\t\t%d\n", r.Name, len(r.FalseAlarms))
		}
		for k, m := range r.Expected {
			alarms := ""
			if k == 0 {
				alarms = fmt.Sprint(len(r.FalseAlarms))
			}
			if m.Outage == nil {
				fmt.Fprintf(w, "%s\t%s %s\tMISSED\t\t\t\t\t\t%s\n", r.Name, m.Expected.Root, m.Expected.Kind, alarms)
				continue
			}
			fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, m.Expected.Root, m.Expected.Kind, times(m.Times),
				verdict(m.RootOK, rootText(m.Outage.Root)), verdict(m.KindOK, m.Outage.Kind), verdict(m.EdgesOK, "not all"),
				verdictTime(m.DelayOK, m.Delay), closingText(m), alarms)
		}
	}
	_ = w.Flush()
	if heading {
		total.print(out)
	}
	printBlames(out, results)
	for i := range results {
		r := &results[i]
		for _, o := range r.FalseAlarms {
			fmt.Fprintf(out, "false alarm in %s: %s\n", r.Name, describe(o))
		}
		if verbose {
			for _, o := range r.found {
				fmt.Fprintf(out, "%s: %s\n", r.Name, describe(o))
			}
		}
		if events {
			for _, t := range r.transitions {
				fmt.Fprintf(out, "%s: %s %s\n", r.Name, t.name, describe(t.outage))
			}
		}
	}
}

func times(n int) string {
	if n == 1 {
		return "yes"
	}
	return fmt.Sprintf("%d TIMES", n)
}

func verdict(ok bool, otherwise string) string {
	if ok {
		return "yes"
	}
	return "NO: " + otherwise
}

func verdictTime(ok bool, d time.Duration) string {
	text := d.Round(100 * time.Millisecond).String()
	if !ok {
		return "LATE: " + text
	}
	return text
}

func closingText(m Match) string {
	if m.Outage.EndedAt == nil {
		return verdict(m.ClosedOK, "still open")
	}
	return verdictTime(m.ClosedOK, m.Closing)
}

func describe(o *outage.Outage) string {
	ended := "open"
	if o.EndedAt != nil {
		ended = o.EndedAt.Format("15:04:05.0")
	}
	return fmt.Sprintf("[%s %s %s %s, began %s, detected %s, ended %s] %s", o.State, o.Severity, o.Kind, rootText(o.Root),
		o.StartedAt.Format("15:04:05.0"), o.DetectedAt.Format("15:04:05.0"), ended, o.Summary)
}

// tally adds up all recordings.
type tally struct {
	recordings, expected, found, root, top3, kindOK, edges, onTime, closed, alarms int
	delays                                                                         []time.Duration
	// kinds adds up by the kind that was expected or, of a false alarm, found.
	kinds map[string]*tally
}

func (t *tally) kind(name string) *tally {
	name, _, _ = strings.Cut(name, "|")
	if t.kinds == nil {
		t.kinds = map[string]*tally{}
	}
	if t.kinds[name] == nil {
		t.kinds[name] = &tally{}
	}
	return t.kinds[name]
}

func (t *tally) add(r *Result) {
	t.recordings++
	for _, o := range r.FalseAlarms {
		t.alarms++
		t.kind(o.Kind).alarms++
	}
	for _, m := range r.Expected {
		t.match(&m)
		t.kind(m.Expected.Kind).match(&m)
	}
}

func (t *tally) match(m *Match) {
	t.expected++
	t.root += count(m.RootOK)
	t.top3 += count(m.RootTop3)
	t.kindOK += count(m.KindOK)
	t.edges += count(m.EdgesOK)
	t.onTime += count(m.DelayOK)
	t.closed += count(m.ClosedOK)
	if m.Outage != nil {
		t.found++
		t.alarms += m.Times - 1
		t.delays = append(t.delays, m.Delay)
	}
}

// median and longest of the delays.
func (t *tally) delay() (median, longest time.Duration) {
	if len(t.delays) == 0 {
		return 0, 0
	}
	slices.Sort(t.delays)
	return t.delays[len(t.delays)/2].Round(100 * time.Millisecond), t.delays[len(t.delays)-1].Round(100 * time.Millisecond)
}

func count(ok bool) int {
	if ok {
		return 1
	}
	return 0
}

func (t *tally) print(out io.Writer) {
	fmt.Fprintf(out, "%d recordings: %d outages expected, %d found, %d false alarms\n", t.recordings, t.expected, t.found, t.alarms)
	if t.expected == 0 {
		return
	}
	precision := 1.0
	if t.found+t.alarms > 0 {
		precision = float64(t.found) / float64(t.found+t.alarms)
	}
	share := func(n int) float64 { return float64(n) / float64(t.expected) }
	fmt.Fprintf(out, "precision %.3f; of all expected: found (recall) %.3f, root right %.3f, among the first three %.3f, kind %.3f, edges %.3f, on time %.3f, closed %.3f\n",
		precision, share(t.found), share(t.root), share(t.top3), share(t.kindOK), share(t.edges), share(t.onTime), share(t.closed))
	median, longest := t.delay()
	fmt.Fprintf(out, "median delay %s, longest %s\n", median, longest)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "kind\texpected\tfound\troot\tamong three\tmedian delay\tfalse alarms")
	for _, name := range slices.Sorted(maps.Keys(t.kinds)) {
		k := t.kinds[name]
		median, _ := k.delay()
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\t%d\n", name, k.expected, k.found, k.root, k.top3, median, k.alarms)
	}
	_ = w.Flush()
}
