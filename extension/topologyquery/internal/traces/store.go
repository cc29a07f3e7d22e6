package traces

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// maxSpansPerTrace bounds one trace.
const maxSpansPerTrace = 10_000

// maxOperations bounds the operations that are listed of a service, and the services.
const maxOperations = 1000

// Settings bound a Store.
type Settings struct {
	MaxSpans int
	MaxBytes int64
	// Retention is how much older than the newest trace a trace may be; 0 does not bound.
	Retention time.Duration
	AppOf     AppOf
}

// Store keeps the newest traces in memory. Beyond a bound the oldest traces leave, whole. It implements Reader; all
// methods may be called from several goroutines.
type Store struct {
	settings Settings

	mu       sync.RWMutex
	traces   map[string]*stored
	byAge    ageHeap
	services map[string]map[string]int // spans by service and operation
	spans    int
	bytes    int64
	newest   time.Time
	dropped  uint64
	evicted  uint64
}

type stored struct {
	id    string
	spans map[string]*Span
	start time.Time
	end   time.Time
	bytes int64
	place int
}

// NewStore returns an empty store.
func NewStore(settings Settings) *Store {
	return &Store{settings: settings, traces: map[string]*stored{}, services: map[string]map[string]int{}}
}

// Add stores spans; a span that is stored already is replaced.
func (s *Store) Add(td ptrace.Traces) {
	var batch []*Span
	convert(td, s.settings.AppOf, func(span *Span) { batch = append(batch, span) })
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range batch {
		s.add(span)
	}
	s.evict()
}

func (s *Store) add(span *Span) {
	t, ok := s.traces[span.TraceID]
	if !ok {
		t = &stored{id: span.TraceID, spans: map[string]*Span{}, start: span.Start, end: span.end()}
		s.traces[span.TraceID] = t
		heap.Push(&s.byAge, t)
	}
	if old, ok := t.spans[span.SpanID]; ok {
		s.forget(t, old)
	} else if len(t.spans) >= maxSpansPerTrace {
		s.dropped++
		return
	}
	t.spans[span.SpanID] = span
	size := span.size()
	t.bytes += size
	s.bytes += size
	s.spans++
	if operations := s.services[span.Service]; operations != nil {
		operations[span.Name]++
	} else {
		s.services[span.Service] = map[string]int{span.Name: 1}
	}
	if span.end().After(t.end) {
		t.end = span.end()
	}
	if span.Start.Before(t.start) {
		t.start = span.Start
		heap.Fix(&s.byAge, t.place)
	}
	if t.end.After(s.newest) {
		s.newest = t.end
	}
}

// forget takes a span out of the counts.
func (s *Store) forget(t *stored, span *Span) {
	size := span.size()
	t.bytes -= size
	s.bytes -= size
	s.spans--
	operations := s.services[span.Service]
	if operations[span.Name]--; operations[span.Name] <= 0 {
		delete(operations, span.Name)
	}
	if len(operations) == 0 {
		delete(s.services, span.Service)
	}
}

func (s *Store) evict() {
	for len(s.byAge) > 1 {
		oldest := s.byAge[0]
		expired := s.settings.Retention > 0 && s.newest.Sub(oldest.end) > s.settings.Retention
		if !expired && s.spans <= s.settings.MaxSpans && s.bytes <= s.settings.MaxBytes {
			return
		}
		heap.Pop(&s.byAge)
		for _, span := range oldest.spans {
			s.forget(oldest, span)
		}
		delete(s.traces, oldest.id)
		s.evicted++
	}
}

// Search implements Reader.
func (s *Store) Search(ctx context.Context, q Query) ([]Summary, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*stored
	checked := 0
	for _, t := range s.traces {
		if checked++; checked%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !q.Start.IsZero() && t.start.Before(q.Start) || !q.End.IsZero() && !t.start.Before(q.End) || !q.follows(t.start, t.id) {
			continue
		}
		for _, span := range t.spans {
			if span.match(&q) {
				found = append(found, t)
				break
			}
		}
	}
	slices.SortFunc(found, func(a, b *stored) int { return cmp.Or(b.start.Compare(a.start), strings.Compare(a.id, b.id)) })
	out := make([]Summary, 0, min(len(found), q.Limit))
	for _, t := range found[:min(len(found), q.Limit)] {
		out = append(out, summarise(t.id, t.list()))
	}
	return out, nil
}

func (t *stored) list() []*Span {
	spans := make([]*Span, 0, len(t.spans))
	for _, span := range t.spans {
		spans = append(spans, span)
	}
	sortSpans(spans)
	return spans
}

// Trace implements Reader.
func (s *Store) Trace(_ context.Context, id string) (*Trace, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, ok := s.traces[id]
	if !ok {
		return nil, nil
	}
	return &Trace{TraceID: id, Spans: t.list()}, nil
}

// Services implements Reader.
func (s *Store) Services(context.Context) ([]Service, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := []Service{}
	for name, operations := range s.services {
		service := Service{Name: name, Operations: []string{}}
		for operation := range operations {
			service.Operations = append(service.Operations, operation)
		}
		slices.Sort(service.Operations)
		service.Operations = service.Operations[:min(len(service.Operations), maxOperations)]
		out = append(out, service)
	}
	slices.SortFunc(out, func(a, b Service) int { return strings.Compare(a.Name, b.Name) })
	return out[:min(len(out), maxOperations)], nil
}

// Stats are a store's sizes.
type Stats struct {
	Spans   int
	Traces  int
	Bytes   int64
	Dropped uint64
	Evicted uint64
}

// Stats returns the store's sizes.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return Stats{s.spans, len(s.traces), s.bytes, s.dropped, s.evicted}
}

// ageHeap has the oldest trace first.
type ageHeap []*stored

func (h ageHeap) Len() int           { return len(h) }
func (h ageHeap) Less(i, j int) bool { return h[i].start.Before(h[j].start) }
func (h ageHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *ageHeap) Push(x any) {
	t := x.(*stored)
	t.place = len(*h)
	*h = append(*h, t)
}

// Pop implements heap.Interface.
func (h *ageHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
