package victorialogs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	origin = time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)
	spans  = records.Kind{Name: "spans", Ints: []string{"duration"}, Raw: []string{"id"}, Binary: []string{"id"}, Identity: []string{"id"}}
)

// server keeps lines and answers for their times alone, so that the rest of each query is left to who asks.
type server struct {
	mu      sync.Mutex
	lines   []map[string]string
	queries []string
	status  int
}

var timeRange = regexp.MustCompile(`_time:\[(\S+), (\S+)\)`)

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	if r.URL.Path == "/insert/jsonline" {
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			var fields map[string]string
			if err := json.Unmarshal(lines.Bytes(), &fields); err != nil {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			s.lines = append(s.lines, fields)
		}
		return
	}
	query := r.FormValue("query")
	s.queries = append(s.queries, query)
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	at := func(fields map[string]string) time.Time {
		t, _ := time.Parse(time.RFC3339Nano, fields["_time"])
		return t
	}
	var found []map[string]string
	for _, fields := range s.lines {
		if bounds := timeRange.FindStringSubmatch(query); bounds != nil {
			from, _ := time.Parse(time.RFC3339Nano, bounds[1])
			until, _ := time.Parse(time.RFC3339Nano, bounds[2])
			if at(fields).Before(from) || !at(fields).Before(until) {
				continue
			}
		}
		found = append(found, fields)
	}
	slices.SortStableFunc(found, func(a, b map[string]string) int { return at(b).Compare(at(a)) })
	for _, fields := range found[:min(limit, len(found))] {
		_ = json.NewEncoder(w).Encode(fields)
	}
}

func open(t *testing.T, s *server) *Table {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	table := Open(Settings{Client: web.Client(), Endpoint: web.URL, Logger: zap.NewNop()}, spans)
	t.Cleanup(func() { _ = table.Close() })
	return table
}

func record(n int) records.Record {
	return records.Record{Time: origin.Add(time.Duration(n) * time.Millisecond).UnixNano(), Fields: []records.Field{
		{Name: "id", Text: string([]byte{0, 0xff, byte(n >> 8), byte(n)})}, {Name: "duration", Number: int64(n)}, {Name: "attr.http.route", Text: fmt.Sprint("/things/", n%3)},
	}}
}

func numbers(t *testing.T, table *Table, q records.Query) (found []int) {
	t.Helper()
	require.NoError(t, records.Find(t.Context(), table, &q, func(r records.Row) bool {
		n := int(r.Number("duration"))
		assert.Equal(t, record(n).Fields[0].Text, r.Text("id"))
		assert.Equal(t, record(n).Fields[2].Text, r.Text("attr.http.route"))
		assert.EqualValues(t, record(n).Time, r.Sequence())
		found = append(found, n)
		return true
	}))
	return found
}

func TestWrittenAndFound(t *testing.T) {
	s := &server{}
	table := open(t, s)
	const all = 3000 // more than a page
	var list []records.Record
	for n := 1; n <= all; n++ {
		list = append(list, record(n))
	}
	assert.Equal(t, all, table.Append(list))
	require.NoError(t, table.send(t.Context()))
	table.Append(list[:10]) // they come again
	require.NoError(t, table.send(t.Context()))

	found := numbers(t, table, records.Query{})
	assert.Len(t, found, all)
	assert.True(t, slices.IsSortedFunc(found, func(a, b int) int { return b - a }))
	found = numbers(t, table, records.Query{Order: records.Oldest})
	assert.Len(t, found, all)
	assert.True(t, slices.IsSorted(found))
	assert.Equal(t, []int{12, 11}, numbers(t, table, records.Query{After: uint64(record(10).Time), Before: uint64(record(13).Time)}))
	assert.Equal(t, []int{21, 18}, numbers(t, table, records.Query{
		From: record(17).Time, Until: record(23).Time, Where: []records.Clause{records.HasField("attr.http.route", "/things/0")},
	}))
	assert.Equal(t, `_time:[2026-09-01T10:00:00.017Z, 2026-09-01T10:00:00.023Z) {nephilia="spans"} ("attr.http.route":="/things/0")`, s.queries[len(s.queries)-1])
	assert.Equal(t, []int{7}, numbers(t, table, records.Query{Where: []records.Clause{{{Field: "id", Equals: record(7).Fields[0].Text}}}}))
	assert.True(t, strings.HasSuffix(s.queries[len(s.queries)-2], `("id":="00ff0007")`) || strings.HasSuffix(s.queries[len(s.queries)-1], `("id":="00ff0007")`))
	page, next, err := records.Page(t.Context(), table, records.Query{}, 2, func(r records.Row) int64 { return r.Number("duration") })
	require.NoError(t, err)
	assert.Equal(t, []int64{all, all - 1}, page)
	assert.EqualValues(t, record(all-1).Time, next)
	assert.EqualValues(t, record(all).Time, table.Newest())
}

// TestManyOfOneTime reads records that fill more than a page with one time.
func TestManyOfOneTime(t *testing.T) {
	table := open(t, &server{})
	var list []records.Record
	for n := range 1500 {
		r := record(n)
		r.Time = origin.UnixNano()
		list = append(list, r)
	}
	table.Append(list)
	require.NoError(t, table.send(t.Context()))
	n := 0
	require.NoError(t, records.Find(t.Context(), table, &records.Query{}, func(records.Row) bool { n++; return true }))
	assert.GreaterOrEqual(t, n, firstPage)
}

func TestServerThatFails(t *testing.T) {
	s := &server{status: http.StatusInternalServerError}
	table := open(t, s)
	table.Append([]records.Record{record(1)})
	require.Error(t, table.send(t.Context()))
	require.Error(t, records.Find(t.Context(), table, &records.Query{}, func(records.Row) bool { return true }))
	assert.EqualValues(t, 1, table.Status().Records, "it waits")
	s.mu.Lock()
	s.status = 0
	s.mu.Unlock()
	require.NoError(t, table.send(t.Context()))
	assert.Equal(t, []int{1}, numbers(t, table, records.Query{}))
	s.mu.Lock()
	s.status = http.StatusBadRequest
	s.mu.Unlock()
	table.Append([]records.Record{record(2)})
	require.Error(t, table.send(t.Context()))
	assert.Equal(t, map[string]uint64{DropRejected: 1}, table.Status().Dropped)
	huge := records.Record{Time: 1, Fields: []records.Field{{Name: "id", Text: strings.Repeat("x", maxWaiting)}}}
	assert.Zero(t, table.Append([]records.Record{huge}))
	assert.EqualValues(t, 1, table.Status().Dropped[records.DropQueue])
}
