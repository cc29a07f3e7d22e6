package observe

// silenceQueue is a heap of the edges that are due to be asked whether they fell silent, soonest first, so that an edge
// costs nothing while it is quiet for no longer than usual.
type silenceQueue []silenceEntry

type silenceEntry struct {
	due int64
	p   *Pair
}

func (q *silenceQueue) push(e silenceEntry) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent].due <= h[i].due {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

func (q *silenceQueue) pop() silenceEntry {
	h := *q
	first, last := h[0], len(h)-1
	h[0], h[last] = h[last], silenceEntry{}
	h = h[:last]
	*q = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h[child].due < h[least].due {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// AwaitSilence asks to be handed the edge again by Silent at a time; an edge waits for one time only.
func (s *Store) AwaitSilence(p *Pair, due int64) {
	if !p.queued {
		p.queued = true
		s.quiet.push(silenceEntry{due, p})
	}
}

// Silent hands out the edges that are due by now.
func (s *Store) Silent(buffer []*Pair) []*Pair {
	buffer = buffer[:0]
	for len(s.quiet) > 0 && s.quiet[0].due <= s.Now {
		p := s.quiet.pop().p
		p.queued = false
		if p.keys > 0 {
			buffer = append(buffer, p)
		}
	}
	return buffer
}
