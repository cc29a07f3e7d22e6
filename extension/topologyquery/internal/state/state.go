// Package state keeps on disk what is not in the history's series: the mesh, the outages, the changes and the data's clock, so that
// they are served again after a restart. It keeps a journal: what changes is appended.
package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/stores"
	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

// folder holds the journal.
const folder = "state"

// maxRecord bounds one entity, outage or change in bytes.
const maxRecord = 16 << 20

// What a record is.
const (
	recordClock = iota + 1
	recordEntity
	recordOutage
	recordChange
)

// Clock is the data's clock, in unix milliseconds.
type Clock struct{ First, Now int64 }

// Keeper records what happens to the stores. Its methods may be called from several goroutines.
type Keeper struct {
	stores *stores.Stores
	// former is the file in which the state was kept before there was a journal; it goes once there is one.
	former string

	mu      sync.Mutex
	journal *journal.Journal
	pending bool
	saving  sync.Mutex
}

// Open puts what was kept in a directory into the stores and returns the clock of it. An error that wraps journal.ErrDamaged or
// ErrFormer leaves a keeper that can be used: what could be read is in the stores.
func Open(ctx context.Context, directory string, all *stores.Stores) (*Keeper, Clock, error) {
	files, err := journal.OpenDirectory(filepath.Join(directory, folder))
	if err != nil {
		return nil, Clock{}, fmt.Errorf("opening the mesh's state: %w", err)
	}
	k := &Keeper{stores: all, former: filepath.Join(directory, formerFile)}
	var clock Clock
	k.journal, err = journal.Open(ctx, files, func(text string) string { return text })
	switch {
	case k.journal == nil:
		return nil, Clock{}, fmt.Errorf("opening the mesh's state: %w", err)
	case err != nil:
	case k.journal.Anew():
		clock, err = k.readFormer()
	default:
		err = k.journal.Replay(ctx, func(kind uint64, c *journal.Coder) { k.read(kind, c, &clock) })
	}
	if err != nil {
		return k, clock, fmt.Errorf("reading the mesh's state: %w", err)
	}
	return k, clock, nil
}

var errKind = errors.New("unknown kind of record")

// read takes one record over.
func (k *Keeper) read(kind uint64, c *journal.Coder, clock *Clock) {
	var at int64
	var body []byte
	switch kind {
	case recordClock:
		c.Int(&clock.First)
		c.Int(&clock.Now)
	case recordEntity:
		var entity string
		var event mesh.Event
		c.Text(&entity)
		c.Bool(&event.Deleted)
		c.Int(&at)
		c.Bytes(&body, maxRecord)
		event.Time, event.Entity = pcommon.Timestamp(at), mesh.NewEntity(mesh.EntityType(entity))
		if event.Entity == nil {
			c.Fail(errKind)
			return
		}
		if decode(c, body, event.Entity) {
			k.stores.Inventory.Apply(event)
		}
	case recordOutage:
		o := &outage.Outage{}
		c.Int(&at)
		c.Bytes(&body, maxRecord)
		if decode(c, body, o) && o.ID != "" {
			k.stores.Outages.Restore(o, at)
		}
	case recordChange:
		var change changes.Change
		c.Bytes(&body, maxRecord)
		if decode(c, body, &change) && change.Kind != "" && change.Name != "" {
			k.stores.Changes.Add(change)
		}
	default:
		c.Fail(errKind)
	}
}

func decode(c *journal.Coder, body []byte, into any) bool {
	if len(body) == 0 {
		return false // the coder has failed
	}
	if err := json.Unmarshal(body, into); err != nil {
		c.Fail(err)
		return false
	}
	return true
}

// Entity records an event of the mesh.
func (k *Keeper) Entity(event mesh.Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.entity(event)
}

func (k *Keeper) entity(event mesh.Event) {
	k.record(recordEntity, event.Entity, func(c *journal.Coder) {
		entity, at := string(event.Entity.Type()), int64(event.Time)
		c.Text(&entity)
		c.Bool(&event.Deleted)
		c.Int(&at)
	})
}

// Outage records an outage's state at a time in unix milliseconds.
func (k *Keeper) Outage(o *outage.Outage, at int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.outage(o, at)
}

func (k *Keeper) outage(o *outage.Outage, at int64) {
	k.record(recordOutage, o, func(c *journal.Coder) { c.Int(&at) })
}

// Change records a change.
func (k *Keeper) Change(change changes.Change) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.change(change)
}

func (k *Keeper) change(change changes.Change) {
	k.record(recordChange, change, func(*journal.Coder) {})
}

// record writes a record: its head, then its body as JSON.
func (k *Keeper) record(kind uint64, body any, head func(*journal.Coder)) {
	encoded, err := json.Marshal(body)
	if err != nil || len(encoded) > maxRecord {
		return // what came in as JSON goes out as JSON, and receivers bound it
	}
	c := k.journal.Record(kind)
	head(c)
	c.Bytes(&encoded, maxRecord)
	k.pending = true
}

// Save writes to disk what was recorded, if anything was.
func (k *Keeper) Save(ctx context.Context) error {
	k.saving.Lock()
	defer k.saving.Unlock()
	batch := k.take()
	if batch.Empty() {
		return nil
	}
	if err := k.journal.Commit(ctx, batch); err != nil {
		return fmt.Errorf("saving the mesh's state: %w", err)
	}
	if k.former != "" {
		if err := os.Remove(k.former); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing the mesh's former state: %w", err)
		}
		k.former = ""
	}
	return nil
}

func (k *Keeper) take() journal.Batch {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.journal.Anew() {
		k.journal.Restart()
		k.stores.Inventory.Events(k.entity)
		k.stores.Outages.Each(k.outage)
		for _, change := range k.stores.Changes.Snapshot() {
			k.change(change)
		}
		k.pending = true
	}
	if !k.pending {
		return journal.Batch{}
	}
	k.pending = false
	first, now := k.stores.Sources.Clock()
	c := k.journal.Record(recordClock)
	c.Int(&first)
	c.Int(&now)
	return k.journal.Take()
}
