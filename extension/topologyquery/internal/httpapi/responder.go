package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
)

// handler answers a request with a body, or an error that becomes a problem.
type handler func(r *http.Request, p *params) (*answer, error)

// responder sends what handlers make: bounded in number, time and memory.
type responder struct {
	gate     *gate
	memory   *budget.Budget
	timeout  time.Duration
	observe  func(ctx context.Context, route string, status int, took time.Duration)
	rejected func(ctx context.Context, reason string)
}

func newResponder(settings *Settings) *responder {
	return &responder{
		gate:     newGate(settings.Limits.Concurrent, settings.Limits.Queue),
		memory:   settings.Memory,
		timeout:  settings.Limits.Timeout,
		observe:  settings.Observe,
		rejected: settings.Rejected,
	}
}

// gated bounds the number of answers that are made at a time. Sending them is not counted: a slow reader keeps nobody waiting.
func (s *responder) gated(h handler) handler {
	return func(r *http.Request, p *params) (*answer, error) {
		if err := s.gate.enter(r.Context()); err != nil {
			return nil, err
		}
		defer s.gate.leave()
		return h(r, p)
	}
}

// handle makes an http.Handler of a route's handler: with a bound in time, validation, ETag and compression.
func (s *responder) handle(pattern string, h handler) http.Handler {
	return compressed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		status := http.StatusInternalServerError
		defer func() { s.observe(r.Context(), pattern, status, time.Since(started)) }()
		ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
		defer cancel()
		p := &params{values: r.URL.Query()}
		p.single()
		a, err := h(r.WithContext(ctx), p)
		if p.err != nil {
			err = p.err
		}
		if err != nil {
			status = s.problem(w, r, err)
			return
		}
		a.hold(s.memory)
		defer a.drop(s.memory)
		if status, err = a.write(w, r); err != nil && r.Context().Err() == nil {
			s.rejected(r.Context(), rejectedSlow)
		}
	}))
}

// Why requests are turned away, or cut off.
const (
	rejectedBusy    = "busy"
	rejectedMemory  = "memory"
	rejectedHost    = "host"
	rejectedClients = "clients"
	rejectedSlow    = "slow_reader"
)

// problem answers with what went wrong and returns the status.
func (s *responder) problem(w http.ResponseWriter, r *http.Request, err error) int {
	switch {
	case errors.Is(err, errBusy):
		s.rejected(r.Context(), rejectedBusy)
		retryAfter(w, time.Second)
	case errors.Is(err, budget.ErrExceeded):
		s.rejected(r.Context(), rejectedMemory)
		retryAfter(w, 2*time.Second)
		err = &problem{Title: "Too many queries", Status: http.StatusTooManyRequests, Detail: err.Error() + "; ask again, or for less"}
	case errors.Is(err, context.DeadlineExceeded):
		err = &problem{Title: "Too slow", Status: http.StatusGatewayTimeout, Detail: "the answer took too long; ask for less"}
	}
	return writeProblem(w, err)
}

// gate lets a bounded number of requests through at a time, and a bounded number wait.
type gate struct {
	free    chan struct{}
	waiting chan struct{}
}

func newGate(concurrent, queue int) *gate {
	return &gate{free: make(chan struct{}, concurrent), waiting: make(chan struct{}, concurrent+queue)}
}

var errBusy = &problem{Title: "Too busy", Status: http.StatusServiceUnavailable, Detail: "too many requests are being answered"}

func (g *gate) enter(ctx context.Context) error {
	select {
	case g.waiting <- struct{}{}:
	default:
		return errBusy
	}
	select {
	case g.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		<-g.waiting
		return errBusy
	}
}

func (g *gate) leave() {
	<-g.free
	<-g.waiting
}
