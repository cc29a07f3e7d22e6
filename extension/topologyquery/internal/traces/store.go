package traces

import (
	"cmp"
	"context"
	"encoding/hex"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/records"
)

// Bounds on what is read at a time.
const (
	// maxSpansPerTrace bounds one trace.
	maxSpansPerTrace = 10_000
	// maxOperations bounds the operations that are listed of a service, and the services.
	maxOperations = 1000
	// maxGroups bounds the traces that are compared with each other.
	maxGroups = 1 << 20
	// nearby is how far from a span the other spans of its trace are looked for; the trace itself is looked for everywhere.
	nearby = 15 * time.Minute
	// straddle is how long a trace may be that is listed exactly in its place where its spans arrived in two parts.
	straddle = time.Minute
)

// Store keeps spans as records. It implements Reader; all methods may be called from several goroutines.
type Store struct {
	table records.Keeper
	appOf AppOf
	// samples are the spans of outages that have left the table, nil without any.
	samples *Store
	// compared is up to how many spans the traces of a range are all compared with each other.
	compared int
	encoders sync.Pool

	mu sync.Mutex
	// offered are the services of blocks that do not change; bounded by the blocks.
	offered map[string]map[string][]Operation
	digests digests
}

// NewStore returns a store over the records of Kind, and over those of SampleKind where samples is not nil. appOf may be nil.
func NewStore(table, samples records.Keeper, appOf AppOf) *Store {
	s := &Store{table: table, appOf: appOf, compared: comparedRows, offered: map[string]map[string][]Operation{}, digests: digests{of: map[string][]group{}}}
	if samples != nil {
		s.samples = NewStore(samples, nil, appOf)
	}
	return s
}

// Add stores spans; a span that is stored already is not stored again.
func (s *Store) Add(td ptrace.Traces) {
	e, _ := s.encoders.Get().(*encoder)
	if e == nil {
		e = &encoder{}
	}
	s.table.Append(e.encode(td, s.appOf))
	s.encoders.Put(e)
}

// traceID is a trace's id.
type traceID [16]byte

// Search implements Reader. Where nothing else is found, the samples of outages are looked through.
func (s *Store) Search(ctx context.Context, q Query) ([]Summary, error) {
	found, err := s.find(ctx, &q)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && s.samples != nil {
		return s.samples.Search(ctx, q)
	}
	return s.summaries(ctx, &q, found)
}

// find returns the traces of the list, in about its order.
func (s *Store) find(ctx context.Context, q *Query) ([]*group, error) {
	inRange := records.Query{From: nanos(q.Start), Until: nanos(q.End), Order: records.Latest}
	if until := q.After.Add(time.Nanosecond); !q.After.IsZero() && (q.End.IsZero() || until.Before(q.End)) {
		inRange.Until = nanos(until)
	}
	if inRange.Until != 0 {
		// Spans of traces that began before.
		inRange.Until += int64(nearby)
	}
	wanted := inRange
	wanted.Where = q.where()
	if q.Order == OrderSlowest && s.table.Count(&inRange) > s.compared {
		return s.slowest(ctx, q, &wanted)
	}
	groups := map[traceID]*group{} // bounded by maxGroups
	listed := q.listed()
	err := records.Blocks(ctx, s.table, &wanted, func(b *records.Block, next int64) bool {
		inBlock := s.digests.block(b)
		if len(b.Rows) == b.Len() {
			for i := range inBlock {
				know(groups, inBlock[i].id)
			}
		} else {
			ids := b.Bytes(fieldTrace)
			for _, row := range b.Rows {
				know(groups, traceID(padded(ids(int(row)))))
			}
		}
		for i := range inBlock {
			if g := groups[inBlock[i].id]; g != nil {
				g.add(&inBlock[i])
			}
		}
		if len(groups) > maxGroups {
			drop(groups, q)
		}
		return q.Order != OrderNewest || !enough(groups, q, next+int64(straddle))
	})
	if err != nil {
		return nil, err
	}
	return q.first(groups, listed), nil
}

// padded is an id of the length that ids have.
func padded(id []byte) []byte {
	if len(id) >= len(traceID{}) {
		return id
	}
	return append(make([]byte, len(traceID{})-len(id)), id...)
}

// summaries reads the spans of traces, those that are near each other at once.
func (s *Store) summaries(ctx context.Context, q *Query, found []*group) ([]Summary, error) {
	byTime := slices.SortedFunc(slices.Values(found), func(a, b *group) int { return cmp.Compare(a.start, b.start) })
	out := make([]Summary, 0, len(found))
	for len(byTime) > 0 {
		n, end := 1, byTime[0].end
		for n < len(byTime) && byTime[n].start-end < int64(nearby) {
			end = max(end, byTime[n].end)
			n++
		}
		ids := make(map[string]struct{}, n)
		for _, g := range byTime[:n] {
			ids[string(g.id[:])] = struct{}{}
		}
		spans, dropped, err := s.spans(ctx, &records.Query{
			From: byTime[0].start - int64(nearby), Until: end + int64(nearby), Where: []records.Clause{{{Field: fieldTrace, In: ids}}},
		}, true)
		if err != nil {
			return nil, err
		}
		for id, list := range spans {
			summary := summarise(id, list)
			summary.DroppedSpans = dropped[id]
			if (q.Start.IsZero() || !summary.Start.Before(q.Start)) && (q.End.IsZero() || summary.Start.Before(q.End)) && q.follows(summary.Start, id) {
				out = append(out, summary)
			}
		}
		byTime = byTime[n:]
	}
	// What was not looked at before may change the order.
	slices.SortFunc(out, q.compareSummaries)
	return out, nil
}

