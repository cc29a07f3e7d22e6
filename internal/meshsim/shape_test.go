package meshsim

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const realRecordings = "../../recordings"

func lines(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	require.NoError(t, err)
	require.NotEmpty(t, paths, pattern)
	var out []string
	for _, path := range paths {
		file, err := os.Open(path)
		require.NoError(t, err)
		var text io.Reader = file
		if strings.HasSuffix(path, ".gz") {
			text, err = gzip.NewReader(file)
			require.NoError(t, err)
		}
		scanner := bufio.NewScanner(text)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			out = append(out, scanner.Text())
		}
		require.NoError(t, scanner.Err())
		require.NoError(t, file.Close())
	}
	return out
}

var (
	plainName = regexp.MustCompile(`(?:^|[\t ])([a-z_.]+)=`)
	labelName = regexp.MustCompile(`([a-z_]+)="`)
	quoted    = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// shapesOfLog returns the forms of access-log lines: level, message and the fields in their order.
func shapesOfLog(t *testing.T, all []string) map[string]bool {
	shapes := map[string]bool{}
	for _, line := range all {
		var names []string
		switch {
		case strings.Contains(line, "\taccess\t"):
			columns := strings.SplitN(line, "\t", 5)
			require.Len(t, columns, 5, line)
			names = append(names, columns[1], columns[3])
			for _, match := range plainName.FindAllStringSubmatch(quoted.ReplaceAllString(columns[4], `""`), -1) {
				names = append(names, match[1])
			}
		case strings.HasPrefix(line, "{") && strings.Contains(line, `"scope":"access"`):
			decoder := json.NewDecoder(strings.NewReader(line))
			_, err := decoder.Token()
			require.NoError(t, err)
			for decoder.More() {
				name, err := decoder.Token()
				require.NoError(t, err)
				value, err := decoder.Token()
				require.NoError(t, err)
				switch name {
				case "level", "message":
					names = append(names, value.(string))
				case "time", "scope":
				default:
					names = append(names, name.(string))
				}
			}
		default:
			continue
		}
		shapes[strings.Join(names, " ")] = true
	}
	return shapes
}

func shapesOfScrape(all []string) map[string]bool {
	shapes := map[string]bool{}
	for _, line := range all {
		if !strings.HasPrefix(line, "istio_tcp_") || strings.HasPrefix(line, "istio_tcp_sockets_open") {
			continue
		}
		name, labels, _ := strings.Cut(line, "{")
		var names []string
		for _, match := range labelName.FindAllStringSubmatch(labels, -1) {
			names = append(names, match[1])
		}
		shapes[name+" "+strings.Join(names, " ")] = true
	}
	return shapes
}

// The simulator may write nothing that a real ztunnel does not write, for what the real recordings hold.
func TestShapeIsThatOfRealRecordings(t *testing.T) {
	realLog := shapesOfLog(t, lines(t, realRecordings+"/*/ztunnel-*.log.gz"))
	// No recording holds what ztunnel's source says of a call to nobody: addresses only.
	realLog["warn connection failed src.addr dst.addr direction error"] = true
	// Nor one from a pod that shares its node's address.
	realLog["info connection complete src.addr dst.addr dst.service dst.workload dst.namespace dst.cluster direction bytes_sent bytes_recv duration"] = true
	realLog["error connection complete src.addr dst.addr dst.service dst.workload dst.namespace dst.cluster direction bytes_sent bytes_recv duration error"] = true
	maps.Copy(realLog, shapesOfLog(t, plainLines(t, "testdata/real.log")))
	realScrape := shapesOfScrape(lines(t, realRecordings+"/*/metrics-*.prom.gz"))
	for _, fault := range []Fault{FaultNone, FaultPolicyDenied, FaultConnectionRefused, FaultNodeDown} {
		for seed := range uint64(2) {
			dir := t.TempDir()
			options := Options{Seed: seed, Fault: fault, Workloads: 20, RootRate: 8}
			if seed == 1 {
				options.Traits = slices.DeleteFunc(slices.Clone(Traits), func(t Trait) bool { return t == TraitLogLevel })
			}
			require.NoError(t, Write(dir, options))
			log := shapesOfLog(t, lines(t, dir+"/ztunnel-*.log.gz"))
			require.NotEmpty(t, log)
			for shape := range log {
				assert.Contains(t, realLog, shape)
			}
			scrape := shapesOfScrape(lines(t, dir+"/metrics-*.prom.gz"))
			require.NotEmpty(t, scrape)
			for shape := range scrape {
				assert.Contains(t, realScrape, shape)
			}
		}
	}
}

func TestSameSeedSameRecording(t *testing.T) {
	first, second, other := t.TempDir(), t.TempDir(), t.TempDir()
	require.NoError(t, Write(first, Options{Seed: 7, Fault: FaultLatency, Workloads: 12}))
	require.NoError(t, Write(second, Options{Seed: 7, Fault: FaultLatency, Workloads: 12}))
	require.NoError(t, Write(other, Options{Seed: 8, Fault: FaultLatency, Workloads: 12}))
	entries, err := os.ReadDir(first)
	require.NoError(t, err)
	require.NotEmpty(t, entries)
	for _, entry := range entries {
		a, err := os.ReadFile(filepath.Join(first, entry.Name()))
		require.NoError(t, err)
		b, err := os.ReadFile(filepath.Join(second, entry.Name()))
		require.NoError(t, err)
		assert.Equal(t, a, b, entry.Name())
	}
	a, err := os.ReadFile(filepath.Join(first, "truth.json"))
	require.NoError(t, err)
	b, err := os.ReadFile(filepath.Join(other, "truth.json"))
	require.NoError(t, err)
	assert.NotEqual(t, string(a), string(b))
}

// Every fault must leave the mark in the access log, the scrapes or the spans that its kind is known by.
func TestEveryFaultLeavesItsMark(t *testing.T) {
	marks := map[Fault]struct{ files, text string }{
		FaultConnectionRefused: {"ztunnel-*.log.gz", "connection failed: Connection refused (os error 111)"},
		FaultPartialRefused:    {"ztunnel-*.log.gz", "connection failed: Connection refused (os error 111)"},
		FaultConnectionTimeout: {"ztunnel-*.log.gz", "connection failed: Connection timed out (os error 110)"},
		FaultConnectionReset:   {"ztunnel-*.log.gz", "Connection reset by peer (os error 104)"},
		FaultPolicyDenied:      {"ztunnel-*.log.gz", "/no-callers"},
		FaultNoHealthyUpstream: {"ztunnel-*.log.gz", "no healthy upstream: "},
		FaultTLSFailure:        {"ztunnel-*.log.gz", "tls error: "},
		FaultIdentityError:     {"ztunnel-*.log.gz", "identity error: "},
		FaultNodeDown:          {"metrics-*.prom.gz", " failed"},
		FaultTelemetryLost:     {"metrics-*.prom.gz", " failed"},
		FaultControlPlaneDown:  {"ztunnel-*.log.gz", "XDS client connection error"},
		FaultHTTPErrors:        {"otlp-traces.jsonl.gz", `"intValue":"500"`},
		FaultLatency:           {"otlp-traces.jsonl.gz", `"kind":2`},
		FaultTrafficLoss:       {"otlp-traces.jsonl.gz", ""},
	}
	for _, fault := range Faults {
		t.Run(string(fault), func(t *testing.T) {
			mark, known := marks[fault]
			require.True(t, known)
			for seed := uint64(1); seed < 50; seed++ {
				dir := t.TempDir()
				err := Write(dir, Options{Seed: seed, Fault: fault, Workloads: 20, RootRate: 20})
				if errors.Is(err, ErrNoTarget) {
					continue
				}
				require.NoError(t, err)
				assert.Contains(t, strings.Join(lines(t, filepath.Join(dir, mark.files)), "\n"), mark.text)
				raw, err := os.ReadFile(filepath.Join(dir, "truth.json"))
				require.NoError(t, err)
				var got truth
				require.NoError(t, json.Unmarshal(raw, &got))
				require.Len(t, got.Scenario.Expect, 1)
				assert.NotEmpty(t, got.Scenario.Expect[0].Root)
				assert.Greater(t, got.Scenario.Expect[0].To, got.Scenario.Expect[0].From)
				return
			}
			t.Fatal("no seed has a target for the fault")
		})
	}
}

// Every trait must leave its mark, and none where it is not asked for.
func TestEveryTraitLeavesItsMark(t *testing.T) {
	marks := map[Trait]struct{ files, text string }{
		TraitWaypoint:     {"ztunnel-*.log.gz", `spiffe://cluster.local/ns/team-[a-z]+/sa/waypoint`},
		TraitHostNetwork:  {"ztunnel-*.log.gz", `dst\.addr"?[=:]"?172\.18\.0\.`},
		TraitAddressReuse: {"truth.json", ""},
		TraitIdleService:  {"ztunnel-*.log.gz", `no healthy upstream: 10\.96\.250\.1`},
		TraitTwoNetworks:  {"truth.json", ""},
		TraitLogLevel:     {"ztunnel-*.log.gz", ""},
		TraitOldZtunnels:  {"metrics-*.prom.gz", `istio_build\{component="ztunnel",tag="1\.22\.0"\}`},
		TraitSDKSpans:     {"otlp-traces.jsonl.gz", `unknown_service:java.*"host\.name"`},
		TraitProxies:      {"metrics-*.prom.gz", `istio_dns_upstream_failures_total\{`},
		TraitRestarts:     {"ztunnel-*.log.gz", `received signal SIGTERM`},
	}
	write := func(traits ...Trait) string {
		dir := t.TempDir()
		require.NoError(t, Write(dir, Options{Seed: 3, Workloads: 20, RootRate: 8, Instrumented: 1, Duration: 3 * time.Minute, Traits: traits}))
		return dir
	}
	without := write()
	for _, trait := range Traits {
		t.Run(string(trait), func(t *testing.T) {
			mark, known := marks[trait]
			require.True(t, known)
			with := write(trait)
			if mark.text != "" {
				pattern := regexp.MustCompile(mark.text)
				assert.Regexp(t, pattern, strings.Join(lines(t, filepath.Join(with, mark.files)), "\n"))
				assert.NotRegexp(t, pattern, strings.Join(lines(t, filepath.Join(without, mark.files)), "\n"))
				return
			}
			switch trait {
			case TraitLogLevel:
				for _, line := range lines(t, filepath.Join(with, mark.files)) {
					assert.False(t, strings.Contains(line, "\tinfo\t") || strings.Contains(line, `"level":"info"`), line)
				}
			default:
				assert.NotEmpty(t, shared(t, with), "addresses of two pods")
				assert.Empty(t, shared(t, without))
			}
		})
	}
	assert.ErrorContains(t, Write(t.TempDir(), Options{Workloads: 10, Traits: []Trait{"none"}}), "traits")
}

// shared are the addresses that several pods have in a recording, at once or one after the other.
func shared(t *testing.T, dir string) (addresses []string) {
	raw, err := os.ReadFile(filepath.Join(dir, "truth.json"))
	require.NoError(t, err)
	var got truth
	require.NoError(t, json.Unmarshal(raw, &got))
	seen := map[string]bool{}
	for _, pod := range got.Pods {
		if seen[pod.IP] {
			addresses = append(addresses, pod.IP)
		}
		seen[pod.IP] = true
	}
	return addresses
}

func TestOptionsAreChecked(t *testing.T) {
	require.ErrorContains(t, Write(t.TempDir(), Options{Workloads: 4}), "workloads")
	require.ErrorContains(t, Write(t.TempDir(), Options{Workloads: 501}), "workloads")
	assert.ErrorContains(t, Write(t.TempDir(), Options{Workloads: 10, Fault: FaultLatency, Duration: time.Minute}), "duration")
}

// Two faults at once have two expectations, of workloads that have nothing to do with each other.
func TestTwoFaultsAtOnce(t *testing.T) {
	dir := t.TempDir()
	series := Series{From: 1, Count: 1, Options: Options{Fault: FaultConnectionRefused, And: FaultPolicyDenied, Workloads: 30, Duration: 4 * time.Minute}}
	folder, err := series.Write(dir, 0)
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(folder, "truth.json"))
	require.NoError(t, err)
	var got truth
	require.NoError(t, json.Unmarshal(raw, &got))
	require.Len(t, got.Scenario.Expect, 2)
	assert.NotEqual(t, got.Scenario.Expect[0].Root, got.Scenario.Expect[1].Root)
	log := strings.Join(lines(t, filepath.Join(folder, "ztunnel-*.log.gz")), "\n")
	assert.Contains(t, log, "Connection refused (os error 111)")
	assert.Contains(t, log, "/no-callers")
}

// A series gives every recording by its seed alone, and lets the kinds of faults take turns.
func TestSeries(t *testing.T) {
	series := Series{From: 57, Count: 16, Options: Options{Workloads: 12, RootRate: 4}}
	folder, err := series.Write(t.TempDir(), 0)
	require.NoError(t, err)
	assert.Contains(t, filepath.Base(folder), "-"+string(Faults[57%len(Faults)]))
	earlier := series
	earlier.From -= 3
	again, err := earlier.Write(t.TempDir(), 3)
	require.NoError(t, err)
	assert.Equal(t, filepath.Base(folder), filepath.Base(again))
	healthy := Series{From: 7, Count: 1, Healthy: true, Options: Options{Workloads: 12, RootRate: 4}}
	folder, err = healthy.Write(t.TempDir(), 0)
	require.NoError(t, err)
	assert.Equal(t, "000007-healthy", filepath.Base(folder))
}
