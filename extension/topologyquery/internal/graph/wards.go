package graph

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"unique"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/outage"
)

// ward is a party whose health is watched: a workload, or an address outside. Each has one health, whatever the graph shows of it.
type ward struct {
	key           nodeKey
	app           string
	in, out       tally
	dark, partial bool
	inMesh        bool
	verdict       verdict
	// node is one more than the index of the node that the ward was last made part of.
	node int
}

func (w *ward) name() string { return w.key.name }

func compareWards(a, b *ward) int {
	return cmp.Or(cmp.Compare(a.key.namespace, b.key.namespace), cmp.Compare(a.key.name, b.key.name), cmp.Compare(a.key.cluster, b.key.cluster))
}

// seen says how an edge is seen by its ends' ztunnels.
type seen struct {
	// partial tells that neither end tells of more than what failed, dark that neither end's telemetry arrives, half that one's does not.
	partial, dark, half bool
}

func seenBy(a, b *ward) seen {
	return seen{
		partial: a.partial && (b.partial || !b.inMesh) || b.partial && !a.inMesh,
		dark:    a.dark && b.dark, half: a.dark || b.dark,
	}
}

// Outage is an outage of the window.
type Outage struct {
	Root     Root
	Summary  string
	Critical bool
	// Open tells that it is open at the window's end.
	IsOpen bool
	// Denial tells that it is one of denials, which are then nobody's will.
	Denial bool
	// Names tells that it is one of names that are not resolved, or late.
	Names bool
	Edges []outage.Edge
}

// Root is the subject of an outage.
type Root struct{ Namespace, Name string }

// Open is the health of what an open outage begins with; empty if it has ended.
func (o *Outage) Open() string {
	switch {
	case !o.IsOpen:
		return ""
	case o.Critical:
		return Failing
	}
	return Degraded
}

// period is the clock in an outage's sentence, in UTC; where health is told, everybody sees what time it is.
var period = regexp.MustCompile(` since \d\d:\d\d:\d\d\b`)

// clause is the outage's sentence as the reason of a health: what fails and why, without its clock and without what follows from it.
func (o *Outage) clause() string {
	text, _, _ := strings.Cut(period.ReplaceAllLiteralString(o.Summary, ""), ". ")
	return strings.TrimSuffix(text, ".")
}

// rootOf tells whether the outage begins with a workload or its app.
func (o *Outage) rootOf(w *ward) bool {
	return o.Root.Name != "" && o.Root.Namespace == w.key.namespace && (o.Root.Name == w.app || o.Root.Name == w.key.name)
}

// mark is what outages say of an edge.
type mark struct {
	open, summary string
	denial        bool
}

func (m *mark) merge(other mark) {
	m.denial = m.denial || other.denial
	if Worse(other.open, m.open) {
		m.open, m.summary = other.open, other.summary
	}
}

// marks are the edges that outages name, by the apps at their ends; bounded by the outages.
type marks map[[2]outage.Name]mark

func marksOf(outages []Outage) marks {
	if len(outages) == 0 {
		return nil
	}
	all := marks{}
	for i := range outages {
		o := &outages[i]
		for _, e := range o.Edges {
			at := [2]outage.Name{e.Source, e.Destination}
			m := all[at]
			m.merge(mark{o.Open(), o.clause(), o.Denial})
			all[at] = m
		}
	}
	return all
}

func (m marks) of(key *edge.Key) mark {
	if m == nil {
		return mark{}
	}
	name := func(p *edge.Party) outage.Name {
		return outage.Name{Namespace: p.Namespace, Name: cmp.Or(p.App, p.Workload)}
	}
	return m[[2]outage.Name{name(&key.Source), name(&key.Destination)}]
}

// ward finds or makes a party's ward.
func (b *Builder) ward(p *edge.Party, handle unique.Handle[edge.Party]) *ward {
	if w, ok := b.wards[handle]; ok {
		return w
	}
	m := b.memberBy(p, "", ByWorkload)
	key := workloadKey(b, m)
	w := b.wardByKey[key]
	if w == nil {
		w = &ward{key: key, app: p.App}
		if m.known != nil {
			w.app = cmp.Or(w.app, m.known.App)
			w.inMesh = m.known.InMesh
			w.dark, w.partial = b.options.isDark(m.known.Pods), b.options.isPartial(m.known.Pods)
		}
		b.wardByKey[key] = w
	}
	b.wards[handle] = w
	return w
}

// stand makes a node stand for a party.
func (b *Builder) stand(at int, w *ward) {
	if w.node == at+1 {
		return
	}
	n := &b.graph.Nodes[at]
	if b.grouping.perService {
		for _, other := range n.wards {
			if other == w {
				return
			}
		}
	}
	w.node = at + 1
	n.wards = append(n.wards, w)
}

// tally counts all edges, those that the graph leaves out as well, once each is what it is.
func (b *Builder) tally() {
	for _, list := range [...][]*Edge{b.graph.Edges, b.hidden} {
		for _, e := range list {
			e.denied = e.standsDenied()
			if e.tells != serverSide {
				e.client.out.add(e, false)
			}
			if e.tells != clientSide {
				e.server.in.add(e, true)
			}
			e.tally.add(e, false)
			e.seen = seenBy(e.client, e.server)
		}
	}
}

// percentOf says how many of how many: "98 % of 66".
func percentOf(n, all uint64) string {
	if n >= all {
		return "all " + strconv.FormatUint(all, 10)
	}
	percent := 100 * float64(n) / float64(all)
	decimals := 0
	if percent < 1 || percent > 99 {
		decimals = 1
	}
	return strconv.FormatFloat(percent, 'f', decimals, 64) + " % of " + strconv.FormatUint(all, 10)
}

func others(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return ", and one more"
	}
	return ", and " + strconv.Itoa(n) + " more"
}
