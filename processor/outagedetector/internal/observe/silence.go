package observe

import "container/heap"

// silenceQueue holds the edges that are due to be asked whether they fell silent, soonest first, so that an edge costs
// nothing while it is quiet for no longer than usual.
type silenceQueue []silenceEntry

type silenceEntry struct {
	due int64
	p   *Pair
}

func (q silenceQueue) Len() int           { return len(q) }
func (q silenceQueue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q silenceQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push implements heap.Interface.
func (q *silenceQueue) Push(x any) { *q = append(*q, x.(silenceEntry)) }

// Pop implements heap.Interface.
func (q *silenceQueue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}

// AwaitSilence asks to be handed the edge again by Silent at a time; an edge waits for one time only.
func (s *Store) AwaitSilence(p *Pair, due int64) {
	if !p.queued {
		p.queued = true
		heap.Push(&s.quiet, silenceEntry{due, p})
	}
}

// Silent hands out the edges that are due by now.
func (s *Store) Silent(buffer []*Pair) []*Pair {
	buffer = buffer[:0]
	for len(s.quiet) > 0 && s.quiet[0].due <= s.Now {
		p := heap.Pop(&s.quiet).(silenceEntry).p
		p.queued = false
		if p.keys > 0 {
			buffer = append(buffer, p)
		}
	}
	return buffer
}
