package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// caseExpectation is what the API has to say after a case, which is a recording of something that was seen in a mesh.
// Names are "namespace/name" of a workload or its app, "/name" of what has no namespace. Names, kinds, problems and texts may be
// alternatives, a|b, and have *. A number is exact or [least, most].
type caseExpectation struct {
	About  string
	Mode   string   // "tail": the log is one that is tailed
	After  []string // cases that are replayed before into the same data folder
	Edges  []expectedEdge
	Absent []string // nodes that are not there
	// OnlyEdges and NoOtherOutages tell that there is nothing but what is named.
	OnlyEdges      bool `json:"only_edges"`
	Outages        []expectedOutage
	NoOtherOutages bool              `json:"no_other_outages"`
	Sources        *[]expectedSource // such have that problem, and no other has any
	Paths          []map[string]any  // get, jsonpath and one of equals, contains, not_contains, min, max
	OneOf          []caseExpectation `json:"one_of"`
}

type expectedEdge struct {
	Source, Destination, Service     string
	Closed, Failed, Requests, Errors any
	Failures                         map[string]any
}

type expectedOutage struct {
	Kind, Root, Policy, Evidence string
	Edges                        [][2]string
	Optional                     bool
}

type expectedSource struct{ Source, Node, Problem string }

// TestCases replays what people who run ambient meshes reported, each as small as it goes.
func TestCases(t *testing.T) {
	folders, err := filepath.Glob("testdata/cases/*/expect.json")
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	for i, file := range folders {
		if testing.Short() && i%6 != 0 {
			continue // The race detector is a dozen times slower, and some show it what all would.
		}
		folder := filepath.Dir(file)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			require.NoError(t, err)
			var want caseExpectation
			require.NoError(t, json.Unmarshal(raw, &want))
			data := t.TempDir()
			for _, before := range want.After {
				t.Run("before", func(t *testing.T) { replayCase(t, filepath.Join(folder, before), data, "") })
			}
			c := replayCase(t, folder, data, want.Mode)
			assert.Empty(t, want.differences(t, c), want.About)
		})
	}
}

func replayCase(t *testing.T, folder, data, mode string) *collector {
	recording := folder
	if mode == "tail" {
		recording = t.TempDir()
		logs, err := filepath.Glob(filepath.Join(folder, "*.log*"))
		require.NoError(t, err)
		for _, log := range logs {
			raw, err := os.ReadFile(log)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(recording, "ztunnel-n1.log"+filepath.Ext(strings.TrimSuffix(log, ".log"))), raw, 0o600))
		}
	}
	c := startCollector(t, options{
		config: "replay.yaml",
		env:    map[string]string{"NEPHILIA_RECORDING": recording, "NEPHILIA_REPLAY_SPEED": "max", "NEPHILIA_DATA": data},
	})
	c.awaitReplay(t, 3*time.Minute)
	return c
}

// matches tells whether one of the names is one of the alternatives.
func matches(pattern string, names ...string) bool {
	for _, alternative := range strings.Split(pattern, "|") {
		for _, name := range names {
			// A path's * ends at a slash, a name's does not.
			flat := strings.NewReplacer("/", "\x01")
			if ok, _ := path.Match(flat.Replace(alternative), flat.Replace(name)); ok || alternative == "" {
				return true
			}
		}
	}
	return false
}

func has(texts []string, pattern string) bool {
	return slices.ContainsFunc(strings.Split(strings.ToLower(pattern), "|"), func(part string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), part) })
	})
}

func isNumber(want any, got float64) bool {
	if bounds, ok := want.([]any); ok {
		return bounds[0].(float64) <= got && got <= bounds[1].(float64)
	}
	return want.(float64) == got
}

// differences are what is not as expected, a line each.
func (want *caseExpectation) differences(t *testing.T, c *collector) []string {
	found := slices.Concat(want.inGraph(t, c), want.inOutages(t, c), want.inSources(t, c))
	for _, one := range want.Paths {
		found = append(found, atPath(t, c, one)...)
	}
	var parts []string
	for i := range want.OneOf {
		part := want.OneOf[i].differences(t, c)
		if len(part) == 0 {
			return found
		}
		parts = append(parts, strings.Join(part, "; "))
	}
	if len(parts) > 0 {
		found = append(found, "none of: "+strings.Join(parts, " / "))
	}
	return found
}

