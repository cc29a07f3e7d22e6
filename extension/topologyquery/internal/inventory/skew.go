package inventory

import (
	"cmp"
	"maps"
	"slices"

	"github.com/nephilia/nephilia/internal/mesh"
)

// maxNamed bounds the nodes that are named of one value.
const maxNamed = 100

// Variant is a value that ztunnels have: of how many nodes, and the names of the first of these.
type Variant struct {
	Value string   `json:"value"`
	Count int      `json:"count"`
	Nodes []string `json:"nodes"`
}

// Setting is one that ztunnels do not all have the same.
type Setting struct {
	Name   string    `json:"name"`
	Values []Variant `json:"values"`
}

// Skew is in what the ztunnels of a mesh are not alike.
type Skew struct {
	// Versions are those that there are, the one of most nodes first.
	Versions []Variant `json:"versions"`
	// Settings are those with several values, by name.
	Settings []Setting `json:"settings"`
}

// absent is the value of a setting that a ztunnel does not state while others do.
const absent = "not stated"

// SkewOf compares ztunnels; by their settings those of one cluster of which there are config dumps.
func SkewOf(ztunnels []*mesh.Ztunnel) Skew {
	skew := Skew{Settings: []Setting{}}
	versions := map[string][]string{}
	names := map[string]struct{}{}
	dumped := map[string][]*mesh.Ztunnel{} // by cluster
	for _, z := range ztunnels {
		if z.Version != "" {
			versions[z.Version] = append(versions[z.Version], z.Node)
		}
		if len(z.Settings) > 0 {
			dumped[z.ClusterID] = append(dumped[z.ClusterID], z)
		}
		for name := range z.Settings {
			names[name] = struct{}{}
		}
	}
	skew.Versions = variants(versions)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		differing := map[string][]string{}
		for _, cluster := range dumped {
			values := map[string][]string{}
			for _, z := range cluster {
				value, ok := z.Settings[name]
				if !ok {
					value = absent
				}
				values[value] = append(values[value], z.Node)
			}
			if len(values) > 1 {
				for value, nodes := range values {
					differing[value] = append(differing[value], nodes...)
				}
			}
		}
		if len(differing) > 0 {
			skew.Settings = append(skew.Settings, Setting{name, variants(differing)})
		}
	}
	return skew
}

func variants(values map[string][]string) []Variant {
	list := make([]Variant, 0, len(values))
	for value, nodes := range values {
		slices.Sort(nodes)
		list = append(list, Variant{value, len(nodes), nodes[:min(len(nodes), maxNamed)]})
	}
	slices.SortFunc(list, func(a, b Variant) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	return list
}
