package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
)

const truthFile = "truth.json"

// Truth is what is known about a recording.
type Truth struct {
	Scenario struct {
		Name    string     `json:"name"`
		Seconds float64    `json:"seconds"`
		Expect  []Expected `json:"expect"`
	} `json:"scenario"`
	Events []struct {
		Time time.Time `json:"time"`
		Do   string    `json:"do"`
	} `json:"events"`
}

// Expected is an outage that a detector must find.
type Expected struct {
	// Root is "namespace/app", "node/NAME" or "istio-system/istiod".
	Root string `json:"root"`
	Kind string `json:"kind"`
	// FromSeconds and ToSeconds are when the fault began and ended, after the recording's start.
	FromSeconds float64     `json:"from_s"`
	ToSeconds   float64     `json:"to_s"`
	Edges       [][2]string `json:"edges"`
	// WithinSeconds is how soon it must be found; 0 means ten seconds.
	WithinSeconds float64 `json:"within_s"`
}

func readTruth(folder string) (*Truth, error) {
	raw, err := os.ReadFile(filepath.Join(folder, truthFile))
	if err != nil {
		return nil, fmt.Errorf("reading the truth: %w", err)
	}
	var t Truth
	if err := json.Unmarshal(raw, &t); err != nil {
		return nil, fmt.Errorf("reading the truth: %w", err)
	}
	if len(t.Events) == 0 {
		return nil, errors.New("reading the truth: it has no events, so no start")
	}
	return &t, nil
}

func (t *Truth) start() time.Time { return t.Events[0].Time }

func (t *Truth) at(seconds float64) time.Time {
	return t.start().Add(time.Duration(seconds * float64(time.Second)))
}

func (t *Truth) end() time.Time { return t.at(t.Scenario.Seconds) }

// rootText is an outage's root in the truth's way of writing.
func rootText(s outage.Subject) string {
	if s.Type == "node" {
		return "node/" + s.Name
	}
	return s.Namespace + "/" + s.Name
}

func nameText(n outage.Name) string { return n.Namespace + "/" + n.Name }

// sameRoot allows for truths that write the control plane by its type.
func sameRoot(expected string, s outage.Subject) bool {
	return expected == rootText(s) || s.Type == "control_plane" && strings.HasPrefix(expected, "control_plane")
}