func (want *caseExpectation) inGraph(t *testing.T, c *collector) (found []string) {
	var graph struct {
		Nodes []struct{ ID, Namespace, Name, App string }
		Edges []struct {
			Source, Destination, Service string
			Connections                  struct{ Opened, Closed, Failed float64 }
			Failures                     map[string]float64
			Requests                     struct{ Total, Errors float64 }
		}
	}
	c.get(t, "/api/v1/graph", url.Values{"group_by": {"workload"}}, &graph)
	names := map[string][2]string{}
	for _, n := range graph.Nodes {
		names[n.ID] = [2]string{n.Namespace + "/" + n.Name, n.Namespace + "/" + n.App}
		for _, absent := range want.Absent {
			if matches(absent, n.Namespace+"/"+n.Name) {
				found = append(found, fmt.Sprintf("node %s/%s should not be", n.Namespace, n.Name))
			}
		}
	}
	known := map[int]bool{}
	for _, one := range want.Edges {
		sums := map[string]float64{}
		for i, e := range graph.Edges {
			from, to := names[e.Source], names[e.Destination]
			if !matches(one.Source, from[:]...) || !matches(one.Destination, to[:]...) || one.Service != "" && !matches(one.Service, e.Service) {
				continue
			}
			known[i] = true
			sums["closed"] += e.Connections.Closed
			sums["failed"] += e.Connections.Failed
			sums["requests"] += e.Requests.Total
			sums["errors"] += e.Requests.Errors
			for reason := range one.Failures {
				for name, n := range e.Failures {
					if matches(reason, name) {
						sums[reason] += n
					}
				}
			}
		}
		wanted := map[string]any{"closed": one.Closed, "failed": one.Failed, "requests": one.Requests, "errors": one.Errors}
		maps.Copy(wanted, one.Failures)
		for what, n := range wanted {
			if n != nil && !isNumber(n, sums[what]) {
				found = append(found, fmt.Sprintf("%s -> %s: %s %v, not %v", one.Source, one.Destination, what, sums[what], n))
			}
		}
	}
	for i, e := range graph.Edges {
		if want.OnlyEdges && !known[i] && e.Connections.Opened+e.Connections.Closed+e.Connections.Failed+e.Requests.Total > 0 {
			found = append(found, fmt.Sprintf("%s -> %s, %v closed: should not be", names[e.Source][0], names[e.Destination][0], e.Connections.Closed))
		}
	}
	return found
}

type outageName struct{ Type, Namespace, Name string }

func (n outageName) String() string {
	switch n.Type {
	case "node":
		return "node/" + n.Name
	case "control_plane":
		return "control_plane/" + n.Namespace + "/" + n.Name
	}
	return n.Namespace + "/" + n.Name
}

func (want *caseExpectation) inOutages(t *testing.T, c *collector) (found []string) {
	var all struct {
		Outages []struct {
			Kind, Policy, Summary string
			Root                  outageName
			Evidence              []struct{ Text string }
			Edges                 []struct{ Source, Destination outageName }
		}
	}
	c.get(t, "/api/v1/outages", nil, &all)
	known := map[int]bool{}
	for _, one := range want.Outages {
		told := one.Optional
		for i, o := range all.Outages {
			if !matches(one.Kind, o.Kind) || !matches(one.Root, o.Root.String()) || !matches(one.Policy, o.Policy) {
				continue
			}
			known[i] = true
			var texts []string
			for _, e := range o.Evidence {
				texts = append(texts, e.Text)
			}
			edges := true
			for _, pair := range one.Edges {
				edges = edges && slices.ContainsFunc(o.Edges, func(e struct{ Source, Destination outageName }) bool {
					return matches(pair[0], e.Source.String()) && matches(pair[1], e.Destination.String())
				})
			}
			told = told || edges && (one.Evidence == "" || has(texts, one.Evidence))
		}
		if !told {
			found = append(found, fmt.Sprintf("outage %+v is missing", one))
		}
	}
	for i, o := range all.Outages {
		if want.NoOtherOutages && !known[i] {
			found = append(found, fmt.Sprintf("outage %s of %s should not be: %s", o.Kind, o.Root, o.Summary))
		}
	}
	return found
}

