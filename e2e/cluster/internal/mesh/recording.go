// Package mesh plays a recording (see recordings/README.md of the repository) as live ztunnels: each node's writes its
// access log in the container runtime's format and serves its metrics, at the recording's pace and with the times of
// now. What was written is counted.
package mesh

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Recording is a recorded or simulated mesh.
type Recording struct {
	Pods     []Pod
	Services []Service
	Actions  []Action
	Expect   []Expectation
	Duration time.Duration
	Nodes    []string

	start time.Time // of the scenario, in the recording's own time
	lines map[string][]line
	polls map[string][]poll
}

// Pod is one pod of the mesh. Its JSON is that of truth.json.
type Pod struct {
	Name, Namespace, SA, IP, Node, App, Version string
	Ready, Mesh                                 bool
	Zone                                        string  `json:"zone"`
	From                                        float64 `json:"from_s"`  // seconds after the start; 0: from the beginning
	Until                                       float64 `json:"until_s"` // 0: to the end
}

// Workload is the name of the Deployment to which the pod belongs.
func (p *Pod) Workload() string { return p.App + "-" + p.Version }

// Service is one Service of the mesh.
type Service struct {
	Name, Namespace, VIP, App, PortName string
	Port                                int32
}

// Action is what happened to the mesh at a time, such as the creation of a policy.
type Action struct {
	At   float64  `json:"at"` // seconds after the start
	Do   string   `json:"do"` // deny, undeny
	Name string   `json:"name"`
	NS   string   `json:"ns"`
	App  string   `json:"app"`
	From []string `json:"from"`
}

// Expectation is an outage that has to be found.
type Expectation struct {
	Root string  `json:"root"`
	Kind string  `json:"kind"`
	From float64 `json:"from_s"`
	To   float64 `json:"to_s"`
}

// line is what a ztunnel printed in one go: an entry, or a part of one that spans several lines.
type line struct {
	at   time.Duration
	text []byte
}

// poll is one answer of /metrics; nil is none.
type poll struct {
	at   time.Duration
	body []byte
}

// Read reads a recording's folder.
func Read(folder string) (*Recording, error) {
	r := &Recording{lines: map[string][]line{}, polls: map[string][]poll{}}
	if err := r.readTruth(filepath.Join(folder, "truth.json")); err != nil {
		return nil, err
	}
	logs, err := filepath.Glob(filepath.Join(folder, "ztunnel-*.log.gz"))
	if err != nil || len(logs) == 0 {
		return nil, fmt.Errorf("%s holds no ztunnel's log (%w)", folder, errors.Join(err))
	}
	for _, path := range logs {
		node := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "ztunnel-"), ".log.gz")
		r.Nodes = append(r.Nodes, node)
		if err := r.readLog(path, node); err != nil {
			return nil, err
		}
		if err := r.readPolls(filepath.Join(folder, "metrics-"+node+".prom.gz"), node); err != nil {
			return nil, err
		}
	}
	sort.Strings(r.Nodes)
	return r, nil
}

func (r *Recording) readTruth(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading a recording: %w", err)
	}
	var truth struct {
		Scenario struct {
			Seconds float64
			Actions []Action
			Expect  []Expectation
		}
		Events []struct {
			Time time.Time
			Do   string
		}
		Pods     []Pod
		Services []Service
	}
	if err := json.Unmarshal(content, &truth); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	r.Pods, r.Services = truth.Pods, truth.Services
	r.Actions, r.Expect = truth.Scenario.Actions, truth.Scenario.Expect
	r.Duration = time.Duration(truth.Scenario.Seconds * float64(time.Second))
	for _, event := range truth.Events {
		if event.Do == "start" {
			r.start = event.Time
		}
	}
	if r.start.IsZero() {
		return fmt.Errorf("%s does not say when the recording starts", path)
	}
	return nil
}

func (r *Recording) readLog(path, node string) error {
	var at time.Duration
	return eachLine(path, func(text []byte) error {
		if stamp, _, _, ok := entryTime(text); ok {
			at = stamp.Sub(r.start)
		}
		r.lines[node] = append(r.lines[node], line{at, bytes.Clone(text)})
		return nil
	})
}

func (r *Recording) readPolls(path, node string) error {
	var body *poll
	return eachLine(path, func(text []byte) error {
		mark, ok := bytes.CutPrefix(text, []byte("## scrape "))
		if !ok {
			if body != nil {
				body.body = append(append(body.body, text...), '\n')
			}
			return nil
		}
		stamp, result, _ := strings.Cut(string(mark), " ")
		when, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
		r.polls[node] = append(r.polls[node], poll{at: when.Sub(r.start)})
		body = nil
		if result == "ok" {
			body = &r.polls[node][len(r.polls[node])-1]
		}
		return nil
	})
}

func eachLine(path string, handle func([]byte) error) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("reading a recording: %w", err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", path, err)
	}
	lines := bufio.NewReaderSize(unpacked, 1<<20)
	for {
		text, err := lines.ReadBytes('\n')
		if len(text) > 0 {
			if err := handle(bytes.TrimSuffix(text, []byte("\n"))); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
}

// entryTime finds the time with which an entry begins and where it stands in the text; a continuation has none.
func entryTime(text []byte) (stamp time.Time, from, to int, ok bool) {
	from = 0
	end := bytes.IndexByte(text, '\t')
	if bytes.HasPrefix(text, []byte("{")) {
		const name = `"time":"`
		from = bytes.Index(text, []byte(name))
		if from < 0 {
			return time.Time{}, 0, 0, false
		}
		from += len(name)
		end = bytes.IndexByte(text[from:], '"') + from
	}
	if end <= from {
		return time.Time{}, 0, 0, false
	}
	stamp, err := time.Parse(time.RFC3339Nano, string(text[from:end]))
	return stamp, from, end, err == nil
}
