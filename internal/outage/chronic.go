package outage

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Chronic is a chronic condition: an edge of which a part always fails. It is no outage: that part is normal there, and only more of it
// is one.
type Chronic struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Summary string `json:"summary"`
	// Edge counts what failed in the newest WindowSeconds before Updated.
	Edge
	WindowSeconds float64 `json:"window_seconds"`
	// Policy is "namespace/name" of the policy that denies.
	Policy string `json:"policy,omitempty"`
	// Since is since when it is known.
	Since   time.Time `json:"since"`
	Updated time.Time `json:"updated"`
	// EndedAt is when the edge did well again, or was no longer used.
	EndedAt *time.Time `json:"ended_at,omitempty"`
}

// PutMap writes the condition as an event's body.
func (c *Chronic) PutMap(body pcommon.Map) error {
	if err := putMap(c, body); err != nil {
		return fmt.Errorf("encoding chronic condition %s: %w", c.ID, err)
	}
	return nil
}

// ChronicFromBody reads a condition from an event's body.
func ChronicFromBody(body pcommon.Value) (*Chronic, error) {
	var c Chronic
	if err := fromBody(body, &c); err != nil {
		return nil, fmt.Errorf("reading chronic condition: %w", err)
	}
	if c.ID == "" {
		return nil, errors.New("reading chronic condition: no id")
	}
	return &c, nil
}

func putMap(from any, body pcommon.Map) error {
	encoded, err := json.Marshal(from)
	if err != nil {
		return err
	}
	var raw map[string]any
	if err := json.Unmarshal(encoded, &raw); err != nil {
		return err
	}
	return body.FromRaw(raw)
}

func fromBody(body pcommon.Value, into any) error {
	if body.Type() != pcommon.ValueTypeMap {
		return fmt.Errorf("the body is no map but %s", body.Type())
	}
	encoded, err := json.Marshal(body.Map().AsRaw())
	if err != nil {
		return err
	}
	return json.Unmarshal(encoded, into)
}
