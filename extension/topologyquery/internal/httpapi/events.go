package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/events"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
)

// Bounds of one client's stream.
const (
	// writeTimeout is how long a client may take to read one event.
	writeTimeout = 10 * time.Second
	// flowsPerEvent and flowsEvery bound the flows that a client asks to see pass by.
	flowsPerEvent = 500
	flowsEvery    = time.Second
)

// events streams what happens: hello, then graph, outage and status as they come, heartbeats in between.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
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
	client, missed, resync, err := s.Events.Subscribe(r.Header.Get("Last-Event-ID"))
	if err != nil {
		s.Rejected(r.Context())
		h.Set("Retry-After", "5")
		writeProblem(w, &problem{Title: "Too many clients", Status: http.StatusServiceUnavailable, Detail: err.Error()})
		return
	}
	defer client.Close()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	// Proxies must not wait for more.
	h.Set("X-Accel-Buffering", "no")
	stream := &eventStream{w: w, controller: http.NewResponseController(w)}
	hello := events.Event{Type: "hello", Data: s.clockEvent()}
	if len(missed) == 0 {
		hello.ID = client.Since()
	}
	stream.send(hello)
	if resync {
		stream.send(events.Event{Type: "resync", ID: client.Since(), Data: s.clockEvent()})
	}
	for _, e := range missed {
		stream.send(e)
	}
	s.stream(r, client, stream, withFlows)
}

func (s *Server) stream(r *http.Request, client *events.Client, stream *eventStream, withFlows bool) {
	heartbeat := time.NewTicker(s.Heartbeat)
	defer heartbeat.Stop()
	var flowTick <-chan time.Time
	var cursor uint64
	if withFlows {
		ticker := time.NewTicker(flowsEvery)
		defer ticker.Stop()
		flowTick = ticker.C
		cursor = s.Flows.Newest()
	}
	for stream.err == nil {
		if client.Lost() {
			stream.send(events.Event{Type: "resync", ID: s.Events.Newest(), Data: s.clockEvent()})
		}
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-client.Events():
			if !ok {
				return
			}
			stream.send(e)
		case <-heartbeat.C:
			stream.send(events.Event{Type: "heartbeat", Data: s.clockEvent()})
		case <-flowTick:
			var list []flows.Flow
			list, cursor = s.Flows.After(flows.Filter{}, cursor, flowsPerEvent)
			if len(list) > 0 {
				body, err := json.Marshal(map[string]any{"time": timeOf(s.clock()), "flows": list})
				if err == nil {
					stream.send(events.Event{Type: "flows", Data: body})
				}
			}
		}
	}
}

func (s *Server) clock() int64 {
	_, now := s.Sources.Clock()
	return now
}

// clockEvent is the body of an event that says no more than what time it is.
func (s *Server) clockEvent() []byte {
	body, err := json.Marshal(struct {
		Time   *time.Time `json:"time"`
		Server time.Time  `json:"server_time"`
	}{timeOf(s.clock()), s.now().UTC()})
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

func formatCursor(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 10)
}
