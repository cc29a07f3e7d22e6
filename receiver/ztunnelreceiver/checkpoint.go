package ztunnelreceiver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
)

const (
	// boundaryKey is where the last boundary is stored.
	boundaryKey = "receiver/boundary"
	// copyName names the storage of the last boundary alone, from which a receiver goes on that has lost the rest.
	copyName = "boundary"
)

// stored is what makes the receiver's state permanent.
type stored struct {
	// client is the storage, nil if none is configured, copies that of the last boundary's copy.
	client, copies storage.Client
	// lost tells that the state from before a restart is gone: logs are read again, and what was counted is left out.
	lost bool
	// unsaved is set when the last checkpoint could not be stored.
	unsaved bool
}

// openStorage takes up what is stored and returns the last boundary, zero if there was none.
func (l *live) openStorage(ctx context.Context, host component.Host, id, self component.ID) (last time.Time, err error) {
	client, err := storageClient(ctx, host, id, self, "")
	if err != nil {
		return last, err
	}
	l.client = client
	if l.copies, err = storageClient(ctx, host, id, self, copyName); err != nil {
		return last, err
	}
	sealed, damage := journal.Seal(ctx, client)
	if damage != nil && !errors.Is(damage, journal.ErrDamaged) {
		return last, fmt.Errorf("reading the checkpoint: %w", damage)
	}
	l.client = sealed
	if last, err = timeOf(ctx, l.client); err != nil {
		return last, fmt.Errorf("reading the checkpoint: %w", err)
	}
	if !last.IsZero() {
		return last, l.restore(ctx)
	}
	copied, err := timeOf(ctx, l.copies)
	if err != nil {
		return last, fmt.Errorf("reading the last boundary: %w", err)
	}
	switch l.lost = !copied.IsZero(); {
	case l.lost:
		l.flow.Counted = flow.Counted{Until: copied.UnixNano(), All: true}
		l.tel.Log.Error("The stored read positions and series are lost. The logs are read again from their beginning without what was counted before; "+
			"the series start anew", zap.Time("counted_until", copied), zap.Error(damage))
	case damage != nil:
		l.tel.Log.Error("The stored read positions and series are lost. The logs are read as at a first start", zap.Error(damage))
	default:
		return copied, nil
	}
	l.tel.ReceiverZtunnelCheckpointErrors.Add(ctx, 1)
	return copied, nil
}

func (l *live) closeStorage(ctx context.Context) error {
	var errs []error
	for _, client := range [...]storage.Client{l.client, l.copies} {
		if client != nil {
			errs = append(errs, client.Close(ctx))
		}
	}
	return errors.Join(errs...)
}

// timeOf is the boundary that a client has stored, zero if there is none.
func timeOf(ctx context.Context, client storage.Client) (time.Time, error) {
	raw, err := client.Get(ctx, boundaryKey)
	if err != nil || len(raw) != 8 {
		return time.Time{}, err
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(raw))).UTC(), nil
}

func timeValue(at time.Time) []byte { return binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano())) }

func storageClient(ctx context.Context, host component.Host, id, self component.ID, name string) (storage.Client, error) {
	extension, ok := host.GetExtensions()[id]
	if !ok {
		return nil, fmt.Errorf("access_logs::storage: no extension %q", id)
	}
	store, ok := extension.(storage.Extension)
	if !ok {
		return nil, fmt.Errorf("access_logs::storage: extension %q is no storage", id)
	}
	client, err := store.GetClient(ctx, component.KindReceiver, self, name)
	if err != nil {
		return nil, fmt.Errorf("access_logs::storage %q: %w", id, err)
	}
	return client, nil
}

// restore reads the series of before a restart.
func (l *live) restore(ctx context.Context) error {
	err := l.flow.Restore(func(key string) ([]byte, error) { return l.client.Get(ctx, key) })
	if errors.Is(err, flow.ErrCheckpoint) {
		// The files' offsets may still be good, so nothing is counted twice: all series start anew.
		l.tel.ReceiverZtunnelCheckpointErrors.Add(ctx, 1)
		l.tel.Log.Error("The stored series are damaged and start anew", zap.Error(err))
		return nil
	}
	return err
}

// takeCheckpoint takes what makes the state of the series and of the logs permanent, all or nothing; nil if there is nothing new. It is
// called with the lock held, between two polls of the files.
func (l *live) takeCheckpoint(at time.Time) *checkpoint {
	var ops []*storage.Operation
	told := make([]func(bool), 0, len(l.followers))
	for _, follower := range l.followers {
		changes, written, err := follower.Changes()
		if err != nil {
			l.saveFailed(context.Background(), err)
			return nil
		}
		ops, told = append(ops, changes...), append(told, written)
	}
	series := l.flow.Checkpoint()
	// One of the keys is written always; alone it says nothing that would be missed.
	if len(ops) == 0 && len(series) <= 1 && !l.read && !l.unsaved {
		return nil
	}
	for key, value := range series {
		ops = append(ops, storage.SetOperation(key, value))
	}
	ops = append(ops, storage.SetOperation(boundaryKey, timeValue(at)))
	l.read, l.unsaved = false, false
	return &checkpoint{at: at, ops: ops, written: func(ok bool) {
		for _, written := range told {
			written(ok)
		}
		if !ok {
			l.flow.MarkDirty()
		}
	}}
}

// save stores a checkpoint. The lock is not held.
func (l *live) save(ctx context.Context, saved *checkpoint) {
	err := l.client.Batch(ctx, saved.ops...)
	if err == nil {
		err = l.copies.Set(ctx, boundaryKey, timeValue(saved.at))
	}
	l.Lock()
	defer l.Unlock()
	saved.written(err == nil)
	if err != nil {
		l.saveFailed(ctx, err)
		return
	}
	l.tel.ReceiverZtunnelCheckpoints.Add(ctx, 1)
}

// saveFailed counts and tells of a checkpoint that is not in the storage; the lock is held.
func (l *live) saveFailed(ctx context.Context, err error) {
	l.unsaved = true
	l.tel.ReceiverZtunnelCheckpointErrors.Add(ctx, 1)
	l.tel.Warn("The checkpoint cannot be written: after a crash, access-log entries would be read again or be missing", zap.Error(err))
}
