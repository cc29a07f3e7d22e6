package graph

import (
	"cmp"
	"slices"
	"strconv"
	"unique"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/reasons"
)

// way is a waypoint's way to a server's port, which its clients' edges and its own have in common.
type way struct {
	waypoint    string
	destination unique.Handle[edge.Party]
	port        uint16
}

// hop is what happened on a waypoint's own connections to a server.
type hop struct {
	key                 edge.Key
	source, destination unique.Handle[edge.Party]
	counts              *live.Counts
}

// client is one of those who go a way: its connections are those to the waypoint.
type client struct {
	source unique.Handle[edge.Party]
	counts *live.Counts
	edge   *Edge
}

// Behind is what lies behind an edge's waypoint.
type Behind struct {
	// before are the client's connections as its own ztunnel tells them, after the waypoint's, for all of its clients.
	before tallied
	after  []*hop
	// beyond are failures of these that outnumber the client's connections: it keeps its own while they are tried.
	beyond uint64
}

// tallied are connections that ended.
type tallied struct {
	closed, failed uint64
	reasons        []live.ReasonCount
}

func tallyOf(c *live.Counts) tallied {
	return tallied{c.Fields[live.Closed], c.Failed, slices.Clone(c.Reasons)}
}

func (t *tallied) add(other tallied) {
	var sum live.Counts
	sum.Reasons = t.reasons
	for _, r := range other.reasons {
		sum.AddReason(r.Reason, r.Count)
	}
	t.closed, t.failed, t.reasons = t.closed+other.closed, t.failed+other.failed, sum.Reasons
}

// through remembers an edge that leads through a waypoint.
func (b *Builder) through(key *edge.Key, c client, destination unique.Handle[edge.Party]) {
	if b.clients == nil {
		b.clients = map[way][]client{}
	}
	w := way{key.Waypoint, destination, key.Port}
	b.clients[w] = append(b.clients[w], c)
}

// fold joins the waypoints' own connections to the edges of those for whom they were made. Where nobody tells of a client's
// connections to the waypoint, they are an edge of the waypoint's.
func (b *Builder) fold() {
	for i := range b.hops {
		h := &b.hops[i]
		clients := b.clients[way{h.key.Waypoint, h.destination, h.key.Port}]
		pooled := len(clients) > 0 && !anew(h.counts) // of nobody's connections in particular
		if !pooled && !slices.ContainsFunc(clients, func(c client) bool { return anew(c.counts) || c.counts.Active > 0 }) {
			b.addEdge(&h.key, h.source, h.destination, h.counts).tells = serverSide // the half tells of the waypoint
			continue
		}
		slices.SortStableFunc(clients, func(a, b client) int { return compareParties(a.source.Value(), b.source.Value()) })
		for i := range clients {
			clients[i].join(h)
		}
		for _, r := range h.counts.Reasons {
			if reasons.Decisive(r.Reason.ErrorType) {
				share(clients, r)
			}
		}
	}
	b.hops, b.clients = nil, nil
}

// anew tells whether connections began or ended.
func anew(c *live.Counts) bool {
	return c.Fields[live.Closed] > 0 || c.Fields[live.Opened] > 0 || c.Failed > 0
}

func compareParties(a, b edge.Party) int {
	return cmp.Or(cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Workload, b.Workload))
}

// join notes what lies behind the client's waypoint.
func (c *client) join(h *hop) {
	if c.edge.Behind == nil {
		c.edge.Behind = &Behind{before: tallyOf(c.edge.Counts)}
		c.edge.Counts = c.edge.Counts.Own()
		c.counts = c.edge.Counts
	}
	c.edge.Behind.after = append(c.edge.Behind.after, h)
}

