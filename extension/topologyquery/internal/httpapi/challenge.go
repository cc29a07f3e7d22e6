package httpapi

import "net/http"

// Challenge names the way to authenticate in answers that ask for it. The collector's authenticators do not, but without
// a challenge no browser asks a person for a name and password.
func Challenge(next http.Handler, challenge string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&challenger{ResponseWriter: w, challenge: challenge}, r)
	})
}

type challenger struct {
	http.ResponseWriter
	challenge string
}

func (c *challenger) WriteHeader(status int) {
	if status == http.StatusUnauthorized && c.Header().Get("WWW-Authenticate") == "" {
		c.Header().Set("WWW-Authenticate", c.challenge)
	}
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (c *challenger) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// Flush sends what was written, for the wrappers around that look for it here.
func (c *challenger) Flush() { _ = http.NewResponseController(c.ResponseWriter).Flush() }
