// Package life keeps outages from their first sign to their end: it opens each once, follows it as more becomes known,
// closes it when what failed does well again, and takes up one that returns.
package life

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/cause"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
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
		young := now - e.Since
		if l.leftover(e) || over(e) || guessed(e) || young < int64(l.settings.Confirm) || !e.Confirmed && young < int64(2*l.settings.Confirm) {
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

func (l *Ledger) sameRoot(e *cause.Explanation, taken map[*entry]bool) *entry {
	for _, o := range l.open {
		if !taken[o] && o.Outage.Root == e.Root && (o.Outage.Policy == "" || e.Policy == "" || o.Outage.Policy == e.Policy) {
			return o
		}
	}
	return nil
}

// sharesEdges finds the open outage whose edges the explanation now explains otherwise: its root has become clearer.
func (l *Ledger) sharesEdges(e *cause.Explanation, taken map[*entry]bool) *entry {
	for _, o := range l.open {
		if taken[o] || len(o.Blames) == 0 {
			continue
		}
		shared := 0
		for _, list := range [][]cause.Blame{e.Edges, e.Felt} {
			for _, b := range list {
				if slices.Contains(o.Blames, keyOf(b)) {
					shared++
				}
			}
		}
		if 2*shared >= len(o.Blames) && shared > 0 {
			return o
		}
	}
	return nil
}

// persuasive is how long another root must explain what is left of an outage before it becomes the outage's root.
const persuasive = 15 * time.Second

// clearer tells whether another explanation says more about an outage's root than the one it has: at once if it explains all that
// the outage does, else if it goes on. As an outage ends, its edges do well one after the other, and the last of them alone would
// be explained otherwise; faults that merely have not been seen to end yet say nothing.
func (l *Ledger) clearer(o *entry, e *cause.Explanation, now int64) bool {
	if !fresh(e, now) {
		return false
	}
	if o.contender != e.Root {
		o.contender, o.contends = e.Root, now
	}
	return covers(e, o.Blames) || now-o.contends >= int64(persuasive)
}

// covers tells whether an explanation explains all of the faults.
func covers(e *cause.Explanation, blames []blameKey) bool {
	known := make(map[blameKey]bool, len(e.Edges)+len(e.Felt))
	for _, list := range [][]cause.Blame{e.Edges, e.Felt} {
		for _, b := range list {
			known[keyOf(b)] = true
		}
	}
	for _, key := range blames {
		if !known[key] {
			return false
		}
	}
	return true
}

// fresh tells whether what is explained still goes on.
func fresh(e *cause.Explanation, now int64) bool {
	for _, b := range e.Edges {
		if b.Weak || now-b.Fault().LastBad <= int64(max(2*time.Second, b.Pair.Win.Length())) {
			return true
		}
	}
	return len(e.Edges) == 0
}

func keyOf(b cause.Blame) blameKey {
	return blameKey{b.Pair.Source.Name, b.Pair.Destination.Name, b.Family}
}

// leftover tells whether an explanation consists of faults that an outage explained which has just ended: the last failures
// of callers are reported after their callee does well again.
func (l *Ledger) leftover(e *cause.Explanation) bool {
	if len(e.Edges) == 0 {
		return false
	}
	for _, b := range e.Edges {
		id := b.Fault().Outage
		if id == "" {
			return false
		}
		grace := int64(max(15*time.Second, 2*b.Pair.Win.Length()))
		known := false
		for _, o := range append(slices.Clone(l.open), l.ended...) {
			if o.Outage.ID == id && b.Fault().LastBad <= o.LastBad+grace {
				known = true
			}
		}
		if !known {
			return false
		}
	}
	return true
}

// guessed tells whether no rule has fired for anything that is explained: its callers' failures may have yet another cause.
func guessed(e *cause.Explanation) bool {
	return len(e.Edges) > 0 && !slices.ContainsFunc(e.Edges, func(b cause.Blame) bool { return !b.Weak })
}

// overChance is how unlikely the good events since the last bad one must be while a fault goes on for it to look over.
const overChance = 0.05

// over tells whether everything that is explained looks as if it were over before it was confirmed: a blip, as when a pod is replaced.
func over(e *cause.Explanation) bool {
	for _, b := range e.Edges {
		f := b.Fault()
		if b.Weak || b.Family == observe.Silence || b.Family == observe.Stalled || math.Pow(1-min(f.Ratio, 1), float64(f.Well)) > overChance {
			return false
		}
	}
	return len(e.Edges) > 0 && e.Root.Type == cause.TypeWorkload
}

// begin opens an outage, or takes up one that has only just ended.
func (l *Ledger) begin(e *cause.Explanation, now int64) *entry {
	for i, o := range l.ended {
		if o.Outage.Root == e.Root && o.Outage.Kind == e.Kind && o.Outage.Policy == e.Policy && e.Since-o.LastBad <= int64(l.settings.Flap) {
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
		ID: l.identity(e), State: semconv.OutageStateOpen, StartedAt: at(e.Since), DetectedAt: at(now),
	}
	l.open = append(l.open, o)
	l.fill(o, e, now)
	l.note(o, e.Since, "began")
	l.note(o, now, "detected: "+o.Outage.Summary)
	l.send(o, semconv.TransitionOpened, now)
	return o
}

// identity is the same for the same outage, whoever finds it: several that see the same mesh may not agree on the moment at which
// it began. Of two outages of one root the second is the first again, unless more time than that lies between.
func (l *Ledger) identity(e *cause.Explanation) string {
	moment := int64(max(min(time.Minute, l.settings.Flap), time.Millisecond))
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%s\x00%s\x00%d",
		e.Kind, e.Root.Type, e.Root.Namespace, e.Root.Name, e.Policy, e.Since/moment))
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
	o.Outage.Timeline = append(o.Outage.Timeline, outage.Evidence{Time: at(when), Text: text, Source: "outage_detector"})
}

