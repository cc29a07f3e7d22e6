package cnilog

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMessagesAreTheAgents holds the messages that are looked for to those in the agent's source.
func TestMessagesAreTheAgents(t *testing.T) {
	raw, err := os.ReadFile("testdata/messages.tsv")
	require.NoError(t, err)
	lines := strings.Split(string(raw), "\n")
	for _, begins := range slices.Concat(failed[:], tried[:], removed[:]) {
		assert.True(t, slices.ContainsFunc(lines, func(line string) bool {
			_, text, _ := strings.Cut(line, "\t")
			return strings.HasPrefix(text, begins)
		}), begins)
	}
}
