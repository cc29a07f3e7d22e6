package meshsim

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var recordedIn = flag.String("recordings", "", "a folder with real recordings, from which testdata/recorded.json is made anew")

const recordedFile = "testdata/recorded.json"

// ending is how connections into what is at fault end in one way: how large a part of all, how long they lasted, and how long after the
// fault's beginning the first was told of.
type ending struct {
	Share   float64 `json:"share"`
	Seconds float64 `json:"seconds"`
	First   float64 `json:"first_s"`
	count   int
	lasted  []float64
}

var (
	plainField = regexp.MustCompile(`([a-z_.]+)=("(?:[^"\\]|\\.)*"|\S+)`)
	policyName = regexp.MustCompile(`[a-z0-9-]+/[a-z0-9-]+$`)
)

// accessLine is a line of an access log as its time and fields, false if it is none.
func accessLine(t *testing.T, line string) (time.Time, map[string]string, bool) {
	fields := map[string]string{}
	var stamp string
	switch {
	case strings.Contains(line, "\taccess\t"):
		stamp, _, _ = strings.Cut(line, "\t")
		for _, match := range plainField.FindAllStringSubmatch(line, -1) {
			fields[match[1]] = strings.Trim(match[2], `"`)
		}
	case strings.Contains(line, `"scope":"access"`):
		var raw map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &raw))
		for name, value := range raw {
			if number, ok := value.(float64); ok {
				value = strconv.FormatFloat(number, 'f', -1, 64)
			}
			fields[name], _ = value.(string)
		}
		stamp = fields["time"]
	default:
		return time.Time{}, nil, false
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	require.NoError(t, err)
	return at, fields, true
}

// endings are those of a recording's connections into each root while it is at fault, by side and failure, and the first of these roots.
func endings(t *testing.T, folder string) (found map[string]map[string]*ending, first string) {
	raw, err := os.ReadFile(filepath.Join(folder, "truth.json"))
	require.NoError(t, err)
	var truth truth
	require.NoError(t, json.Unmarshal(raw, &truth))
	began, err := time.Parse(time.RFC3339Nano, truth.Events[0].Time)
	require.NoError(t, err)
	apps := map[string]string{}
	for _, pod := range truth.Pods {
		apps[pod.Name] = pod.Namespace + "/" + pod.App
	}
	found = map[string]map[string]*ending{}
	concerned := func(line string) bool {
		return slices.ContainsFunc(truth.Scenario.Expect, func(e *Expectation) bool { return strings.Contains(line, `"`+filepath.Base(e.Root)+"-") })
	}
	for _, line := range lines(t, filepath.Join(folder, "ztunnel-*.log*")) {
		if !concerned(line) {
			continue
		}
		at, fields, ok := accessLine(t, line)
		if !ok {
			continue
		}
		for _, expected := range truth.Scenario.Expect {
			after := at.Sub(began).Seconds() - expected.From
			if apps[fields["dst.workload"]] != expected.Root || after < 1 || after > expected.To-expected.From-1 {
				continue
			}
			failure := policyName.ReplaceAllString(fields["error"], "POLICY")
			if failure == "" && fields["bytes_sent"] != "0" && fields["bytes_recv"] == "0" {
				failure = "no answer"
			}
			key := fields["direction"] + " " + failure
			if found[expected.Root] == nil {
				found[expected.Root] = map[string]*ending{}
			}
			e := found[expected.Root][key]
			if e == nil {
				e = &ending{First: after}
				found[expected.Root][key] = e
			}
			lasted, err := time.ParseDuration(fields["duration"])
			require.NoError(t, err, line)
			e.First, e.count, e.lasted = min(e.First, after), e.count+1, append(e.lasted, lasted.Seconds())
		}
	}
	for _, root := range found {
		all := 0
		for _, e := range root {
			all += e.count
		}
		for key, e := range root {
			slices.Sort(e.lasted)
			e.Share, e.Seconds = float64(e.count)/float64(all), e.lasted[len(e.lasted)/2]
			if e.Share < 0.02 {
				delete(root, key)
			}
		}
	}
	return found, truth.Scenario.Expect[0].Root
}

