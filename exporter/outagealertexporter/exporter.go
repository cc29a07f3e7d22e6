package outagealertexporter

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/exporter/outagealertexporter/internal/metadata"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// alertExporter tells an Alertmanager of the outages in the book, from one goroutine.
type alertExporter struct {
	cfg       *Config
	set       component.TelemetrySettings
	telemetry *metadata.TelemetryBuilder
	book      *book
	url       string
	client    *http.Client

	wake chan struct{}
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func newAlertExporter(cfg *Config, settings exporter.Settings) (*alertExporter, error) {
	telemetry, err := metadata.NewTelemetryBuilder(settings.TelemetrySettings)
	if err != nil {
		return nil, fmt.Errorf("creating internal telemetry: %w", err)
	}
	e := &alertExporter{
		cfg: cfg, set: settings.TelemetrySettings, telemetry: telemetry, wake: make(chan struct{}, 1),
		url: strings.TrimSuffix(cfg.Endpoint, "/") + "/api/v2/alerts",
	}
	e.book = newBook(cfg.MaxAlerts, e.alertOf)
	return e, nil
}

func (e *alertExporter) alertOf(o *outage.Outage) alert {
	return alert{
		Labels: labelsOf(o, e.cfg.Labels), Annotations: annotationsOf(o, e.cfg.RunbookURL), StartsAt: o.StartedAt.UTC(),
		GeneratorURL: pageOf(e.cfg.ExternalURL, o.ID),
	}
}

func (e *alertExporter) start(ctx context.Context, host component.Host) error {
	client, err := e.cfg.ToClient(ctx, host.GetExtensions(), e.set)
	if err != nil {
		return fmt.Errorf("creating the HTTP client: %w", err)
	}
	e.client = client
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	e.stop = stop
	e.wg.Go(func() { e.run(running) })
	return nil
}

// shutdown tells the ends that are still to be told. What is open is told again after a restart, or ends by itself.
func (e *alertExporter) shutdown(ctx context.Context) error {
	defer e.telemetry.Shutdown()
	if e.stop == nil {
		return nil
	}
	e.stop()
	e.wg.Wait()
	e.stop = nil
	defer e.client.CloseIdleConnections()
	_ = e.send(ctx, false)
	return nil
}

// logs takes over the outage events of a batch; everything else in it is not this exporter's.
func (e *alertExporter) logs(ctx context.Context, logs plog.Logs) error {
	changed := false
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if record.EventName() == semconv.EventOutage {
					changed = true
					e.event(ctx, record)
				}
			}
		}
	}
	if changed {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

func (e *alertExporter) event(ctx context.Context, record plog.LogRecord) {
	o, err := outage.FromBody(record.Body())
	if err != nil {
		e.telemetry.OutageAlertMalformed.Add(ctx, 1)
		e.set.Logger.Warn("An outage event is not taken", zap.Error(err))
		return
	}
	if dropped := e.book.take(o, time.Now()); dropped > 0 {
		e.telemetry.OutageAlertDropped.Add(ctx, int64(dropped))
		e.set.Logger.Warn("An outage is not told: max_alerts is reached", zap.String("outage", o.ID), zap.Int("max_alerts", e.cfg.MaxAlerts))
	}
	e.telemetry.OutageAlertActive.Record(ctx, int64(e.book.active()))
}

const (
	// leastRetry is how soon after a failure it is tried again; the wait doubles up to the resend interval.
	leastRetry = 2 * time.Second
	// keptFor is for how many resend intervals an alert holds: Prometheus's rules choose the same.
	keptFor = 4
	// maxBatch is how many alerts travel in one request.
	maxBatch = 256
)

// run tells what changes at once, and all that is open at every interval.
func (e *alertExporter) run(ctx context.Context) {
	all := time.NewTicker(e.cfg.ResendInterval)
	defer all.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	wait := leastRetry
	failing := false
	for {
		everything := false
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
			if failing {
				continue // the retry will tell it
			}
		case <-all.C:
			everything = true
		case <-retry.C:
		}
		err := e.send(ctx, everything)
		failing = err != nil
		if !failing {
			wait = leastRetry
			continue
		}
		if ctx.Err() != nil {
			return
		}
		e.set.Logger.Warn("The Alertmanager was not told", zap.Error(err), zap.Duration("retry", wait))
		retry.Reset(wait)
		wait = min(2*wait, e.cfg.ResendInterval)
	}
}

// send tells what is due. It returns the first error; what was not taken stays to be told.
func (e *alertExporter) send(ctx context.Context, all bool) error {
	alerts, taken := e.book.due(all, time.Now().UTC().Add(keptFor*e.cfg.ResendInterval))
	for from := 0; from < len(alerts); from += maxBatch {
		batch := alerts[from:min(from+maxBatch, len(alerts))]
		if err := e.post(ctx, batch); err != nil {
			e.telemetry.OutageAlertSendFailed.Add(ctx, int64(len(batch)))
			e.book.untold(taken)
			return err
		}
		e.telemetry.OutageAlertSent.Add(ctx, int64(len(batch)))
	}
	e.book.told(taken)
	return nil
}

func (e *alertExporter) post(ctx context.Context, alerts []alert) error {
	body, err := json.Marshal(alerts)
	if err != nil {
		return fmt.Errorf("encoding alerts: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("posting alerts: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := e.client.Do(request)
	if err != nil {
		return fmt.Errorf("posting alerts: %w", err)
	}
	const shown = 512
	answer, _ := io.ReadAll(io.LimitReader(response.Body, shown))
	if err := response.Body.Close(); err != nil {
		return fmt.Errorf("posting alerts: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("posting alerts: %s: %s", response.Status, bytes.TrimSpace(answer))
	}
	return nil
}
