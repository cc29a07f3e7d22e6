package responses

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

// Leads compare by code what spans tell of an edge's requests with what its waypoint does. Beyond mostCodes codes are not told apart.
type Leads []codeLead

type codeLead struct {
	code uint16
	reconcile.Lead
	// owed are spans of the code that did not count, because the waypoint had told as many of another one.
	owed uint64
}

func (l *Leads) of(code uint16) *codeLead {
	for i := range *l {
		if (*l)[i].code == code {
			return &(*l)[i]
		}
	}
	if len(*l) >= mostCodes {
		return &codeLead{}
	}
	*l = append(*l, codeLead{code: code})
	return &(*l)[len(*l)-1]
}

// Spans takes over what spans told.
func (l *Leads) Spans(now pcommon.Timestamp, code uint16, n uint64, limits reconcile.Limits) {
	l.of(code).Apply(now, n, 0, limits)
}

// Span takes over a span, which counts or was told by the waypoint before, and gives the code to count it by: where the waypoint has told its
// code already, that of one that it told instead.
func (l *Leads) Span(now pcommon.Timestamp, code uint16, counts bool, limits reconcile.Limits) uint16 {
	of := l.of(code)
	switch ahead, _ := of.Apply(now, 1, 0, limits); {
	case !counts && ahead > 0:
		of.owed++
	case counts && ahead == 0:
		for i := range *l {
			if other := &(*l)[i]; other.owed > 0 {
				other.owed--
				return other.code
			}
		}
	}
	return code
}

// Waypoint takes over what a waypoint told, of which spans have told all but n, and tells by what those were answered.
func (l *Leads) Waypoint(now pcommon.Timestamp, told Counts, n uint64, limits reconcile.Limits) Counts {
	beyond := make(Counts, len(told))
	for i := range told {
		_, ahead := l.of(told[i].Code).Apply(now, 0, told[i].N, limits)
		beyond[i].Response, beyond[i].N = told[i].Response, min(ahead, n)
		n -= beyond[i].N
	}
	for i := range told { // spans and the waypoint may tell different codes of the same request
		more := min(n, told[i].N-beyond[i].N)
		beyond[i].N += more
		n -= more
	}
	return beyond
}

// Rewind takes note that the clock went back to a time.
func (l *Leads) Rewind(now pcommon.Timestamp) {
	for i := range *l {
		(*l)[i].Rewind(now)
	}
}
