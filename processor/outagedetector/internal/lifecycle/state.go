package lifecycle

import (
	"encoding/json"
	"fmt"
)

// stateVersion is raised when a saved state can no longer be read.
const stateVersion = 1

type state struct {
	Version     int
	Open, Ended []*entry
}

// Save encodes the registry.
func (r *Registry) Save() ([]byte, error) {
	encoded, err := json.Marshal(state{Version: stateVersion, Open: r.open, Ended: r.ended})
	if err != nil {
		return nil, fmt.Errorf("encoding outages: %w", err)
	}
	return encoded, nil
}

// Load takes over a saved registry. One of another version is passed over.
func (r *Registry) Load(encoded []byte) error {
	var s state
	if err := json.Unmarshal(encoded, &s); err != nil {
		return fmt.Errorf("decoding outages: %w", err)
	}
	if s.Version != stateVersion {
		return nil
	}
	r.store.Resumed = true
	r.open, r.ended = s.Open, s.Ended
	for _, o := range r.open {
		o.restored = -1
		if o.Edges == nil {
			o.Edges = map[string]*tally{}
		}
	}
	return nil
}

// begun marks from when on restored outages wait for a sign.
func (r *Registry) begun(now int64) {
	for _, o := range r.open {
		if o.restored < 0 {
			o.restored = now
		}
	}
}
