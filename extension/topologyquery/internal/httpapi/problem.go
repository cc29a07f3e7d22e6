package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// problem is an RFC 9457 problem.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Parameter is the query parameter at fault.
	Parameter string `json:"parameter,omitempty"`

	cause error
}

func (p *problem) Error() string { return p.Detail }

func (p *problem) Unwrap() error { return p.cause }

func badParameter(name, detail string) error {
	return &problem{Title: "Invalid parameter", Status: http.StatusBadRequest, Detail: name + ": " + detail, Parameter: name}
}

func notFound(what string) error {
	return &problem{Title: "Not found", Status: http.StatusNotFound, Detail: what}
}

// unavailable tells that a store did not answer; that it had no time or no memory to remains to be seen in it.
func unavailable(err error) error {
	return &problem{Title: "A store that was asked did not answer", Status: http.StatusBadGateway, Detail: err.Error(), cause: err}
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(int(d.Seconds())))
}

// writeProblem answers with a problem and returns its status.
func writeProblem(w http.ResponseWriter, err error) int {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{Title: "Internal error", Status: http.StatusInternalServerError, Detail: fmt.Sprint(err)}
	}
	out := *p
	out.Type = "about:blank"
	body, err := json.Marshal(out)
	if err != nil {
		http.Error(w, http.StatusText(out.Status), out.Status)
		return out.Status
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Del("ETag")
	w.WriteHeader(out.Status)
	_, _ = w.Write(body)
	return out.Status
}
