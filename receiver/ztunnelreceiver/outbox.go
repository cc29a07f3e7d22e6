package ztunnelreceiver

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

const (
	// maxAttempts is how often the same telemetry is offered, once a flush, before it is dropped.
	maxAttempts = 10
	// maxWaiting bounds the items of one signal that wait to be taken.
	maxWaiting = 200_000
)

var errOutboxFull = errors.New("too much was refused before it")

// outbox hands telemetry of one signal to the next consumer in order. What is refused for now is offered again before
// anything newer, a bounded number of times. One goroutine flushes; others may put telemetry meanwhile.
type outbox[T any] struct {
	send func(ctx context.Context, data T) error
	size func(data T) int
	// refused is told of n items that were refused, for good if dropped.
	refused func(ctx context.Context, n int, dropped bool, err error)

	mu    sync.Mutex
	queue []*parcel[T]
	items int
}

type parcel[T any] struct {
	data     T
	items    int
	attempts int
}

// put adds telemetry at the end; it is sent with the next flush.
func (o *outbox[T]) put(data T) {
	n := o.size(data)
	if n == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = append(o.queue, &parcel[T]{data: data, items: n})
	o.items += n
}

// flush offers what waits. It stops at the first parcel that is refused for now.
func (o *outbox[T]) flush(ctx context.Context) {
	for first := o.first(); first != nil; first = o.first() {
		err := o.send(ctx, first.data)
		if err == nil {
			o.pop()
			continue
		}
		if ctx.Err() != nil {
			// Whoever ends decides what becomes of it.
			break
		}
		first.attempts++
		// Whoever has a queue has decided how much waits; others may have taken the same telemetry, and must not be kept from newer.
		dropped := consumererror.IsPermanent(err) || errors.Is(err, exporterhelper.ErrQueueIsFull) || first.attempts >= maxAttempts
		o.refused(ctx, first.items, dropped, err)
		if !dropped {
			break
		}
		o.pop()
	}
	for o.full() {
		n := o.first().items
		o.pop()
		o.refused(ctx, n, true, errOutboxFull)
	}
}

func (o *outbox[T]) first() *parcel[T] {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) == 0 {
		return nil
	}
	return o.queue[0]
}

func (o *outbox[T]) pop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.items -= o.queue[0].items
	o.queue[0] = nil
	o.queue = o.queue[1:]
}

func (o *outbox[T]) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.items > maxWaiting && len(o.queue) > 1
}

// waiting is how many items wait, those that are being sent included.
func (o *outbox[T]) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.items
}
