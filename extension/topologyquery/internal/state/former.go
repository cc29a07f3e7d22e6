package state

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

const (
	formerFile   = "state.json.gz"
	formerFormat = 1
	// maxFormer bounds what is read back.
	maxFormer = 1 << 30
)

// ErrFormer is wrapped by every error that the former file is to blame for.
var ErrFormer = errors.New("damaged " + formerFile)

// former is what was kept before there was a journal.
type former struct {
	Format int   `json:"format"`
	First  int64 `json:"first"`
	Clock  int64 `json:"clock"`

	Mesh struct {
		Workloads    []*mesh.Workload `json:"workloads"`
		Gone         []*mesh.Workload `json:"gone"`
		Services     []*mesh.Service  `json:"services"`
		Policies     []*mesh.Policy   `json:"policies"`
		GonePolicies []*mesh.Policy   `json:"gone_policies"`
		Ztunnels     []*mesh.Ztunnel  `json:"ztunnels"`
	} `json:"mesh"`
	Outages []struct {
		Outage  *outage.Outage `json:"outage"`
		Updated int64          `json:"updated"`
	} `json:"outages"`
	Changes []changes.Change `json:"changes"`
}

// readFormer puts the content of the former file, if there is one, into the stores.
func (k *Keeper) readFormer() (Clock, error) {
	file, err := os.Open(k.former)
	if errors.Is(err, fs.ErrNotExist) {
		return Clock{}, nil
	}
	if err != nil {
		return Clock{}, err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return Clock{}, fmt.Errorf("%w: %w", ErrFormer, err)
	}
	var s former
	if err := json.NewDecoder(io.LimitReader(plain, maxFormer)).Decode(&s); err != nil {
		return Clock{}, fmt.Errorf("%w: %w", ErrFormer, err)
	}
	if s.Format != formerFormat {
		return Clock{}, fmt.Errorf("%w: it has format %d, not %d", ErrFormer, s.Format, formerFormat)
	}
	apply(k, s.Mesh.Gone, true)
	apply(k, s.Mesh.GonePolicies, true)
	apply(k, s.Mesh.Workloads, false)
	apply(k, s.Mesh.Services, false)
	apply(k, s.Mesh.Policies, false)
	apply(k, s.Mesh.Ztunnels, false)
	for _, o := range s.Outages {
		if o.Outage != nil && o.Outage.ID != "" {
			k.stores.Outages.Restore(o.Outage, o.Updated)
		}
	}
	for _, c := range s.Changes {
		if c.Kind != "" && c.Name != "" {
			k.stores.Changes.Add(c)
		}
	}
	return Clock{s.First, s.Clock}, nil
}

// apply lets entities come, and go again where gone.
func apply[E interface {
	comparable
	mesh.Entity
}](k *Keeper, list []E, gone bool) {
	var none E
	for _, entity := range list {
		if entity == none {
			continue
		}
		k.stores.Inventory.Apply(mesh.Event{Entity: entity})
		if gone {
			k.stores.Inventory.Apply(mesh.Event{Entity: entity, Deleted: true})
		}
	}
}
