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
