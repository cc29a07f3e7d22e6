package main

import (
	"encoding/json"
	"flag"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var replaySpeed = flag.String("replay-speed", "600", "the speed whose outages must be those of max")

// TestSpeeds holds a recording's outages, and every event that tells of them, to be the same at any speed, byte for byte.
func TestSpeeds(t *testing.T) {
	folders, err := recordings(realRecordings)
	require.NoError(t, err)
	for _, folder := range folders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			t.Parallel()
			want := everything(t, folder, "max")
			assert.Equal(t, want, everything(t, folder, *replaySpeed))
		})
	}
}

// everything is all that a replay tells of outages, in its order.
func everything(t *testing.T, folder, speed string) string {
	t.Helper()
	f, err := play(t.Context(), folder, speed)
	require.NoError(t, err)
	type event struct {
		Transition string
		Outage     any
	}
	var events []event
	for _, told := range f.transitions {
		events = append(events, event{told.name, told.outage})
	}
	encoded, err := json.MarshalIndent(events, "", " ")
	require.NoError(t, err)
	return string(encoded)
}
