package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/gzip"
)

// contentSecurityPolicy allows what the UI's own build consists of and nothing else. Styles are set by script through
// the CSSOM, which it does not concern; images come from blobs when the graph is exported.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; " +
	"connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// compressFrom is the size in bytes from which on a body is compressed.
const compressFrom = 1024

// Observe is told of each answer; route is the pattern that matched.
type Observe func(ctx context.Context, route string, status int, took time.Duration)

// secure sets the headers that every response has.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// readOnly refuses everything but GET and HEAD.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			writeProblem(w, &problem{Title: "Method not allowed", Status: http.StatusMethodNotAllowed, Detail: "this API is read-only"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// recovered answers 500 where a handler fails on the unforeseen, instead of breaking the connection.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if failure := recover(); failure != nil {
				if failure == http.ErrAbortHandler { //nolint:errorlint // net/http compares it in the same way.
					panic(failure)
				}
				s.Failed(r.Context(), fmt.Errorf("answering %s: %v", r.URL.Path, failure))
				writeProblem(w, &problem{Title: "Internal error", Status: http.StatusInternalServerError})
			}
		}()
		next.ServeHTTP(w, r)
	})
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

// handle makes a handler out of a route: bounded in number and time, with validation, ETag and compression.
func (s *Server) handle(pattern string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		status := http.StatusOK
		defer func() { s.Observe(r.Context(), pattern, status, time.Since(started)) }()
		ctx, cancel := context.WithTimeout(r.Context(), s.Limits.Timeout)
		defer cancel()
		if err := s.gate.enter(ctx); err != nil {
			s.Rejected(ctx)
			w.Header().Set("Retry-After", "1")
			status = writeProblem(w, err)
			return
		}
		defer s.gate.leave()
		p := &params{values: r.URL.Query()}
		p.single()
		a, err := h(r.WithContext(ctx), p)
		if p.err != nil {
			err = p.err
		}
		if err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				err = &problem{Title: "Too slow", Status: http.StatusGatewayTimeout, Detail: "the answer took longer than " + s.Limits.Timeout.String()}
			}
			status = writeProblem(w, err)
			return
		}
		status = a.write(w, r)
	})
}

// write sends the answer, or says that the client has it already.
func (a *answer) write(w http.ResponseWriter, r *http.Request) int {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", cacheControl(a))
	h.Set("Vary", "Accept-Encoding, Authorization")
	tag := a.tag()
	h.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	body := a.body
	if len(body) >= compressFrom && acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = a.compressed()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
	return http.StatusOK
}

func cacheControl(a *answer) string {
	if a.cacheControl != "" {
		return a.cacheControl
	}
	// Ask every time: the answer changes with the mesh; the ETag makes that cheap.
	return "private, no-cache"
}

// answer is a response's body. It may be shared by several requests.
type answer struct {
	contentType  string
	cacheControl string
	body         []byte

	tagOnce, zipOnce sync.Once
	etag             string
	zipped           []byte
}

// tag is a weak ETag: the compressed body and the plain one are the same to it.
func (a *answer) tag() string {
	a.tagOnce.Do(func() { a.etag = `W/"` + strconv.FormatUint(xxhash.Sum64(a.body), 36) + `"` })
	return a.etag
}

var zippers = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	return w
}}

func (a *answer) compressed() []byte {
	a.zipOnce.Do(func() {
		var out bytes.Buffer
		out.Grow(len(a.body) / 6)
		zipper := zippers.Get().(*gzip.Writer)
		zipper.Reset(&out)
		// Writing to a buffer does not fail.
		_, _ = zipper.Write(a.body)
		_ = zipper.Close()
		zippers.Put(zipper)
		a.zipped = out.Bytes()
	})
	return a.zipped
}

func matches(header, tag string) bool {
	if header == "" {
		return false
	}
	for one := range strings.SplitSeq(header, ",") {
		one = strings.TrimSpace(one)
		if one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

func acceptsGzip(r *http.Request) bool {
	for one := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, quality, _ := strings.Cut(strings.TrimSpace(one), ";")
		if name == "gzip" || name == "*" {
			return !strings.HasPrefix(strings.ReplaceAll(quality, " ", ""), "q=0") || strings.Contains(quality, "q=0.")
		}
	}
	return false
}
