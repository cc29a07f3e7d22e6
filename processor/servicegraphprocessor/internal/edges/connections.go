package edges

import (
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
)

// MaxReasons bounds the failure reasons that are told apart on one edge; further ones are told apart without their policies.
const MaxReasons = 64

// FailedCount is a number of failures of one reason.
type FailedCount struct {
	reconcile.Reason
	N uint64
}

// AddFailed adds n failures of a reason to counts.
func AddFailed(counts []FailedCount, reason reconcile.Reason, n uint64) []FailedCount {
	for i := range counts {
		if counts[i].Reason == reason {
			counts[i].N += n
			return counts
		}
	}
	return append(counts, FailedCount{reason, n})
}

// FailedTotal is the number of failures of all reasons.
func FailedTotal(counts []FailedCount) (n uint64) {
	for _, f := range counts {
		n += f.N
	}
	return n
}

func codeFailed(c *journal.Coder, counts *[]FailedCount) {
	journal.Slice(c, counts, 2*MaxReasons, func(f *FailedCount) {
		f.Code(c)
		records.Count(c, &f.N)
	})
}

// Connections are connections that ended, each counted once: what is added to an edge, or what an edge has.
type Connections struct {
	Closed, Sent, Received uint64
	// Unanswered carried bytes to the server and none back.
	Unanswered uint64
	Failed     []FailedCount
	Duration   exphist.Histogram
}

// Empty tells whether nothing is counted.
func (c *Connections) Empty() bool {
	return c.Closed == 0 && c.Sent == 0 && c.Received == 0 && c.Unanswered == 0 && len(c.Failed) == 0 && c.Duration.Count == 0
}

// Reset empties the counts and keeps their memory.
func (c *Connections) Reset() {
	c.Closed, c.Sent, c.Received, c.Unanswered = 0, 0, 0, 0
	c.Failed = c.Failed[:0]
	c.Duration.Reset()
}

// Add adds others.
func (c *Connections) Add(other *Connections) {
	c.Closed += other.Closed
	c.Sent += other.Sent
	c.Received += other.Received
	c.Unanswered += other.Unanswered
	c.Duration.Merge(exphist.Default, &other.Duration)
	for _, f := range other.Failed {
		reason := f.Reason
		if len(c.Failed) >= MaxReasons {
			reason.Policy = ""
		}
		c.Failed = AddFailed(c.Failed, reason, f.N)
	}
}

// Code writes the connections or reads them.
func (c *Connections) Code(to *journal.Coder) {
	records.Count(to, &c.Closed)
	records.Count(to, &c.Sent)
	records.Count(to, &c.Received)
	records.Count(to, &c.Unanswered)
	codeFailed(to, &c.Failed)
	c.Duration.Code(to)
}
