// Package records numbers the kinds of records of the graph's journal and codes what several of them hold. Each record's own
// code stands beside its type.
package records

import (
	"errors"
	"math"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/journal"
)

// Kinds of records. Each holds one thing as a whole; a later one of the same thing replaces it.
const (
	Clock uint64 = iota + 1
	Edge
	Pair
	Endpoint
	ServiceUntyped // of an earlier release, which did not tell connections apart
	Weight
	EdgeGone
	PairGone
	EndpointGone
	ServiceUntypedGone
	Node
	WeightGone
	Responses
	Service
	ServiceGone
	// Between is what of an edge counts between the services.
	Between
)

var errCount = errors.New("count out of range")

// Time codes a time.
func Time(c *journal.Coder, t *pcommon.Timestamp) {
	n := uint64(*t)
	c.Uint(&n)
	*t = pcommon.Timestamp(n)
}

// Count codes a number that fits into a data point.
func Count(c *journal.Coder, n *uint64) {
	c.Uint(n)
	if *n > math.MaxInt64 {
		c.Fail(errCount)
		*n = 0
	}
}

// Counter codes the last point of a cumulative sum.
func Counter(c *journal.Coder, v *cumulative.Counter[uint64]) {
	c.Bool(&v.Known)
	if v.Known {
		Time(c, &v.Start)
		Time(c, &v.Time)
		Count(c, &v.Value)
	}
}

// Texts codes strings.
func Texts(c *journal.Coder, texts ...*string) {
	for _, text := range texts {
		c.Text(text)
	}
}

// Party codes one end of an edge.
func Party(c *journal.Coder, p *edge.Party) {
	Texts(c, &p.Workload, &p.Namespace, &p.App, &p.Version, &p.Cluster)
}
