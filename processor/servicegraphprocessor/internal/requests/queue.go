package requests

import (
	"iter"
)

// queue is a first-in-first-out queue that reuses its memory.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int { return len(q.items) - q.head }

func (q *queue[T]) push(item T) {
	if q.head > len(q.items)/2 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.head:])
		clear(q.items[n:])
		q.items, q.head = q.items[:n], 0
	}
	q.items = append(q.items, item)
}

// first returns the oldest item of a queue that is not empty.
func (q *queue[T]) first() T { return q.items[q.head] }

// pop removes and returns the oldest item of a queue that is not empty.
func (q *queue[T]) pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item
}

// all goes through the items, the oldest first.
func (q *queue[T]) all() iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for i := q.head; i < len(q.items); i++ {
			if !yield(&q.items[i]) {
				return
			}
		}
	}
}
