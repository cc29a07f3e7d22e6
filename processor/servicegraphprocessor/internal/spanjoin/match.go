package spanjoin

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/telemetry"
)

const (
	// rounding is the error of a span's start: ztunnel states durations in milliseconds.
	rounding = 2 * time.Millisecond
	// maxSkews bounds the pairs of nodes whose clocks are compared, skewsLast is how long a comparison is remembered.
	maxSkews  = 20_000
	skewsLast = pcommon.Timestamp(24 * time.Hour)
	// maxCandidates bounds the counterparts that are weighed for one span.
	maxCandidates = 64
)

// nodePair is a client's and a server's node.
type nodePair struct{ client, server string }

// match is a candidate pair.
type match struct {
	outbound, inbound *flowSpan
	cost              time.Duration
}

// match pairs the spans of one connection key: the client's span encloses the server's, and of several that do, the one
// that opens and closes at the nearest times is its own. It looks only at times from which nothing more can come.
func (t *Table) match(w *waitingPair, now pcommon.Timestamp, force bool) {
	if len(w.outbound) == 0 || len(w.inbound) == 0 {
		return
	}
	byEnd := func(a, b *flowSpan) int {
		x, y := a.span.SpanID(), b.span.SpanID()
		return cmp.Or(cmp.Compare(a.end, b.end), bytes.Compare(x[:], y[:]))
	}
	slices.SortFunc(w.outbound, byEnd)
	slices.SortFunc(w.inbound, byEnd)
	t.matches = t.matches[:0]
	for _, o := range w.outbound {
		if !force && o.end+pcommon.Timestamp(t.cfg.MaxSkew) > now {
			break
		}
		t.candidates(o, w.inbound, now, force)
	}
	slices.SortFunc(t.matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), byEnd(a.outbound, b.outbound), byEnd(a.inbound, b.inbound))
	})
	for i, m := range t.matches {
		if m.outbound.mate != nil || m.inbound.mate != nil {
			continue
		}
		m.outbound.mate, m.inbound.mate = m.inbound, m.outbound
		if t.contested(i) {
			t.telemetry.FlowSpan(telemetry.FlowSpanAmbiguous)
		}
	}
	if len(w.outbound) == 1 && len(w.inbound) == 1 && w.outbound[0].mate != nil {
		t.learn(w.outbound[0], w.inbound[0], now)
	}
	clear(t.matches)
}

// candidates adds the spans that may be the counterpart of a client's span.
func (t *Table) candidates(o *flowSpan, inbound []*flowSpan, now pcommon.Timestamp, force bool) {
	from, _ := slices.BinarySearchFunc(inbound, o.end, func(i *flowSpan, end pcommon.Timestamp) int {
		return cmp.Compare(i.end+pcommon.Timestamp(t.cfg.Wait), end)
	})
	slack := t.cfg.MaxSkew + rounding
	n := 0
	for k := len(inbound) - 1; k >= from && n < maxCandidates; k-- {
		i := inbound[k]
		late := signed(o.end, i.end)
		if late < -slack {
			continue
		}
		offset, _ := t.skews.Get(nodePair{o.node, i.node})
		early := signed(i.start, o.start)
		if early < -slack {
			continue
		}
		cost := absolute(late-offset) + max(absolute(early+offset)-rounding, 0)
		// A poor match may be the only one because the right one is still to come.
		if cost > 2*t.cfg.MaxSkew && !force && o.deadline > now {
			continue
		}
		t.matches = append(t.matches, match{o, i, cost})
		n++
	}
}

// contested tells whether another match of the same spans was hardly worse.
func (t *Table) contested(i int) bool {
	m := t.matches[i]
	for _, other := range t.matches[i+1:] {
		if other.cost > m.cost+rounding {
			return false
		}
		if other.outbound == m.outbound || other.inbound == m.inbound {
			return true
		}
	}
	return false
}

// learn takes over how much later the client's end closes than the server's, by two nodes' own clocks, from a pair that could not
// be another.
func (t *Table) learn(o, i *flowSpan, now pcommon.Timestamp) {
	id := nodePair{o.node, i.node}
	late := min(max(signed(o.end, i.end), -t.cfg.MaxSkew), t.cfg.MaxSkew)
	if offset, known := t.skews.Get(id); known {
		late = offset + (late-offset)/8
	}
	t.skews.Put(id, late, now)
}

// signed is a − b.
func signed(a, b pcommon.Timestamp) time.Duration { return time.Duration(int64(a) - int64(b)) }

func absolute(d time.Duration) time.Duration {
	if d < 0 {
		return -d
	}
	return d
}
