package observe

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Node is a node's ztunnel as its sources of telemetry show it. The node with the empty name stands for sources that
// belong to no node.
type Node struct {
	Name     string
	LastBeat int64
	Sources  map[string]*Source
	// Records tells in which slots the access log grew; LastRecord is the time of its newest record.
	Records    Window
	LastRecord int64
	// XDS are failures to reach the control plane, Certificates failures to get certificates.
	XDS, Certificates Trouble
	// Down is what is wrong with the node, Lost with its telemetry.
	Down, Lost Fault
	// Doubted is since when a node that seems down is seen to serve.
	Doubted      int64
	terminations map[string]*counter
	messages     map[string]*counter
}

// Source is one source of telemetry.
type Source struct {
	Up bool
	// Changed is the first boundary (or scrape) that said so; Seen the newest.
	Changed, Seen int64
	// Sampled is when a scrape's own result was seen last, Every how long after the one before.
	Sampled, Every int64
	// Failures is how many scrapes failed since the last that did not.
	Failures int
	// Worked tells whether the source was ever up.
	Worked bool
}

// Trouble counts failures of one sort and when things went well.
type Trouble struct {
	First, Last int64 // of the present run of failures
	Count       uint64
	Good        int64 // newest sign that it works
	Evidence    outage.Evidence
}

// troubleGap ends a run of failures: a ztunnel waits at most 15 s between two attempts.
const troubleGap = int64(40 * time.Second)

func (t *Trouble) add(at int64, n uint64, e outage.Evidence) {
	if at-t.Last > troubleGap || t.Good > t.Last {
		t.First, t.Count = at, 0
	}
	t.Last = max(t.Last, at)
	t.Count += n
	if e.Text != "" {
		t.Evidence = e
	}
}

// Failing tells whether the newest sign, not older than within, is a bad one.
func (t *Trouble) Failing(now int64, within time.Duration) bool {
	return t.Last > 0 && t.Good < t.Last && now-t.Last <= int64(within)
}

func (s *Store) node(name string) *Node {
	n, ok := s.Nodes[name]
	if ok {
		return n
	}
	if len(s.Nodes) >= s.limits.Nodes {
		s.Drops.Nodes++
		return nil
	}
	n = &Node{
		Name: strings.Clone(name), Sources: map[string]*Source{},
		terminations: map[string]*counter{}, messages: map[string]*counter{},
	}
	s.Nodes[n.Name] = n
	return n
}

// maxSources bounds what one node may report.
const maxSources = 16

func (n *Node) source(name string) *Source {
	src, ok := n.Sources[name]
	if !ok {
		if len(n.Sources) >= maxSources {
			return nil
		}
		src = &Source{}
		n.Sources[strings.Clone(name)] = src
	}
	return src
}

func (src *Source) report(up bool, t int64) {
	if t < src.Seen {
		return
	}
	if src.Seen == 0 || up != src.Up {
		src.Changed = t
	}
	src.Up, src.Seen = up, t
	src.Worked = src.Worked || up
}

func (src *Source) sampled(up bool, t int64) {
	if t <= src.Sampled {
		return
	}
	src.Failures++
	if up {
		src.Failures = 0
	}
	if src.Sampled > 0 {
		src.Every = t - src.Sampled
	}
	src.Sampled = t
}

func (s *Store) nodeMetric(name string, metric pmetric.Metric, node string) {
	n := s.node(node)
	if n == nil {
		return
	}
	list, delta := points(metric)
	for i := range list.Len() {
		point := list.At(i)
		t, ok := s.timeOf(point.Timestamp())
		if !ok {
			continue
		}
		s.began(t)
		switch name {
		case semconv.MetricSourceUp:
			s.newestBeat = max(s.newestBeat, t)
			n.LastBeat = max(n.LastBeat, t)
			if src := n.source(attr(point.Attributes(), semconv.LabelSource)); src != nil {
				src.report(number(point) > 0, t)
			}
		case semconv.MetricUp:
			// Beside the heartbeat a scrape's own result: it says at which moment. One without a value is the end of a target that went away.
			if point.Flags().NoRecordedValue() {
				continue
			}
			if src := n.source(semconv.SourceMetrics); src != nil && node != "" {
				src.report(number(point) > 0, t)
				src.sampled(number(point) > 0, t)
			}
		case semconv.MetricSourceLastSeen:
			if attr(point.Attributes(), semconv.LabelSource) == semconv.SourceAccessLog {
				// A log cannot be newer than the heartbeat that tells of it.
				if newest := number(point) * 1e9; s.Interval > 0 && newest <= float64(t) {
					n.record(int64(newest), t, time.Duration(s.Interval))
				}
			}
		case metricXDSTerminations:
			s.xdsPoint(n, n.terminations, point, t, delta, true)
		case metricXDSMessages:
			s.xdsPoint(n, n.messages, point, t, delta, false)
		}
	}
}

func (s *Store) xdsPoint(n *Node, counters map[string]*counter, point pmetric.NumberDataPoint, t int64, delta, bad bool) {
	label := attr(point.Attributes(), labelReason) + attr(point.Attributes(), "url")
	c, ok := counters[label]
	if !ok {
		if len(counters) >= maxSources {
			return
		}
		c = &counter{}
		counters[strings.Clone(label)] = c
	}
	// A ztunnel's counters have no start time: the first value says nothing about when.
	added := c.increment(point, delta, false)
	switch {
	case added == 0:
	case !bad:
		n.XDS.Good = max(n.XDS.Good, t)
	case label == "ConnectionError" || label == "Error":
		n.XDS.add(t, added, outage.Evidence{})
	}
}

func (n *Node) record(newest, t int64, length time.Duration) {
	if n.Records.length == 0 {
		n.Records.reset(length, t)
	}
	n.Records.Advance(t)
	if newest > n.LastRecord {
		n.LastRecord = newest
		n.Records.Add(t, Active, 1)
	}
}

// AppsOn are the apps all of whose pods run on a node by the mesh's state, in a stable order.
func (s *Store) AppsOn(node string) []outage.Name {
	elsewhere := map[outage.Name]bool{}
	for _, w := range s.State.Workloads() {
		name := outage.Name{Namespace: w.Namespace, Name: w.App()}
		elsewhere[name] = elsewhere[name] || w.Node != node
	}
	maps.DeleteFunc(elsewhere, func(_ outage.Name, also bool) bool { return also })
	return slices.SortedFunc(maps.Keys(elsewhere), CompareNames)
}

// Touches tells whether an app has pods on a node, by what serves there and by the mesh's state.
func (s *Store) Touches(app *App, node string) bool {
	for _, e := range app.Endpoints {
		if e.Node == node {
			return true
		}
	}
	for _, w := range s.Pods(app.Name) {
		if w.Node == node {
			return true
		}
	}
	return false
}
