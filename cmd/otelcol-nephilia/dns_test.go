package main

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// asked is what a workload asked its ztunnel's DNS proxy.
type asked struct{ queries, forwarded, failed float64 }

// owner is a workload and the names by which ztunnels' series of DNS call it.
type owner struct {
	party
	service, revision string
}

// TestDNSCounts holds what every workload asked, of the DNS series of real recordings, to a count of the scrapes on a path of its own,
// also where a ztunnel's counters begin anew.
func TestDNSCounts(t *testing.T) {
	for _, test := range []struct {
		recording string
		restarts  string // the node whose ztunnel begins anew in the middle
	}{{recording: "quiet"}, {recording: "down"}, {recording: "servfail"}, {recording: "quiet", restarts: "node-b"}} {
		t.Run(test.recording+test.restarts, func(t *testing.T) {
			t.Parallel()
			folder := filepath.Join("testdata", "dns", test.recording)
			want := countAsked(t, folder)
			if test.restarts != "" {
				folder = restartedAt(t, folder, test.restarts)
			}
			require.Greater(t, len(want), 5)
			c := replayed(t, folder)
			tr := readTruth(t, folder)
			for w := range want {
				var answer struct {
					DNS struct{ Queries, Forwarded, Failed float64 }
				}
				c.get(t, "/api/v1/workloads/"+w.namespace+"/"+w.name, between(tr.start.Add(-time.Minute), tr.start.Add(time.Hour)), &answer)
				got := asked{answer.DNS.Queries, answer.DNS.Forwarded, answer.DNS.Failed}
				assert.Equal(t, want[w], got, w.name)
			}
		})
	}
}

// TestFailingNames holds the names that a workload's pods could not resolve, and the flows of names, to the lines of the DNS proxies.
func TestFailingNames(t *testing.T) {
	folder := filepath.Join("testdata", "dns", "servfail")
	type key struct{ namespace, workload, name, result string }
	want := map[key]int{}
	all, failed := 0, 0
	tr := readTruth(t, folder)
	logs, err := filepath.Glob(filepath.Join(folder, "ztunnel-*.log.gz"))
	require.NoError(t, err)
	for _, path := range logs {
		eachLine(t, path, func(line []byte) {
			var entry struct {
				Pod       string `json:"src.workload"`
				Namespace string `json:"src.namespace"`
				Domain    string
				Result    string
			}
			require.NoError(t, json.Unmarshal(line, &entry))
			all++
			if strings.Contains(entry.Result, "Server Failure") {
				failed++
				w := tr.pods[party{entry.Namespace, entry.Pod}]
				want[key{w.namespace, w.name, strings.TrimSuffix(entry.Domain, "."), "server_failure"}]++
			}
		})
	}
	require.NotEmpty(t, want)
	c := replayed(t, folder)
	for _, test := range []struct {
		query url.Values
		want  int
	}{
		{url.Values{}, 0},
		{url.Values{"protocol": {"dns"}}, all},
		{url.Values{"protocol": {"dns"}, "verdict": {"failed"}, "source": {"payment"}, "query_name": {"api.stripe.test"}}, failed},
	} {
		test.query.Set("count", "true")
		var flows struct{ Total int }
		c.get(t, "/api/v1/flows", test.query, &flows)
		assert.Equal(t, test.want, flows.Total, test.query)
	}
	for k, count := range want {
		var answer struct {
			DNS struct {
				FailingNames []struct {
					Name, Result string
					Count        int
				} `json:"failing_names"`
			}
		}
		c.get(t, "/api/v1/workloads/"+k.namespace+"/"+k.workload, between(tr.start.Add(-time.Minute), tr.start.Add(time.Hour)), &answer)
		got := 0
		for _, name := range answer.DNS.FailingNames {
			if name.Name == k.name && name.Result == k.result {
				got = name.Count
			}
		}
		assert.Equal(t, count, got, k)
	}
}

// countAsked adds up what the DNS series of all nodes grew by from the first scrape of their ztunnel on.
func countAsked(t *testing.T, folder string) map[owner]asked {
	t.Helper()
	owners := map[[2]string]owner{}
	eachLine(t, filepath.Join(folder, "xds.jsonl.gz"), func(line []byte) {
		var entry struct {
			Response struct {
				Resources []struct {
					Resource struct {
						Workload *struct{ Namespace, WorkloadName, CanonicalName, CanonicalRevision string }
					}
				}
			}
		}
		require.NoError(t, json.Unmarshal(line, &entry))
		for _, resource := range entry.Response.Resources {
			if w := resource.Resource.Workload; w != nil {
				owners[[2]string{w.CanonicalName, w.CanonicalRevision}] = owner{party{w.Namespace, w.WorkloadName}, w.CanonicalName, w.CanonicalRevision}
			}
		}
	})
	count := map[owner]asked{}
	files, err := filepath.Glob(filepath.Join(folder, "metrics-*.prom.gz"))
	require.NoError(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		var before map[string]float64
		for scrape := range strings.SplitSeq(string(gunzip(t, content)), "## scrape ") {
			if !strings.Contains(strings.SplitN(scrape, "\n", 2)[0], " ok") {
				continue
			}
			now := map[string]float64{}
			for line := range strings.SplitSeq(scrape, "\n") {
				for _, family := range []string{"istio_dns_requests_total", "istio_dns_upstream_requests_total", "istio_dns_upstream_failures_total"} {
					labels, value, ok := scrapedLine(line, family)
					if !ok {
						continue
					}
					series, _, _ := strings.Cut(line, "} ")
					now[series] = value
					w, known := owners[[2]string{labels["source_canonical_service"], labels["source_canonical_revision"]}]
					if !known || before == nil {
						continue
					}
					a := count[w]
					switch grown := value - before[series]; family {
					case "istio_dns_requests_total":
						a.queries += grown
					case "istio_dns_upstream_requests_total":
						a.forwarded += grown
					default:
						a.failed += grown
					}
					count[w] = a
				}
			}
			before = now
		}
	}
	return count
}

var sampleValue = regexp.MustCompile(`(?m)^(istio_dns_[a-z_]+\{.*\}) (\S+)$`)

// restartedAt copies a recording and takes from all series of a node, from the middle on, what they had there, as if its ztunnel had
// been started again between two scrapes.
func restartedAt(t *testing.T, recording, node string) string {
	t.Helper()
	folder := t.TempDir()
	files, err := filepath.Glob(filepath.Join(recording, "*"))
	require.NoError(t, err)
	for _, path := range files {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		name := filepath.Base(path)
		if strings.HasPrefix(name, "metrics-"+node) {
			name = strings.TrimSuffix(name, ".gz")
			scrapes := strings.SplitAfter(string(gunzip(t, content)), "# EOF\n")
			had := map[string]float64{}
			for _, sample := range sampleValue.FindAllStringSubmatch(scrapes[len(scrapes)/2], -1) {
				had[sample[1]], err = strconv.ParseFloat(sample[2], 64)
				require.NoError(t, err)
			}
			for i := len(scrapes)/2 + 1; i < len(scrapes); i++ {
				scrapes[i] = sampleValue.ReplaceAllStringFunc(scrapes[i], func(line string) string {
					sample := sampleValue.FindStringSubmatch(line)
					value, err := strconv.ParseFloat(sample[2], 64)
					require.NoError(t, err)
					return sample[1] + " " + strconv.FormatFloat(value-had[sample[1]], 'f', -1, 64)
				})
			}
			content = []byte(strings.Join(scrapes, ""))
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o600))
	}
	return folder
}
