package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/outage"
)

const (
	// publishEvery bounds how often graph events are made, which clients wait for at most.
	publishEvery = 500 * time.Millisecond
	// maxChanged is the number of edges that one event carries; beyond it clients ask for the graph.
	maxChanged = 2000
)

// changedEdges is the live graph as far as it changes. live.Graph is one.
type changedEdges interface {
	Changed(after uint64, start, end int64, limit int) (s *live.Snapshot, newest uint64, tooMany bool)
}

// publisher makes events of what changes.
type publisher struct {
	hub     hub
	live    changedEdges
	sources sourceList
	graphs  *graphs
	ranges  *ranges
	// body is memory to use.
	body []byte
}

// run makes events until the context ends. changed is signalled after each write.
func (s *publisher) run(ctx context.Context, changed <-chan struct{}) {
	ticker := time.NewTicker(publishEvery)
	defer ticker.Stop()
	var version uint64
	var state string
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if now := s.sourcesState(); now != state {
			state = now
			s.hub.Publish("status", s.ranges.event())
		}
		// What changed while nobody was there is in the next event.
		if s.hub.Wanted() {
			version = s.publishGraph(version)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// publishGraph sends the edges that changed after a version, each as it stands over the default range.
func (s *publisher) publishGraph(after uint64) (newest uint64) {
	clock := s.ranges.now()
	options := graph.Options{
		Start: clock - defaultRange.Milliseconds(), End: clock, GroupBy: graph.ByWorkload,
	}
	changed, newest, tooMany := s.live.Changed(after, options.Start, options.End, maxChanged)
	defer changed.Release()
	if newest == after {
		return newest
	}
	s.graphs.judgeBy(&options)
	b := graph.NewBuilder(s.graphs.mesh, options, len(changed.Edges))
	for i, e := range changed.Edges {
		b.AddLive(e, changed.Counts[i])
	}
	g := b.Edges()
	body := s.body[:0]
	body = append(body, `{"time":`...)
	body = graph.AppendTime(body, clock)
	body = append(body, `,"start":`...)
	body = graph.AppendTime(body, options.Start)
	body = append(body, `,"end":`...)
	body = graph.AppendTime(body, options.End)
	body = append(body, `,"truncated":`...)
	body = strconv.AppendBool(body, tooMany)
	body = append(body, `,"edges":[`...)
	for i, e := range g.Edges {
		if i > 0 {
			body = append(body, ',')
		}
		body = g.AppendEdge(body, e)
	}
	body = append(body, `]}`...)
	s.body = body
	s.hub.Publish("graph", bytes.Clone(s.body))
	return newest
}

// sourcesState tells whether what the status says has changed in more than its times.
func (s *publisher) sourcesState() string {
	var state []byte
	if r, ok := s.sources.Replay(); ok {
		state = append(state, r.State...)
	}
	for _, node := range s.sources.Nodes() {
		for _, source := range node.Sources {
			state = append(state, node.Name...)
			state = append(state, source.Name...)
			state = strconv.AppendBool(state, source.Up)
			state = append(state, source.Problem...)
		}
	}
	for _, problem := range s.sources.Problems() {
		state = append(state, problem.Node...)
		state = append(state, problem.Kind...)
	}
	return string(state)
}

// OutageEvent is the body of an outage event.
func OutageEvent(o *outage.Outage, transition string, at time.Time) ([]byte, error) {
	return json.Marshal(struct {
		Time       time.Time      `json:"time"`
		Transition string         `json:"transition"`
		Outage     *outage.Outage `json:"outage"`
	}{at.UTC(), transition, o})
}