func (want *caseExpectation) inSources(t *testing.T, c *collector) (found []string) {
	if want.Sources == nil {
		return nil
	}
	var status struct {
		Sources []struct{ Source, Node, Problem, Detail string }
	}
	c.get(t, "/api/v1/status", nil, &status)
	known := map[int]bool{}
	for _, one := range *want.Sources {
		some := false
		for i, s := range status.Sources {
			if !matches(one.Source, s.Source) || !matches(one.Node, s.Node) {
				continue
			}
			some, known[i] = true, true
			if !matches(one.Problem, s.Problem) || s.Detail == "" {
				found = append(found, fmt.Sprintf("source %+v is %+v", one, s))
			}
		}
		if !some {
			found = append(found, fmt.Sprintf("source %+v is missing", one))
		}
	}
	for i, s := range status.Sources {
		if !known[i] && s.Problem != "" {
			found = append(found, fmt.Sprintf("source %+v should have no problem", s))
		}
	}
	return found
}

// atPath holds what stands at a path of an answer to an caseExpectation. Between the path's dots stand keys, * for all items, # for their
// number, and key=value (&key=value) for the items that have it.
func atPath(t *testing.T, c *collector, want map[string]any) []string {
	var answer any
	where, query, _ := strings.Cut(want["get"].(string), "?")
	values, err := url.ParseQuery(query)
	require.NoError(t, err)
	if err := c.tryGet(where, values, &answer); err != nil {
		return []string{err.Error()}
	}
	at := []any{answer}
	for _, step := range strings.Split(want["jsonpath"].(string), ".") {
		if step == "" {
			continue
		}
		var next []any
		for _, v := range at {
			items, _ := v.([]any)
			fields, _ := v.(map[string]any)
			switch {
			case step == "#":
				next = append(next, float64(len(items)))
			case step == "*" || strings.Contains(step, "="):
				for _, item := range items {
					if step == "*" || fits(item, step) {
						next = append(next, item)
					}
				}
			default:
				if field, ok := fields[step]; ok {
					next = append(next, field)
				}
			}
		}
		at = next
	}
	var texts []string
	right := true
	for _, v := range at {
		text, ok := v.(string)
		if !ok {
			encoded, _ := json.Marshal(v)
			text = string(encoded)
		}
		texts = append(texts, text)
		if least, ok := want["min"].(float64); ok {
			n, isNumber := v.(float64)
			right = right && isNumber && n >= least
		}
		if most, ok := want["max"].(float64); ok {
			n, isNumber := v.(float64)
			right = right && (!isNumber || n <= most)
		}
	}
	if _, ok := want["min"]; ok {
		right = right && len(at) > 0
	}
	if equals, ok := want["equals"]; ok {
		list, several := equals.([]any)
		if !several {
			list = []any{equals}
		}
		var wanted []string
		for _, one := range list {
			wanted = append(wanted, fmt.Sprint(one))
		}
		slices.Sort(wanted)
		right = right && slices.Equal(wanted, slices.Sorted(slices.Values(texts)))
	}
	if text, ok := want["contains"].(string); ok {
		right = right && has(texts, text)
	}
	if text, ok := want["not_contains"].(string); ok {
		right = right && !has(texts, text)
	}
	if right {
		return nil
	}
	return []string{fmt.Sprintf("%v: %.200s", want, strings.Join(texts, "; "))}
}

func fits(item any, conditions string) bool {
	fields, _ := item.(map[string]any)
	for _, condition := range strings.Split(conditions, "&") {
		key, wanted, _ := strings.Cut(condition, "=")
		got, _ := fields[key].(string)
		if !matches(wanted, got) {
			return false
		}
	}
	return true
}

// TestCasesAreSmall keeps the folder of cases small: what is larger than a page is compressed.
func TestCasesAreSmall(t *testing.T) {
	var total int64
	require.NoError(t, filepath.WalkDir("testdata/cases", func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		require.NoError(t, err)
		total += info.Size()
		if !strings.HasSuffix(name, ".gz") {
			assert.LessOrEqual(t, info.Size(), int64(8<<10), name)
			return nil
		}
		file, err := os.Open(name)
		require.NoError(t, err)
		defer file.Close()
		plain, err := gzip.NewReader(file)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, plain)
		return err
	}))
	assert.Less(t, total, int64(1<<20))
}
