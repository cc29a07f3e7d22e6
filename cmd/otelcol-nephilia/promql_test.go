package main

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// step is between the times at which expressions are evaluated, and between the samples of a collector's own metrics.
const step = 15 * time.Second

// emitted is a Prometheus's memory of what the distribution says of recorded meshes and of itself.
type emitted struct {
	db     *tsdb.DB
	engine *promql.Engine
	parser parser.Parser
	spans  [][2]time.Time
	// own are the labels of each of the collector's own metrics: those that were seen, and those that a component's
	// metadata promise, for much is counted only where something goes wrong.
	own map[string]map[string]bool
	// answered are the dashboards' expressions for which the collectors' own Prometheus API had data.
	answered map[string]bool
}

// emit plays recordings into a TSDB, by remote write as to any Prometheus, and adds what collectors say of themselves.
func emit(t *testing.T, recordings ...string) *emitted {
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = (365 * 24 * time.Hour).Milliseconds()
	db, err := tsdb.Open(t.TempDir(), nil, nil, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	e := &emitted{db: db, parser: parser.NewParser(parser.Options{}), own: ownMetrics(t), answered: map[string]bool{}}
	e.engine = promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute, Parser: e.parser})
	t.Cleanup(func() { assert.NoError(t, e.engine.Close()) })
	server := httptest.NewServer(remote.NewWriteHandler(slog.New(slog.DiscardHandler), prometheus.NewRegistry(), db,
		remoteapi.MessageTypes{remoteapi.WriteV1MessageType}, false, false, false))
	t.Cleanup(server.Close)
	for _, recording := range recordings {
		// In a test of its own, at whose end the collector has sent everything.
		require.True(t, t.Run(recording, func(t *testing.T) {
			port := freePort(t)
			c := startCollector(t, options{
				config: "replay.yaml", overlays: []string{"examples/remote-write.yaml"},
				env: map[string]string{
					"NEPHILIA_RECORDING": filepath.Join(root, "recordings", recording), "NEPHILIA_REPLAY_SPEED": "max", "NEPHILIA_REMOTE_WRITE": server.URL,
					"NEPHILIA_HISTOGRAMS": "both",
				},
				set: []string{
					"processors::outage_detector::slos: [{namespace: shop, objective: 0.999}]",
					fmt.Sprintf("service::telemetry::metrics: {level: normal, readers: [{pull: {exporter: {prometheus: {host: localhost, port: %s}}}}]}", port),
				},
			})
			c.awaitReplay(t, time.Minute)
			truth := readTruth(t, filepath.Join(root, "recordings", recording))
			e.spans = append(e.spans, [2]time.Time{truth.from, truth.to})
			c.get(t, "/api/v1/graph", between(truth.from, truth.to), &apiGraph{})
			e.store(t, scrape(t, c, port), truth.from)
			for _, d := range dashboards(t) {
				for expression := range d.expressions() {
					e.answered[expression] = e.answered[expression] || answers(t, c, expression, truth)
				}
			}
		}))
	}
	for config, last := range map[string]string{"gateway.yaml": "otelcol_exporter_sent_metric_points", "agent.yaml": "otelcol_exporter_queue_size"} {
		require.True(t, t.Run(config, func(t *testing.T) {
			port, nowhere := freePort(t), freeAddress(t)
			c := startCollector(t, options{config: config, env: map[string]string{
				"NEPHILIA_TELEMETRY_PORT": port, "NEPHILIA_GATEWAY": nowhere, "NEPHILIA_LOGS": filepath.Join(t.TempDir(), "*.log"), "NEPHILIA_XDS": nowhere,
				"NEPHILIA_XDS_INSECURE": "true", "NEPHILIA_ZTUNNEL_METRICS": "http://" + nowhere, "NEPHILIA_ZTUNNEL_ADMIN": "http://" + nowhere,
			}})
			var families map[string]*dto.MetricFamily
			require.EventuallyWithT(t, func(t *assert.CollectT) {
				families = scrape(t, c, port)
				assert.Contains(t, families, last)
			}, time.Minute, 50*time.Millisecond)
			e.learn(families, func(labels.Labels, float64) {})
		}))
	}
	return e
}

func freePort(t *testing.T) string {
	_, port, err := net.SplitHostPort(freeAddress(t))
	require.NoError(t, err)
	return port
}

// scrape reads what a collector says of itself.
func scrape(t assert.TestingT, c *collector, port string) map[string]*dto.MetricFamily {
	response, err := c.client.Get("http://localhost:" + port + "/metrics")
	if err != nil {
		return nil
	}
	defer response.Body.Close()
	textParser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := textParser.TextToMetricFamilies(response.Body)
	assert.NoError(t, err)
	return families
}

