package requests

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/moment"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// instrumentedFor is how long a pod counts as instrumented after its last client span.
const instrumentedFor = 5 * time.Minute

// Sent are the requests that pods sent, found by target and time for as long as connections look for them.
type Sent struct {
	max     int
	keep    time.Duration
	byTime  map[sentKey][]*Exchange // bounded by max in all
	order   queue[indexed]
	pods    map[naming.Pod]pcommon.Timestamp // bounded by max
	indexed int
}

// sentKey is where a client's requests of one second are found.
type sentKey struct {
	pod    naming.Pod
	target string // the service's host name, or the address that was called
	second int64
}

type indexed struct {
	sentKey
	at pcommon.Timestamp
}

func newSent(limit int, wait time.Duration) *Sent {
	return &Sent{
		max:    limit,
		keep:   2*wait + 2*time.Second,
		byTime: map[sentKey][]*Exchange{},
		pods:   map[naming.Pod]pcommon.Timestamp{},
	}
}

// Instrumented tells whether a pod's requests are known from its own spans.
func (s *Sent) Instrumented(pod naming.Pod, now pcommon.Timestamp) bool {
	last, ok := s.pods[pod]
	return ok && !moment.Since(last, now, instrumentedFor)
}

// Around calls found for each request that a pod sent to a target in the second of a time and those beside it.
func (s *Sent) Around(pod naming.Pod, target string, at pcommon.Timestamp, found func(x *Exchange)) {
	for n := second(at) - 1; n <= second(at)+1; n++ {
		for _, x := range s.byTime[sentKey{pod, target, n}] {
			found(x)
		}
	}
}

// add takes over a request that a pod sent to a target.
func (s *Sent) add(x *Exchange, pod naming.Pod, target string) {
	if _, known := s.pods[pod]; known || len(s.pods) < s.max {
		s.pods[pod] = max(s.pods[pod], x.arrived)
	}
	if s.indexed >= s.max {
		return
	}
	id := sentKey{pod, naming.Intern(target), second(x.call.Start)}
	if len(s.byTime[id]) == 0 {
		s.order.push(indexed{id, x.arrived})
	}
	s.byTime[id] = append(s.byTime[id], x)
	s.indexed++
}

func (s *Sent) rewind(now pcommon.Timestamp) {
	for i := range s.order.all() {
		i.at = min(i.at, now)
	}
	for pod, last := range s.pods {
		s.pods[pod] = min(last, now)
	}
}

func second(at pcommon.Timestamp) int64 { return int64(at) / int64(time.Second) }

// Expire forgets the requests that no connection looks for any more.
func (s *Sent) Expire(now pcommon.Timestamp) {
	for s.order.len() > 0 && moment.Since(s.order.first().at, now, s.keep) {
		id := s.order.pop().sentKey
		s.indexed -= len(s.byTime[id])
		delete(s.byTime, id)
	}
	for pod, last := range s.pods {
		if moment.Since(last, now, instrumentedFor) {
			delete(s.pods, pod)
		}
	}
}
