package attacks

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// replayed starts a collector with a recording that is played at once.
func replayed(t *testing.T, recording string) *collector {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join(root, "recordings", recording))
	if err != nil {
		t.Fatal(err)
	}
	c := newCollector(t, "replay.yaml", map[string]string{"NEPHILIA_RECORDING": folder, "NEPHILIA_REPLAY_SPEED": "max"})
	c.spawn()
	c.eventually("replays that are over", 1, func() int {
		var answer struct{ Outages []any }
		c.get("/api/v1/outages", &answer)
		return min(len(answer.Outages), 1)
	})
	return c
}

// described are the paths and the names of the query's parameters that the description of the API has.
func described(t *testing.T) (paths, parameters []string) {
	t.Helper()
	spec, err := os.ReadFile(filepath.Join(root, "extension", "topologyquery", "api", "openapi.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{namespace}", "shop", "{name}", "checkout-v1", "{id}", "00")
	named := regexp.MustCompile(`name: ([A-Za-z_]+), in: query|name: ([A-Za-z_]+)$`)
	for line := range strings.Lines(string(spec)) {
		line = strings.TrimRight(line, "\n")
		if path, found := strings.CutSuffix(strings.TrimSpace(line), ":"); found && strings.HasPrefix(line, "  /") && path != "/api/v1/events" {
			paths = append(paths, fill.Replace(path))
		}
		if match := named.FindStringSubmatch(line); match != nil {
			parameters = append(parameters, match[1]+match[2])
		}
	}
	slices.Sort(parameters)
	return paths, slices.Compact(parameters)
}

// TestOddParameters asks every path for every parameter with values that no client sends: no answer is an error of the server, or takes long.
func TestOddParameters(t *testing.T) {
	t.Parallel()
	c := replayed(t, "policy-deny")
	paths, parameters := described(t)
	if len(paths) < 20 || len(parameters) < 20 {
		t.Fatalf("only %d paths and %d parameters are described", len(paths), len(parameters))
	}
	values := []string{
		"", "0", "-1", "1e18", "9e99", "NaN", "Inf", "18446744073709551615", "99999999999999999999", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "٣", "x", "\x00", "\xff",
		"1ns", "1e9h", strings.Repeat("a", 20_000), strings.Repeat("workload,", 200), "{", "=", "../../etc/passwd", "%00", "{{.}}", "${env:HOME}", "'; drop table edges; --",
	}
	codes, asked := map[int]int{}, 0
	ask := func(path string, query url.Values) {
		target := path + "?" + query.Encode()
		if path == "/api/v1/series" && !query.Has("metric") {
			target += "&metric=connections"
		}
		began := time.Now()
		status, body := c.get(target, nil)
		codes[status]++
		asked++
		if status >= 500 || status == 0 {
			t.Errorf("%.200s: %d %.200s", target, status, body)
		}
		if took := time.Since(began); took > time.Duration(5*float64(time.Second)**patience) {
			t.Errorf("%.200s takes %s", target, took)
		}
	}
	next := 0
	for _, path := range paths {
		for _, name := range parameters {
			for range 6 { // the next ones come with the next parameter
				next++
				ask(path, url.Values{name: {values[next%len(values)]}})
			}
		}
		for _, start := range values[:13] {
			for _, end := range values[:13] {
				ask(path, url.Values{"start": {start}, "end": {end}})
			}
		}
	}
	many := url.Values{}
	for range 10_000 {
		many.Add("group_by", "app")
	}
	ask("/api/v1/graph", many)
	ask("/api/v1/graph", url.Values{"namespace": {strings.Repeat("a", 600_000)}})
	if !c.alive() {
		t.Fatalf("it died: %s", c.said("panic", "fatal"))
	}
	t.Logf("%d requests: %v", asked, codes)
}

// TestInjectedQueries writes what belongs to PromQL into the values that series are asked for: they stay values.
func TestInjectedQueries(t *testing.T) {
	t.Parallel()
	c := replayed(t, "policy-deny")
	asked := 0
	for _, name := range []string{
		"source", "destination", "source_namespace", "destination_namespace", "source_app", "destination_app", "service", "port", "pod", "route", "reason", "policy", "by",
	} {
		for _, value := range []string{
			`x"} or vector(1) #`, `x\"} or vector(1)`, `"} or up{a="`, "\n", `\`, "\x00", "\xff", `x"}[5m]`, "{{", "`", "$(id)", "'", `.*`, `x|.*`, `a"}) or (vector(1`,
		} {
			if name == "by" && value == "\n" {
				continue // as without it
			}
			for _, metric := range []string{"connections", "p99", "heatmap", "active"} {
				var answer struct {
					Series []any
					PromQL string `json:"promql"`
				}
				asked++
				switch status, body := c.get("/api/v1/series?"+url.Values{"metric": {metric}, name: {value}}.Encode(), &answer); status {
				case http.StatusBadRequest:
				case http.StatusOK:
					if len(answer.Series) > 0 {
						t.Errorf("%s=%q gives %d series of %s: %s", name, value, len(answer.Series), metric, answer.PromQL)
					}
				default:
					t.Errorf("%s=%q: %d %.200s", name, value, status, body)
				}
			}
		}
	}
	t.Log(fmt.Sprint(asked, " injections"))
}
