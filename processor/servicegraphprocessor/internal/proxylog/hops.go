package proxylog

import (
	"hash/maphash"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
)

// hop is a request between a gateway and a waypoint.
type hop struct {
	gateway edge.Party
	id      string
}

// hopID stands for a hop; 0 is none.
type hopID uint64

// hops are the requests that waypoints logged lately, by who sent them. The oldest goes where there is no room.
type hops struct {
	max   int
	seed  maphash.Seed
	seen  map[hopID]pcommon.Timestamp // bounded by max
	order []hopID
}

func newHops(limit int) hops {
	return hops{max: limit, seed: maphash.MakeSeed(), seen: map[hopID]pcommon.Timestamp{}}
}

// of is the hop of a request, none without an id.
func (h *hops) of(gateway edge.Party, id string) hopID {
	if id == "" {
		return 0
	}
	return hopID(maphash.Comparable(h.seed, hop{gateway, id}) | 1)
}

func (h *hops) has(of hopID) bool {
	_, ok := h.seen[of]
	return ok
}

func (h *hops) add(of hopID, now pcommon.Timestamp) {
	if of == 0 {
		return
	}
	if !h.has(of) {
		if len(h.order) >= h.max {
			h.forget(1)
		}
		h.order = append(h.order, of)
	}
	h.seen[of] = now
}

// expire forgets what no gateway's record waits for any more.
func (h *hops) expire(m moment.Moment, after time.Duration) {
	n := 0
	for n < len(h.order) && m.Past(h.seen[h.order[n]], after) {
		n++
	}
	h.forget(n)
}

func (h *hops) forget(n int) {
	for _, of := range h.order[:n] {
		delete(h.seen, of)
	}
	h.order = h.order[n:]
}

func (h *hops) rewind(now pcommon.Timestamp) {
	for of, at := range h.seen {
		h.seen[of] = min(at, now)
	}
}
