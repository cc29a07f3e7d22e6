package tail

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// fileState is a file's unfinished entry as it is stored.
type fileState struct {
	Node  string `json:"node"`
	CRI   bool   `json:"cri,omitempty"`
	Parts []byte `json:"parts,omitempty"`
	Held  []byte `json:"held,omitempty"`
	Over  bool   `json:"over,omitempty"`
}

type tailState struct {
	NextID uint64               `json:"next_id"`
	Files  map[string]fileState `json:"files,omitempty"`
}

// noParts is the state of an unwrapper that waits for nothing.
var noParts = accesslog.NewUnwrapper(accesslog.Style{}, 0).AppendState(nil)

func (f *file) state() fileState {
	state := fileState{Node: f.node, CRI: f.unwrapper.Wrapped(), Held: f.splitter.AppendState(nil), Over: f.over}
	if parts := f.unwrapper.AppendState(nil); !bytes.Equal(parts, noParts) {
		state.Parts = parts
	}
	return state
}

func (t *Tail) state() ([]byte, error) {
	state := tailState{NextID: t.nextID, Files: map[string]fileState{}}
	for id, f := range t.files {
		if f.open() {
			state.Files[id] = f.state()
		}
	}
	encoded, err := json.Marshal(state)
	if err != nil {
		return nil, fmt.Errorf("encoding unfinished entries: %w", err)
	}
	return encoded, nil
}

// restore reads the unfinished entries; known tells that there was a start before this one.
func (t *Tail) restore(ctx context.Context) (known bool, err error) {
	if t.store == nil {
		return false, nil
	}
	encoded, err := t.store.Get(ctx, stateKey)
	if err != nil {
		return false, fmt.Errorf("reading unfinished entries: %w", err)
	}
	if encoded == nil {
		return false, nil
	}
	var state tailState
	if err := json.Unmarshal(encoded, &state); err != nil {
		return false, fmt.Errorf("reading unfinished entries: %w", err)
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	t.stored = encoded
	t.nextID = state.NextID
	for id, held := range state.Files {
		if len(t.files) == maxFiles {
			break
		}
		f := t.newFile(held.Node)
		f.unwrapper.SetWrapped(held.CRI)
		f.splitter.SetState(held.Held)
		f.over = held.Over
		if len(held.Parts) > 0 {
			if err := f.unwrapper.SetState(held.Parts); err != nil {
				return false, fmt.Errorf("reading unfinished entries: %w", err)
			}
		}
		t.files[id] = f
	}
	return true, nil
}
