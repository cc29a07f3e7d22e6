package lifecycle

import (
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

const (
	// quietEnd is how long nothing may fail before what is no longer tried counts as well because the rest does well again.
	quietEnd = 20 * time.Second
	// unexplained is how long an outage must explain nothing before it ends: what explains what may change for a moment.
	unexplained = 5 * time.Second
)

// review closes an outage that explains nothing any more, and gives up one of which nothing is heard.
func (r *Registry) review(o *entry, explained bool, now int64) {
	h := r.health(o)
	switch {
	case explained:
		o.idle = 0
		switch {
		case h.recovered > 0 && now-max(o.LastBad, h.lastBad) >= int64(quietEnd):
			// What has not been tried since shares its root with what does well again.
			r.end(o, h.recovered, now)
		case h.quiet && now-o.LastBad >= int64(r.settings.Quiet):
			r.stale(o, now)
		}
	case o.restored != 0:
		r.resume(o, now)
	case forgotten(o, r.store.Nodes) && h.recovered == 0:
		r.stale(o, now)
	case o.idle == 0 && r.store.Interval < int64(quietEnd):
		o.idle = now
	case now-o.idle >= int64(unexplained):
		r.end(o, h.recovered, now)
	}
}

// resume decides on an outage that was open before a restart and has not been seen since: it ends once its edges are in use
// and do well.
func (r *Registry) resume(o *entry, now int64) {
	if now-o.restored < int64(2*quietEnd) {
		return
	}
	for _, t := range o.Edges {
		if p := r.store.Edges.Find(t.Edge.Source, t.Edge.Destination); p != nil && p.LastSuccess > o.restored && !p.Wrong() {
			r.end(o, now, now)
			return
		}
	}
	if len(o.Edges) == 0 && !forgotten(o, r.store.Nodes) {
		r.end(o, now, now)
	} else if now-o.restored >= int64(r.settings.Quiet) {
		r.stale(o, now)
	}
}

// forgotten tells whether an outage's node has been silent for so long, or since a restart, that nothing is known of it: that it is
// well again nobody saw.
func forgotten(o *entry, nodes *observe.Nodes) bool {
	_, known := nodes.ByName[o.Outage.Root.Name]
	return o.Outage.Root.Type == cause.TypeNode && !known
}

// health is how what an outage is about does now.
type health struct {
	// quiet: all that failed is no longer tried.
	quiet bool
	// recovered is when the first part of it did well again after the newest failure; 0 while none does.
	recovered int64
	lastBad   int64
}

func (r *Registry) health(o *entry) health {
	h := health{quiet: true}
	var ends []int64
	for _, t := range o.Edges {
		p := r.store.Edges.Find(t.Edge.Source, t.Edge.Destination)
		if p == nil {
			continue
		}
		for family := range observe.Families {
			f := &p.Faults[family]
			if f.Outage != o.Outage.ID {
				continue
			}
			h.lastBad = max(h.lastBad, f.LastBad)
			if f.On {
				h.quiet = h.quiet && f.Quiet
			} else if f.Recovered > 0 {
				ends = append(ends, f.Recovered)
			}
		}
	}
	switch o.Outage.Root.Type {
	case cause.TypeNode:
		h.quiet = false
		if n, ok := r.store.Nodes.ByName[o.Outage.Root.Name]; ok && o.Outage.Kind == rules.KindNodeDown {
			if n.Down.On {
				return health{lastBad: n.Down.LastBad}
			}
			ends = append(ends, n.Down.Recovered)
		}
	case cause.TypeControlPlane:
		h.quiet = false
	}
	for _, end := range ends {
		if end >= h.lastBad && (h.recovered == 0 || end < h.recovered) {
			h.recovered = end
		}
	}
	return h
}

func (r *Registry) end(o *entry, recovered, now int64) {
	switch {
	case recovered > 0:
		recovered = max(recovered, o.LastBad)
	case o.idle > 0:
		recovered = o.idle
	default:
		recovered = now
	}
	ended := at(min(recovered, now))
	o.Outage.State = semconv.OutageStateResolved
	o.Outage.EndedAt = &ended
	o.Outage.Summary = summary(o)
	text := "ended"
	if r.chronic(o) {
		text = "goes on as a chronic condition: it has been so ever since the edge was first seen"
	}
	r.note(o, ended.UnixNano(), text)
	r.finishEntry(o, semconv.TransitionClosed, now)
}

// chronic tells whether a part of an outage ended because it is as it always was.
func (r *Registry) chronic(o *entry) bool {
	for _, key := range o.Blames {
		if p := r.store.Edges.Find(key.Source, key.Destination); p != nil && p.Faults[key.Family].Chronic {
			return true
		}
	}
	return false
}

func (r *Registry) stale(o *entry, now int64) {
	ended := at(now)
	o.Outage.State = semconv.OutageStateStale
	o.Outage.EndedAt = &ended
	o.Outage.Summary = summary(o)
	r.note(o, now, "nothing is heard of it any more")
	r.finishEntry(o, semconv.TransitionStale, now)
}

func (r *Registry) finishEntry(o *entry, transition string, now int64) {
	r.open = slices.DeleteFunc(r.open, func(other *entry) bool { return other == o })
	r.ended = append(r.ended, o)
	r.send(o, transition, now)
}

// Silence makes every open outage stale: no telemetry arrives at all.
func (r *Registry) Silence(now int64) []Transition {
	r.out = r.out[:0]
	for _, o := range slices.Clone(r.open) {
		r.stale(o, now)
	}
	return r.out
}
