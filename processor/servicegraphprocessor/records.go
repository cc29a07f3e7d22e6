package servicegraphprocessor

import (
	"errors"
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// Kinds of records. Each holds one thing as a whole; a later one of the same thing replaces it.
const (
	recordClock uint64 = iota + 1
	recordEdge
	recordPair
	recordEndpoint
	recordService
	recordWeight
	recordEdgeGone
	recordPairGone
	recordEndpointGone
	recordServiceGone
	recordNode
)

// Bounds of what one record may claim to hold.
const (
	maxRecordWays   = 1 << 12
	maxRecordSeries = 1 << 16
	maxRecordRoutes = 1 << 16
	maxRecordBounds = 1 << 10
)

var (
	errPart  = errors.New("a part of nothing")
	errValue = errors.New("count out of range")
)

func codeTime(c *journal.Coder, t *pcommon.Timestamp) {
	n := uint64(*t)
	c.Uint(&n)
	*t = pcommon.Timestamp(n)
}

// codeCount is a number that fits into a data point.
func codeCount(c *journal.Coder, n *uint64) {
	c.Uint(n)
	if *n > math.MaxInt64 {
		c.Fail(errValue)
		*n = 0
	}
}

func codeParty(c *journal.Coder, p *edge.Party) {
	for _, text := range [...]*string{&p.Workload, &p.Namespace, &p.App, &p.Version, &p.Cluster} {
		c.Text(text)
	}
}

func codeFailed(c *journal.Coder, counts *[]failedCount) {
	journal.Slice(c, counts, 2*maxReasons, func(f *failedCount) {
		f.Code(c)
		codeCount(c, &f.n)
	})
}

func (e *edgeState) code(c *journal.Coder) {
	codeParty(c, &e.key.Source)
	codeParty(c, &e.key.Destination)
	c.Text(&e.key.Service)
	c.Port(&e.key.Port)
	c.Text(&e.key.Protocol)
	c.Text(&e.key.Security)
	c.Text(&e.key.Waypoint)
	c.Bool(&e.overflow)
	codeTime(c, &e.start)
	codeTime(c, &e.seen)
	codeTime(c, &e.emitted)
	codeCount(c, &e.closed)
	codeCount(c, &e.sent)
	codeCount(c, &e.received)
	codeFailed(c, &e.failed)
	e.duration.Code(c)
	journal.Slice(c, &e.routes, maxRecordRoutes, func(r *routeCounts) {
		c.Text(&r.route)
		codeCount(c, &r.total)
		codeCount(c, &r.failed)
		r.duration.Code(c)
	})
	codeCount(c, &e.shown.opened)
	codeCount(c, &e.shown.closed)
	codeCount(c, &e.shown.sent)
	codeCount(c, &e.shown.received)
	codeFailed(c, &e.shown.failed)
}

// code writes the pair or reads it.
func (p *pair) code(c *journal.Coder) {
	c.Bool(&p.key.overflow)
	c.Port(&p.key.port)
	p.key.source.code(c)
	p.key.destination.code(c)
	for i := range 2 {
		c.Text(&p.clusters[i])
		c.Text(&p.addresses[i])
	}
	c.Text(&p.reporters[byDestination])
	codeTime(c, &p.first)
	codeTime(c, &p.seen)
	c.Bool(&p.resolved)
	if p.resolved {
		codeParty(c, &p.source)
		codeParty(c, &p.destination)
	}
	journal.Slice(c, &p.ways, maxRecordWays, func(w *way) { w.code(c) })
	c.Bool(&p.hasSource)
	p.sourceWay = p.codeWay(c, p.sourceWay)
	p.closed.Code(c)
	p.sent.Code(c)
	p.received.Code(c)
	p.durations.Code(c)
	p.failures.Code(c, len(p.ways))
	for by := range p.pendingFailed {
		journal.Slice(c, &p.pendingFailed[by], maxRecordSeries, func(f *reconcile.Failed) { f.Code(c, len(p.ways)) })
	}
	journal.Slice(c, &p.series, maxRecordSeries, func(s **flowSeries) {
		if c.Reading() {
			*s = &flowSeries{key: &flowKey{}}
		}
		(*s).code(c, p)
	})
}

func (e *end) code(c *journal.Coder) {
	c.Text(&e.pod)
	c.Text(&e.namespace)
	c.Text(&e.address)
}

// codeWay is the number of one of the pair's ways.
func (p *pair) codeWay(c *journal.Coder, way int) int {
	n := uint64(way)
	c.Uint(&n)
	if c.Reading() && n > 0 && n >= uint64(len(p.ways)) {
		c.Fail(errPart)
		return 0
	}
	return int(n)
}

func (w *way) code(c *journal.Coder) {
	c.Text(&w.service)
	c.Text(&w.security)
	c.Bool(&w.bySource)
	codeTime(c, &w.start)
	if !c.Reading() && w.target.edge != nil {
		w.saved = w.target.edge.id
	}
	c.Uint(&w.saved)
	for by := range w.pending {
		codeCount(c, &w.pending[by].closed)
		codeCount(c, &w.pending[by].sent)
		codeCount(c, &w.pending[by].received)
		w.pending[by].duration.Code(c)
	}
	codeCount(c, &w.credit.closed)
	codeCount(c, &w.credit.sent)
	codeCount(c, &w.credit.received)
	codeFailed(c, &w.credit.failed)
	w.credit.duration.Code(c)
	w.shares.Code(c)
}

func (s *flowSeries) code(c *journal.Coder, p *pair) {
	s.key.code(c)
	s.way = p.codeWay(c, s.way)
	if len(p.ways) == 0 {
		c.Fail(errPart)
	}
	codeTime(c, &s.seen)
	s.closed.code(c)
	s.sent.code(c)
	s.received.code(c)
	journal.Slice(c, &s.failed, maxReasons, func(f *failedSeries) {
		f.reason.Code(c)
		f.code(c)
	})
	s.duration.Code(c)
}

func (k *flowKey) code(c *journal.Coder) {
	by := uint64(k.side)
	c.Uint(&by)
	if by > uint64(byDestination) {
		c.Fail(errPart)
		by = 0
	}
	k.side = side(by)
	c.Bool(&k.overflow)
	c.Port(&k.port)
	for _, text := range [...]*string{
		&k.node, &k.sourcePod, &k.sourceNamespace, &k.sourceAddress, &k.sourceCluster,
		&k.destinationPod, &k.destinationNamespace, &k.destinationAddress, &k.destinationCluster, &k.service, &k.security,
	} {
		c.Text(text)
	}
}

func (v *cumulative) code(c *journal.Coder) {
	c.Bool(&v.known)
	if v.known {
		codeTime(c, &v.start)
		codeTime(c, &v.time)
		codeCount(c, &v.value)
	}
}

func (e *endpoint) code(c *journal.Coder) {
	for _, text := range [...]*string{&e.pod, &e.workload, &e.namespace, &e.service, &e.node} {
		c.Text(text)
	}
	codeTime(c, &e.start)
	codeTime(c, &e.seen)
	codeTime(c, &e.emitted)
	codeCount(c, &e.closed)
	codeFailed(c, &e.failed)
	codeCount(c, &e.requests)
	codeCount(c, &e.requestsFailed)
}

func (k *serviceKey) code(c *journal.Coder) {
	for _, text := range [...]*string{&k.client, &k.clientNamespace, &k.server, &k.serverNamespace} {
		c.Text(text)
	}
}

// code writes the edge or reads it; one of other bounds than today's begins anew.
func (s *serviceEdge) code(c *journal.Coder) {
	codeTime(c, &s.start)
	codeTime(c, &s.seen)
	codeTime(c, &s.emitted)
	codeCount(c, &s.total)
	codeCount(c, &s.failed)
	for _, h := range [...]*explicitHistogram{&s.server, &s.client} {
		journal.Slice(c, &h.counts, maxRecordBounds, c.Uint)
		codeCount(c, &h.count)
		c.Float(&h.sum)
	}
}
