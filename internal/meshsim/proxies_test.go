package meshsim

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func plainLines(t *testing.T, path string) []string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
}

var (
	digits     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]+|[0-9][0-9.]*`)
	nameOf     = regexp.MustCompile(`Name\(.*?\), query_type: A+`)
	sampleName = regexp.MustCompile(`^[a-z][a-z0-9_]*`)
	jsonValue  = regexp.MustCompile(`"(time|src\.workload|src\.namespace|domain|uid|name|namespace)":"[^"]*"`)
	plainValue = regexp.MustCompile(`\b(src\.workload|src\.namespace|domain|uid|name|namespace)="[^"]*"`)
)

// shapesOfMessages are the forms of lines of the DNS proxy and of the proxies' manager: scope, level, message, the names of fields, and
// what came of a query.
func shapesOfMessages(all []string) map[string]bool {
	shapes := map[string]bool{}
	for _, line := range all {
		if !strings.Contains(line, "inpod::") && !strings.Contains(line, "signal::imp") && !strings.Contains(line, "\tdns\t") && !strings.Contains(line, `"scope":"dns"`) {
			continue
		}
		line = nameOf.ReplaceAllString(line, "Name")
		form := "json "
		if strings.HasPrefix(line, "{") {
			line = jsonValue.ReplaceAllString(line, "$1")
		} else {
			form = "plain "
			_, line, _ = strings.Cut(line, "\t")
			line = plainValue.ReplaceAllString(line, "$1")
		}
		line = strings.ReplaceAll(digits.ReplaceAllString(line, "N"), "[::]:N", "N:N")
		shapes[form+line] = true
	}
	return shapes
}

// shapesOfSeries are the names of series that do not count connections, with those of their labels.
func shapesOfSeries(all []string) map[string]bool {
	shapes := map[string]bool{}
	for _, line := range all {
		name := sampleName.FindString(line)
		if name == "" || strings.HasPrefix(name, "istio_tcp_connections") || strings.HasSuffix(name, "_bytes_total") {
			continue
		}
		for _, match := range labelName.FindAllStringSubmatch(line, -1) {
			name += " " + match[1]
		}
		shapes[name] = true
	}
	return shapes
}

// What a simulated ztunnel tells beside connections has the form that real ones tell it in.
func TestShapeOfProxies(t *testing.T) {
	realMessages := shapesOfMessages(plainLines(t, "testdata/real.log"))
	// Of what real ones wrote one form is in the sample, and the other is ztunnel's for every line.
	for _, text := range []string{
		`{"level":"info",time,"scope":"ztunnel::signal::imp","message":"received signal SIGTERM, starting shutdown"}`,
		`{"level":"info",time,"scope":"ztunnel::inpod::protocol","message":"workload proxy manager: drain requested"}`,
		`{"level":"info",time,"scope":"ztunnel::inpod::workloadmanager","message":"drain requested"}`,
		`{"level":"error",time,"scope":"ztunnel::inpod::workloadmanager","message":"failed to start proxy: Bind(N:N, Os { code: N, kind: AddrInUse, message: \"Address already in use\" })",uid}`,
		`{"level":"info",time,"scope":"ztunnel::inpod::statemanager","message":"retrying workload",uid}`,
		`{"level":"info",time,"scope":"ztunnel::inpod::statemanager","message":"retrying workload failed: failed to bind to address N:N: Address already in use (os error N)",uid}`,
		`{"level":"info",time,"scope":"ztunnel::inpod::statemanager","message":"pod delete request, shutting down proxy",uid}`,
	} {
		realMessages["json "+text] = true
	}
	realMessages["plain info\tinpod::statemanager\tpod delete request, shutting down proxy\tuid"] = true
	for _, form := range []struct{ prefix, name, failed, suffix string }{
		{`json {"level":"debug",time,"scope":"dns",src.workload,src.namespace,"query":"`, `AAAA`, `",domain,"result":"forwarding failed (net error: `, `)","endpoints":N}`},
		{"plain debug\tdns\tsrc.workload src.namespace query=\"", `AAAA`, `" domain result="forwarding failed (net error: `, `)" endpoints=N`},
	} {
		for _, query := range []string{"A", "AAAA"} {
			for _, result := range []string{"DNS error: no records found for Query { name: Name, query_class: IN }", "DNS error: error response: Server Failure", "request timed out"} {
				realMessages[form.prefix+query+form.failed+result+form.suffix] = true
			}
		}
	}
	realSeries := shapesOfSeries(plainLines(t, "testdata/real.prom"))
	// No real ztunnel was given a list of revoked certificates; its source names the series.
	realSeries["istio_crl_policy_rejections_total reporter"] = true
	realSeries["istio_xds_connection_terminations_total reason"] = true
	for n, fault := range []Fault{FaultNone, FaultCapturePod, FaultResolverDown, FaultRevoked, FaultResolverFails} {
		dir := t.TempDir()
		writeWithTarget(t, dir, Options{Seed: uint64(n), Fault: fault, Workloads: 12, RootRate: 8, Traits: []Trait{TraitProxies, TraitRestarts}})
		messages := shapesOfMessages(lines(t, dir+"/ztunnel-*.log.gz"))
		require.NotEmpty(t, messages)
		for shape := range messages {
			assert.Contains(t, realMessages, shape)
		}
		series := shapesOfSeries(lines(t, dir+"/metrics-*.prom.gz"))
		for shape := range series {
			assert.Contains(t, realSeries, shape)
		}
	}
}

