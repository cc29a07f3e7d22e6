package httpapi

import (
	"context"
	"net/http"
	"time"
)

// pass lets a handler that writes its answer itself answer, compressed, and bounded in number and time as those of this API.
func (s *responder) pass(pattern string, next http.Handler) http.Handler {
	return compressed(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		if err := s.gate.enter(r.Context()); err != nil {
			s.observe(r.Context(), pattern, s.problem(w, r, err), time.Since(started))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
		defer cancel()
		out := &passWriter{ResponseWriter: w, leave: s.gate.leave, status: http.StatusOK}
		defer out.done()
		next.ServeHTTP(out, r.WithContext(ctx))
		s.observe(r.Context(), pattern, out.status, time.Since(started))
	}))
}

// passWriter gives the slot back once the answer is made: a slow reader keeps nobody waiting.
type passWriter struct {
	http.ResponseWriter
	leave  func()
	status int
}

func (p *passWriter) WriteHeader(status int) {
	p.status = status
	p.done()
	p.ResponseWriter.WriteHeader(status)
}

func (p *passWriter) Write(b []byte) (int, error) {
	p.done()
	return p.ResponseWriter.Write(b)
}

// done gives the slot back, once.
func (p *passWriter) done() {
	if p.leave != nil {
		p.leave()
		p.leave = nil
	}
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (p *passWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }
