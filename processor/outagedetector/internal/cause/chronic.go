package cause

import (
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// standing takes what callers feel of chronic conditions out of what is wrong: it is as it always is, too.
type standing struct{ chronic *judge.Chronic }

// standingShare is how much of what fails a condition must account for.
const standingShare = 0.5

func (f standing) without(wrong []Blame) (rest []Blame) {
	if f.chronic.Len() == 0 {
		return wrong
	}
	felt := map[*observe.Pair]bool{}
	for again := true; again; {
		again = false
		rest = rest[:0:0]
		for _, b := range wrong {
			if f.explains(b, felt) {
				felt[b.Pair], again = true, true
				continue
			}
			rest = append(rest, b)
		}
		wrong = rest
	}
	return rest
}

// explains tells whether most of what fails on an edge fails at what its destination calls, because of conditions that stand.
func (f standing) explains(b Blame, felt map[*observe.Pair]bool) bool {
	fault := b.Fault()
	if b.Family != observe.RequestErrors || fault.Kind != rules.KindHTTPErrors || fault.Attributed {
		return false
	}
	var failed uint64
	for _, out := range b.Pair.Destination.Out {
		for _, family := range [...]observe.Family{observe.Connections, observe.RequestErrors} {
			if n, stands := f.chronic.Stands(out, family, fault.Since); stands {
				failed += n
			}
		}
		if felt[out] {
			failed += out.Faults[observe.RequestErrors].Failed
		}
	}
	return failed > 0 && float64(failed) >= standingShare*float64(fault.Failed)
}
