package ztunnelreceiver

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
)

type refusal struct {
	items   int
	dropped bool
}

func newTestOutbox(send func(int) error) (box *outbox[int], sent *[]int, refusals *[]refusal) {
	sent, refusals = &[]int{}, &[]refusal{}
	return &outbox[int]{
		size: func(n int) int { return n },
		send: func(_ context.Context, n int) error {
			if err := send(n); err != nil {
				return err
			}
			*sent = append(*sent, n)
			return nil
		},
		refused: func(_ context.Context, n int, dropped bool, _ error) {
			*refusals = append(*refusals, refusal{n, dropped})
		},
	}, sent, refusals
}

func TestOutboxKeepsTheOrder(t *testing.T) {
	full := true
	box, sent, refusals := newTestOutbox(func(int) error {
		if full {
			return errors.New("full")
		}
		return nil
	})
	box.put(0) // nothing
	assert.Zero(t, box.waiting())
	box.put(1)
	box.flush(t.Context())
	box.put(2)
	box.flush(t.Context())
	assert.Equal(t, 3, box.waiting())
	full = false
	box.put(3)
	box.flush(t.Context())
	assert.Equal(t, []int{1, 2, 3}, *sent)
	assert.Equal(t, []refusal{{1, false}, {1, false}}, *refusals)
	assert.Zero(t, box.waiting())
	assert.Zero(t, box.waiting())
}

func TestOutboxGivesUp(t *testing.T) {
	box, sent, refusals := newTestOutbox(func(n int) error {
		if n == 1 {
			return errors.New("never")
		}
		return nil
	})
	box.put(1)
	box.put(2)
	for range maxAttempts {
		assert.Empty(t, *sent)
		box.flush(t.Context())
	}
	assert.Equal(t, []int{2}, *sent)
	assert.Len(t, *refusals, maxAttempts)
	assert.Equal(t, refusal{1, true}, (*refusals)[maxAttempts-1])
}

func TestOutboxDropsWhatIsRefusedForGood(t *testing.T) {
	box, sent, refusals := newTestOutbox(func(n int) error {
		if n == 1 {
			return consumererror.NewPermanent(errors.New("bad"))
		}
		return nil
	})
	box.put(1)
	box.put(2)
	box.flush(t.Context())
	assert.Equal(t, []int{2}, *sent)
	assert.Equal(t, []refusal{{1, true}}, *refusals)
}

// TestOutboxDoesNotRetryIntoOthers has one of several exporters with a full queue while the others take everything.
func TestOutboxDoesNotRetryIntoOthers(t *testing.T) {
	var taken []int
	box, _, refusals := newTestOutbox(func(n int) error {
		taken = append(taken, n)
		return errors.Join(nil, fmt.Errorf("enqueueing: %w", exporterhelper.ErrQueueIsFull))
	})
	for n := range 3 {
		box.put(n + 1)
		box.flush(t.Context())
	}
	assert.Equal(t, []int{1, 2, 3}, taken)
	assert.Equal(t, []refusal{{1, true}, {2, true}, {3, true}}, *refusals)
	assert.Zero(t, box.waiting())
}

func TestOutboxIsBounded(t *testing.T) {
	box, _, refusals := newTestOutbox(func(int) error { return errors.New("full") })
	for range 5 {
		box.put(maxWaiting / 2)
		box.flush(t.Context())
	}
	assert.LessOrEqual(t, box.waiting(), maxWaiting)
	assert.Contains(t, *refusals, refusal{maxWaiting / 2, true})
}

func TestOutboxKeepsWhatAnEndInterrupts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	box, sent, refusals := newTestOutbox(func(int) error { return ctx.Err() })
	box.put(1)
	cancel()
	for range 2 * maxAttempts {
		box.flush(ctx)
	}
	assert.Equal(t, 1, box.waiting())
	assert.Empty(t, *refusals)
	box.send = func(_ context.Context, n int) error { *sent = append(*sent, n); return nil }
	box.flush(t.Context())
	assert.Equal(t, []int{1}, *sent)
}
