package prometheusexporter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/common/expfmt"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/exporter/prometheusexporter/internal/metadata"
)

// maxScrapes bounds the scrapes that go on at a time: each holds the values of all series while its reader takes them.
const maxScrapes = 8

// writeSize is how many bytes are written at a time.
const writeSize = 64 << 10

// shutdownTimeout is how long those that read are waited for in the end.
const shutdownTimeout = 5 * time.Second

type prometheusExporter struct {
	cfg       *Config
	settings  component.TelemetrySettings
	telemetry *metadata.TelemetryBuilder
	series    *seriesStore
	began     time.Time
	scrapes   scrapes
	server    *http.Server
	serving   sync.WaitGroup
}

func newPrometheusExporter(cfg *Config, settings exporter.Settings) (*prometheusExporter, error) {
	telemetry, err := metadata.NewTelemetryBuilder(settings.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("creating internal telemetry: %w", err)
	}
	e := &prometheusExporter{
		cfg: cfg, settings: settings.TelemetrySettings, telemetry: telemetry, series: newSeriesStore(cfg), began: time.Now(),
		scrapes: scrapes{open: map[*scrape]struct{}{}},
	}
	err = telemetry.RegisterPrometheusExporterSeriesCallback(func(_ context.Context, o metric.Int64Observer) error {
		o.Observe(int64(e.series.len()))
		return nil
	})
	return e, err
}

func (e *prometheusExporter) start(ctx context.Context, host component.Host) error {
	listener, err := e.cfg.ToListener(ctx)
	if err != nil {
		return fmt.Errorf("listening for Prometheus: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", e.serve)
	e.server, err = e.cfg.ToServer(ctx, host.GetExtensions(), e.settings, mux)
	if err != nil {
		return errors.Join(fmt.Errorf("serving Prometheus: %w", err), listener.Close())
	}
	e.serving.Go(func() {
		if err := e.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			e.settings.Logger.Error("Stopped serving Prometheus", zap.Error(err))
		}
	})
	return nil
}

func (e *prometheusExporter) shutdown(ctx context.Context) (err error) {
	if e.server != nil {
		within, cancel := context.WithTimeout(ctx, shutdownTimeout)
		defer cancel()
		if err = e.server.Shutdown(within); err != nil {
			err = e.server.Close()
		}
	}
	e.serving.Wait()
	e.telemetry.Shutdown()
	return err
}

func (e *prometheusExporter) consume(ctx context.Context, md pmetric.Metrics) error {
	for reason, points := range e.series.take(md, time.Since(e.began)) {
		if points > 0 {
			e.telemetry.PrometheusExporterPointsRefused.Add(ctx, int64(points), metric.WithAttributes(attribute.String("reason", refusal(reason).String())))
		}
	}
	return nil
}

// serve answers a scrape, in the format that the client prefers.
func (e *prometheusExporter) serve(w http.ResponseWriter, r *http.Request) {
	out := e.scrapes.enter(w)
	if out == nil {
		e.telemetry.PrometheusExporterScrapesRefused.Add(r.Context(), 1)
		w.Header().Set("Retry-After", "10")
		http.Error(w, "other scrapes go on", http.StatusServiceUnavailable)
		return
	}
	defer e.scrapes.leave(out)
	format := expfmt.Negotiate(r.Header)
	if e.cfg.EnableOpenMetrics {
		format = expfmt.NegotiateIncludingOpenMetrics(r.Header)
	}
	w.Header().Set("Content-Type", string(format))
	if err := e.write(out, r, format); err != nil {
		// The client has gone, or is too slow.
		e.settings.Logger.Debug("Did not finish a scrape", zap.Error(err))
	}
}

func (e *prometheusExporter) write(w http.ResponseWriter, r *http.Request, format expfmt.Format) error {
	w.Header().Set("Vary", "Accept-Encoding")
	if !acceptsGzip(r.Header.Get("Accept-Encoding")) {
		return e.encode(w, format)
	}
	w.Header().Set("Content-Encoding", "gzip")
	compressed, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	return errors.Join(e.encode(compressed, format), compressed.Close())
}

func (e *prometheusExporter) encode(to io.Writer, format expfmt.Format) error {
	out := bufio.NewWriterSize(to, writeSize)
	encoder := expfmt.NewEncoder(out, format)
	for _, f := range e.series.families(time.Since(e.began)) {
		if err := encoder.Encode(f.exposed(e.cfg.SendTimestamps)); err != nil {
			return fmt.Errorf("writing %s: %w", f.name, err)
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok {
		if err := closer.Close(); err != nil {
			return fmt.Errorf("writing the end: %w", err)
		}
	}
	return out.Flush()
}

func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if name, weight, _ := strings.Cut(part, ";"); strings.TrimSpace(name) == "gzip" {
			q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
}
