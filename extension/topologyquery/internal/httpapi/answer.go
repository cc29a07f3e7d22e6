package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
)

const typeJSON = "application/json"

// answer is a response's body. It may be shared by several requests.
type answer struct {
	contentType  string
	cacheControl string
	body         []byte
	// shared tells that many ask for it, so that its compressed form is kept.
	shared bool

	holders          atomic.Int32
	tagOnce, zipOnce sync.Once
	etag             string
	zipped           []byte
}

func jsonAnswer(body any) (*answer, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &answer{contentType: typeJSON, body: encoded}, nil
}

// hold counts the answer's memory for as long as somebody holds it: the cache, or who sends it. Each hold ends with a drop.
func (a *answer) hold(memory *budget.Budget) {
	if a.holders.Add(1) == 1 {
		memory.Charge(int64(cap(a.body)))
	}
}

func (a *answer) drop(memory *budget.Budget) {
	if a.holders.Add(-1) == 0 {
		memory.Release(int64(cap(a.body)))
	}
}

// write sends the answer, or says that the client has it already. The error tells that the client did not read it.
func (a *answer) write(w http.ResponseWriter, r *http.Request) (status int, err error) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", a.cacheControl)
	if a.cacheControl == "" {
		// Ask every time: the answer changes with the mesh; the ETag makes that cheap.
		h.Set("Cache-Control", "private, no-cache")
	}
	h.Add("Vary", "Authorization")
	tag := a.tag()
	h.Set("ETag", tag)
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified, nil
	}
	body := a.body
	if a.shared && len(body) >= gzhttp.DefaultMinSize && takesGzip(w) && gzhttp.DefaultContentTypeFilter(a.contentType) {
		h.Set("Content-Encoding", "gzip")
		body = a.gzip()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, err = w.Write(body)
	}
	return http.StatusOK, err
}

// tag is a weak ETag: the compressed body and the plain one are the same to it.
func (a *answer) tag() string {
	a.tagOnce.Do(func() { a.etag = `W/"` + strconv.FormatUint(xxhash.Sum64(a.body), 36) + `"` })
	return a.etag
}

func (a *answer) gzip() []byte {
	a.zipOnce.Do(func() {
		var out bytes.Buffer
		out.Grow(len(a.body) / 6)
		// Neither fails: the level is known, and so is what a buffer takes.
		zipper, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
		_, _ = zipper.Write(a.body)
		_ = zipper.Close()
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

// Bounds on clients that read slowly: so many bytes in so much time, or the connection is cut.
const (
	writeChunk   = 64 << 10
	writeTimeout = 10 * time.Second
)

// deadlineWriter writes in chunks, each of which has its own time to be read. It takes the place of the server's write timeout,
// which counts from the request on.
type deadlineWriter struct {
	http.ResponseWriter
	controller *http.ResponseController
}

func (d *deadlineWriter) Write(b []byte) (n int, err error) {
	for {
		// Where no deadline can be set, the server's own timeout holds.
		_ = d.controller.SetWriteDeadline(time.Now().Add(writeTimeout))
		chunk := b[n:min(n+writeChunk, len(b))]
		written, err := d.ResponseWriter.Write(chunk)
		n += written
		if err != nil || n >= len(b) {
			return n, err
		}
	}
}

// Unwrap lets http.ResponseController find what the server's own writer can do.
func (d *deadlineWriter) Unwrap() http.ResponseWriter { return d.ResponseWriter }
