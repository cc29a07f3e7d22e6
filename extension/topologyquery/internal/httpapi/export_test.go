package httpapi

import (
	"context"
	"encoding/csv"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
)

// exported answers with two flows, or fails after the first.
type exported struct {
	flowReader
	failed error
}

func (e *exported) Each(_ context.Context, _ flows.Filter, visit func(f *flows.Flow) bool) error {
	one := &flows.Flow{Time: time.Unix(1, 0).UTC(), Protocol: "tcp", Source: flows.Party{Namespace: "shop", Pod: "=web"}}
	two := &flows.Flow{Time: time.Unix(0, 0).UTC(), Protocol: "http", Subject: flows.Subject{Request: &flows.Request{Path: `/a,"b"`, Status: 503}}}
	if visit(one) && e.failed == nil {
		visit(two)
	}
	return e.failed
}

func TestExport(t *testing.T) {
	settings, _ := testSettings(Limits{Concurrent: 1, Timeout: time.Minute})
	source := &exported{}
	handler := recovered(settings.Failed, &export{flows: source, responder: newResponder(settings)})
	get := func(query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, exportPattern+query, http.NoBody))
		return w
	}
	lines := strings.Split(strings.TrimSpace(get("").Body.String()), "\n")
	require.Len(t, lines, 2)
	assert.Contains(t, lines[1], `"path":"/a,\"b\"","status":503`)
	assert.Len(t, strings.Split(strings.TrimSpace(get("?limit=1").Body.String()), "\n"), 1)

	w := get("?format=csv")
	assert.Equal(t, "text/csv; charset=utf-8", w.Header().Get("Content-Type"))
	rows, err := csv.NewReader(w.Body).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 3)
	cell := func(row int, name string) string {
		for i := range csvColumns {
			if csvColumns[i].name == name {
				return rows[row][i]
			}
		}
		return "no such column"
	}
	assert.Equal(t, "'=web", cell(1, "source_pod"), "no formula")
	assert.Equal(t, "503", cell(2, "status"))
	assert.Empty(t, cell(1, "status"))

	assert.Equal(t, http.StatusBadRequest, get("?format=xml").Code)
	assert.Equal(t, http.StatusBadRequest, get("?limit=1000001").Code)
	source.failed = context.DeadlineExceeded
	assert.Panics(t, func() { get("") }, "what is not whole must not look it")
}
