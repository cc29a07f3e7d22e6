// Package promapi serves the stored history by Prometheus's HTTP API, with Prometheus's own handlers: what reads a Prometheus (Grafana,
// Perses, Kiali, Jaeger's monitor, Argo Rollouts, Flagger, KEDA) reads the mesh's edges without one. It is read-only.
package promapi

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// Prefix is where the API is served: Prometheus's own paths begin behind it.
const Prefix = "/prometheus"

// version is that of the Prometheus whose handlers these are. Clients choose by it what they may ask.
const version = "3.12.0"

// maxForm bounds a posted query, in bytes.
const maxForm = 1 << 20

// Settings of the API.
type Settings struct {
	Engine  promql.QueryEngine
	Storage storage.SampleAndChunkQueryable
	// Now is the data's own time, at which a query is evaluated that names none.
	Now    func() time.Time
	Logger *slog.Logger
	// Metadata is what the metrics are.
	Metadata scrape.MetricMetadataStore
	// Lookback is how long a sample holds.
	Lookback time.Duration
}

// served are the routes that are passed on. All others of Prometheus's write, administrate, or tell of a server that this is not.
var served = regexp.MustCompile(`^/api/v1/(query|query_range|query_exemplars|format_query|parse_query|labels|label/[^/]+/values|series|` +
	`metadata|rules|alerts|status/buildinfo)$`)

// noOrigin matches no origin: pages from elsewhere may not read.
var noOrigin = regexp.MustCompile(`[^\s\S]`)

// New returns the handler of all paths below Prefix.
func New(s Settings) http.Handler {
	none, described := none{}, described{target: scrape.NewTarget(labels.EmptyLabels(), &config.DefaultScrapeConfig, nil, nil)}
	described.target.SetMetadataStore(s.Metadata)
	api := v1.NewAPI(
		s.Engine, s.Storage, nil, nil, none,
		func(context.Context) v1.ScrapePoolsRetriever { return none },
		func(context.Context) v1.TargetRetriever { return described },
		func(context.Context) v1.AlertmanagerRetriever { return nil },
		func() config.Config { return config.DefaultConfig },
		nil, v1.GlobalURLOptions{},
		func(next http.HandlerFunc) http.HandlerFunc { return next },
		nil, "", false, s.Logger,
		func(context.Context) v1.RulesRetriever { return none },
		0, 0, 0, false, noOrigin,
		func() (v1.RuntimeInfo, error) { return v1.RuntimeInfo{}, nil },
		&v1.PrometheusVersion{Version: version},
		nil, nil,
		prometheus.NewRegistry(), prometheus.NewRegistry(),
		nil, false, nil, false, false, false, false,
		s.Lookback, false, false, nil, nil, v1.OpenAPIOptions{}, parser.NewParser(parser.Options{}),
	)
	router := route.New()
	api.Register(router.WithPrefix("/api/v1"))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, Prefix)
		if !served.MatchString(path) {
			http.NotFound(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			http.Error(w, "the form cannot be read: "+err.Error(), http.StatusBadRequest)
			return
		}
		if path == "/api/v1/query" && r.Form.Get("time") == "" {
			r.Form.Set("time", strconv.FormatFloat(float64(s.Now().UnixMilli())/1000, 'f', 3, 64))
		}
		clone := r.Clone(r.Context())
		clone.Form, clone.URL.Path, clone.URL.RawPath = r.Form, path, ""
		router.ServeHTTP(w, clone)
	})
}

// none is what a Prometheus has beside its series: rules, exemplars.
type none struct{}

func (none) ExemplarQuerier(context.Context) (storage.ExemplarQuerier, error) { return none{}, nil }

func (none) Select(_, _ int64, _ ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return []exemplar.QueryResult{}, nil
}

func (none) ScrapePools() []string { return nil }

func (none) RuleGroups() []*rules.Group { return nil }

func (none) AlertingRules() []*rules.AlertingRule { return nil }

// described is the one target that there seems to be: its metadata is that of all metrics.
type described struct{ target *scrape.Target }

func (d described) TargetsActive() map[string][]*scrape.Target {
	return map[string][]*scrape.Target{"nephilia": {d.target}}
}

func (described) TargetsDropped() map[string][]*scrape.Target { return nil }

func (described) TargetsDroppedCounts() map[string]int { return nil }

func (described) ScrapePoolConfig(string) (*config.ScrapeConfig, error) { return nil, nil }
