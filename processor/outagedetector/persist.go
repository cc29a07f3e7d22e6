package outagedetector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
)

const (
	storageKey = "outages"
	saveEvery  = int64(time.Minute)
)

// restore takes up the outages that were saved before a restart.
func (d *detector) restore(ctx context.Context, host component.Host) error {
	if d.cfg.Storage == nil {
		return nil
	}
	extension, ok := host.GetExtensions()[*d.cfg.Storage]
	if !ok {
		return fmt.Errorf("storage extension %q not found", d.cfg.Storage)
	}
	backend, ok := extension.(storage.Extension)
	if !ok {
		return fmt.Errorf("extension %q does not store anything", d.cfg.Storage)
	}
	client, err := backend.GetClient(ctx, component.KindProcessor, d.id, "")
	if err != nil {
		return fmt.Errorf("opening storage %q: %w", d.cfg.Storage, err)
	}
	d.client = client
	saved, err := client.Get(ctx, storageKey)
	if err != nil {
		return errors.Join(fmt.Errorf("reading saved outages: %w", err), d.closeStorage(ctx))
	}
	if saved == nil {
		return nil
	}
	// A state that cannot be read is no reason not to watch over the mesh.
	if err := d.registry.Load(saved); err != nil {
		d.logger.Error("Saved outages are not taken up", zap.Error(err))
	}
	return nil
}

// save writes the outages down when they changed, and now and then while there are any.
func (d *detector) save(ctx context.Context, changed bool) {
	if d.client == nil || !changed && (d.store.Now-d.saved < saveEvery || len(d.registry.Open()) == 0) {
		return
	}
	d.saved = d.store.Now
	encoded, err := d.registry.Save()
	if err == nil {
		err = d.client.Set(ctx, storageKey, encoded)
	}
	if err != nil {
		d.telemetry.OutageDetectorStorageFailed.Add(ctx, 1)
		d.logger.Error("Outages could not be saved", zap.Error(err))
	}
}

func (d *detector) closeStorage(ctx context.Context) error {
	if d.client == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.save(ctx, true)
	err := d.client.Close(ctx)
	d.client = nil
	if err != nil {
		return fmt.Errorf("closing storage: %w", err)
	}
	return nil
}

func sortBudgets(all []budget) {
	slices.SortFunc(all, func(a, b budget) int {
		return cmp.Or(observe.CompareNames(a.name, b.name), cmp.Compare(a.slo, b.slo))
	})
}
