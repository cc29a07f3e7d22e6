package victorialogs

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/records"
)

const (
	// firstPage and lastPage are how many records are read at a time, each time four times as many.
	firstPage = 1024
	lastPage  = 64 << 10
	// maxRead bounds the records that one query reads.
	maxRead = 1 << 20
	// maxLine bounds a record.
	maxLine = 4 << 20
)

var errTooMany = fmt.Errorf("more than %d records would have to be read: ask for less time", maxRead)

// Scan implements records.Keeper. What LogsQL cannot tell of a query is left to the block's Select. Order and numbers go by time.
func (t *Table) Scan(ctx context.Context, q *records.Query, visit func(b *records.Block, next int64) bool) error {
	where := t.where(q)
	from, until := q.From, q.Until
	if after := int64(q.After); after > 0 {
		from = max(from, after+1)
	}
	if before := int64(q.Before); before > 0 && (until == 0 || before < until) {
		until = before
	}
	var pages []*records.Block
	seen := map[uint64]struct{}{} // the records of the oldest time so far
	read := 0
	for limit := firstPage; ; limit = min(4*limit, lastPage) {
		rows, err := t.page(ctx, where, from, until, limit)
		if err != nil {
			return err
		}
		if read += len(rows); read > maxRead {
			return errTooMany
		}
		last := len(rows) < limit
		next := int64(0)
		if !last {
			next = rows[len(rows)-1].Time
		}
		rows = t.once(rows, seen)
		// The oldest time may have more; a page that has no other is all of it.
		if !last {
			if next+1 == until {
				until = next
			} else {
				until = next + 1
			}
		}
		if len(rows) > 0 {
			slices.Reverse(rows)
			numbers := make([]uint64, len(rows))
			for i := range rows {
				numbers[i] = uint64(max(rows[i].Time, 0))
			}
			b := records.NewBlock(&t.kind, rows, numbers)
			if q.Order == records.Oldest {
				pages = append(pages, b)
			} else if !visit(b, next) {
				return nil
			}
		}
		if last {
			break
		}
	}
	for _, b := range slices.Backward(pages) {
		if !visit(b, 0) {
			return nil
		}
	}
	return nil
}

// once leaves out records that are there already: the page before ended with them, or they were stored twice. Records are newest first.
func (t *Table) once(rows []records.Record, seen map[uint64]struct{}) []records.Record {
	out := rows[:0]
	for i := range rows {
		if i > 0 && rows[i].Time != rows[i-1].Time {
			clear(seen)
		}
		if id := t.kind.ID(&rows[i]); id != 0 {
			if _, again := seen[id]; again {
				continue
			}
			seen[id] = struct{}{}
		}
		out = append(out, rows[i])
	}
	return out
}

// page reads so many records, newest first.
func (t *Table) page(ctx context.Context, where string, from, until int64, limit int) (rows []records.Record, err error) {
	query := where
	if from != 0 || until != 0 {
		// A time that is not bounded is bounded by what the server takes.
		low, high := "1970-01-01T00:00:00Z", "2262-01-01T00:00:00Z"
		if from > 0 {
			low = time.Unix(0, from).UTC().Format(time.RFC3339Nano)
		}
		if until > 0 {
			high = time.Unix(0, until).UTC().Format(time.RFC3339Nano)
		}
		query = "_time:[" + low + ", " + high + ") " + query
	}
	body, err := t.post(ctx, "/select/logsql/query", nil, "application/x-www-form-urlencoded",
		strings.NewReader(url.Values{"query": {query}, "limit": {strconv.Itoa(limit)}}.Encode()))
	if err != nil {
		return nil, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if len(lines.Bytes()) == 0 {
			continue
		}
		r, err := t.decode(lines.Bytes())
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading from VictoriaLogs: %w", err)
	}
	slices.SortStableFunc(rows, func(a, b records.Record) int { return int(min(max(b.Time-a.Time, -1), 1)) })
	return rows, nil
}

func (t *Table) decode(line []byte) (r records.Record, err error) {
	var fields map[string]string
	if err := json.Unmarshal(line, &fields); err != nil {
		return r, fmt.Errorf("reading from VictoriaLogs: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, fields["_time"])
	if err != nil {
		return r, fmt.Errorf("reading a record's time from VictoriaLogs: %w", err)
	}
	r.Time = at.UnixNano()
	for name, value := range fields {
		switch {
		case name == fieldKind || strings.HasPrefix(name, "_"):
		case slices.Contains(t.kind.Ints, name):
			n, _ := strconv.ParseInt(value, 10, 64)
			r.Fields = append(r.Fields, records.Field{Name: name, Number: n})
		case slices.Contains(t.kind.Binary, name):
			decoded, _ := hex.DecodeString(value)
			r.Fields = append(r.Fields, records.Field{Name: name, Text: string(decoded)})
		default:
			r.Fields = append(r.Fields, records.Field{Name: name, Text: value})
		}
	}
	return r, nil
}

// where is as much of a query as LogsQL can tell.
func (t *Table) where(q *records.Query) string {
	parts := []string{"{" + fieldKind + "=" + strconv.Quote(t.kind.Name) + "}"}
	for _, clause := range q.Where {
		if text, ok := t.clause(clause); ok {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, " ")
}

// clause is false for one that only its functions can judge.
func (t *Table) clause(clause records.Clause) (text string, ok bool) {
	var tests []string
	is := func(field, value string) {
		tests = append(tests, strconv.Quote(field)+":="+strconv.Quote(t.encoded(field, value)))
	}
	for i := range clause {
		test := &clause[i]
		switch {
		case test.Field == records.FieldMore:
			// All fields are fields here.
		case test.Text != nil || test.Number != nil || test.Field == records.AnyText || test.In == nil && test.Equals == "":
			return "", false
		case test.In != nil:
			for value := range test.In {
				is(test.Field, value)
			}
		default:
			is(test.Field, test.Equals)
		}
	}
	if len(tests) == 0 {
		return "", false
	}
	return "(" + strings.Join(tests, " or ") + ")", true
}
