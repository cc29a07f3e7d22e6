package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestDemoHasRequestsInEveryRound plays the demo's recording twice: spans of the second round are not those of the first.
func TestDemoHasRequestsInEveryRound(t *testing.T) {
	recording, err := filepath.Abs(filepath.Join(root, "recordings", "policy-deny"))
	require.NoError(t, err)
	c := startCollector(t, options{config: "demo.yaml", env: map[string]string{
		"NEPHILIA_RECORDING": recording, "NEPHILIA_REPLAY_SPEED": "50",
	}})
	var status struct {
		Replay struct {
			State           string
			Position, Start time.Time
		}
	}
	// The recording takes a little more than three minutes.
	const round = 3 * time.Minute
	require.Eventually(t, func() bool {
		return c.tryGet("/api/v1/status", nil, &status) == nil && !status.Replay.Start.IsZero() &&
			status.Replay.Position.Sub(status.Replay.Start) > 2*round+30*time.Second
	}, 2*time.Minute, 50*time.Millisecond, "two rounds are played")
	require.Equal(t, "running", status.Replay.State)
	requests := func(from, to time.Duration) (total float64) {
		for _, edge := range c.graph(t, status.Replay.Start.Add(from), status.Replay.Start.Add(to)).Edges {
			total += edge.Requests.Total
		}
		return total
	}
	first := requests(0, round)
	second := requests(round+10*time.Second, 2*round+10*time.Second)
	assert.Greater(t, first, 1000.0)
	assert.InEpsilon(t, first, second, 0.2, "the second round has as many requests as the first")
}
