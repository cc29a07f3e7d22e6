package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/events"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
)

// Bounds of the flows that a client of the stream asks to see pass by.
const (
	flowsPerEvent = 500
	flowsEvery    = time.Second
)

// hub hands events to clients. events.Hub is one.
type hub interface {
	Subscribe(lastID string) (c *events.Client, missed []events.Event, resync bool, err error)
	Publish(eventType string, data []byte)
	Newest() string
	Wanted() bool
}

// stream is the event stream.
type stream struct {
	hub       hub
	flows     flowReader
	ranges    *ranges
	heartbeat time.Duration
	rejected  func(ctx context.Context, reason string)
}

// ServeHTTP streams what happens: hello, then graph, outage and status as they come, heartbeats in between.
func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := &params{values: r.URL.Query()}
	p.single()
	withFlows := p.boolean("flows")
	if p.err != nil {
		writeProblem(w, p.err)
		return
	}
	h := w.Header()
	if r.Method == http.MethodHead {
		h.Set("Content-Type", "text/event-stream")
		return
	}
	client, missed, resync, err := s.hub.Subscribe(r.Header.Get("Last-Event-ID"))
	if err != nil {
		s.rejected(r.Context(), rejectedClients)
		retryAfter(w, 5*time.Second)
		writeProblem(w, &problem{Title: "Too many clients", Status: http.StatusServiceUnavailable, Detail: err.Error()})
		return
	}
	defer client.Close()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	// Proxies must not wait for more.
	h.Set("X-Accel-Buffering", "no")
	out := &eventStream{w: w, controller: http.NewResponseController(w)}
	hello := events.Event{Type: "hello", Data: s.ranges.event()}
	if len(missed) == 0 {
		hello.ID = client.Since()
	}
	out.send(hello)
	if resync {
		out.send(events.Event{Type: "resync", ID: client.Since(), Data: s.ranges.event()})
	}
	for _, e := range missed {
		out.send(e)
	}
	s.follow(r, client, out, withFlows)
}

func (s *stream) follow(r *http.Request, client *events.Client, out *eventStream, withFlows bool) {
	heartbeat := time.NewTicker(s.heartbeat)
	defer heartbeat.Stop()
	var flowTick <-chan time.Time
	var cursor uint64
	if withFlows {
		ticker := time.NewTicker(flowsEvery)
		defer ticker.Stop()
		flowTick = ticker.C
		cursor = s.flows.Newest()
	}
	for out.err == nil {
		if client.Lost() {
			out.send(events.Event{Type: "resync", ID: s.hub.Newest(), Data: s.ranges.event()})
		}
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-client.Events():
			if !ok {
				return
			}
			out.send(e)
		case <-heartbeat.C:
			out.send(events.Event{Type: "heartbeat", Data: s.ranges.event()})
		case <-flowTick:
			list, newest, err := s.flows.After(r.Context(), flows.Filter{}, cursor, flowsPerEvent)
			if err != nil {
				return // the client has left
			}
			cursor = newest
			if len(list) > 0 {
				body, err := json.Marshal(map[string]any{"time": timeOf(s.ranges.now()), "flows": list})
				if err == nil {
					out.send(events.Event{Type: "flows", Data: body})
				}
			}
		}
	}
}

// event is the body of an event that says no more than what time it is.
func (s *ranges) event() []byte {
	body, err := json.Marshal(struct {
		Time   *time.Time `json:"time"`
		Server time.Time  `json:"server_time"`
	}{timeOf(s.now()), s.wall().UTC()})
	if err != nil {
		return []byte("{}")
	}
	return body
}

// eventStream writes events and keeps the first error.
type eventStream struct {
	w          http.ResponseWriter
	controller *http.ResponseController
	err        error
}

func (e *eventStream) send(event events.Event) {
	if e.err != nil {
		return
	}
	// The server's own write timeout is for answers that end.
	if e.err = e.controller.SetWriteDeadline(time.Now().Add(writeTimeout)); e.err != nil {
		return
	}
	id := ""
	if event.ID != "" {
		id = "id: " + event.ID + "\n"
	}
	if _, e.err = fmt.Fprintf(e.w, "%sevent: %s\ndata: %s\n\n", id, event.Type, event.Data); e.err != nil {
		return
	}
	e.err = e.controller.Flush()
}
