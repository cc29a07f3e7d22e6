// Package events is the live stream: a hub that numbers events, keeps the newest for clients that come back, and never
// waits for a client.
package events

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// What a client can catch up on: so many events, of so many bytes together.
const (
	kept      = 256
	keptBytes = 16 << 20
)

// Event is one event of the stream.
type Event struct {
	// ID is the boot's name and the event's number; empty for events that cannot be resumed from.
	ID   string
	Type string
	Data []byte
}

// Hub hands events to its clients. All methods may be called from several goroutines.
type Hub struct {
	maxClients int
	queue      int
	boot       string

	mu      sync.Mutex
	clients map[*Client]struct{}
	ring    [kept]Event
	next    uint64
	// oldest is the number of the oldest event in the ring, bytes the size of all.
	oldest uint64
	bytes  int
	// until is the number of the event up to which clients that have left may come back for what they missed.
	until   uint64
	closed  bool
	resyncs atomic.Uint64
}

// New returns a hub for at most maxClients clients with a queue of that many events each.
func New(maxClients, queue int) *Hub {
	var boot [4]byte
	_, _ = rand.Read(boot[:])
	return &Hub{maxClients: maxClients, queue: queue, boot: hex.EncodeToString(boot[:]), clients: map[*Client]struct{}{}}
}

// Client is one receiver of events.
type Client struct {
	hub    *Hub
	since  string
	events chan Event
	lost   atomic.Bool
}

// Publish sends an event to every client. A client whose queue is full loses its queue and is told to start over.
func (h *Hub) Publish(eventType string, data []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.next++
	e := Event{ID: h.id(h.next), Type: eventType, Data: data}
	h.keep(e)
	for c := range h.clients {
		select {
		case c.events <- e:
		default:
			if !c.lost.Swap(true) {
				h.resyncs.Add(1)
			}
		}
	}
}

// keep puts the newest event into the ring, and drops the oldest ones beyond its bounds.
func (h *Hub) keep(e Event) {
	if h.oldest == 0 {
		h.oldest = 1
	}
	for h.oldest < h.next && (h.next-h.oldest >= kept || h.bytes+len(e.Data) > keptBytes) {
		h.bytes -= len(h.ring[h.oldest%kept].Data)
		h.ring[h.oldest%kept] = Event{}
		h.oldest++
	}
	h.ring[h.next%kept] = e
	h.bytes += len(e.Data)
}

// Wanted tells whether anybody may want events: a client that is there, or one that has left and may come back. If not, those that are
// kept are dropped, and what need not be made may be left out.
func (h *Hub) Wanted() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) > 0 || h.next < h.until {
		return true
	}
	clear(h.ring[:])
	h.oldest, h.bytes = h.next+1, 0
	return false
}

// Subscribe adds a client. lastID, unless empty, is the last event that it has seen: those after it come first. resync
// tells that they are no longer known, so that the client must read everything anew. The error tells that there are
// too many clients.
func (h *Hub) Subscribe(lastID string) (c *Client, missed []Event, resync bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.clients) >= h.maxClients {
		return nil, nil, false, fmt.Errorf("there are %d clients of the event stream already", len(h.clients))
	}
	c = &Client{hub: h, since: h.id(h.next), events: make(chan Event, h.queue)}
	h.clients[c] = struct{}{}
	if lastID == "" {
		return c, nil, false, nil
	}
	boot, number, _ := strings.Cut(lastID, "-")
	last, parseErr := strconv.ParseUint(number, 10, 64)
	if parseErr != nil || boot != h.boot || last > h.next || last+1 < h.oldest {
		return c, nil, true, nil
	}
	for n := last + 1; n <= h.next; n++ {
		missed = append(missed, h.ring[n%kept])
	}
	return c, missed, false, nil
}

// Since is the ID of the newest event when the client subscribed: a client that loses its connection before any event
// resumes from there.
func (c *Client) Since() string { return c.since }

// Events are the client's events; the channel is closed when the hub is.
func (c *Client) Events() <-chan Event { return c.events }

// Lost tells, once, that events were lost; what is queued is dropped then.
func (c *Client) Lost() bool {
	if !c.lost.Load() {
		return false
	}
	for open := true; open; {
		select {
		case _, open = <-c.events:
		default:
			open = false
		}
	}
	c.lost.Store(false)
	return true
}

// Close removes the client.
func (c *Client) Close() {
	c.hub.mu.Lock()
	defer c.hub.mu.Unlock()
	delete(c.hub.clients, c)
	c.hub.until = c.hub.next + kept
}

// Newest is the ID of the newest event.
func (h *Hub) Newest() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id(h.next)
}

func (h *Hub) id(n uint64) string { return h.boot + "-" + strconv.FormatUint(n, 10) }

// Clients is the number of clients.
func (h *Hub) Clients() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.clients)
}

// Resyncs is the number of times that a client was too slow.
func (h *Hub) Resyncs() uint64 { return h.resyncs.Load() }

// Close ends every client's stream.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	for c := range h.clients {
		close(c.events)
	}
}
