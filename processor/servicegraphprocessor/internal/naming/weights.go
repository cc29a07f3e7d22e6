package naming

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
)

// maxAssigned bounds the backends of one route that are read from a journal.
const maxAssigned = 1 << 12

// WeightKey identifies the requests that a waypoint passed on from a client to one of a service's backends.
type WeightKey struct {
	Source      edge.Party
	Service     string
	Destination edge.Party
}

func (k *WeightKey) code(c *journal.Coder) {
	records.Party(c, &k.Source)
	c.Text(&k.Service)
	records.Party(c, &k.Destination)
}

// Weights say how waypoints divide requests between backends, bounded; one without news for long is forgotten.
type Weights struct {
	requests *expiry.Table[WeightKey, uint64]
	services map[string]int // how many weights there are of a service; bounded by requests
	// version moves when it becomes known how a service's requests divide, or is no longer.
	version uint64
	// changed are those to be recorded, if any are.
	journaled bool
	changed   []WeightKey
}

func newWeights(limit int) *Weights {
	w := &Weights{services: map[string]int{}}
	w.requests = expiry.New(limit, func(key WeightKey, _ uint64) {
		w.change(key)
		if w.services[key.Service]--; w.services[key.Service] == 0 {
			delete(w.services, key.Service)
			w.version++
		}
	})
	return w
}

// known tells whether a waypoint's metrics say how a service's requests divide.
func (w *Weights) known(hostname string) bool { return w.services[hostname] > 0 }

// Add takes over requests that a waypoint passed on.
func (w *Weights) Add(key WeightKey, n uint64, now pcommon.Timestamp) {
	before, known := w.requests.Get(key)
	if !w.requests.Add(key, before+n, now) {
		return
	}
	w.change(key)
	if known {
		return
	}
	if w.services[key.Service]++; w.services[key.Service] == 1 {
		w.version++
	}
}

// Rewind takes note that the graph's clock went back to a time.
func (w *Weights) Rewind(now pcommon.Timestamp) { w.requests.Rewind(now) }

func (w *Weights) change(key WeightKey) {
	if w.journaled {
		w.changed = append(w.changed, key)
	}
}

// Shares are the connections that were given to each of several backends.
type Shares map[edge.Party]uint64

// Code writes the shares or reads them.
func (s *Shares) Code(c *journal.Coder) {
	n := c.Len(len(*s), maxAssigned)
	if !c.Reading() {
		for party, count := range *s {
			records.Party(c, &party)
			c.Uint(&count)
		}
		return
	}
	if n > 0 {
		*s = Shares{}
	}
	for range n {
		var party edge.Party
		var count uint64
		records.Party(c, &party)
		c.Uint(&count)
		(*s)[party] = count
	}
}

// Assign gives n connections of a client for a service to one of several backends: the one that got the least of its share, as
// the waypoint's requests divide them.
func (w *Weights) Assign(shares *Shares, source edge.Party, hostname string, backends []*mesh.Workload, n uint64) *mesh.Workload {
	if len(backends) == 1 {
		return backends[0]
	}
	if *shares == nil {
		*shares = Shares{}
	}
	weightOf := func(b *mesh.Workload) float64 {
		n, _ := w.requests.Get(WeightKey{source, hostname, PartyOf(b)})
		return float64(n)
	}
	var sum, total float64
	for _, b := range backends {
		sum += weightOf(b)
		total += float64((*shares)[PartyOf(b)])
	}
	var best *mesh.Workload
	var bestDeficit float64
	for _, b := range backends {
		share := 1 / float64(len(backends))
		if sum > 0 {
			share = weightOf(b) / sum
		}
		deficit := share*(total+float64(n)) - float64((*shares)[PartyOf(b)])
		if best == nil || deficit > bestDeficit {
			best, bestDeficit = b, deficit
		}
	}
	(*shares)[PartyOf(best)] += n
	return best
}

// Journal keeps account of what changes from here on, to be recorded.
func (w *Weights) Journal() { w.journaled = true }

// HasChanges tells whether there is anything to be recorded.
func (w *Weights) HasChanges() bool { return len(w.changed) > 0 }

// Record writes the weights that changed since it was called last, or all.
func (w *Weights) Record(j *journal.Journal, all bool) {
	if all {
		for key := range w.requests.All() {
			w.record(j, key)
		}
	} else {
		for _, key := range w.changed {
			w.record(j, key)
		}
	}
	clear(w.changed)
	w.changed = w.changed[:0]
}

// record writes a weight, or that it is gone.
func (w *Weights) record(j *journal.Journal, key WeightKey) {
	n, known := w.requests.Get(key)
	if !known {
		key.code(j.Record(records.WeightGone))
		return
	}
	c := j.Record(records.Weight)
	key.code(c)
	c.Uint(&n)
}

// Restored are the weights that a journal holds, bounded by what was stored.
type Restored map[WeightKey]uint64

// Read takes up a record; false means that it is of another kind.
func (r Restored) Read(kind uint64, c *journal.Coder) bool {
	var key WeightKey
	var n uint64
	switch kind {
	case records.Weight:
		key.code(c)
		c.Uint(&n)
		r[key] = n
	case records.WeightGone:
		key.code(c)
		delete(r, key)
	default:
		return false
	}
	return true
}

// Into makes the weights a directory's. They count as heard of at a time.
func (r Restored) Into(d *Directory, at pcommon.Timestamp) {
	for key, n := range r {
		d.Weights.Add(key, n, at)
	}
}
