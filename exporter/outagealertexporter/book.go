package outagealertexporter

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// book holds what is to be told: the alerts of open outages, and the ends that have not been told yet. It is safe for concurrent use.
type book struct {
	most  int
	build func(*outage.Outage) alert

	mu    sync.Mutex
	open  map[string]*entry // by the outage's id; bounded by most
	ended []*alert
}

type entry struct {
	alert   alert
	changed bool // since it was last told
}

func newBook(most int, build func(*outage.Outage) alert) *book {
	return &book{most: most, build: build, open: map[string]*entry{}}
}

// take takes over an outage as it is now, and tells how many alerts had no room.
func (b *book) take(o *outage.Outage, now time.Time) (dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.open[o.ID]
	if o.State != semconv.OutageStateOpen {
		if !ok {
			return 0
		}
		delete(b.open, o.ID)
		at := now
		if o.EndedAt != nil && o.EndedAt.Before(now) {
			at = *o.EndedAt
		}
		return b.end(known.alert, at)
	}
	next := b.build(o)
	if ok {
		// An alert is its labels: under others it is another one, and the former is over.
		if !maps.Equal(known.alert.Labels, next.Labels) {
			dropped = b.end(known.alert, now)
		}
		known.alert, known.changed = next, true
		return dropped
	}
	if len(b.open) >= b.most {
		return 1
	}
	b.open[o.ID] = &entry{alert: next, changed: true}
	return 0
}

// end notes an alert's end. Where there is no room the oldest end goes untold: the alert then ends by itself, later.
func (b *book) end(a alert, at time.Time) (dropped int) {
	a.EndsAt = at
	if at.Before(a.StartsAt) {
		a.EndsAt = a.StartsAt
	}
	b.ended = append(b.ended, &a)
	if len(b.ended) > b.most {
		b.ended = slices.Delete(b.ended, 0, 1)
		return 1
	}
	return 0
}

// due is what is to be told now: every end, and of the open alerts all or those that changed. Open ones hold until a time.
func (b *book) due(all bool, until time.Time) (alerts []alert, taken receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.ended {
		alerts = append(alerts, *a)
	}
	taken.ended = slices.Clone(b.ended)
	ids := slices.SortedFunc(maps.Keys(b.open), strings.Compare)
	for _, id := range ids {
		e := b.open[id]
		if !all && !e.changed {
			continue
		}
		e.changed = false
		taken.open = append(taken.open, e)
		a := e.alert
		a.EndsAt = until
		if a.EndsAt.Before(a.StartsAt) {
			a.EndsAt = a.StartsAt
		}
		alerts = append(alerts, a)
	}
	return alerts, taken
}

// receipt is what was handed out to be told.
type receipt struct {
	open  []*entry
	ended []*alert
}

// told forgets the ends that were told.
func (b *book) told(r receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = slices.DeleteFunc(b.ended, func(a *alert) bool { return slices.Contains(r.ended, a) })
}

// untold keeps what could not be told for the next time.
func (b *book) untold(r receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range r.open {
		e.changed = true
	}
}

func (b *book) active() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}
