package reconcile

import (
	"errors"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/journal"
)

var errRoute = errors.New("a failure without a route")

// maxHeld bounds the held failures of one pair that are read.
const maxHeld = 1 << 16

// Code writes the lead or reads it.
func (l *Lead) Code(c *journal.Coder) {
	c.Int(&l.lead)
	c.Int(&l.low)
	c.Uint(&l.lag)
	c.Uint(&l.settled)
	codeTime(c, &l.since)
	codeTime(c, &l.changed)
}

// Code writes the failures or reads them. Routes is how many routes there are.
func (f *Failures) Code(c *journal.Coder, routes int) {
	f.Lead.Code(c)
	journal.Slice(c, &f.held, maxHeld, func(h *heldFailure) {
		codeTime(c, &h.at)
		h.Code(c, routes)
	})
	if c.Reading() {
		f.pending = 0
		for i := range f.held {
			f.pending += f.held[i].N
		}
	}
}

// Code writes the failures or reads them.
func (f *Failed) Code(c *journal.Coder, routes int) {
	f.Reason.Code(c)
	route := uint64(f.Route)
	c.Uint(&route)
	if c.Reading() && route >= uint64(routes) {
		c.Fail(errRoute)
		route = 0
	}
	f.Route = int(route)
	c.Uint(&f.N)
}

// Code writes the reason or reads it.
func (r *Reason) Code(c *journal.Coder) {
	c.Text(&r.Type)
	c.Text(&r.Policy)
}

func codeTime(c *journal.Coder, t *pcommon.Timestamp) {
	n := uint64(*t)
	c.Uint(&n)
	*t = pcommon.Timestamp(n)
}