// recordedAs are the real recordings' roots by the fault that the simulator has for what happened there.
var recordedAs = map[Fault][2]string{
	FaultBlackhole: {"r-1", "core/queue"}, FaultUnanswered: {"s-114", "data/mysql"}, FaultAllowList: {"s-103", "core/billing"},
	FaultPacketLoss: {"s-116", "core/reviews"}, FaultPolicyDenied: {"policy-deny", "billing/payment"}, FaultConnectionRefused: {"payment-refused", "billing/payment"},
}

// TestAsRecorded holds what the simulator writes around a fault to what real ztunnels wrote: for which reasons connections end, on which
// side, how long they lasted, and in which order the reasons come.
func TestAsRecorded(t *testing.T) {
	if *recordedIn != "" {
		seen := map[Fault]map[string]*ending{}
		for fault, from := range recordedAs {
			all, _ := endings(t, filepath.Join(*recordedIn, from[0]))
			seen[fault] = all[from[1]]
			require.NotEmpty(t, seen[fault], fault)
		}
		encoded, err := json.MarshalIndent(seen, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(recordedFile, append(encoded, '\n'), 0o600))
	}
	raw, err := os.ReadFile(recordedFile)
	require.NoError(t, err)
	var recorded map[Fault]map[string]*ending
	require.NoError(t, json.Unmarshal(raw, &recorded))
	for _, fault := range slices.Sorted(maps.Keys(recorded)) {
		t.Run(string(fault), func(t *testing.T) {
			series := Series{From: 3, Options: Options{Hard: true, Fault: fault, Workloads: 14, Instrumented: 1, Plain: true, RootRate: 9}}
			folder, err := series.Write(t.TempDir(), 0)
			require.NoError(t, err)
			all, root := endings(t, folder)
			simulated := all[root]
			for key, want := range recorded[fault] {
				if strings.HasSuffix(key, " ") {
					continue // what goes well depends on how much of it there is
				}
				got := simulated[key]
				if !assert.NotNil(t, got, "%s: never simulated, of %v", key, slices.Sorted(maps.Keys(simulated))) {
					continue
				}
				assert.InDelta(t, want.First, got.First, 8, "%s: first after", key)
				assert.LessOrEqual(t, got.Seconds, 3*want.Seconds+0.1, "%s: lasts", key)
				assert.LessOrEqual(t, want.Seconds, 3*got.Seconds+0.1, "%s: lasts", key)
			}
			for key, got := range simulated {
				if !strings.HasSuffix(key, " ") && got.Share > 0.2 {
					assert.Contains(t, recorded[fault], key, "simulated and never seen")
				}
			}
		})
	}
}

// TestHardFaultsLeaveTheirMark holds every fault of hard meshes to be there, and what is expected of it to be told.
func TestHardFaultsLeaveTheirMark(t *testing.T) {
	marks := map[Fault]string{
		FaultBlackhole: deadTunnel, FaultHang: "", FaultUnanswered: "", FaultPacketLoss: "", FaultCrashLoop: "Connection refused (os error 111)",
		FaultPartition: noTunnel, FaultAllowList: "allow policies exist, but none allowed", FaultSlowDatabase: "",
	}
	for fault, mark := range marks {
		t.Run(string(fault), func(t *testing.T) {
			series := Series{From: 5, Options: Options{Hard: true, Fault: fault, Workloads: 20, Instrumented: 1, RootRate: 8}}
			folder, err := series.Write(t.TempDir(), 0)
			require.NoError(t, err)
			raw, err := os.ReadFile(filepath.Join(folder, "truth.json"))
			require.NoError(t, err)
			var got truth
			require.NoError(t, json.Unmarshal(raw, &got))
			require.NotEmpty(t, got.Scenario.Expect)
			assert.Equal(t, kinds[fault], got.Scenario.Expect[0].Kind)
			assert.False(t, got.Scenario.Expect[0].Optional)
			assert.Contains(t, strings.Join(lines(t, filepath.Join(folder, "ztunnel-*.log.gz")), "\n"), mark)
		})
	}
}
