package flows

import (
	"errors"
	"maps"
	"slices"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
)

// Bounds of what one record may claim to hold.
const (
	maxRecordRoutes = 1 << 12
	maxRecordSeries = 1 << 16
)

// withPrincipal marks the side of a key that has a principal.
const withPrincipal = 1 << 1

var errPart = errors.New("a part of nothing")

// Journal keeps account of what changes from here on, to be recorded.
func (t *Table) Journal() { t.journaled = true }

// HasChanges tells whether there is anything to be recorded.
func (t *Table) HasChanges() bool { return len(t.changed)+len(t.gone) > 0 }

func (t *Table) save(p *pair) {
	if t.journaled && !p.saving {
		p.saving = true
		t.changed = append(t.changed, p)
	}
}

// Record writes the pairs that changed since it was called last, or all.
func (t *Table) Record(j *journal.Journal, all bool) {
	if all {
		for _, p := range t.pairs {
			t.record(j, p)
		}
	} else {
		for _, p := range t.changed {
			if t.pairs[p.key] == p {
				t.record(j, p)
			}
		}
		for _, id := range t.gone {
			j.Record(records.PairGone).Uint(&id)
		}
	}
	for _, p := range t.changed {
		p.saving = false
	}
	clear(t.changed)
	t.changed, t.gone = t.changed[:0], t.gone[:0]
}

func (t *Table) record(j *journal.Journal, p *pair) {
	if p.id == 0 {
		t.last++
		p.id = t.last
	}
	c := j.Record(records.Pair)
	c.Uint(&p.id)
	p.code(c)
}

// Restored is what a journal holds, the newest record of each pair, bounded by what was stored.
type Restored struct {
	pairs map[uint64]*pair
	last  uint64
}

// NewRestored returns the state of an empty journal.
func NewRestored() *Restored { return &Restored{pairs: map[uint64]*pair{}} }

// Read takes up a record; false means that it is of another kind.
func (r *Restored) Read(kind uint64, c *journal.Coder) bool {
	switch kind {
	case records.Pair:
		p := &pair{}
		c.Uint(&p.id)
		p.code(c)
		r.pairs[p.id] = p
		r.last = max(r.last, p.id)
	case records.PairGone:
		var id uint64
		c.Uint(&id)
		delete(r.pairs, id)
	default:
		return false
	}
	return true
}

// Into makes the state the table's, at the graph's time then. The edges must have been restored before.
func (r *Restored) Into(t *Table, store *edges.Restored, at pcommon.Timestamp) {
	t.last = r.last
	for _, id := range slices.Sorted(maps.Keys(r.pairs)) {
		r.pairs[id].adopt(t, store, at)
	}
}

// adopt makes a pair that was read one of a table.
func (p *pair) adopt(t *Table, store *edges.Restored, at pcommon.Timestamp) {
	if !p.who.resolved {
		p.first = max(p.first, at)
	}
	t.pairs[p.key] = p
	for _, s := range p.series {
		s.pair, s.loose = p, true
		p.report(s.key)
		t.series[*s.key] = s
	}
	// What was pending is settled with the next flush, and what was not does no harm.
	p.touched = true
	t.touched = append(t.touched, p)
	p.waits = p.leads.failures.Held() > 0
	for i := range p.routes {
		r := &p.routes[i]
		if e := store.Edge(r.restored); e != nil {
			t.store.Edges.Point(&r.target, e)
		}
		p.waits = p.waits || !r.credit.Empty()
	}
	if p.waits {
		t.waiting = append(t.waiting, p)
	}
	if p.who.resolved {
		to := p.key.destination
		p.who.endpoint = t.store.Endpoints.Known(naming.Pod{Namespace: to.namespace, Name: to.pod})
	}
}

// code writes the pair or reads it.
func (p *pair) code(c *journal.Coder) {
	c.Bool(&p.key.overflow)
	c.Port(&p.key.port)
	p.key.source.code(c)
	p.key.destination.code(c)
	w, l := &p.who, &p.leads
	for i := range 2 {
		records.Texts(c, &w.clusters[i], &w.addresses[i])
	}
	c.Text(&p.reporters[byDestination])
	records.Time(c, &p.first)
	records.Time(c, &p.seen)
	c.Bool(&w.resolved)
	if w.resolved {
		records.Party(c, &w.parties[bySource])
		records.Party(c, &w.parties[byDestination])
	}
	journal.Slice(c, &p.routes, maxRecordRoutes, func(r *route) { r.code(c) })
	c.Bool(&p.hasSource)
	p.sourceRoute = p.codeRoute(c, p.sourceRoute)
	for q := range l.counts {
		l.counts[q].Code(c)
	}
	l.failures.Code(c, len(p.routes))
	for by := range p.pendingFailed {
		journal.Slice(c, &p.pendingFailed[by], maxRecordSeries, func(f *reconcile.Failed) { f.Code(c, len(p.routes)) })
	}
	journal.Slice(c, &p.series, maxRecordSeries, func(s **series) {
		if c.Reading() {
			*s = &series{key: &flowKey{}}
		}
		(*s).code(c, p)
	})
}

func (e *end) code(c *journal.Coder) { records.Texts(c, &e.pod, &e.namespace, &e.address) }

// codeRoute codes the number of one of the pair's routes.
func (p *pair) codeRoute(c *journal.Coder, route int) int {
	n := uint64(route)
	c.Uint(&n)
	if c.Reading() && n > 0 && n >= uint64(len(p.routes)) {
		c.Fail(errPart)
		return 0
	}
	return int(n)
}

func (r *route) code(c *journal.Coder) {
	records.Texts(c, &r.service, &r.security)
	c.Bool(&r.bySource)
	records.Time(c, &r.start)
	if !c.Reading() && r.target.Edge != nil {
		r.restored = r.target.Edge.ID
	}
	c.Uint(&r.restored)
	for by := range r.pending {
		for q := range r.pending[by].counts {
			records.Count(c, &r.pending[by].counts[q])
		}
		r.pending[by].duration.Code(c)
	}
	r.credit.Code(c)
	r.shares.Code(c)
}

func (s *series) code(c *journal.Coder, p *pair) {
	s.key.code(c)
	s.route = p.codeRoute(c, s.route)
	if len(p.routes) == 0 {
		c.Fail(errPart)
	}
	records.Time(c, &s.seen)
	for q := range s.counts {
		records.Counter(c, &s.counts[q])
	}
	journal.Slice(c, &s.failed, edges.MaxReasons, func(f *failedSeries) {
		f.reason.Code(c)
		records.Counter(c, &f.Counter)
	})
	s.duration.Code(c)
}

func (k *flowKey) code(c *journal.Coder) {
	by := uint64(k.side)
	if k.principal != "" {
		by |= withPrincipal
	}
	c.Uint(&by)
	if by&^withPrincipal > uint64(byDestination) {
		c.Fail(errPart)
		by = 0
	}
	k.side = side(by &^ withPrincipal)
	if by&withPrincipal != 0 {
		c.Text(&k.principal)
	}
	c.Bool(&k.overflow)
	c.Port(&k.port)
	records.Texts(c,
		&k.node, &k.sourcePod, &k.sourceNamespace, &k.sourceAddress, &k.sourceCluster,
		&k.destinationPod, &k.destinationNamespace, &k.destinationAddress, &k.destinationCluster, &k.service, &k.security)
}
