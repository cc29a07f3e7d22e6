package naming

import "github.com/nephilia/nephilia/internal/edge"

// canonical is what ztunnel's DNS proxy calls who asks it: no namespace is told.
type canonical struct{ node, app, version string }

// AskerOf is the workload on a node that goes by a canonical service and revision. Where workloads of several namespaces do, or none is
// known, only those two are told.
func AskerOf(d *Directory, node, app, version string) edge.Party {
	if party, ok := d.derive().askers[canonical{node, app, version}]; ok {
		return party
	}
	return edge.Party{App: app, Version: version}
}

// addAsker takes up a workload among those that ask.
func (r *derived) addAsker(node string, party edge.Party) {
	key := canonical{node, party.App, party.Version}
	if known, ok := r.askers[key]; ok && known != party {
		party = edge.Party{App: party.App, Version: party.Version}
	}
	r.askers[key] = party
}
