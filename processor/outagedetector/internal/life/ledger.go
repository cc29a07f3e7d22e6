// Package life keeps outages from their first sign to their end: it opens each once, follows it as more becomes known,
// closes it when what failed does well again, and takes up one that returns.
package life

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
	// Flap is how soon after its end the same trouble is the same outage.
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

// Ledger is all outages that are open or ended a short while ago. It is not safe for concurrent use.
type Ledger struct {
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
	Edges   map[string]*tally
	Nodes   []string
	Blames  []blameKey
	// Source is of telemetry that is lost; Failed and Total are what failed apart from edges.
	Source        string
	Failed, Total uint64

	reported int64 // when an event was last sent
	lastSent string
	idle     int64 // since when it explains nothing
	restored int64 // the first boundary after a restart, until its faults are seen again
	// contender is another root that explains a part of the outage, contends since when.
	contender outage.Subject
	contends  int64
}

// tally is an edge's share of an outage: faults may come and go while it lasts.
type tally struct {
	Edge          outage.Edge
	Failed, Total uint64 // of faults that ended
	Began         int64
	Last          [2]uint64
}

type blameKey struct {
	Source, Destination outage.Name
	Family              observe.Family
}

// New returns an empty ledger.
func New(settings Settings, store *observe.Store, finder *cause.Finder) *Ledger {
	return &Ledger{settings: settings, store: store, finder: finder}
}

// Open are the outages that are open, oldest first.
func (l *Ledger) Open() []*outage.Outage {
	all := make([]*outage.Outage, len(l.open))
	for i, e := range l.open {
		all[i] = &e.Outage
	}
	return all
}

// Round takes over what explains the faults of the present boundary and returns what changed.
func (l *Ledger) Round(explanations []*cause.Explanation) []Transition {
	l.out = l.out[:0]
	if len(explanations) == 0 && len(l.open) == 0 && len(l.ended) == 0 {
		return nil
	}
	now := l.store.Now
	l.begun(now)
	taken := map[*entry]bool{}
	rest := explanations[:0:0]
	for _, e := range explanations {
		if o := l.sameRoot(e, taken); o != nil {
			taken[o] = true
			l.update(o, e, now)
		} else {
			rest = append(rest, e)
		}
	}
	for _, e := range rest {
		if o := l.sharesEdges(e, taken); o != nil {
			taken[o] = true
			if l.clearer(o, e, now) {
				l.update(o, e, now)
			}
			continue
		}
		if l.leftover(e) || over(e) || guessed(e) || now-e.Since < l.patience(e) {
			continue
		}
		if o := l.begin(e, now); o != nil {
			taken[o] = true
		}
	}
	for _, o := range slices.Clone(l.open) {
		l.review(o, taken[o], now)
	}
	l.ended = slices.DeleteFunc(l.ended, func(o *entry) bool { return now-o.LastBad > int64(2*l.settings.Flap+l.settings.Quiet) })
	return l.out
}

// begin opens an outage, or takes up one that has only just ended.
func (l *Ledger) begin(e *cause.Explanation, now int64) *entry {
	id := l.identity(e)
	for i, o := range l.ended {
		again := o.Outage.Root == e.Root && o.Outage.Kind == e.Kind && o.Outage.Policy == e.Policy && e.Since-o.LastBad <= int64(l.settings.Flap)
		if again || o.Outage.ID == id {
			l.ended = slices.Delete(l.ended, i, i+1)
			l.open = append(l.open, o)
			o.Outage.State = semconv.OutageStateOpen
			o.Outage.EndedAt = nil
			l.note(o, now, "it is back")
			l.fill(o, e, now)
			l.send(o, semconv.TransitionChanged, now)
			return o
		}
	}
	if len(l.open) >= l.settings.MaxOpen {
		l.Overflowed++
		return nil
	}
	o := &entry{Since: e.Since, Edges: map[string]*tally{}}
	o.Outage = outage.Outage{
		ID: id, State: semconv.OutageStateOpen, StartedAt: at(e.Since), DetectedAt: at(now),
	}
	l.open = append(l.open, o)
	l.fill(o, e, now)
	l.note(o, e.Since, "began")
	l.note(o, now, "detected: "+o.Outage.Summary)
	l.send(o, semconv.TransitionOpened, now)
	return o
}

// identity is the same for the same outage, whoever finds it: several that see the same mesh may not agree on the moment at which
// it began, nor on when the policy became known that denies. Of two outages of one root the second is the first again, unless more
// time than that lies between.
func (l *Ledger) identity(e *cause.Explanation) string {
	moment := int64(max(min(time.Minute, l.settings.Flap), time.Millisecond))
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

func (l *Ledger) note(o *entry, when int64, text string) {
	if len(o.Outage.Timeline) >= maxTimeline {
		o.Outage.Timeline = slices.Delete(o.Outage.Timeline, 1, 2)
	}
	o.Outage.Timeline = append(o.Outage.Timeline, outage.Evidence{Time: at(when), Text: text, Source: "outage_detector", Kind: outage.EvidenceObservation})
}

func (l *Ledger) update(o *entry, e *cause.Explanation, now int64) {
	before := o.Outage
	edges := len(before.Edges)
	l.fill(o, e, now)
	after := &o.Outage
	changed := false
	if after.Root != before.Root || after.Kind != before.Kind {
		l.note(o, now, "explained by "+after.Root.Name+" ("+after.Kind+"), no longer by "+before.Root.Name+" ("+before.Kind+")")
		changed = true
	}
	if after.Severity != before.Severity {
		l.note(o, now, "severity "+after.Severity)
		changed = true
	}
	if len(after.Edges) != edges || after.Policy != before.Policy {
		changed = true
	}
	if len(after.Impact) != len(before.Impact) {
		changed = true
	}
	if changed || now-o.reported >= int64(refresh) && fingerprint(after) != o.lastSent {
		l.send(o, semconv.TransitionChanged, now)
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

func (l *Ledger) send(o *entry, transition string, now int64) {
	o.reported = now
	o.lastSent = fingerprint(&o.Outage)
	snapshot := o.Outage
	snapshot.Edges = slices.Clone(o.Outage.Edges)
	snapshot.Timeline = slices.Clone(o.Outage.Timeline)
	l.out = append(l.out, Transition{Outage: &snapshot, Name: transition, At: now})
}