// learn notes a collector's own metrics and their labels, and hands on each sample.
func (e *emitted) learn(families map[string]*dto.MetricFamily, sample func(series labels.Labels, value float64)) {
	builder := labels.NewBuilder(labels.EmptyLabels())
	for _, family := range families {
		add := func(name string, value float64) {
			series := builder.Set(model.MetricNameLabel, name).Labels()
			if e.own[name] == nil {
				e.own[name] = map[string]bool{}
			}
			series.Range(func(l labels.Label) { e.own[name][l.Name] = true })
			sample(series, value)
		}
		for _, metric := range family.GetMetric() {
			builder.Reset(labels.FromStrings("job", "nephilia", "instance", "localhost"))
			for _, pair := range metric.GetLabel() {
				builder.Set(pair.GetName(), pair.GetValue())
			}
			for _, bucket := range metric.GetHistogram().GetBucket() {
				builder.Set(model.BucketLabel, fmt.Sprint(bucket.GetUpperBound()))
				add(family.GetName()+"_bucket", float64(bucket.GetCumulativeCount()))
			}
			if metric.GetHistogram() == nil {
				add(family.GetName(), metric.GetCounter().GetValue()+metric.GetGauge().GetValue())
			}
		}
	}
}

// store lays a collector's own metrics into a recording's time, growing.
func (e *emitted) store(t *testing.T, families map[string]*dto.MetricFamily, start time.Time) {
	app := e.db.Appender(context.Background())
	e.learn(families, func(series labels.Labels, value float64) {
		for i := range 10 {
			_, err := app.Append(0, series, start.Add(time.Duration(i)*step).UnixMilli(), value*float64(i+1))
			require.NoError(t, err)
		}
	})
	require.NoError(t, app.Commit())
}

// ownMetrics are those of every component of ours with their labels, under the names that the collector serves.
func ownMetrics(t *testing.T) map[string]map[string]bool {
	own := map[string]map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(root, "*", "*", "metadata.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		var metadata struct {
			Attributes map[string]struct {
				Name string `yaml:"name_override"`
			}
			Telemetry struct {
				Metrics map[string]struct {
					Attributes []string
					Histogram  any
				}
			}
		}
		require.NoError(t, yaml.Unmarshal(raw, &metadata))
		for name, metric := range metadata.Telemetry.Metrics {
			name = "otelcol_" + name
			if metric.Histogram != nil {
				name += "_bucket"
			}
			own[name] = map[string]bool{"job": true, "instance": true, "le": metric.Histogram != nil}
			for _, attribute := range metric.Attributes {
				if other := metadata.Attributes[attribute].Name; other != "" {
					attribute = other
				}
				own[name][attribute] = true
			}
		}
	}
	return own
}

