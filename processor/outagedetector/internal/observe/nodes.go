package observe

import (
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/cumulative"
	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/nodeload"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

const (
	metricXDSTerminations = "istio_xds_connection_terminations_total"
	metricXDSMessages     = "istio_xds_message_total"
	labelReason           = "reason"
)

// Node is a node's ztunnel as its sources of telemetry show it. The node with the empty name stands for sources that
// belong to no node.
type Node struct {
	Name string
	// LastBeat is the newest heartbeat; 0 if none ever came, or none is awaited because the node left.
	LastBeat int64
	// Sources are by their names, bounded by maxSources.
	Sources map[string]*Source
	// Records tells in which slots the access log grew; LastRecord is the time of its newest record.
	Records    Window
	LastRecord int64
	// XDS are failures to reach the control plane, Certificates failures to get certificates.
	XDS, Certificates Attempts
	// Down is what is wrong with the node, Lost with its telemetry.
	Down, Lost Fault
	// Proxy is what the ztunnel says of itself.
	Proxy Proxy
	// Doubted is since when a node that seems down is seen to serve.
	Doubted int64

	heard        int64               // when anything was heard of it last
	terminations map[string]*counter // by reason, bounded by maxSources
	messages     map[string]*counter // by type, bounded by maxSources
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
	// Problem is what is wrong with what it says, one of semconv's Problem constants; empty if all is well.
	Problem string
}

// Attempts are a ztunnel's attempts at one thing: how many failed in a row, and when one went well.
type Attempts struct {
	First, Last int64 // failures of the present run
	Count       uint64
	Good        int64 // newest sign that it works
	Evidence    outage.Evidence
}

// attemptGap ends a run of failures: a ztunnel waits at most 15 s between two attempts.
const attemptGap = int64(40 * time.Second)

func (t *Attempts) fail(at int64, n uint64, e outage.Evidence) {
	if at-t.Last > attemptGap || t.Good > t.Last {
		t.First, t.Count = at, 0
	}
	t.Last = max(t.Last, at)
	t.Count += n
	if e.Text != "" {
		t.Evidence = e
	}
}

// Failing tells whether the newest sign, not older than within, is a bad one.
func (t *Attempts) Failing(now int64, within time.Duration) bool {
	return t.Last > 0 && t.Good < t.Last && now-t.Last <= int64(within)
}

// Nodes are the nodes that are heard of, bounded by Limits.Nodes.
type Nodes struct {
	ByName map[string]*Node
	clock  *Clock
	limit  int
}

func newNodes(clock *Clock, limit int) *Nodes {
	return &Nodes{ByName: map[string]*Node{}, clock: clock, limit: limit}
}

// Names are the names of all nodes, in their order.
func (s *Nodes) Names() []string { return slices.Sorted(maps.Keys(s.ByName)) }

func (s *Nodes) node(name string) *Node {
	n, ok := s.ByName[name]
	if ok {
		return n
	}
	if len(s.ByName) >= s.limit {
		s.clock.drops.Nodes++
		return nil
	}
	n = &Node{
		Name: strings.Clone(name), Sources: map[string]*Source{},
		terminations: map[string]*counter{}, messages: map[string]*counter{},
	}
	s.ByName[n.Name] = n
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

// hear takes over a node's heartbeat. It always wants the next one.
func (s *Nodes) hear(beat datatime.Beat) bool {
	n := s.node(beat.Node)
	if n == nil {
		return true
	}
	t, ok := s.clock.hear(beat)
	if !ok {
		return true
	}
	n.LastBeat, n.heard = max(n.LastBeat, t), max(n.heard, t)
	for i := range beat.Sources {
		source := &beat.Sources[i]
		if src := n.source(source.Name); src != nil {
			src.report(source.Up, t)
			src.Problem = problemOf(source.Problem)
		}
		if source.Name == semconv.SourceAccessLog && source.LastSeen > 0 && s.clock.Interval > 0 {
			// A log cannot be newer than the heartbeat that tells of it.
			n.record(min(int64(source.LastSeen), t), t, time.Duration(s.clock.Interval))
		}
	}
	return true
}

// problemOf keeps the problem that is looked at, so that no text of a batch is kept.
func problemOf(told string) string {
	if told == semconv.ProblemLevelTooLow {
		return semconv.ProblemLevelTooLow
	}
	return ""
}

// FailuresOnly tells whether a node's ztunnel logs warnings and errors only and its metrics do not make up for that.
func (s *Nodes) FailuresOnly(name string) bool {
	n := s.ByName[name]
	if n == nil || n.Sources[semconv.SourceAccessLog] == nil || n.Sources[semconv.SourceAccessLog].Problem == "" {
		return false
	}
	metrics := n.Sources[semconv.SourceMetrics]
	return metrics == nil || !metrics.Up
}

// take takes over what a ztunnel's scrape tells.
func (s *Nodes) take(name string, metric pmetric.Metric, node string) {
	n := s.node(node)
	if n == nil {
		return
	}
	if nodeload.Is(name) {
		n.Proxy.Load.Take(metric)
		return
	}
	list, delta := points(metric)
	for i := range list.Len() {
		point := list.At(i)
		t, ok := s.clock.at(point.Timestamp())
		if !ok {
			continue
		}
		n.heard = max(n.heard, t)
		switch name {
		case semconv.MetricUp:
			// Beside the heartbeat a scrape's own result: it says at which moment. One without a value is the end of a target that went away.
			if point.Flags().NoRecordedValue() {
				continue
			}
			if src := n.source(semconv.SourceMetrics); src != nil && node != "" {
				src.report(cumulative.Number(point) > 0, t)
				src.sampled(cumulative.Number(point) > 0, t)
			}
		case metricXDSTerminations:
			n.xds(n.terminations, point, t, delta, true)
		case metricXDSMessages:
			n.xds(n.messages, point, t, delta, false)
		}
	}
}

func (n *Node) xds(counters map[string]*counter, point pmetric.NumberDataPoint, t int64, delta, bad bool) {
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
		n.XDS.fail(t, added, outage.Evidence{})
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

// message takes over a line of a ztunnel's own log.
func (s *Nodes) message(m *Mesh, record plog.LogRecord, node string) {
	n := s.node(node)
	if n == nil {
		return
	}
	t, ok := s.clock.at(record.Timestamp())
	if !ok {
		return
	}
	n.heard = max(n.heard, t)
	scope := attr(record.Attributes(), semconv.AttrScope)
	body := record.Body().AsString()
	warned := record.SeverityNumber() >= plog.SeverityNumberWarn
	evidence := outage.Evidence{Time: time.Unix(0, t).UTC(), Text: bounded(body), Source: ztunnelOf(node), Kind: outage.EvidenceLog}
	switch {
	case (strings.HasPrefix(scope, "inpod") || strings.HasPrefix(scope, "signal")) && n.Proxy.message(m, record, body, t, evidence):
	case strings.HasPrefix(scope, "xds"), strings.HasPrefix(body, "XDS client"):
		switch {
		case warned && strings.Contains(body, "error"):
			n.XDS.fail(t, 1, evidence)
		case !warned && (strings.Contains(body, "established") || strings.Contains(body, "received response")):
			n.XDS.Good = max(n.XDS.Good, t)
		}
	case strings.HasPrefix(body, "certificate renewal failed"), // at info while the certificate at hand still holds
		warned && (strings.HasPrefix(scope, "identity") || strings.Contains(strings.ToLower(body), "fetch certificate")):
		n.Certificates.fail(t, 1, evidence)
	}
}

// agent takes over a line of a node's CNI agent.
func (s *Nodes) agent(record plog.LogRecord, node string) {
	n := s.node(node)
	if n == nil {
		return
	}
	if t, ok := s.clock.at(record.Timestamp()); ok {
		n.Proxy.Unenrolled.Take(record, bounded(record.Body().AsString()), pcommon.Timestamp(t))
	}
}

// left takes note that a node's ztunnel is no longer there: that nothing more is heard is as it should be.
func (s *Nodes) left(node string) {
	if n, ok := s.ByName[node]; ok {
		n.LastBeat = 0
		clear(n.Sources)
	}
}

// sweep forgets nodes that left. One that fell silent is remembered for a day: what is not known of it is no health.
func (s *Nodes) sweep() {
	for name, n := range s.ByName {
		after := forgetting
		if n.LastBeat > 0 {
			after = 24 * forgetting
		}
		if s.clock.Now-n.heard > after {
			delete(s.ByName, name)
			s.clock.heartbeats.Forget(name)
		}
	}
}

// WithoutHeartbeat tells whether a node's heartbeats stopped while others' go on.
func (s *Nodes) WithoutHeartbeat(n *Node) bool {
	return n.LastBeat > 0 && s.clock.Now-n.LastBeat > 3*max(s.clock.Interval, int64(MinSlot))
}