func (q *Query) compareSummaries(a, b Summary) int {
	first := 0
	switch q.Order {
	case OrderSlowest:
		first = cmp.Compare(b.DurationMS, a.DurationMS)
	case OrderSpans:
		first = cmp.Compare(b.Spans, a.Spans)
	case OrderErrors:
		first = cmp.Compare(b.Errors, a.Errors)
	}
	return cmp.Or(first, newestFirst(a, b))
}

// spans reads spans by trace, each once, and how many more of each trace there are than one may have.
func (s *Store) spans(ctx context.Context, q *records.Query, brief bool) (byTrace map[string][]*Span, dropped map[string]int, err error) {
	byTrace, dropped = map[string][]*Span{}, map[string]int{}
	seen := map[[2]string]struct{}{} // bounded by the spans that are asked for
	err = records.Find(ctx, s.table, q, func(r records.Row) bool {
		key := [2]string{r.Text(fieldTrace), r.Text(fieldSpan)}
		if _, again := seen[key]; again {
			return true
		}
		id := hex.EncodeToString([]byte(key[0]))
		if len(byTrace[id]) >= maxSpansPerTrace {
			dropped[id]++
			return true
		}
		seen[key] = struct{}{}
		byTrace[id] = append(byTrace[id], decode(r, brief))
		return true
	})
	for _, list := range byTrace {
		sortSpans(list)
	}
	return byTrace, dropped, err
}

// Trace implements Reader.
func (s *Store) Trace(ctx context.Context, id string) (*Trace, error) {
	decoded, err := hex.DecodeString(id)
	if err != nil || len(decoded) == 0 {
		return nil, nil //nolint:nilerr // what is no id names no trace
	}
	byTrace, dropped, err := s.spans(ctx, &records.Query{Where: []records.Clause{{{Field: fieldTrace, Equals: string(decoded)}}}, Order: records.Oldest}, false)
	if err == nil && len(byTrace[id]) == 0 && s.samples != nil {
		return s.samples.Trace(ctx, id)
	}
	if err != nil || len(byTrace[id]) == 0 {
		return nil, err
	}
	return &Trace{TraceID: id, Spans: byTrace[id], DroppedSpans: dropped[id], ClockSkews: skewsOf(byTrace[id])}, nil
}

// Services implements Reader.
func (s *Store) Services(ctx context.Context, start, end time.Time) ([]Service, error) {
	all := map[string]map[Operation]struct{}{} // bounded by maxOperations, as is each of it
	err := records.Blocks(ctx, s.table, &records.Query{From: nanos(start), Until: nanos(end)}, func(b *records.Block, _ int64) bool {
		for service, operations := range s.offeredIn(b) {
			known := all[service]
			if known == nil {
				if len(all) >= maxOperations {
					continue
				}
				known = map[Operation]struct{}{}
				all[service] = known
			}
			for _, operation := range operations {
				if len(known) < maxOperations {
					known[operation] = struct{}{}
				}
			}
		}
		return true
	})
	out := make([]Service, 0, len(all))
	for name, operations := range all {
		out = append(out, newService(name, slices.Collect(maps.Keys(operations))))
	}
	slices.SortFunc(out, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

// maxOffered bounds the blocks whose services are remembered.
const maxOffered = 4096

// offeredIn returns the operations of a block by service.
func (s *Store) offeredIn(b *records.Block) map[string][]Operation {
	s.mu.Lock()
	known, ok := s.offered[b.ID()]
	s.mu.Unlock()
	if ok {
		return known
	}
	services, serviceOf := b.Codes(fieldService)
	names, nameOf := b.Codes(fieldName)
	kinds, kindOf := b.Codes(fieldKind)
	seen := map[[3]int32]struct{}{} // bounded by the block
	offered := map[string][]Operation{}
	for row := range b.Len() {
		var codes [3]int32
		for i, of := range [...][]int32{serviceOf, nameOf, kindOf} {
			if row < len(of) {
				codes[i] = of[row]
			}
		}
		if _, again := seen[codes]; again {
			continue
		}
		seen[codes] = struct{}{}
		if service := at(services, codes[0]); len(offered[service]) < maxOperations {
			offered[service] = append(offered[service], Operation{at(names, codes[1]), at(kinds, codes[2])})
		}
	}
	if b.ID() != "" {
		s.mu.Lock()
		if len(s.offered) >= maxOffered {
			clear(s.offered)
		}
		s.offered[b.ID()] = offered
		s.mu.Unlock()
	}
	return offered
}

func at(dictionary []string, code int32) string {
	if int(code) < len(dictionary) {
		return dictionary[code]
	}
	return ""
}

// nanos is a time in unix nanoseconds, 0 for none. Times that do not fit are as far off as they can be.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Year() < 1700:
		return math.MinInt64 / 2
	case t.Year() > 2240:
		return math.MaxInt64 / 2
	}
	return t.UnixNano()
}

// Spans is the number of spans that are kept.
func (s *Store) Spans() uint64 { return s.table.Status().Records }
