package httpapi

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/internal/outage"
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
	Links    map[string]string `json:"links"`
}

type replayBody struct {
	State    string     `json:"state"`
	Position time.Time  `json:"position"`
	Start    *time.Time `json:"start,omitempty"`
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
}

func newSourceBody(node string, source sources.Source) sourceBody {
	return sourceBody{
		Node: node, Source: source.Name, Up: source.Up,
		LastSeen: timeOf(source.LastSeen), Heartbeat: timeOf(source.Heartbeat),
	}
}

func (s *Server) status(_ *http.Request, p *params) (*answer, error) {
	first, now := s.Sources.Clock()
	stats := s.Live.Stats()
	body := statusBody{
		Time:     s.now().UTC(),
		Started:  s.started.UTC(),
		DataTime: timeOf(now),
		Build:    s.Build,
		Live:     liveBody{Edges: stats.Edges, Bytes: stats.Bytes, Rejected: stats.Rejected, Since: timeOf(stats.Coverage - 1)},
		Sources:  []sourceBody{},
		Links:    s.Links,
	}
	if first != 0 {
		body.History = &rangeBody{Start: timeOf(first), End: timeOf(now)}
	}
	if r, ok := s.Sources.Replay(); ok {
		body.Replay = &replayBody{State: r.State, Position: time.UnixMilli(r.Position).UTC(), Start: timeOf(first)}
	}
	for _, node := range s.Sources.Nodes() {
		for _, source := range node.Sources {
			body.Sources = append(body.Sources, newSourceBody(node.Name, source))
		}
	}
	return jsonAnswer(body)
}

// maxOutages bounds a list of outages.
const maxOutages = 10_000

func (s *Server) listOutages(_ *http.Request, p *params) (*answer, error) {
	start, end := p.time("start"), p.time("end")
	limit, after := p.limit(maxOutages, maxOutages), p.position()
	state := p.oneOf("state", "", "open", "resolved", "stale")
	if p.err == nil && !start.IsZero() && !end.IsZero() && end.Before(start) {
		p.fail("end", "lies before start")
	}
	if p.err != nil {
		return nil, p.err
	}
	body := struct {
		Outages []*outage.Outage `json:"outages"`
		Next    string           `json:"next_cursor,omitempty"`
	}{Outages: s.Outages.List(start, end, state)}
	if !after.at.IsZero() {
		from, _ := slices.BinarySearchFunc(body.Outages, after, func(o *outage.Outage, after position) int {
			if cmp.Or(after.at.Compare(o.StartedAt), strings.Compare(o.ID, after.id)) <= 0 {
				return -1
			}
			return 1
		})
		body.Outages = body.Outages[from:]
	}
	if len(body.Outages) > limit {
		body.Outages = body.Outages[:limit]
		last := body.Outages[limit-1]
		body.Next = position{at: last.StartedAt, id: last.ID}.cursor()
	}
	return jsonAnswer(body)
}

func (s *Server) outage(r *http.Request, p *params) (*answer, error) {
	o := s.Outages.Get(r.PathValue("id"))
	if o == nil {
		return nil, notFound("there is no outage " + r.PathValue("id"))
	}
	return jsonAnswer(o)
}
