package proxylog

import (
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
)

// tellings are what logs told of edges, and of which waypoints. It implements requests.Logs.
type tellings struct {
	store *edges.Store
	told  map[*edges.Edge]*told // bounded by the edges
	// at are those of told by where their requests went, in the order in which they came. Bounded by the edges.
	at map[place][]*told
	// heard are the waypoints whose logs are read; bounded by max.
	heard map[string]pcommon.Timestamp
	max   int
}

func newTellings(store *edges.Store, limit int) tellings {
	return tellings{store: store, told: map[*edges.Edge]*told{}, at: map[place][]*told{}, heard: map[string]pcommon.Timestamp{}, max: limit}
}

// place is a party behind a waypoint.
type place struct {
	edge.Party
	waypoint string
}

// told is what logs told of an edge.
type told struct {
	// recent was told lately and not by others yet; bounded by the emissions of remember and the codes in each.
	recent []recent
	last   pcommon.Timestamp
}

// recent are requests of one code that logs told at a time.
type recent struct {
	at   pcommon.Timestamp
	code uint16
	n    uint64
}

// remember is how long others may come after a log with what it told: a scrape a minute, and some.
const remember = 3 * time.Minute

// hear notes that a waypoint's log is read.
func (t *tellings) hear(waypoint string, now pcommon.Timestamp) {
	if waypoint != "" && len(t.heard) < t.max {
		t.heard[waypoint] = now
	}
}

// note remembers what a log told of an edge.
func (t *tellings) note(e *edges.Edge, code uint16, now pcommon.Timestamp) {
	l := t.told[e]
	if l == nil {
		l = &told{}
		t.told[e] = l
		to := placeOf(e)
		t.at[to] = append(t.at[to], l)
		t.store.Edges.Use(e)
	}
	l.last = now
	for i := len(l.recent) - 1; i >= 0 && l.recent[i].at == now; i-- {
		if l.recent[i].code == code {
			l.recent[i].n++
			return
		}
	}
	l.forget(now)
	l.recent = append(l.recent, recent{now, code, 1})
}

// forget forgets what no other will tell any more.
func (l *told) forget(now pcommon.Timestamp) {
	n := 0
	for n < len(l.recent) && (l.recent[n].n == 0 || moment.Since(l.recent[n].at, now, remember)) {
		n++
	}
	l.recent = append(l.recent[:0], l.recent[n:]...)
}

// take takes up to n of what the log told, of one code or of any.
func (l *told) take(n uint64, code uint16, anyCode bool) (taken uint64) {
	for i := range l.recent {
		r := &l.recent[i]
		if taken == n {
			break
		}
		if anyCode || r.code == code {
			some := min(r.n, n-taken)
			r.n -= some
			taken += some
		}
	}
	return taken
}

// Tells implements requests.Logs.
func (t *tellings) Tells(e *edges.Edge) bool {
	if t.told[e] != nil {
		return true
	}
	return t.Hears(e.Key.Waypoint)
}

// Hears implements requests.Logs.
func (t *tellings) Hears(waypoint string) bool {
	_, heard := t.heard[waypoint]
	return heard
}

// Claim implements requests.Logs. One of the same code is taken if there is one.
func (t *tellings) Claim(to edge.Party, waypoint string, code uint16, now pcommon.Timestamp) bool {
	clients := t.at[place{to, waypoint}]
	for _, anyCode := range [...]bool{false, true} {
		for _, l := range clients {
			l.forget(now)
			if l.take(1, code, anyCode) > 0 {
				return true
			}
		}
	}
	return false
}

func placeOf(e *edges.Edge) place { return place{e.Key.Destination, e.Key.Waypoint} }

// Beyond implements requests.Logs. What the log told of the same code is what it told; what is left of other codes may be the same
// requests, too: a server has answered what its client no longer waited for.
func (t *tellings) Beyond(e *edges.Edge, now pcommon.Timestamp, total, failed, durations uint64, of responses.Counts) (uint64, uint64, uint64) {
	if l := t.told[e]; l != nil {
		l.forget(now)
		left := total
		for i := range of {
			n := l.take(min(of[i].N, left), of[i].Code, false)
			of[i].N -= n
			left -= n
		}
		left -= l.take(left, 0, true)
		total, failed, durations = left, min(failed, left), min(durations, left)
	}
	left := total
	for _, r := range of {
		n := min(r.N, left)
		t.store.Edges.AddResponses(e, r.Response, n, now)
		left -= n
	}
	return total, failed, durations
}

func (t *tellings) rewind(now pcommon.Timestamp) {
	for _, l := range t.told {
		l.last = min(l.last, now)
		for i := range l.recent {
			l.recent[i].at = min(l.recent[i].at, now)
		}
	}
	for name, at := range t.heard {
		t.heard[name] = min(at, now)
	}
}

// sweep forgets the edges and waypoints of which no log told anything for long.
func (t *tellings) sweep(now pcommon.Timestamp, expiry time.Duration) {
	for e, l := range t.told {
		if moment.Since(l.last, now, expiry) {
			delete(t.told, e)
			to := placeOf(e)
			if t.at[to] = slices.DeleteFunc(t.at[to], func(of *told) bool { return of == l }); len(t.at[to]) == 0 {
				delete(t.at, to)
			}
			t.store.Edges.Release(e)
		}
	}
	for name, at := range t.heard {
		if moment.Since(at, now, expiry) {
			delete(t.heard, name)
		}
	}
}
