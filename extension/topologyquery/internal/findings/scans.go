package findings

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
)

// fewPorts is how many ports of a party another one may use before that is a scan. The graph tells at least 256 apart.
const fewPorts = 100

// scans finds who tried many ports of somebody.
func (f *finder) scans() {
	type pair struct{ source, destination int }
	type tried struct {
		ports          map[uint16]struct{}
		more           bool // than the graph tells apart
		opened, failed uint64
	}
	all := map[pair]*tried{}
	for _, e := range f.graph.Edges {
		at := pair{e.Source, e.Destination}
		t := all[at]
		if t == nil {
			t = &tried{ports: map[uint16]struct{}{}}
			all[at] = t
		}
		t.ports[e.Port] = struct{}{}
		t.more = t.more || e.Port == 0
		t.opened += e.Counts.Fields[live.Opened]
		t.failed += e.Counts.Failed
	}
	scanners := map[int]*Finding{}
	for at, t := range all {
		if len(t.ports) <= fewPorts {
			continue
		}
		source, destination := &f.graph.Nodes[at.source], &f.graph.Nodes[at.destination]
		one := scanners[at.source]
		if one == nil {
			one = &Finding{Kind: PortScan, Severity: severityWarning, Subject: *subjectOf(source), Evidence: []Evidence{}}
			scanners[at.source] = one
		}
		ports := fmt.Sprint(len(t.ports))
		if t.more {
			ports = fmt.Sprint("more than ", len(t.ports)-1)
		}
		one.Evidence = append(one.Evidence, Evidence{
			Text:   fmt.Sprintf("%s tried %s ports of %s: %s, of which %d failed.", source.Name, ports, destination.Name, plural(t.opened, "connection"), t.failed),
			Source: subjectOf(source), Connections: t.opened,
		})
	}
	for _, one := range scanners {
		slices.SortFunc(one.Evidence, func(a, b Evidence) int {
			return cmp.Or(cmp.Compare(b.Connections, a.Connections), strings.Compare(a.Text, b.Text))
		})
		one.Summary = one.Evidence[0].Text
		one.Evidence = one.Evidence[:min(len(one.Evidence), maxEvidence)]
		f.add(*one)
	}
}
