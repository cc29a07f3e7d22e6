// Package reply answers requests of APIs whose form is another tool's: with JSON, and with the status that an error has.
package reply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// failure is an error with the status that answers it.
type failure struct {
	status int
	text   string
}

func (f *failure) Error() string { return f.text }

// Fail is an error that a status answers.
func Fail(status int, text string) error { return &failure{status, text} }

// Bad is a request that cannot be understood.
func Bad(format string, args ...any) error {
	return Fail(http.StatusBadRequest, fmt.Sprintf(format, args...))
}

// StatusOf is the status that answers an error: its own, or otherwise if it has none and is no want of time.
func StatusOf(err error, otherwise int) int {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f.status
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	}
	return otherwise
}

// Send answers with JSON.
func Send(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "private, no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // Whoever does not read it has gone.
}
