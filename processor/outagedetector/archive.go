package outagedetector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/lifecycle"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
)

const (
	storageKey = "outages"
	saveEvery  = int64(time.Minute)
)

// archive keeps outages over a restart.
type archive struct {
	id        component.ID
	client    storage.Client // nil without a storage extension
	saved     int64
	logger    *zap.Logger
	telemetry *metadata.TelemetryBuilder
}

// open takes up the outages that were saved before a restart.
func (a *archive) open(ctx context.Context, host component.Host, id *component.ID, registry *lifecycle.Registry) error {
	if id == nil {
		return nil
	}
	extension, ok := host.GetExtensions()[*id]
	if !ok {
		return fmt.Errorf("storage extension %q not found", id)
	}
	backend, ok := extension.(storage.Extension)
	if !ok {
		return fmt.Errorf("extension %q does not store anything", id)
	}
	client, err := backend.GetClient(ctx, component.KindProcessor, a.id, "")
	if err != nil {
		return fmt.Errorf("opening storage %q: %w", id, err)
	}
	sealed, damage := journal.Seal(ctx, client)
	a.client = sealed
	if errors.Is(damage, journal.ErrDamaged) {
		a.logger.Error("Saved outages are lost", zap.Error(damage))
		a.telemetry.OutageDetectorStorageFailed.Add(ctx, 1)
		damage = nil
	}
	var saved []byte
	if err = damage; err == nil {
		saved, err = sealed.Get(ctx, storageKey)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("reading saved outages: %w", err), a.release(ctx))
	}
	if saved == nil {
		return nil
	}
	// A state that cannot be read is no reason not to watch over the mesh.
	if err := registry.Load(saved); err != nil {
		a.logger.Error("Saved outages are not taken up", zap.Error(err))
	}
	return nil
}

// save writes the outages down when they changed, and now and then while there are any.
func (a *archive) save(ctx context.Context, registry *lifecycle.Registry, now int64, changed bool) {
	if a.client == nil || !changed && (now-a.saved < saveEvery || len(registry.Open()) == 0) {
		return
	}
	a.saved = now
	encoded, err := registry.Save()
	if err == nil {
		err = a.client.Set(ctx, storageKey, encoded)
	}
	if err != nil {
		a.telemetry.OutageDetectorStorageFailed.Add(ctx, 1)
		a.logger.Error("Outages could not be saved", zap.Error(err))
	}
}

// close saves a last time.
func (a *archive) close(ctx context.Context, registry *lifecycle.Registry, now int64) error {
	a.save(ctx, registry, now, true)
	return a.release(ctx)
}

func (a *archive) release(ctx context.Context) error {
	if a.client == nil {
		return nil
	}
	err := a.client.Close(ctx)
	a.client = nil
	if err != nil {
		return fmt.Errorf("closing storage: %w", err)
	}
	return nil
}
