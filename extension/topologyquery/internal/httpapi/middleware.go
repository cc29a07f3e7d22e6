package httpapi

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
)

// contentSecurityPolicy allows what the UI's own build consists of and nothing else. Styles are set by script through
// the CSSOM, which it does not concern; images come from blobs when the graph is exported.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; font-src 'self'; " +
	"connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "

// secure sets the headers that every response has. Pages of the ancestors' origins may show the UI in a frame.
func secure(ancestors []string, next http.Handler) http.Handler {
	policy := contentSecurityPolicy + "'none'"
	if len(ancestors) > 0 {
		policy = contentSecurityPolicy + strings.Join(ancestors, " ")
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// under serves what is below a path as if it were at the root, and everything else as it is: some proxies take the path away.
func under(base string, next http.Handler) http.Handler {
	if base == "" {
		return next
	}
	stripped := http.StripPrefix(base, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == base:
			http.Redirect(w, r, base+"/", http.StatusTemporaryRedirect)
		case strings.HasPrefix(r.URL.Path, base+"/"):
			stripped.ServeHTTP(w, r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// allowHosts refuses requests for a host of another name, unless none is given: a page elsewhere whose name is made to resolve to
// this server (DNS rebinding) sends its own. An address cannot be rebound. A name that begins with a dot allows what ends with it.
func allowHosts(names []string, rejected func(ctx context.Context, reason string), next http.Handler) http.Handler {
	if len(names) == 0 {
		return next
	}
	allowed := func(host string) bool {
		for _, name := range names {
			if strings.EqualFold(host, name) || strings.HasPrefix(name, ".") && len(host) > len(name) && strings.EqualFold(host[len(host)-len(name):], name) {
				return true
			}
		}
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ".")
		if !allowed(host) {
			rejected(r.Context(), rejectedHost)
			writeProblem(w, &problem{
				Title: "Misdirected request", Status: http.StatusMisdirectedRequest,
				Detail: fmt.Sprintf("this server does not answer for the host %q; http::allowed_hosts names those it does", r.Host),
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readOnly refuses everything but GET and HEAD, and POST where questions are posted.
func readOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asks := r.Method == http.MethodPost && posted(r.URL.Path)
		if r.Method != http.MethodGet && r.Method != http.MethodHead && !asks {
			w.Header().Set("Allow", "GET, HEAD")
			writeProblem(w, &problem{Title: "Method not allowed", Status: http.StatusMethodNotAllowed, Detail: "this API is read-only"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// recovered answers 500 where a handler fails on the unforeseen, instead of breaking the connection.
func recovered(failed func(ctx context.Context, err error), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if failure := recover(); failure != nil {
				if failure == http.ErrAbortHandler { //nolint:errorlint // net/http compares it in the same way.
					panic(failure)
				}
				failed(r.Context(), fmt.Errorf("answering %s: %v", r.URL.Path, failure))
				writeProblem(w, &problem{Title: "Internal error", Status: http.StatusInternalServerError})
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// withoutSlash takes paths of the API with and without a slash at the end for the same.
func withoutSlash(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.Path; strings.HasPrefix(p, "/api/") && strings.HasSuffix(p, "/") && p != "/api/" {
			clone := *r
			u := *r.URL
			u.Path = strings.TrimRight(p, "/")
			u.RawPath = ""
			clone.URL = &u
			r = &clone
		}
		next.ServeHTTP(w, r)
	})
}

// compressed compresses what a handler writes for clients that take it, and gives each part of it its own time to be read.
func compressed(next http.Handler) http.Handler {
	wrap, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false), gzhttp.CompressionLevel(gzip.BestSpeed))
	if err != nil {
		panic(err) // The options are constants.
	}
	next = wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&deadlineWriter{w, http.NewResponseController(w)}, r)
	})
}

// takesGzip tells whether compressed compresses what is written to w.
func takesGzip(w http.ResponseWriter) bool {
	_, ok := w.(*gzhttp.GzipResponseWriter)
	return ok
}
