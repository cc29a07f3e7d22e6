// Package state keeps on disk what is not in the history's series: the mesh, the outages, the changes and the data's clock, so that
// they are served again after a restart.
package state

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/outages"
)

const (
	fileName = "state.json.gz"
	format   = 1
	// maxSize bounds what is read back.
	maxSize = 1 << 30
)

// State is what is kept.
type State struct {
	Format int `json:"format"`
	// First and Clock are the data's clock in unix milliseconds.
	First int64 `json:"first"`
	Clock int64 `json:"clock"`

	Mesh    inventory.Snapshot `json:"mesh"`
	Outages outages.Snapshot   `json:"outages"`
	Changes []changes.Change   `json:"changes"`
}

// Save writes the state to a directory: whole, or not at all.
func Save(directory string, s *State) (err error) {
	s.Format = format
	file, err := os.CreateTemp(directory, fileName+".*")
	if err != nil {
		return fmt.Errorf("saving the mesh's state: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	compressed := gzip.NewWriter(file)
	if err := json.NewEncoder(compressed).Encode(s); err != nil {
		return fmt.Errorf("saving the mesh's state: %w", err)
	}
	if err := errors.Join(compressed.Close(), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("saving the mesh's state: %w", err)
	}
	if err := os.Rename(file.Name(), filepath.Join(directory, fileName)); err != nil {
		return fmt.Errorf("saving the mesh's state: %w", err)
	}
	return nil
}

// Load reads the state from a directory; nil if there is none.
func Load(directory string) (*State, error) {
	file, err := os.Open(filepath.Join(directory, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the mesh's state: %w", err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("reading the mesh's state: %w", err)
	}
	var s State
	if err := json.NewDecoder(io.LimitReader(plain, maxSize)).Decode(&s); err != nil {
		return nil, fmt.Errorf("reading the mesh's state: %w", err)
	}
	if s.Format != format {
		return nil, fmt.Errorf("reading the mesh's state: it has format %d, not %d", s.Format, format)
	}
	return &s, nil
}
