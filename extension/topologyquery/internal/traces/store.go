package traces

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/internal/expiry"
)

// maxSpansPerTrace bounds one trace.
const maxSpansPerTrace = 10_000

// maxOperations bounds the operations that are listed of a service, and the services.
const maxOperations = 1000

// Settings bound a Store.
type Settings struct {
	MaxSpans int
	MaxBytes int64
	// Retention is how long a trace is kept after its newest span arrived, by Now; 0 does not bound.
	Retention time.Duration
	// Now is the data's clock; nil where there is none, and no retention.
	Now   func() time.Time
	AppOf AppOf
}

// Store keeps the traces in memory that arrived last. Beyond a bound those leave, whole, that got a span least lately: whatever
// times the spans state, since any application may send spans. It implements Reader; all methods may be called from several
// goroutines.
type Store struct {
	settings Settings

	mu       sync.RWMutex
	traces   *expiry.Table[string, *stored]
	services map[string]map[string]int // spans by service and operation, bounded by the spans
	spans    int
	bytes    int64
	now      pcommon.Timestamp
	dropped  uint64
	evicted  uint64
}

type stored struct {
	id    string
	spans map[string]*Span // bounded by maxSpansPerTrace
	start time.Time
	end   time.Time
	bytes int64
	// dropped is how many more spans came.
	dropped int
}

// NewStore returns an empty store.
func NewStore(settings Settings) *Store {
	if settings.Now == nil {
		settings.Now, settings.Retention = func() time.Time { return time.Time{} }, 0
	}
	s := &Store{settings: settings, services: map[string]map[string]int{}}
	s.traces = expiry.New(settings.MaxSpans+1, s.left)
	return s
}

// Add stores spans; a span that is stored already is replaced.
func (s *Store) Add(td ptrace.Traces) {
	var batch []*Span
	convert(td, s.settings.AppOf, func(span *Span) { batch = append(batch, span) })
	now := pcommon.NewTimestampFromTime(s.settings.Now())
	s.mu.Lock()
	defer s.mu.Unlock()
	if now < s.now {
		s.traces.Rewind(now)
	}
	s.now = now
	for _, span := range batch {
		s.add(span, now)
	}
	s.evict(now)
}

func (s *Store) add(span *Span, now pcommon.Timestamp) {
	t, ok := s.traces.Use(span.TraceID, now)
	if !ok {
		t = &stored{id: span.TraceID, spans: map[string]*Span{}, start: span.Start, end: span.end()}
		s.traces.Put(span.TraceID, t, now)
	}
	if old, ok := t.spans[span.SpanID]; ok {
		s.forget(t, old)
	} else if len(t.spans) >= maxSpansPerTrace {
		s.dropped++
		t.dropped++
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

// evict lets go of traces that are kept for long enough, and of as many more as the bounds ask for, but not of the last.
func (s *Store) evict(now pcommon.Timestamp) {
	if retention := pcommon.Timestamp(s.settings.Retention); retention > 0 && now > retention {
		s.traces.Sweep(now - retention)
	}
	for s.traces.Len() > 1 && (s.spans > s.settings.MaxSpans || s.bytes > s.settings.MaxBytes) {
		id, oldest, _, _ := s.traces.Oldest()
		s.traces.Delete(id)
		s.left(id, oldest)
	}
}

// left notes that a trace is gone.
func (s *Store) left(_ string, t *stored) {
	for _, span := range t.spans {
		s.forget(t, span)
	}
	s.evicted++
}

// Search implements Reader.
func (s *Store) Search(ctx context.Context, q Query) ([]Summary, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*stored
	checked := 0
	for _, t := range s.traces.All() {
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
		summary := summarise(t.id, t.list())
		summary.DroppedSpans = t.dropped
		out = append(out, summary)
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
	t, ok := s.traces.Get(id)
	if !ok {
		return nil, nil
	}
	spans := t.list()
	return &Trace{TraceID: id, Spans: spans, DroppedSpans: t.dropped, ClockSkews: skewsOf(spans)}, nil
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
	return Stats{s.spans, s.traces.Len(), s.bytes, s.dropped, s.evicted}
}
