// Package proxies keeps what ztunnels say of themselves: how busy they are, what they log beside connections, and the pods that they
// cannot serve.
package proxies

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cnilog"
	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/nodeload"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/internal/ztunnellog"
)

const (
	// maxNodes bounds the nodes, maxEvents the events of one: the oldest goes first.
	maxNodes, maxEvents = 10_000, 64
	// maxText bounds the text of an event in bytes.
	maxText = 512
	// maxPending bounds the pods of one node that wait.
	maxPending = 1024
	// step is how far apart the loads are that are kept, maxPast how many of a node are: an hour's.
	step    = pcommon.Timestamp(15 * time.Second)
	maxPast = 240
	// retried is within what time a pod that waits is tried again.
	retried = 12 * time.Second
)

// Event is a message that a ztunnel logged, once or several times.
type Event struct {
	First time.Time `json:"first_seen"`
	Last  time.Time `json:"last_seen"`
	Count uint64    `json:"count"`
	// Level is info, warn or error, Scope the module.
	Level string `json:"level"`
	Scope string `json:"scope"`
	// Message is the newest text, Meaning what it means, empty where that is not known.
	Message string `json:"message"`
	Meaning string `json:"meaning,omitempty"`

	template string
}

// waiting is a pod that a ztunnel cannot serve, since the last attempt that failed.
type waiting struct {
	last pcommon.Timestamp
	text string
}

type node struct {
	load    nodeload.Tracker
	past    []nodeload.Load // every step or longer, the oldest first; bounded by maxPast
	events  []Event
	pending map[string]waiting // by UID; bounded by maxPending
	// unenrolled are the pods that the node's CNI agent could not hand over.
	unenrolled cnilog.Pods
}

// Table keeps the ztunnels by node. All methods may be called from several goroutines.
type Table struct {
	mu    sync.RWMutex
	nodes *expiry.Table[string, *node]
}

// New returns an empty table.
func New() *Table { return &Table{nodes: expiry.New[string, *node](maxNodes, nil)} }

func (t *Table) node(name string, now pcommon.Timestamp) *node {
	if n, ok := t.nodes.Use(name, now); ok {
		return n
	}
	n := &node{pending: map[string]waiting{}}
	t.nodes.Put(strings.Clone(name), n, now)
	return n
}

// Metric takes over what a scrape of a node's ztunnel tells.
func (t *Table) Metric(name string, metric pmetric.Metric, now pcommon.Timestamp) {
	if !nodeload.Is(metric.Name()) || name == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.node(name, now)
	whole, ok := n.load.Load()
	n.load.Take(metric)
	if next, _ := n.load.Load(); ok && next.At > whole.At {
		n.keep(whole)
	}
}

// keep keeps what a scrape told, all of whose metrics were taken.
func (n *node) keep(load nodeload.Load) {
	if last := len(n.past) - 1; last >= 0 && load.At < n.past[last].At+step {
		return
	}
	if len(n.past) >= maxPast {
		n.past = slices.Delete(n.past, 0, 1)
	}
	n.past = append(n.past, load)
}

// Past is how busy a node's ztunnel was in [start, end), at most for the last hour, the oldest first.
func (t *Table) Past(name string, start, end pcommon.Timestamp) []nodeload.Load {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.nodes.Get(name)
	if !ok {
		return nil
	}
	from, _ := slices.BinarySearchFunc(n.past, start, func(l nodeload.Load, at pcommon.Timestamp) int { return cmp.Compare(l.At, at) })
	to, _ := slices.BinarySearchFunc(n.past, end, func(l nodeload.Load, at pcommon.Timestamp) int { return cmp.Compare(l.At, at) })
	return slices.Clone(n.past[from:max(from, to)])
}

// Message takes over a line of a node's ztunnel, or of its CNI agent.
func (t *Table) Message(name string, record plog.LogRecord, now pcommon.Timestamp) {
	if name == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.node(name, now)
	text := bounded(record.Body().AsString())
	at := min(record.Timestamp(), max(now, record.ObservedTimestamp())).AsTime()
	n.note(record, text, at)
	if record.EventName() == semconv.EventCNILog {
		n.unenrolled.Take(record, text, record.Timestamp())
		return
	}
	uid, _ := record.Attributes().Get(semconv.AttrFieldPrefix + "uid")
	n.wait(strings.Trim(uid.Str(), `"`), text, record.Timestamp())
}

func (n *node) note(record plog.LogRecord, text string, at time.Time) {
	scope, _ := record.Attributes().Get(semconv.AttrScope)
	template, level := ztunnellog.Template(text), record.SeverityText()
	i := slices.IndexFunc(n.events, func(e Event) bool { return e.template == template && e.Level == level && e.Scope == scope.Str() })
	if i < 0 {
		if len(n.events) >= maxEvents {
			n.events = slices.Delete(n.events, 0, 1)
		}
		n.events = append(n.events, Event{
			First: at, Level: strings.Clone(level), Scope: strings.Clone(scope.Str()), Meaning: ztunnellog.Meaning(text), template: template,
		})
		i = len(n.events) - 1
	}
	e := n.events[i]
	e.Count++
	if !at.Before(e.Last) {
		e.Last, e.Message = at, text
	}
	// The newest stands last.
	n.events = append(slices.Delete(n.events, i, i+1), e)
}

func (n *node) wait(uid, text string, at pcommon.Timestamp) {
	switch {
	case strings.HasPrefix(text, "failed to start proxy"), strings.HasPrefix(text, "retrying workload failed"):
		if _, known := n.pending[uid]; known || len(n.pending) < maxPending {
			n.pending[strings.Clone(uid)] = waiting{at, text}
		}
	case strings.HasPrefix(text, "pod received"), strings.HasPrefix(text, "pod delete request"):
		delete(n.pending, uid)
	case strings.HasPrefix(text, "received signal"):
		clear(n.pending)
	}
}

// Load is how busy a node's ztunnel is; ok is false where it was never scraped.
func (t *Table) Load(name string) (load nodeload.Load, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.nodes.Get(name)
	if !ok {
		return load, false
	}
	return n.load.Load()
}

// Events are what a node's ztunnel logged, the newest first.
func (t *Table) Events(name string) []Event {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.nodes.Get(name)
	if !ok {
		return []Event{}
	}
	events := slices.Clone(n.events)
	slices.Reverse(events)
	return events
}

// Waits tells why a node's ztunnel cannot serve a pod at a time, by the pod's UID; empty where it does, or nothing is known.
func (t *Table) Waits(name, uid string, now pcommon.Timestamp) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.nodes.Get(name)
	if !ok {
		return ""
	}
	if p, ok := n.pending[uid]; ok && now-min(p.last, now) <= pcommon.Timestamp(retried) {
		return p.text
	}
	return ""
}

// Unenrolled tells why a node's CNI agent cannot hand a pod over to the ztunnel at a time; empty where it does, or nothing is known.
func (t *Table) Unenrolled(node, namespace, pod string, now pcommon.Timestamp) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n, ok := t.nodes.Get(node)
	if !ok {
		return ""
	}
	return n.unenrolled.Text(namespace, pod, now)
}

func bounded(text string) string {
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return strings.Clone(text)
}