// check holds an expression to what is emitted: every metric is there, and every label that it or a legend names.
func (e *emitted) check(t *testing.T, expression, legend string) {
	parsed, err := e.parser.ParseExpr(expression)
	require.NoError(t, err, expression)
	var wanted []string
	for _, match := range regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`).FindAllStringSubmatch(legend, -1) {
		wanted = append(wanted, match[1])
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if aggregate, ok := node.(*parser.AggregateExpr); ok && !aggregate.Without {
			wanted = append(wanted, aggregate.Grouping...)
		}
		return nil
	})
	seen, own := map[string]bool{}, false
	for _, matchers := range parser.ExtractSelectors(parsed) {
		name := nameOf(matchers)
		if strings.HasPrefix(name, "otelcol_") {
			own = true
			require.Contains(t, e.own, name, "the collector has no such metric")
			for label, has := range e.own[name] {
				seen[label] = seen[label] || has
			}
			continue
		}
		for _, series := range e.series(t, matchers) {
			series.Range(func(l labels.Label) { seen[l.Name] = true })
		}
	}
	for _, label := range wanted {
		assert.True(t, seen[label] || label == "le", "nothing in %s has a label %s", expression, label)
	}
	if points := e.run(t, expression); !own {
		assert.NotZero(t, points, "%s gives nothing", expression)
	}
}

func nameOf(matchers []*labels.Matcher) string {
	at := slices.IndexFunc(matchers, func(m *labels.Matcher) bool { return m.Name == model.MetricNameLabel })
	return matchers[at].Value
}

// series are those that a selector finds; there must be some.
func (e *emitted) series(t *testing.T, matchers []*labels.Matcher) []labels.Labels {
	querier, err := e.db.Querier(0, time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, err)
	defer func() { require.NoError(t, querier.Close()) }()
	var found []labels.Labels
	set := querier.Select(context.Background(), false, nil, matchers...)
	for set.Next() {
		found = append(found, set.At().Labels())
	}
	require.NoError(t, set.Err())
	assert.NotEmpty(t, found, "no series match %v", matchers)
	return found
}

// run evaluates an expression over all recordings and returns how many points it gives.
func (e *emitted) run(t *testing.T, expression string) (points int) {
	for _, span := range e.spans {
		query, err := e.engine.NewRangeQuery(context.Background(), e.db, nil, expression, span[0], span[1].Add(time.Minute), step)
		require.NoError(t, err)
		result := query.Exec(context.Background())
		require.NoError(t, result.Err, expression)
		matrix, err := result.Matrix()
		require.NoError(t, err)
		points += matrix.TotalSamples()
		query.Close()
	}
	return points
}

// dashboard is what matters here of Grafana's model.
type dashboard struct {
	UID, Title string
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
	Panels []struct {
		Title, Type string
		Targets     []struct{ Expr, LegendFormat string }
	}
}

// dashboards are those that are shipped, by their files' names.
func dashboards(t *testing.T) map[string]*dashboard {
	paths, err := filepath.Glob(filepath.Join(root, "deploy", "grafana", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	all := map[string]*dashboard{}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		var d dashboard
		require.NoError(t, json.Unmarshal(raw, &d))
		all[filepath.Base(path)] = &d
	}
	return all
}

// values are what the dashboard's variables stand for, of which those that are asked for are everything.
func (d *dashboard) values() *strings.Replacer {
	replaced := []string{"$__rate_interval", "1m", "$__range", "3m"}
	for _, variable := range d.Templating.List {
		if variable.Type == "query" {
			replaced = append(replaced, "$"+variable.Name, ".*")
		}
	}
	return strings.NewReplacer(replaced...)
}

// expressions are the panels', with values.
func (d *dashboard) expressions() iter.Seq[string] {
	values := d.values()
	return func(yield func(string) bool) {
		for _, panel := range d.Panels {
			for _, target := range panel.Targets {
				if !yield(values.Replace(target.Expr)) {
					return
				}
			}
		}
	}
}

// answers tells whether a collector's own Prometheus API has data for an expression within a recording.
func answers(t *testing.T, c *collector, expression string, truth *truth) bool {
	query := between(truth.from, truth.to.Add(time.Minute))
	query.Set("query", expression)
	query.Set("step", "15")
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	c.get(t, "/prometheus/api/v1/query_range", query, &answer)
	return len(answer.Data.Result) > 0
}

// TestPromQL holds the dashboards and the alert rules to the series that there are.
func TestPromQL(t *testing.T) {
	e := emit(t, "payment-refused", "policy-deny", "shipping-500", "node-loss")
	ids := map[string]string{}
	for name, d := range dashboards(t) {
		t.Run(name, func(t *testing.T) {
			assert.Empty(t, ids[d.UID], "two dashboards with one uid")
			ids[d.UID] = name
			e.checkDashboard(t, d)
			if name == "collector.json" {
				return // of what a collector says of itself its own store has nothing
			}
			for expression := range d.expressions() {
				if !strings.Contains(expression, "mesh_slo_budget_left_ratio") { // objectives are of a Prometheus's dashboards
					assert.True(t, e.answered[expression], "/prometheus has nothing for %s", expression)
				}
			}
		})
	}
	t.Run("alerts", func(t *testing.T) {
		groups, errs := rulefmt.ParseFile(filepath.Join(root, "deploy", "alerts", "nephilia.rules.yaml"), false, model.UTF8Validation, e.parser, slog.New(slog.DiscardHandler))
		require.Empty(t, errs)
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				parsed, err := e.parser.ParseExpr(rule.Expr)
				require.NoError(t, err)
				for _, matchers := range parser.ExtractSelectors(parsed) {
					if name := nameOf(matchers); strings.HasPrefix(name, "otelcol_") {
						assert.Contains(t, e.own, name, "%s: the collector has no such metric", rule.Alert)
					} else {
						e.series(t, matchers)
					}
				}
				e.run(t, rule.Expr)
			}
		}
	})
}

func (e *emitted) checkDashboard(t *testing.T, d *dashboard) {
	values := d.values()
	for _, variable := range d.Templating.List {
		if variable.Type != "query" {
			continue
		}
		query := fmt.Sprint(variable.Query.(map[string]any)["query"])
		parts := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(query)
		require.NotNil(t, parts, query)
		e.check(t, "sum by ("+parts[2]+") ("+values.Replace(parts[1])+")", "")
	}
	queries := 0
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			queries++
			t.Run(panel.Title, func(t *testing.T) { e.check(t, values.Replace(target.Expr), target.LegendFormat) })
		}
	}
	assert.NotZero(t, queries)
}
