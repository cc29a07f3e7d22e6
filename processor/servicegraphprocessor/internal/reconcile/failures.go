package reconcile

import (
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Reason is why a connection failed: a value of semconv.ErrorType* and, where one is named, the policy
// "namespace/name".
type Reason struct {
	Type   string
	Policy string
}

// Vague tells whether the reason, as the client's end states it, only says that the other end refused. ztunnel
// answers 401 to a denied client, so a denial without a policy is vague too.
func (r Reason) Vague() bool {
	if r.Type == semconv.ErrorTypePolicyDenied {
		return r.Policy == ""
	}
	return reasons.Of(r.Type).Vague
}

// Failed is a number of failed connections of one reason. Route is the caller's: what distinguishes the
// connections of a pair (service, security); it is carried along.
type Failed struct {
	Reason Reason
	Route  int
	N      uint64
}

// Failures compares the failed connections of a pair by reason. Every failure counts once, under the reason of the
// end that knows best: the server's end where it has one, else the client's. A failure whose client's end is vague is
// held back until the server's end has spoken or Limits.Hold has passed, so that no count has to be taken back.
// The zero value is ready to use.
type Failures struct {
	Lead
	held    []heldFailure
	pending uint64
}

type heldFailure struct {
	at pcommon.Timestamp
	Failed
}

// Apply takes over the failures that the ends reported up to now since the last call, and appends to counted what
// counts as of now.
func (f *Failures) Apply(now pcommon.Timestamp, source, destination []Failed, limits Limits, counted []Failed) []Failed {
	counted = f.Release(now, limits, counted)
	f.settle(now, limits)
	before := f.lead
	var fromSource, fromDestination uint64
	for _, failed := range destination {
		fromDestination += failed.N
		fresh := f.addDestination(failed.N)
		counted = f.explain(failed.N-fresh, failed.Reason, counted)
		counted = appendFailed(counted, failed, fresh)
	}
	for _, failed := range source {
		fromSource += failed.N
		fresh := f.addSource(failed.N)
		if fresh > 0 && failed.Reason.Vague() && limits.Hold > 0 {
			f.held = append(f.held, heldFailure{at: now, Failed: Failed{Reason: failed.Reason, Route: failed.Route, N: fresh}})
			f.pending += fresh
			continue
		}
		counted = appendFailed(counted, failed, fresh)
	}
	f.note(now, before, fromSource, fromDestination)
	return counted
}

// Flush appends all that is held back to counted, under the client's reasons.
func (f *Failures) Flush(counted []Failed) []Failed {
	for _, h := range f.held {
		counted = append(counted, h.Failed)
	}
	f.held, f.pending = f.held[:0], 0
	return counted
}

// Rewind takes note that the clock went back to a time.
func (f *Failures) Rewind(now pcommon.Timestamp) {
	f.Lead.Rewind(now)
	for i := range f.held {
		f.held[i].at = min(f.held[i].at, now)
	}
}

// Held is the number of failures held back.
func (f *Failures) Held() uint64 { return f.pending }

// explain gives the server's reason to n failures that the client's end reported before; those that were counted
// already keep the reason they have.
func (f *Failures) explain(n uint64, reason Reason, counted []Failed) []Failed {
	for n > 0 && len(f.held) > 0 {
		h := &f.held[0]
		take := min(n, h.N)
		counted = append(counted, Failed{Reason: reason, Route: h.Route, N: take})
		n -= take
		h.N -= take
		f.pending -= take
		if h.N == 0 {
			f.held = append(f.held[:0], f.held[1:]...)
		}
	}
	return counted
}

// Release appends to counted what was held back long enough, under the client's reasons.
func (f *Failures) Release(now pcommon.Timestamp, limits Limits, counted []Failed) []Failed {
	due := 0
	for due < len(f.held) && elapsed(f.held[due].at, now) >= limits.Hold {
		counted = append(counted, f.held[due].Failed)
		f.pending -= f.held[due].N
		due++
	}
	if due > 0 {
		f.held = append(f.held[:0], f.held[due:]...)
	}
	return counted
}

func appendFailed(counted []Failed, failed Failed, n uint64) []Failed {
	if n == 0 {
		return counted
	}
	failed.N = n
	return append(counted, failed)
}
