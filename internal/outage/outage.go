// Package outage is the outage as the API serves it and as outage events carry it
// (docs/data-model.md, section 6): the detector writes it, the topology exporter reads it.
package outage

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
)

// Outage is one outage. In Root, Edges, Candidates and Impact a workload is named by its app (canonical service),
// a node by its name and istiod as control_plane istio-system/istiod.
type Outage struct {
	ID         string     `json:"id"`
	State      string     `json:"state"` // open, resolved or stale
	Kind       string     `json:"kind"`
	Severity   string     `json:"severity"` // critical or warning
	Summary    string     `json:"summary"`
	Root       Subject    `json:"root"`
	StartedAt  time.Time  `json:"started_at"`
	DetectedAt time.Time  `json:"detected_at"`
	EndedAt    *time.Time `json:"ended_at,omitempty"`
	// Edges are the edges that fail, most failed first.
	Edges []Edge `json:"edges"`
	// Policy is "namespace/name" of the policy that denies.
	Policy string   `json:"policy,omitempty"`
	Pods   []string `json:"pods,omitempty"` // the pods at fault, where it is not all of the root's
	Findings
}

// Findings are what was found out about an outage.
type Findings struct {
	Candidates []Candidate `json:"candidates"`
	Impact     []Impact    `json:"impact"`
	Evidence   []Evidence  `json:"evidence"`
	// Timeline is what the detector made of it, step by step.
	Timeline []Evidence `json:"timeline,omitempty"`
	TraceIDs []string   `json:"trace_ids,omitempty"`
}

// Subject is what an outage is about.
type Subject struct {
	Type      string `json:"type"` // workload, service, node or control_plane
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Name is a workload by its app.
type Name struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Edge is a failing edge: how many of how many attempts (or requests) failed since the outage began.
type Edge struct {
	Source      Name   `json:"source"`
	Destination Name   `json:"destination"`
	Failed      uint64 `json:"failed"`
	Total       uint64 `json:"total"`
}

// Candidate is an explanation that was weighed; Score lies in [0, 1].
type Candidate struct {
	Subject
	Score  float64 `json:"score"`
	Reason string  `json:"reason,omitempty"`
	// Own is by how much more than usual calls of it fail or take longer, without what Explained is put down to those that it calls.
	Own       *Excess `json:"own,omitempty"`
	Explained *Excess `json:"explained,omitempty"`
}

// Excess is how many more calls than usual fail, and how many seconds more they take, since an outage began.
type Excess struct {
	Failures float64 `json:"failures"`
	Seconds  float64 `json:"seconds"`
}

// Impact is a workload that feels the outage.
type Impact struct {
	Name
	How   string     `json:"how"` // calls (directly) or depends_on (through others)
	Since *time.Time `json:"since,omitempty"`
}

// Evidence is one thing that was seen.
type Evidence struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
	// Source is who told it, such as "ztunnel node-a" or "istiod".
	Source string `json:"source"`
	// Kind says what it is; empty in outages that were stored before evidence had one.
	Kind string `json:"kind,omitempty"`
}

// Kinds of evidence.
const (
	EvidenceChange      = "change"      // the mesh, or what it runs on, was changed
	EvidenceObservation = "observation" // what was seen of the mesh's state or of its telemetry
	EvidenceScrape      = "scrape"      // the result of a scrape
	EvidenceLog         = "log"         // a line of a log
)

// Repeats tells whether other evidence says the same, at whatever time.
func (e Evidence) Repeats(other Evidence) bool {
	return e.Kind == other.Kind && e.Text == other.Text && e.Source == other.Source
}

// PutMap writes the outage as an event's body.
func (o *Outage) PutMap(body pcommon.Map) error {
	if err := putMap(o, body); err != nil {
		return fmt.Errorf("encoding outage %s: %w", o.ID, err)
	}
	return nil
}

// FromBody reads an outage from an event's body.
func FromBody(body pcommon.Value) (*Outage, error) {
	var o Outage
	if err := fromBody(body, &o); err != nil {
		return nil, fmt.Errorf("reading outage: %w", err)
	}
	if o.ID == "" {
		return nil, errors.New("reading outage: no id")
	}
	return &o, nil
}
