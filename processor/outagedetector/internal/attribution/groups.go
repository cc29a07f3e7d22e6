package attribution

import (
	"cmp"
	"slices"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

// groups are the members that are ill and connected: along calls the same symptom at both ends, a slow callee under a caller that fails, and
// what began together under one caller.
func (a *Attribution) groups() (groups [][]member) {
	list := make([]member, 0, len(a.ill))
	for m := range a.ill {
		list = append(list, m)
	}
	sortMembers(list)
	seen := make(map[member]bool, len(list))
	for _, m := range list {
		if seen[m] {
			continue
		}
		seen[m] = true
		group := []member{m}
		for i := 0; i < len(group); i++ {
			a.neighbours(group[i], func(next member) {
				if a.ill[next] != nil && !seen[next] {
					seen[next] = true
					group = append(group, next)
				}
			})
		}
		sortMembers(group)
		groups = append(groups, group)
	}
	return groups
}

func sortMembers(list []member) {
	slices.SortFunc(list, func(a, b member) int {
		return cmp.Or(observe.CompareNames(a.app.Name, b.app.Name), cmp.Compare(a.symptom, b.symptom))
	})
}

// neighbours are the members that may have to do with one.
func (a *Attribution) neighbours(m member, take func(member)) {
	now := a.store.Now
	for _, symptom := range symptoms {
		take(member{m.app, symptom})
	}
	for _, p := range calls(m.app.Out, now) {
		take(member{p.Destination, m.symptom})
		if m.symptom == observe.RequestErrors {
			take(member{p.Destination, observe.Latency})
		}
	}
	for _, p := range calls(m.app.In, now) {
		take(member{p.Source, m.symptom})
		if m.symptom == observe.Latency {
			take(member{p.Source, observe.RequestErrors})
		}
		if len(p.Source.In) == 0 {
			continue // users call much that has nothing to do with each other
		}
		for _, sibling := range calls(p.Source.Out, now) {
			next := member{sibling.Destination, m.symptom}
			if other := a.ill[next]; other != nil && distance(other.since, a.ill[m].since) < other.length {
				take(next)
			}
		}
	}
}

func distance(a, b int64) int64 { return max(a-b, b-a) }

// assign gives a group to the incident that it belongs to: one that has a member in common, or a new one if any of the group opens one.
func (a *Attribution) assign(group []member) {
	var found *Incident
	a.Incidents = slices.DeleteFunc(a.Incidents, func(i *Incident) bool {
		if !i.shares(group) {
			return false
		}
		if found == nil {
			found = i
			return false
		}
		found.join(i)
		return true
	})
	if found == nil {
		if !slices.ContainsFunc(group, func(m member) bool { return a.ill[m].opens }) {
			return
		}
		found = &Incident{members: map[member]*illness{}, started: a.store.Now}
		for _, m := range group {
			if ill := a.ill[m]; ill.opens && (found.Since == 0 || ill.since < found.Since) {
				found.Since = ill.since
			}
		}
		a.Incidents = append(a.Incidents, found)
	}
	for _, m := range group {
		ill := *a.ill[m]
		ill.since = max(ill.since, found.Since)
		if known := found.members[m]; known != nil {
			ill.since = known.since
		}
		found.members[m] = &ill
	}
}
