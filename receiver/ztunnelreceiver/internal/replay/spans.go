package replay

import (
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

func eachSpan(spans ptrace.Traces) func(yield func(ptrace.Span) bool) {
	return func(yield func(ptrace.Span) bool) {
		for _, resource := range spans.ResourceSpans().All() {
			for _, scope := range resource.ScopeSpans().All() {
				for _, span := range scope.Spans().All() {
					if !yield(span) {
						return
					}
				}
			}
		}
	}
}

// moveSpans shifts all times of the spans. A span that ends after the newest believable time, or starts absurdly long before it,
// is moved to there; moveSpans returns how many.
func moveSpans(spans ptrace.Traces, newest int64, shift time.Duration) (clamped int) {
	limit := pcommon.Timestamp(max(newest, 0))
	oldest := pcommon.Timestamp(max(newest-int64(plausible), 0))
	for span := range eachSpan(spans) {
		start, end := span.StartTimestamp(), span.EndTimestamp()
		if end > limit || end < oldest {
			end = limit
			start = limit
			clamped++
		}
		if start > end || start < oldest {
			start = end
		}
		span.SetStartTimestamp(move(start, shift))
		span.SetEndTimestamp(move(end, shift))
		for _, event := range span.Events().All() {
			event.SetTimestamp(move(min(max(event.Timestamp(), start), end), shift))
		}
	}
	return clamped
}

func move(stamp pcommon.Timestamp, shift time.Duration) pcommon.Timestamp {
	return pcommon.Timestamp(int64(stamp) + int64(shift))
}

// idMask tells the ids of one round of a looped recording from those of the others. Applied to every id it keeps parents and links, and
// no two ids of a round become one. The first round's changes nothing.
type idMask [16]byte

func maskOf(round int) (mask idMask) {
	if round == 0 {
		return mask
	}
	var seed [8]byte
	binary.LittleEndian.PutUint64(seed[:], uint64(round))
	var digest xxhash.Digest
	for half := range 2 {
		digest.ResetWithSeed(uint64(half))
		_, _ = digest.Write(seed[:])
		binary.BigEndian.PutUint64(mask[8*half:], digest.Sum64())
	}
	return mask
}

func (m *idMask) trace(id pcommon.TraceID) pcommon.TraceID {
	if id.IsEmpty() {
		return id
	}
	for i := range id {
		id[i] ^= m[i]
	}
	return id
}

func (m *idMask) span(id pcommon.SpanID) pcommon.SpanID {
	if id.IsEmpty() {
		return id
	}
	for i := range id {
		id[i] ^= m[i]
	}
	return id
}

// renew gives spans, their parents and their links the ids of a round.
func (m *idMask) renew(spans ptrace.Traces) {
	if *m == (idMask{}) {
		return
	}
	for span := range eachSpan(spans) {
		span.SetTraceID(m.trace(span.TraceID()))
		span.SetSpanID(m.span(span.SpanID()))
		span.SetParentSpanID(m.span(span.ParentSpanID()))
		for _, link := range span.Links().All() {
			link.SetTraceID(m.trace(link.TraceID()))
			link.SetSpanID(m.span(link.SpanID()))
		}
	}
}
