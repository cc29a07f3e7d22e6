package ztunnelreceiver

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

const (
	// maxAttempts is how often the same telemetry is offered, once a flush, before it is dropped.
	maxAttempts = 10
	// maxWaiting bounds the items of one signal that were refused and wait for another attempt.
	maxWaiting = 200_000
)

// outbox hands telemetry of one signal to the next consumer in order. What is refused for now is offered again before
// anything newer, a bounded number of times.
type outbox[T any] struct {
	send  func(ctx context.Context, data T) error
	items func(data T) int
	// refused is told of n items that were refused, for good if dropped.
	refused func(ctx context.Context, n int, dropped bool, err error)

	queue   []parcel[T]
	waiting int
}

type parcel[T any] struct {
	data     T
	items    int
	attempts int
}

// put adds telemetry at the end; it is sent with the next flush.
func (o *outbox[T]) put(data T) {
	n := o.items(data)
	if n == 0 {
		return
	}
	o.queue = append(o.queue, parcel[T]{data: data, items: n})
	o.waiting += n
}

// flush offers what waits. It stops at the first parcel that is refused for now.
func (o *outbox[T]) flush(ctx context.Context) {
	for len(o.queue) > 0 {
		first := &o.queue[0]
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
	for o.waiting > maxWaiting && len(o.queue) > 1 {
		o.refused(ctx, o.queue[0].items, true, errOutboxFull)
		o.pop()
	}
}

func (o *outbox[T]) pop() {
	o.waiting -= o.queue[0].items
	o.queue[0] = parcel[T]{}
	o.queue = o.queue[1:]
}

func (o *outbox[T]) empty() bool { return len(o.queue) == 0 }
