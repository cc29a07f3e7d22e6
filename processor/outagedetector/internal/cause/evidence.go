package cause

import (
	"fmt"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

const (
	maxEvidence   = 12
	changesBefore = 2 * time.Minute
)

// evidence gathers what was logged of an explanation's edges, what changed about its root just before, and what scrapes say.
func (f finish) evidence(e *Explanation) {
	seen := map[outage.Evidence]bool{}
	var found []outage.Evidence
	w := waypoints{f.store}
	pairs := make([]*observe.Pair, 0, 2*len(e.Edges))
	for _, b := range e.Edges {
		pairs = append(pairs, b.Pair)
		if to := w.entry(b.Pair); to != nil {
			pairs = append(pairs, to)
		}
	}
	for _, p := range pairs {
		for _, reason := range slices.Concat(p.Reasons, p.Denied) {
			for _, one := range reason.Evidence {
				said := one
				said.Time = time.Time{}
				if one.Time.UnixNano() >= e.Since-int64(10*time.Second) && !seen[said] {
					seen[said] = true
					found = append(found, one)
				}
			}
		}
	}
	for i := range f.store.Mesh.Changes {
		c := &f.store.Mesh.Changes[i]
		if c.Time < e.Since-int64(changesBefore) || c.Time > e.LastBad+int64(changesBefore) {
			continue
		}
		about := c.App.Name != "" && c.App.Name == e.Root.Name && c.App.Namespace == e.Root.Namespace ||
			c.Policy != "" && c.Policy == e.Policy || c.Node != "" && e.Root.Type == TypeNode && c.Node == e.Root.Name
		if about {
			found = append(found, outage.Evidence{Time: time.Unix(0, c.Time).UTC(), Text: c.Text, Source: c.Source, Kind: outage.EvidenceChange})
		}
	}
	found = append(found, f.revoked(e)...)
	if e.Root.Type == TypeNode {
		if n, ok := f.store.Nodes.ByName[e.Root.Name]; ok {
			if src, ok := n.Sources[semconv.SourceMetrics]; ok && !src.Up && src.Worked {
				found = append(found, outage.Evidence{
					Time: time.Unix(0, src.Changed).UTC(), Text: "scrape of ztunnel on " + n.Name + " fails", Source: "scrape " + n.Name, Kind: outage.EvidenceScrape,
				})
			}
		}
	}
	e.Evidence = append(e.Evidence, found...)
	slices.SortStableFunc(e.Evidence, func(a, b outage.Evidence) int { return a.Time.Compare(b.Time) })
	if len(e.Evidence) > maxEvidence {
		e.Evidence = append(e.Evidence[:maxEvidence/2], e.Evidence[len(e.Evidence)-maxEvidence/2:]...)
	}
}

// revoked says which ztunnels at an explanation's edges turned connections down meanwhile because the other end's certificate is revoked.
// Clients see no more of that than a handshake that failed.
func (f finish) revoked(e *Explanation) (found []outage.Evidence) {
	for _, name := range f.store.Nodes.Names() {
		n := f.store.Nodes.ByName[name]
		load, _ := n.Proxy.Load.Load()
		r := &load.Revocation
		if name == "" || r.Added == 0 || int64(r.Last) < e.Since-before || int64(r.First) > e.LastBad+late {
			continue
		}
		if slices.ContainsFunc(e.Edges, func(b Blame) bool {
			return b.Family == observe.Connections && (f.store.Touches(b.Pair.Source, name) || f.store.Touches(b.Pair.Destination, name))
		}) {
			found = append(found, outage.Evidence{
				Time: r.First.AsTime(), Source: "scrape " + name, Kind: outage.EvidenceScrape,
				Text: fmt.Sprintf("connections that the ztunnel of %s turned down because the other end's certificate is revoked: %d", name, r.Added),
			})
		}
	}
	return found
}
