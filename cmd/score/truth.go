package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

	Incident

	// scrapes is the distance of two scrapes, 0 if there are none.
	scrapes time.Duration
}

// Expected is an outage that a detector must find.
type Expected struct {
	// Root is "namespace/app", "node/NAME" or "istio-system/istiod"; Roots are several where each of them is right.
	Root  string   `json:"root"`
	Roots []string `json:"roots"`
	// Kind is one or several that are right, separated by "|".
	Kind string `json:"kind"`
	// Optional tells that the outage may be found and need not be.
	Optional bool `json:"optional"`
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
	if len(t.Events) == 0 && t.QuietHours == 0 {
		return nil, errors.New("reading the truth: it has no events, so no start")
	}
	if t.scrapes, err = scrapeInterval(folder); err != nil {
		return nil, fmt.Errorf("reading the scrapes: %w", err)
	}
	return &t, nil
}

// scrapeInterval is the distance of the first two scrapes of a recording's first ztunnel, 0 if there are no two.
func scrapeInterval(folder string) (_ time.Duration, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "metrics-*.prom*"))
	if err != nil || len(files) == 0 {
		return 0, err
	}
	file, err := os.Open(files[0])
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var text io.Reader = file
	if strings.HasSuffix(files[0], ".gz") {
		if text, err = gzip.NewReader(file); err != nil {
			return 0, err
		}
	}
	var first time.Time
	for lines := bufio.NewScanner(text); lines.Scan(); {
		head, ok := strings.CutPrefix(lines.Text(), "## scrape ")
		if !ok {
			continue
		}
		stamp, _, _ := strings.Cut(head, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			return 0, err
		}
		if !first.IsZero() {
			return at.Sub(first), nil
		}
		first = at
	}
	return 0, nil
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
	return nameText(outage.Name{Namespace: s.Namespace, Name: s.Name})
}

// nameText is a name as truths have it: what is outside the mesh has no namespace.
func nameText(n outage.Name) string {
	if n.Namespace == "" {
		return n.Name
	}
	return n.Namespace + "/" + n.Name
}

// hasRoot tells whether a root is right. Truths may write the control plane by its type.
func (e *Expected) hasRoot(s outage.Subject) bool {
	return e.Root == rootText(s) || slices.Contains(e.Roots, rootText(s)) || s.Type == "control_plane" && strings.HasPrefix(e.Root, "control_plane")
}

func (e *Expected) hasKind(kind string) bool {
	return slices.Contains(strings.Split(e.Kind, "|"), kind)
}
