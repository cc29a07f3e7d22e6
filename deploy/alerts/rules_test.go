package alerts

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/nephilia/nephilia/internal/reasons"
)

// emitted are the metrics of docs/data-model.md that the rules read, under the names that a Prometheus gives them.
var emitted = map[string]bool{"mesh_outage": true, "mesh_slo_budget_left_ratio": true, "ztunnel_source_up_ratio": true, "ztunnel_source_problem_ratio": true}

// internalMetrics are the collector's own, of every component of ours, by those names.
func internalMetrics(t *testing.T) map[string]bool {
	names := map[string]bool{}
	paths, err := filepath.Glob("../../*/*/metadata.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		var metadata struct {
			Telemetry struct {
				Metrics map[string]any
			}
		}
		require.NoError(t, yaml.Unmarshal(raw, &metadata))
		for name := range metadata.Telemetry.Metrics {
			names["otelcol_"+name] = true
		}
	}
	return names
}

func TestRulesReadMetricsThatThereAre(t *testing.T) {
	promql := parser.NewParser(parser.Options{})
	groups, errs := rulefmt.ParseFile("nephilia.rules.yaml", false, model.UTF8Validation, promql, slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	require.NotEmpty(t, groups.Groups)
	internal := internalMetrics(t)
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			t.Run(rule.Alert, func(t *testing.T) {
				assert.Equal(t, "nephilia", rule.Labels["app"])
				assert.NotEmpty(t, rule.Annotations["summary"])
				expression, err := promql.ParseExpr(rule.Expr)
				require.NoError(t, err)
				for _, selectors := range parser.ExtractSelectors(expression) {
					for _, matcher := range selectors {
						if matcher.Name == model.MetricNameLabel {
							assert.True(t, emitted[matcher.Value] || internal[matcher.Value], "there is no metric %s", matcher.Value)
						}
					}
				}
			})
		}
	}
}

var update = flag.Bool("update", false, "write the kinds of outages into docs/runbooks.md")

// TestRunbooks holds the page that alerts link to to what there is: a section of each kind of outage, and of each other alert.
func TestRunbooks(t *testing.T) {
	const path, begin, end = "../../docs/runbooks.md", "<!-- kinds -->\n", "<!-- /kinds -->"
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	page := string(raw)
	before, rest, ok := strings.Cut(page, begin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	var kinds strings.Builder
	for _, kind := range reasons.Kinds {
		fmt.Fprintf(&kinds, "### %s\n\n%s. %s\n\n", kind.Name, kind.Label, kind.Advice)
	}
	want := before + begin + kinds.String() + end + after
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
	}
	assert.Equal(t, want, page, "run make golden")
	rules, err := os.ReadFile("nephilia.rules.yaml")
	require.NoError(t, err)
	for _, match := range regexp.MustCompile(`runbooks\.md#(\w+)`).FindAllStringSubmatch(string(rules), -1) {
		assert.Contains(t, strings.ToLower(page), "### "+match[1]+"\n")
	}
	assert.Equal(t, strings.Count(string(rules), "- alert: "), strings.Count(string(rules), "runbook_url: "))
}

// TestEveryAlertIsTested holds promtool's tests, which end-to-end tests run, to name every alert.
func TestEveryAlertIsTested(t *testing.T) {
	rules, err := os.ReadFile("nephilia.rules.yaml")
	require.NoError(t, err)
	tests, err := os.ReadFile("nephilia.rules.test.yaml")
	require.NoError(t, err)
	for _, line := range strings.Split(string(rules), "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "- alert: "); ok {
			assert.Contains(t, string(tests), "alertname: "+name, "promtool's tests lack an alert")
		}
	}
}
