// Package lifecycle keeps outages from their first sign to their end: it opens each once, follows it as more becomes known,
// closes it when what failed does well again, and takes up one that returns.
package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

// Settings are the times that govern an outage's life.
type Settings struct {
	// Confirm is how old a fault must be before an outage opens, so that its root can show itself.
	Confirm time.Duration
	// Flap is how soon after its end the same fault is the same outage.
	Flap time.Duration
	// Quiet is how long an outage stays open while nothing is attempted any more; then it is stale.
	Quiet time.Duration
	// MaxOpen bounds the outages that are open at once.
	MaxOpen int
}

// Transition is an outage that changed, and how.
type Transition struct {
	Outage *outage.Outage
	Name   string
	At     int64
}

// Registry is all outages that are open or ended a short while ago. It is not safe for concurrent use.
type Registry struct {
	settings Settings
	store    *observe.Store
	finder   *cause.Finder
	open     []*entry
	ended    []*entry
	out      []Transition
	// Overflowed counts outages that were not opened because too many were.
	Overflowed uint64
}

// entry is an outage with what must be known to go on with it.
type entry struct {
	Outage  outage.Outage
	Rule    string
	LastBad int64
	Since   int64
	Edges   map[string]*tally // bounded by maxEdges
	Nodes   []string
	Blames  []blameKey
	// Waypoint is what makes the connections that fail, empty if they are the callers' own.
	Waypoint string
	// Source is of telemetry that is lost.
	Source string
	Counts

	sent      sent
	idle      int64 // since when it explains nothing
	restored  int64 // the first boundary after a restart, until its faults are seen again
	contender contender
}

// Counts are what failed apart from edges, and how many times longer than usual requests take.
type Counts struct {
	Failed, Total uint64
	Times         float64
}

// sent is when an outage was told of last, and how it stood then.
type sent struct {
	at          int64
	fingerprint string
}

// contender is another root that explains a part of an outage, and since when.
type contender struct {
	root  outage.Subject
	since int64
}

// tally is an edge's share of an outage: faults may come and go while it lasts.
type tally struct {
	Edge          outage.Edge
	Failed, Total uint64 // of faults that ended
	Began         int64
	Last          [2]uint64
	// Behind tells that the edge is a waypoint's own, which its clients' edges stand for; Shared that the counts are a share of
	// those.
	Behind, Shared bool
}

type blameKey struct {
	Source, Destination outage.Name
	Family              observe.Family
}

// New returns an empty registry.
func New(settings Settings, store *observe.Store, finder *cause.Finder) *Registry {
	return &Registry{settings: settings, store: store, finder: finder}
}

// Open are the outages that are open, oldest first.
func (r *Registry) Open() []*outage.Outage {
	all := make([]*outage.Outage, len(r.open))
	for i, e := range r.open {
		all[i] = &e.Outage
	}
	return all
}

// Round takes over what explains the faults of the present boundary and returns what changed.
func (r *Registry) Round(explanations []*cause.Explanation) []Transition {
	r.out = r.out[:0]
	if len(explanations) == 0 && len(r.open) == 0 && len(r.ended) == 0 {
		return nil
	}
	now := r.store.Now
	r.begun(now)
	taken := map[*entry]bool{}
	rest := explanations[:0:0]
	roots := r.byRoot()
	for _, e := range explanations {
		o := samePolicy(roots[e.Root], e, taken)
		if o == nil && e.Former != nil {
			o = samePolicy(roots[*e.Former], e, taken)
		}
		if o == nil {
			rest = append(rest, e)
			continue
		}
		taken[o] = true
		r.update(o, e, now)
	}
	for _, e := range rest {
		if o := r.sharesEdges(e, taken); o != nil {
			taken[o] = true
			if r.clearer(o, e, now) {
				r.update(o, e, now)
			}
			continue
		}
		if r.leftover(e) || over(e) || guessed(e) || now-e.Since < r.patience(e) {
			continue
		}
		if o := r.begin(e, now); o != nil {
			taken[o] = true
		}
	}
	for _, o := range slices.Clone(r.open) {
		r.review(o, taken[o], now)
	}
	r.ended = slices.DeleteFunc(r.ended, func(o *entry) bool { return now-o.LastBad > int64(2*r.settings.Flap+r.settings.Quiet) })
	return r.out
}

