package cause

import (
	"maps"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// unsigned finds that istiod, or the CA behind it, signs no certificates: the connections of several apps fail for that on several nodes. A
// single app's may be its own doing, a single node's the node's.
type unsigned struct{ store *observe.Store }

func (f unsigned) find(open []Blame) (found []*Explanation, rest []Blame) {
	sources, nodes := map[*observe.App]bool{}, map[string]bool{}
	unsigned := map[*observe.Pair]bool{}
	for _, b := range open {
		for _, node := range lacking(b) {
			unsigned[b.Pair], sources[b.Pair.Source], nodes[node] = true, true, true
		}
	}
	if len(sources) < 2 || len(nodes) < 2 {
		return nil, open
	}
	e := &Explanation{
		Diagnosis: Diagnosis{Root: ControlPlane, Kind: rules.KindIdentityError, Rule: f.store.Catalogue.Base().Get(rules.CertificateFailures)},
		Extent:    Extent{Nodes: slices.Sorted(maps.Keys(nodes))}, Confirmed: true,
	}
	rest = take(&e.Edges, open, func(b Blame) bool { return unsigned[b.Pair] })
	if _, rule := dominantKind(e.Edges); e.Rule == nil {
		e.Rule = rule
	}
	if slices.ContainsFunc(e.Edges, func(b Blame) bool { return b.Fault().Ratio >= 0.5 }) {
		e.Severity = rules.Critical
	}
	return append(found, e), rest
}

// lacking are the nodes whose ztunnels logged, since a fault began, that a certificate was not signed.
func lacking(b Blame) (nodes []string) {
	if b.Family != observe.Connections || b.Fault().Kind != rules.KindIdentityError {
		return nil
	}
	since, _ := b.span()
	for i := range b.Pair.Reasons {
		for _, one := range b.Pair.Reasons[i].Evidence {
			if one.Time.UnixNano() >= since-together && reasons.Unsigned(one.Text) {
				nodes = append(nodes, strings.TrimPrefix(one.Source, "ztunnel "))
			}
		}
	}
	return nodes
}