// mergeBehind adds what lies behind the waypoint of another edge that grouping does not tell apart, before its counts are added.
func (e *Edge) mergeBehind(other *Edge) {
	if e.Behind == nil && other.Behind == nil {
		return
	}
	if e.Behind == nil {
		e.Behind = &Behind{before: tallyOf(e.Counts)}
	}
	if other.Behind == nil {
		e.Behind.before.add(tallyOf(other.Counts))
		return
	}
	e.Behind.before.add(other.Behind.before)
	for _, h := range other.Behind.after {
		if !slices.Contains(e.Behind.after, h) {
			e.Behind.after = append(e.Behind.after, h)
		}
	}
	e.Behind.beyond += other.Behind.beyond
}

// well is how many of a client's connections ended and are not known to have failed.
func (c *client) well() uint64 {
	return c.counts.Fields[live.Closed] - min(c.counts.Failed, c.counts.Fields[live.Closed])
}

// cut is how many of a client's connections failed without its own ztunnel knowing more than that they were cut.
func (c *client) cut() (n uint64) {
	for _, r := range c.counts.Reasons {
		if reasons.Cut(r.Reason.ErrorType) {
			n += r.Count
		}
	}
	return n
}

// explain gives n of the connections that were cut the reason that is known behind the waypoint.
func (c *client) explain(reason live.Reason, n uint64) {
	left := n
	for i := range c.counts.Reasons {
		if r := &c.counts.Reasons[i]; reasons.Cut(r.Reason.ErrorType) {
			take := min(r.Count, left)
			r.Count -= take
			left -= take
		}
	}
	c.counts.Reasons = slices.DeleteFunc(c.counts.Reasons, func(r live.ReasonCount) bool { return r.Count == 0 })
	c.counts.Failed -= n - left
	c.counts.AddReason(reason, n-left)
}

// share counts failures behind a waypoint as those of its clients' connections, each client's by its number of these: which
// client's it was nobody tells. They are those that were cut, then others. What outnumbers them is all the clients'.
func share(clients []client, failed live.ReasonCount) {
	left := failed.Count
	left -= divide(clients, left, (*client).cut, func(c *client, n uint64) { c.explain(failed.Reason, n) })
	left -= divide(clients, left, (*client).well, func(c *client, n uint64) { c.counts.AddReason(failed.Reason, n) })
	for i := range clients {
		clients[i].edge.Behind.beyond += left / uint64(len(clients))
	}
}

// divide gives up to n to clients in proportion to what each can take, and returns how much it gave.
func divide(clients []client, n uint64, room func(*client) uint64, give func(*client, uint64)) (given uint64) {
	var all, upTo uint64
	for i := range clients {
		all += room(&clients[i])
	}
	if n = min(n, all); n == 0 {
		return 0
	}
	for i := range clients {
		c := &clients[i]
		upTo += room(c)
		// In floating point, which is exact for the numbers of one window, the product does not overflow.
		due := min(uint64(float64(n)*float64(upTo)/float64(all)+0.5), n)
		give(c, due-given)
		given = due
	}
	return given
}

// appendHops appends the two hops of an edge that leads through a waypoint.
func (e *encoder) appendHops(b []byte, g *Graph, one *Edge) []byte {
	var after tallied
	for _, h := range one.Behind.after {
		after.add(tallyOf(h.counts))
	}
	b = append(b, `,"hops":[{"from":`...)
	b = g.appendID(b, one.Source)
	b = append(b, `,"to":`...)
	b = e.appendTallied(appendString(b, one.Waypoint), &one.Behind.before)
	b = append(b, `,{"from":`...)
	b = appendString(b, one.Waypoint)
	b = append(b, `,"to":`...)
	b = e.appendTallied(g.appendID(b, one.Destination), &after)
	return append(b, ']')
}

func (e *encoder) appendTallied(b []byte, t *tallied) []byte {
	b = append(b, `,"connections":{"closed":`...)
	b = strconv.AppendUint(b, t.closed, 10)
	b = append(b, `,"failed":`...)
	b = strconv.AppendUint(b, t.failed, 10)
	b = append(b, `},"failures":{`...)
	b = e.appendFailures(b, &live.Counts{Reasons: t.reasons})
	return append(b, `}}`...)
}