// begin opens an outage, or takes up one that has only just ended.
func (r *Registry) begin(e *cause.Explanation, now int64) *entry {
	id := r.identity(e)
	for i, o := range r.ended {
		again := o.Outage.Root == e.Root && o.Outage.Policy == e.Policy &&
			(o.Outage.Kind == e.Kind && e.Since-o.LastBad <= int64(r.settings.Flap) || e.Since <= o.LastBad && e.Since > 0 || goesOn(o, e))
		if again || o.Outage.ID == id {
			r.ended = slices.Delete(r.ended, i, i+1)
			r.open = append(r.open, o)
			o.Outage.State = semconv.OutageStateOpen
			o.Outage.EndedAt = nil
			r.note(o, now, "it is back")
			r.fill(o, e, now)
			r.send(o, semconv.TransitionChanged, now)
			return o
		}
	}
	if len(r.open) >= r.settings.MaxOpen {
		r.Overflowed++
		return nil
	}
	o := &entry{Since: e.Since, Edges: map[string]*tally{}}
	o.Outage = outage.Outage{
		ID: id, State: semconv.OutageStateOpen, StartedAt: at(e.Since), DetectedAt: at(now),
	}
	r.open = append(r.open, o)
	r.fill(o, e, now)
	r.note(o, e.Since, "began")
	r.note(o, now, "detected: "+o.Outage.Summary)
	r.send(o, semconv.TransitionOpened, now)
	return o
}

// identity is the same for the same outage, whoever finds it: several that see the same mesh may not agree on the moment at which
// it began, nor on when the policy became known that denies. Of two outages of one root the second is the first again, unless more
// time than that lies between.
func (r *Registry) identity(e *cause.Explanation) string {
	moment := int64(max(min(time.Minute, r.settings.Flap), time.Millisecond))
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%d",
		e.Kind, e.Root.Type, e.Root.Namespace, e.Root.Name, e.Since/moment))
	return hex.EncodeToString(sum[:8])
}

func at(ns int64) time.Time { return time.Unix(0, ns).UTC() }

const (
	// refresh is how often an open outage whose figures grow is told again.
	refresh = 15 * time.Second
	// maxTimeline bounds what is remembered of an outage's course.
	maxTimeline = 50
	maxEdges    = 500
)

func (r *Registry) note(o *entry, when int64, text string) {
	if len(o.Outage.Timeline) >= maxTimeline {
		o.Outage.Timeline = slices.Delete(o.Outage.Timeline, 1, 2)
	}
	o.Outage.Timeline = append(o.Outage.Timeline, outage.Evidence{Time: at(when), Text: text, Source: "outage_detector", Kind: outage.EvidenceObservation})
}

func (r *Registry) update(o *entry, e *cause.Explanation, now int64) {
	before := o.Outage
	edges := len(before.Edges)
	r.fill(o, e, now)
	after := &o.Outage
	changed := false
	if after.Root != before.Root || after.Kind != before.Kind {
		r.note(o, now, "explained by "+after.Root.Name+" ("+after.Kind+"), no longer by "+before.Root.Name+" ("+before.Kind+")")
		changed = true
	}
	if after.Severity != before.Severity {
		r.note(o, now, "severity "+after.Severity)
		changed = true
	}
	if len(after.Edges) != edges || after.Policy != before.Policy {
		changed = true
	}
	if len(after.Impact) != len(before.Impact) {
		changed = true
	}
	if changed || now-o.sent.at >= int64(refresh) && fingerprint(after) != o.sent.fingerprint {
		r.send(o, semconv.TransitionChanged, now)
	}
}

func fingerprint(o *outage.Outage) string {
	var failed, total uint64
	for _, e := range o.Edges {
		failed += e.Failed
		total += e.Total
	}
	return fmt.Sprint(failed, total, len(o.Evidence), o.Severity)
}

func (r *Registry) send(o *entry, transition string, now int64) {
	o.sent = sent{now, fingerprint(&o.Outage)}
	snapshot := o.Outage
	snapshot.Edges = slices.Clone(o.Outage.Edges)
	snapshot.Timeline = slices.Clone(o.Outage.Timeline)
	r.out = append(r.out, Transition{Outage: &snapshot, Name: transition, At: now})
}
