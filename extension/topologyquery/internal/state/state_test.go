package state

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/internal/mesh"
)

func TestSaveAndLoad(t *testing.T) {
	directory := t.TempDir()
	none, err := Load(directory)
	require.NoError(t, err)
	assert.Nil(t, none)
	want := &State{First: 1, Clock: 2, Mesh: inventory.Snapshot{Workloads: []*mesh.Workload{{UID: "a", Name: "b", Services: map[string][]mesh.Port{"x/y": {{ServicePort: 1}}}}}}}
	for range 2 {
		require.NoError(t, Save(directory, want))
	}
	got, err := Load(directory)
	require.NoError(t, err)
	assert.Equal(t, want, got)
	files, err := os.ReadDir(directory)
	require.NoError(t, err)
	assert.Len(t, files, 1, "nothing is left over")
	require.Error(t, Save(filepath.Join(directory, "none"), want))
}

func TestBrokenFiles(t *testing.T) {
	for name, content := range map[string]string{"empty": "", "not compressed": "{}", "cut": "\x1f\x8b\x08\x00"} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(directory, fileName), []byte(content), 0o600))
			_, err := Load(directory)
			require.Error(t, err)
		})
	}
}
