package naming

import (
	"net/netip"

	"github.com/nephilia/nephilia/internal/edge"
)

const (
	// externalWorkload stands for all parties outside the mesh beyond the bound on them.
	externalWorkload = "external"
	// Unknown stands for a party of which nothing is known.
	Unknown = "unknown"
)

// Externals are the parties outside the mesh that are told apart by their addresses, bounded. One is forgotten when no edge
// leads to or from it.
type Externals struct {
	max  int
	uses map[string]*externalUse // bounded by max, but for those restored with their edges
}

// externalUse counts the edges of a party. One that was named and has none yet is kept until the next sweep but one.
type externalUse struct {
	edges int
	old   bool
}

func newExternals(limit int) *Externals {
	return &Externals{max: limit, uses: map[string]*externalUse{}}
}

// Name names a party outside the mesh by its address. The second result is false if the bound on them is reached.
func (x *Externals) Name(address string) (edge.Party, bool) {
	if address == "" {
		return edge.Party{Workload: Unknown}, true
	}
	use, known := x.uses[address]
	if !known {
		if len(x.uses) >= x.max {
			return edge.Party{Workload: externalWorkload}, false
		}
		use = &externalUse{}
		x.uses[Intern(address)] = use
	}
	use.old = false
	return edge.Party{Workload: Intern(address)}, true
}

// Use notes that an edge has the party, if that is outside the mesh.
func (x *Externals) Use(party edge.Party) {
	if party != (edge.Party{Workload: party.Workload}) {
		return
	}
	use, known := x.uses[party.Workload]
	if !known {
		if _, err := netip.ParseAddr(party.Workload); err != nil {
			return
		}
		use = &externalUse{}
		x.uses[party.Workload] = use
	}
	use.edges++
}

// Release takes back what Use noted.
func (x *Externals) Release(party edge.Party) {
	if party != (edge.Party{Workload: party.Workload}) {
		return
	}
	if use, known := x.uses[party.Workload]; known {
		if use.edges--; use.edges <= 0 {
			delete(x.uses, party.Workload)
		}
	}
}

// sweep forgets the parties that were named before the last sweep and have no edge.
func (x *Externals) sweep() {
	for address, use := range x.uses {
		switch {
		case use.edges > 0:
		case use.old:
			delete(x.uses, address)
		default:
			use.old = true
		}
	}
}
