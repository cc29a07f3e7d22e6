package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestQuietWaypoint replays a minute of real waypoints in which every request was answered. ztunnel logs and counts each
// connection that the waypoint closes first as failed; that is nobody's outage, whichever of the sources is missing.
func TestQuietWaypoint(t *testing.T) {
	for _, test := range []struct {
		name string
		lack []string
	}{
		{name: "all sources"},
		{name: "no spans", lack: []string{"otlp-"}},
		{name: "no log", lack: []string{"ztunnel-"}},
		{name: "no log and no spans", lack: []string{"ztunnel-", "otlp-"}},
		{name: "no counters", lack: []string{"metrics-"}},
		{name: "counters alone", lack: []string{"ztunnel-", "otlp-", "config_dump-", "xds"}},
		{name: "log alone", lack: []string{"metrics-", "otlp-", "config_dump-"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const recording = "testdata/wp-quiet"
			files, err := os.ReadDir(recording)
			require.NoError(t, err)
			folder := t.TempDir()
			for _, file := range files {
				if slices.ContainsFunc(test.lack, func(prefix string) bool { return strings.HasPrefix(file.Name(), prefix) }) {
					continue
				}
				content, err := os.ReadFile(filepath.Join(recording, file.Name()))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(folder, file.Name()), content, 0o600))
			}
			found, err := play(t.Context(), folder, "max")
			require.NoError(t, err)
			for _, told := range found.transitions {
				assert.Fail(t, told.outage.Summary)
			}
		})
	}
}
