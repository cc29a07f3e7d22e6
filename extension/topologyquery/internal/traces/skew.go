package traces

import "time"

// skewSlack is how far apart two clocks may be unmarked: a ztunnel states durations in milliseconds.
const skewSlack = 2 * time.Millisecond

// ClockSkew is how far the clock that a span was timed by is ahead of its parent's; negative: behind.
type ClockSkew struct {
	SpanID  string  `json:"span_id"`
	Service string  `json:"service"`
	SkewMS  float64 `json:"skew_ms"`
}

// skewsOf finds the spans that cannot have been when they say, by their parents' clocks: a server answers after it was asked and
// before its client has the answer. How far the clocks are apart is an estimate: what the client waited for beyond the server is
// taken to be the same on the way there and back.
func skewsOf(spans []*Span) []ClockSkew {
	byID := make(map[string]*Span, len(spans))
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	var skews []ClockSkew
	for _, s := range spans {
		parent, known := byID[s.ParentID]
		if !known || !crosses(parent.Kind, s.Kind) {
			continue
		}
		early := parent.Start.Sub(s.Start)
		// A client that failed may have left before it was served; a message waits for as long as it takes.
		late := s.Kind == "server" && parent.Status != "error" && s.Start.Sub(parent.end()) > skewSlack
		if early <= skewSlack && !late {
			continue
		}
		ahead := -float64(early) / 1e6
		if way := (parent.DurationMS - s.DurationMS) / 2; s.Kind == "server" && way > 0 {
			ahead -= way
		}
		skews = append(skews, ClockSkew{SpanID: s.SpanID, Service: s.Service, SkewMS: ahead})
	}
	return skews
}

// crosses tells whether a span of one kind below one of the other means that a process was called by another.
func crosses(parent, child string) bool {
	return parent == "client" && child == "server" || parent == "producer" && child == "consumer"
}

// largestSkew is the one that is furthest from 0.
func largestSkew(skews []ClockSkew) (ms float64) {
	for _, s := range skews {
		if max(s.SkewMS, -s.SkewMS) > max(ms, -ms) {
			ms = s.SkewMS
		}
	}
	return ms
}
