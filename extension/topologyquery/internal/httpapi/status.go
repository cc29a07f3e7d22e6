package httpapi

import (
	"net/http"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/internal/datatime"
	"github.com/nephilia/nephilia/internal/drops"
	"github.com/nephilia/nephilia/internal/records"
)

// statusBody is the schema Status of the OpenAPI file.
type statusBody struct {
	Time     time.Time         `json:"time"`
	Started  time.Time         `json:"started"`
	DataTime *time.Time        `json:"data_time,omitempty"`
	Build    Build             `json:"build"`
	Replay   *replayBody       `json:"replay,omitempty"`
	History  *rangeBody        `json:"history,omitempty"`
	Live     liveBody          `json:"live"`
	Sources  []sourceBody      `json:"sources"`
	Dropped  []drops.Total     `json:"dropped"`
	Records  []recordsBody     `json:"records"`
	Clocks   []clockBody       `json:"clock_problems,omitempty"`
	Links    map[string]string `json:"links"`
}

// clockBody is a node whose clock is wrong.
type clockBody struct {
	Node   string  `json:"node"`
	Kind   string  `json:"kind"`
	Offset float64 `json:"offset_seconds"`
	Text   string  `json:"text"`
}

// recordsBody is what is kept of a kind of records.
type recordsBody struct {
	Kind string `json:"kind"`
	// Since is the time from which on they are kept, Complete tells that none has left yet.
	Since    *time.Time        `json:"since,omitempty"`
	Complete bool              `json:"complete"`
	Records  uint64            `json:"records"`
	Bytes    int64             `json:"bytes"`
	Repeated uint64            `json:"repeated"`
	Dropped  map[string]uint64 `json:"dropped,omitempty"` // bounded by the reasons
	Damaged  []string          `json:"damaged,omitempty"`
}

type replayBody struct {
	State    string     `json:"state"`
	Position time.Time  `json:"position"`
	Start    *time.Time `json:"start,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

type rangeBody struct {
	Start *time.Time `json:"start,omitempty"`
	End   *time.Time `json:"end,omitempty"`
}

type liveBody struct {
	Edges    int        `json:"edges"`
	Bytes    int        `json:"bytes"`
	Rejected uint64     `json:"rejected"`
	Since    *time.Time `json:"since,omitempty"`
}

type sourceBody struct {
	Node      string     `json:"node"`
	Source    string     `json:"source"`
	Up        bool       `json:"up"`
	LastSeen  *time.Time `json:"last_seen,omitempty"`
	Heartbeat *time.Time `json:"heartbeat,omitempty"`
	Problem   string     `json:"problem,omitempty"`
	Detail    string     `json:"detail,omitempty"`
}

func newSourceBody(node string, source sources.Source) sourceBody {
	return sourceBody{
		Node: node, Source: source.Name, Up: source.Up,
		LastSeen: timeOf(source.LastSeen), Heartbeat: timeOf(source.Heartbeat),
		Problem: source.Problem, Detail: source.Detail,
	}
}

// sourceList is what the status says of sources. sources.Tracker is one.
type sourceList interface {
	dataClock
	Nodes() []sources.Node
	Problems() []datatime.Problem
}

type statusRoutes struct {
	settings *Settings
	live     interface{ Stats() live.Stats }
	sources  sourceList
	ranges   *ranges
	records  interface{ Status() []records.Status }
	started  time.Time
}

func (s *statusRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/status": s.status, "/api/v1/openapi.yaml": s.openAPI}
}

func (s *statusRoutes) openAPI(*http.Request, *params) (*answer, error) {
	return &answer{contentType: "application/yaml", body: s.settings.OpenAPI}, nil
}

func (s *statusRoutes) status(*http.Request, *params) (*answer, error) {
	first, now := s.sources.Clock()
	stats := s.live.Stats()
	body := statusBody{
		Time:     s.ranges.wall().UTC(),
		Started:  s.started.UTC(),
		DataTime: timeOf(now),
		Build:    s.settings.Build,
		Live:     liveBody{Edges: stats.Edges, Bytes: stats.Bytes, Rejected: stats.Rejected, Since: timeOf(stats.Coverage - 1)},
		Sources:  []sourceBody{},
		Links:    s.settings.Links,
		Dropped:  orEmpty(s.settings.Dropped()),
	}
	body.Records = []recordsBody{}
	for _, one := range s.records.Status() {
		kept := recordsBody{
			Kind: one.Kind, Complete: one.Complete, Records: one.Records, Bytes: one.Bytes, Repeated: one.Repeated, Dropped: one.Dropped, Damaged: one.Damaged,
		}
		if !one.Since.IsZero() {
			kept.Since = timeOf(one.Since.UnixMilli())
		}
		body.Records = append(body.Records, kept)
	}
	if first != 0 {
		body.History = &rangeBody{Start: timeOf(first), End: timeOf(now)}
	}
	if r, ok := s.sources.Replay(); ok {
		body.Replay = &replayBody{State: r.State, Position: time.UnixMilli(min(max(r.Position, 0), lastMilli)).UTC(), Start: timeOf(first), Reason: r.Reason}
	}
	for _, node := range s.sources.Nodes() {
		for _, source := range node.Sources {
			body.Sources = append(body.Sources, newSourceBody(node.Name, source))
		}
	}
	for _, p := range s.sources.Problems() {
		body.Clocks = append(body.Clocks, clockBody{p.Node, p.Kind, p.Offset.Seconds(), p.Sentence()})
	}
	return jsonAnswer(body)
}