func (l *Ledger) update(o *entry, e *cause.Explanation, now int64) {
	before := o.Outage
	edges := len(before.Edges)
	l.fill(o, e, now)
	after := &o.Outage
	changed := false
	if after.Root != before.Root || after.Kind != before.Kind {
		l.note(o, now, "explained by "+nameOf(after.Root)+" ("+after.Kind+"), no longer by "+nameOf(before.Root)+" ("+before.Kind+")")
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

// fill brings an outage up to what is known now.
func (l *Ledger) fill(o *entry, e *cause.Explanation, now int64) {
	out := &o.Outage
	if len(e.Candidates) >= len(out.Candidates) || out.Root != e.Root {
		out.Candidates = e.Candidates
	}
	// As its edges do well one after the other, what is left of an outage may be of another kind.
	if out.Root != e.Root || out.Kind == "" || out.Kind == e.Kind || explainsAll(e, o) {
		out.Kind = e.Kind
		if e.Rule != nil {
			o.Rule = e.Rule.ID
		}
	}
	out.Root = e.Root
	out.Policy = cmp.Or(e.Policy, out.Policy)
	if out.Kind != rules.KindPolicyDenied {
		out.Policy = ""
	}
	if out.Severity != rules.Critical {
		out.Severity = e.Severity
	}
	o.LastBad = max(o.LastBad, e.LastBad)
	o.restored, o.contender = 0, outage.Subject{}
	o.Nodes = e.Nodes
	if len(e.Pods) > 0 || e.AllPods {
		out.Pods = e.Pods
	}
	o.Blames = o.Blames[:0]
	for _, list := range [][]cause.Blame{e.Edges, e.Felt} {
		for _, b := range list {
			b.Fault().Outage = out.ID
			o.Blames = append(o.Blames, keyOf(b))
		}
	}
	for _, b := range e.Edges {
		l.tally(o, b)
	}
	l.edges(o)
	impact := l.finder.Impact(e)
	if len(impact) >= len(out.Impact) || len(out.Impact) == 0 {
		out.Impact = impact
	}
	out.Evidence = mergeEvidence(out.Evidence, e.Evidence)
	out.Summary = summary(o, e)
}

// explainsAll tells whether an explanation has all edges that ever were part of the outage.
func explainsAll(e *cause.Explanation, o *entry) bool {
	has := make(map[string]bool, len(e.Edges))
	for _, b := range e.Edges {
		has[edgeKey(b.Pair)] = true
	}
	for key := range o.Edges {
		if !has[key] {
			return false
		}
	}
	return true
}

func edgeKey(p *observe.Pair) string {
	return p.Source.Name.Namespace + "/" + p.Source.Name.Name + ">" + p.Destination.Name.Namespace + "/" + p.Destination.Name.Name
}

func (l *Ledger) tally(o *entry, b cause.Blame) {
	p := b.Pair
	key := edgeKey(p)
	t, ok := o.Edges[key]
	if !ok {
		if len(o.Edges) >= maxEdges {
			return
		}
		t = &tally{Edge: outage.Edge{Source: p.Source.Name, Destination: p.Destination.Name}}
		o.Edges[key] = t
	}
	if b.Weak {
		return
	}
	f := b.Fault()
	if t.Began != f.Since {
		t.Failed += t.Last[0]
		t.Total += t.Last[1]
		t.Began = f.Since
	}
	t.Last = [2]uint64{f.Failed, f.Total}
	t.Edge.Failed = t.Failed + f.Failed
	t.Edge.Total = t.Total + f.Total
}

func (l *Ledger) edges(o *entry) {
	list := make([]outage.Edge, 0, len(o.Edges))
	for _, t := range o.Edges {
		list = append(list, t.Edge)
	}
	slices.SortFunc(list, func(a, b outage.Edge) int {
		return cmp.Or(cmp.Compare(b.Failed, a.Failed), observe.CompareNames(a.Source, b.Source), observe.CompareNames(a.Destination, b.Destination))
	})
	o.Outage.Edges = list
}

const maxEvidence = 30

func mergeEvidence(known, more []outage.Evidence) []outage.Evidence {
	merged := known
	for _, e := range more {
		if !slices.ContainsFunc(known, func(k outage.Evidence) bool {
			return k.Text == e.Text && k.Source == e.Source
		}) {
			merged = append(merged, e)
		}
	}
	slices.SortStableFunc(merged, func(a, b outage.Evidence) int { return a.Time.Compare(b.Time) })
	if len(merged) > maxEvidence {
		merged = slices.Delete(merged, maxEvidence/2, len(merged)-maxEvidence/2)
	}
	return merged
}

const (
	// quietEnd is how long nothing may fail before what is no longer tried counts as well because the rest does well again.
	quietEnd = 20 * time.Second
	// unexplained is how long an outage must explain nothing before it ends: what explains what may change for a moment.
	unexplained = 5 * time.Second
)

// review closes an outage that explains nothing any more, and gives up one of which nothing is heard.
func (l *Ledger) review(o *entry, explained bool, now int64) {
	h := l.health(o)
	switch {
	case explained:
		o.idle = 0
		switch {
		case h.recovered > 0 && now-max(o.LastBad, h.lastBad) >= int64(quietEnd):
			// What has not been tried since shares its root with what does well again.
			l.end(o, h.recovered, now)
		case h.quiet && now-o.LastBad >= int64(l.settings.Quiet):
			l.stale(o, now)
		}
	case o.restored != 0:
		l.resume(o, now)
	case o.idle == 0 && l.store.Interval < int64(quietEnd):
		o.idle = now
	case now-o.idle >= int64(unexplained):
		l.end(o, h.recovered, now)
	}
}

// resume decides on an outage that was open before a restart and has not been seen since: it ends once its edges are in use
// and do well.
func (l *Ledger) resume(o *entry, now int64) {
	if now-o.restored < int64(2*quietEnd) {
		return
	}
	for _, t := range o.Edges {
		if p := l.store.Pair(t.Edge.Source, t.Edge.Destination); p != nil && p.LastSuccess > o.restored && !p.Wrong() {
			l.end(o, now, now)
			return
		}
	}
	if len(o.Edges) == 0 {
		l.end(o, now, now)
	} else if now-o.restored >= int64(l.settings.Quiet) {
		l.stale(o, now)
	}
}

// health is how what an outage is about does now.
type health struct {
	// quiet: all that failed is no longer tried.
	quiet bool
	// recovered is when the first part of it did well again after the newest failure; 0 while none does.
	recovered int64
	lastBad   int64
}

func (l *Ledger) health(o *entry) health {
	h := health{quiet: true}
	var ends []int64
	for _, t := range o.Edges {
		p := l.store.Pair(t.Edge.Source, t.Edge.Destination)
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
		if n, ok := l.store.Nodes[o.Outage.Root.Name]; ok && o.Outage.Kind == rules.KindNodeDown {
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

func (l *Ledger) end(o *entry, recovered, now int64) {
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
	l.note(o, ended.UnixNano(), "ended")
	l.finishEntry(o, semconv.TransitionClosed, now)
}

func (l *Ledger) stale(o *entry, now int64) {
	ended := at(now)
	o.Outage.State = semconv.OutageStateStale
	o.Outage.EndedAt = &ended
	l.note(o, now, "nothing is heard of it any more")
	l.finishEntry(o, semconv.TransitionStale, now)
}

func (l *Ledger) finishEntry(o *entry, transition string, now int64) {
	l.open = slices.DeleteFunc(l.open, func(other *entry) bool { return other == o })
	l.ended = append(l.ended, o)
	l.send(o, transition, now)
}

// Silence makes every open outage stale: no telemetry arrives at all.
func (l *Ledger) Silence(now int64) []Transition {
	l.out = l.out[:0]
	for _, o := range slices.Clone(l.open) {
		l.stale(o, now)
	}
	return l.out
}
