package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
)

// problem is an RFC 9457 problem.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Parameter is the query parameter at fault.
	Parameter string `json:"parameter,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

func badParameter(name, detail string) error {
	return &problem{Title: "Invalid parameter", Status: http.StatusBadRequest, Detail: name + ": " + detail, Parameter: name}
}

func notFound(what string) error {
	return &problem{Title: "Not found", Status: http.StatusNotFound, Detail: what}
}

func unavailable(err error) error {
	return &problem{Title: "A store that was asked did not answer", Status: http.StatusBadGateway, Detail: err.Error()}
}

// writeProblem answers with a problem and returns its status.
func writeProblem(w http.ResponseWriter, err error) int {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{Title: "Internal error", Status: http.StatusInternalServerError, Detail: err.Error()}
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
