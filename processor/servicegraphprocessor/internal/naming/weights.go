package naming

import (
	"maps"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
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

// weights say how waypoints divide requests between backends, bounded; one without news for long is forgotten.
type weights struct {
	max      int
	byKey    map[WeightKey]weight
	services map[string]int // how many weights there are of a service
	// changed are those to be recorded, if any are.
	journaled bool
	changed   []WeightKey
}

type weight struct {
	requests uint64
	seen     pcommon.Timestamp
}

func newWeights(limit int) weights {
	return weights{max: limit, byKey: map[WeightKey]weight{}, services: map[string]int{}}
}

// known tells whether a waypoint's metrics say how a service's requests divide.
func (w *weights) known(hostname string) bool { return w.services[hostname] > 0 }

// Weigh takes over requests that a waypoint passed on.
func (d *Directory) Weigh(key WeightKey, n uint64, at pcommon.Timestamp) {
	w := &d.weights
	one, known := w.byKey[key]
	if !known && len(w.byKey) >= w.max {
		return
	}
	d.setWeight(key, weight{one.requests + n, max(one.seen, at)})
	if w.journaled {
		w.changed = append(w.changed, key)
	}
}

func (d *Directory) setWeight(key WeightKey, one weight) {
	w := &d.weights
	if _, known := w.byKey[key]; !known {
		if w.services[key.Service]++; w.services[key.Service] == 1 {
			d.version++
		}
	}
	w.byKey[key] = one
}

// Sweep forgets what has had no news for long.
func (d *Directory) Sweep(now pcommon.Timestamp, expiry time.Duration) {
	d.Externals.sweep()
	w := &d.weights
	for key, one := range w.byKey {
		if !moment.Since(one.seen, now, expiry) {
			continue
		}
		delete(w.byKey, key)
		if w.journaled {
			w.changed = append(w.changed, key)
		}
		if w.services[key.Service]--; w.services[key.Service] == 0 {
			delete(w.services, key.Service)
			d.version++
		}
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
func (d *Directory) Assign(shares *Shares, source edge.Party, hostname string, backends []*mesh.Workload, n uint64) *mesh.Workload {
	if len(backends) == 1 {
		return backends[0]
	}
	if *shares == nil {
		*shares = Shares{}
	}
	weightOf := func(b *mesh.Workload) float64 {
		return float64(d.weights.byKey[WeightKey{source, hostname, PartyOf(b)}].requests)
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
func (d *Directory) Journal() { d.weights.journaled = true }

// Changed tells whether there is anything to be recorded.
func (d *Directory) Changed() bool { return len(d.weights.changed) > 0 }

// Record writes the weights that changed since it was called last, or all.
func (d *Directory) Record(j *journal.Journal, all bool) {
	w := &d.weights
	if all {
		for key := range maps.Keys(w.byKey) {
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
func (w *weights) record(j *journal.Journal, key WeightKey) {
	one, known := w.byKey[key]
	if !known {
		key.code(j.Record(records.WeightGone))
		return
	}
	c := j.Record(records.Weight)
	key.code(c)
	c.Uint(&one.requests)
}

// Read takes up a record; false if it is of another kind.
func (d *Directory) Read(kind uint64, c *journal.Coder) bool {
	var key WeightKey
	switch kind {
	case records.Weight:
		var one weight
		key.code(c)
		c.Uint(&one.requests)
		d.setWeight(key, one)
	case records.WeightGone:
		key.code(c)
		delete(d.weights.byKey, key)
	default:
		return false
	}
	return true
}

// Restored ends the reading of records: what was read counts as heard of at a time.
func (d *Directory) Restored(at pcommon.Timestamp) {
	w := &d.weights
	clear(w.services)
	for key, one := range w.byKey {
		one.seen = at
		w.byKey[key] = one
		w.services[key.Service]++
	}
	d.version++
}