// writeWithTarget tries seeds until a mesh can show the fault, and returns what is expected.
func writeWithTarget(t *testing.T, dir string, o Options) *truth {
	t.Helper()
	for range 50 {
		err := Write(dir, o)
		if errors.Is(err, ErrNoTarget) {
			o.Seed += 100
			continue
		}
		require.NoError(t, err)
		raw, err := os.ReadFile(filepath.Join(dir, "truth.json"))
		require.NoError(t, err)
		var got truth
		require.NoError(t, json.Unmarshal(raw, &got))
		return &got
	}
	t.Fatal("no seed has a target for the fault")
	return nil
}

// Every fault of which ztunnels tell beside connections leaves its mark, while it goes on and not before.
func TestEveryProxyFaultLeavesItsMark(t *testing.T) {
	marks := map[Fault]struct{ files, text string }{
		FaultResolverDown:  {"ztunnel-*.log.gz", `forwarding failed \(net error: request timed out\)`},
		FaultResolverFails: {"ztunnel-*.log.gz", `error response: Server Failure`},
		FaultNamesSlow:     {"metrics-*.prom.gz", ``},
		FaultZone:          {"otlp-traces.jsonl.gz", `"server.address","value":\{"stringValue":"[a-z.]+test"\}\},\{"key":"http.request.method","value":\{"stringValue":"GET"\}\},\{"key":"url.template","value":\{"stringValue":"[^"]*"\}\}\],"status":\{"code":2\}`},
		FaultNodeNames:     {"ztunnel-*.log.gz", `forwarding failed \(net error: request timed out\)`},
		FaultCapturePod:    {"metrics-*.prom.gz", `workload_manager_pending_proxy_count [1-9]`},
		FaultCaptureNode:   {"metrics-*.prom.gz", `workload_manager_active_proxy_count 0`},
		FaultOverload:      {"metrics-*.prom.gz", ``},
		FaultStopped:       {"ztunnel-*.log.gz", ``},
		FaultRevoked:       {"metrics-*.prom.gz", `istio_crl_policy_rejections_total\{reporter="(source|destination)"\} [1-9]`},
	}
	for _, fault := range ProxyFaults {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			mark, known := marks[fault]
			require.True(t, known)
			dir := t.TempDir()
			got := writeWithTarget(t, dir, Options{Seed: 2, Fault: fault, Workloads: 20, RootRate: 20, Instrumented: 1, FaultFrom: 90 * time.Second, FaultFor: time.Minute})
			require.NotEmpty(t, got.Scenario.Expect)
			assert.NotEmpty(t, got.Scenario.Expect[0].Root)
			if mark.text != "" {
				assert.Regexp(t, mark.text, strings.Join(lines(t, filepath.Join(dir, mark.files)), "\n"))
			}
		})
	}
}
