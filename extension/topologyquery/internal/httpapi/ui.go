package httpapi

import (
	"bytes"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
)

// ui serves the web UI's build. Paths of the UI's own pages have no file: a browser gets the page, whose script reads the path. It gets it
// for other paths as well, with the status 404; a program does not.
type ui struct {
	files fs.FS
	// base is the path under which the UI is found.
	base string
	// answers are the files that were asked for, by name.
	answers sync.Map
}

const indexPage = "index.html"

// hashed is the folder of the files whose names change with their content.
const hashed = "assets/"

func (u *ui) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
	if name == "" {
		name = indexPage
	}
	a, err := u.answer(name)
	if errors.Is(err, fs.ErrNotExist) && takesHTML(r) && !strings.HasPrefix(name, hashed) {
		if a, err = u.answer(indexPage); err == nil && !isPage(name) {
			w.Header().Set("Content-Type", a.contentType)
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write(a.body)
			return
		}
	}
	if err != nil {
		writeProblem(w, notFound("there is no "+r.URL.Path))
		return
	}
	_, _ = a.write(w, r)
}

// pages are the first segments of the paths of the UI's own pages (ui/src/app/routes.tsx).
var pages = []string{"graph", "outages", "response-times", "traces", "endpoints", "flows", "workloads", "services", "nodes", "policies"}

func isPage(name string) bool {
	first, _, _ := strings.Cut(name, "/")
	return slices.Contains(pages, first)
}

// takesHTML tells whether a browser asks for a page, not a program for something that is not here.
func takesHTML(r *http.Request) bool {
	return slices.ContainsFunc(r.Header.Values("Accept"), func(value string) bool { return strings.Contains(value, "text/html") })
}

func (u *ui) answer(name string) (*answer, error) {
	if known, ok := u.answers.Load(name); ok {
		return known.(*answer), nil
	}
	if !fs.ValidPath(name) || strings.HasPrefix(path.Base(name), ".") {
		return nil, fs.ErrNotExist
	}
	info, err := fs.Stat(u.files, name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fs.ErrNotExist
	}
	body, err := fs.ReadFile(u.files, name)
	if err != nil {
		return nil, err
	}
	if name == indexPage {
		// The build is relative to the page, which the UI's paths are not.
		body = bytes.ReplaceAll(body, []byte(`"./`), []byte(`"`+u.base+`/`))
	}
	a := &answer{contentType: contentType(name), body: body, shared: true}
	if strings.HasPrefix(name, hashed) {
		a.cacheControl = "public, max-age=31536000, immutable"
	}
	known, _ := u.answers.LoadOrStore(name, a)
	return known.(*answer), nil
}

// contentTypes are those of the UI's files; the machine's own table may say otherwise.
var contentTypes = map[string]string{
	".html":        "text/html; charset=utf-8",
	".js":          "text/javascript; charset=utf-8",
	".css":         "text/css; charset=utf-8",
	".svg":         "image/svg+xml",
	".json":        "application/json",
	".webmanifest": "application/manifest+json",
	".woff2":       "font/woff2",
	".png":         "image/png",
	".ico":         "image/x-icon",
	".map":         "application/json",
}

func contentType(name string) string {
	if known, ok := contentTypes[path.Ext(name)]; ok {
		return known
	}
	if known := mime.TypeByExtension(path.Ext(name)); known != "" {
		return known
	}
	return "application/octet-stream"
}
