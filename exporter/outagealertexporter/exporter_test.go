package outagealertexporter

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"

	"github.com/nephilia/nephilia/exporter/outagealertexporter/internal/metadata"
	"github.com/nephilia/nephilia/exporter/outagealertexporter/internal/metadatatest"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// alertmanager takes alerts as a real one does; while it is broken it takes none.
type alertmanager struct {
	*httptest.Server
	mu     sync.Mutex
	broken bool
	alerts []alert
	path   string
}

func newAlertmanager(t *testing.T) *alertmanager {
	a := &alertmanager{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.path = r.Method + " " + r.URL.Path
		if a.broken {
			http.Error(w, "out of order", http.StatusServiceUnavailable)
			return
		}
		var alerts []alert
		body, err := io.ReadAll(r.Body)
		if assert.NoError(t, err) && assert.NoError(t, json.Unmarshal(body, &alerts)) {
			a.alerts = append(a.alerts, alerts...)
		}
	}))
	t.Cleanup(a.Close)
	return a
}

func (a *alertmanager) breakDown(broken bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = broken
}

func (a *alertmanager) told() []alert {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]alert(nil), a.alerts...)
}

func newExporter(t *testing.T, endpoint string, settings exporter.Settings) exporter.Logs {
	cfg := createDefaultConfig().(*Config)
	cfg.Endpoint = endpoint
	require.NoError(t, cfg.Validate())
	e, err := NewFactory().CreateLogs(t.Context(), settings, cfg)
	require.NoError(t, err)
	require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
	t.Cleanup(func() { require.NoError(t, e.Shutdown(context.Background())) })
	return e
}

func tell(t *testing.T, e exporter.Logs, o *outage.Outage) {
	logs := plog.NewLogs()
	records := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
	records.AppendEmpty().Body().SetStr("something else")
	record := records.AppendEmpty()
	record.SetEventName(semconv.EventOutage)
	require.NoError(t, o.PutMap(record.Body().SetEmptyMap()))
	require.NoError(t, e.ConsumeLogs(t.Context(), logs))
}

const patience = 30 * time.Second

func TestOutagesAreTold(t *testing.T) {
	a := newAlertmanager(t)
	e := newExporter(t, a.URL+"/prefix/", exportertest.NewNopSettings(metadata.Type))
	now := time.Now()
	o := openOutage("0123")
	o.StartedAt = now.Add(-time.Minute)
	tell(t, e, o)
	require.Eventually(t, func() bool { return len(a.told()) == 1 }, patience, 5*time.Millisecond)
	first := a.told()[0]
	assert.Equal(t, "POST /prefix/api/v2/alerts", a.path)
	assert.Equal(t, "0123", first.Labels["outage_id"])
	assert.Equal(t, "http://localhost:16680/outages/0123", first.GeneratorURL)
	assert.Equal(t, o.StartedAt.UnixMilli(), first.StartsAt.UnixMilli())
	assert.True(t, first.EndsAt.After(now.Add(2*time.Minute)), "an alert that nobody renews ends by itself, but not at once")

	tell(t, e, ended(o, now))
	require.Eventually(t, func() bool { return len(a.told()) == 2 }, patience, 5*time.Millisecond)
	assert.Equal(t, now.UnixMilli(), a.told()[1].EndsAt.UnixMilli())
	assert.Equal(t, first.Labels, a.told()[1].Labels)
}

func TestNothingIsLostWhileTheAlertmanagerIsAway(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	a := newAlertmanager(t)
	a.breakDown(true)
	settings := exportertest.NewNopSettings(metadata.Type)
	settings.TelemetrySettings = telemetry.NewTelemetrySettings()
	e := newExporter(t, a.URL, settings)
	tell(t, e, openOutage("a"))
	tell(t, e, ended(openOutage("a"), later))
	tell(t, e, openOutage("b"))
	require.Eventually(t, func() bool {
		_, err := telemetry.GetMetric("otelcol_outage_alert_send_failed")
		return err == nil
	}, patience, 5*time.Millisecond)
	a.breakDown(false)
	require.Eventually(t, func() bool { return len(a.told()) >= 2 }, patience, 5*time.Millisecond)
	byID := map[string]alert{}
	for _, one := range a.told() {
		byID[one.Labels["outage_id"]] = one
	}
	assert.Equal(t, later, byID["a"].EndsAt.UTC())
	assert.True(t, byID["b"].EndsAt.After(time.Now()))
	metadatatest.AssertEqualOutageAlertActive(t, telemetry, pointOf(1), metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
}

func TestShutdownTellsTheLastEnd(t *testing.T) {
	a := newAlertmanager(t)
	cfg := createDefaultConfig().(*Config)
	cfg.Endpoint = a.URL
	e, err := NewFactory().CreateLogs(t.Context(), exportertest.NewNopSettings(metadata.Type), cfg)
	require.NoError(t, err)
	require.NoError(t, e.Start(t.Context(), componenttest.NewNopHost()))
	a.breakDown(true)
	tell(t, e, openOutage("a"))
	tell(t, e, ended(openOutage("a"), later))
	a.breakDown(false)
	require.NoError(t, e.Shutdown(context.Background()))
	told := a.told()
	require.NotEmpty(t, told)
	assert.Equal(t, later, told[len(told)-1].EndsAt.UTC())
}

func TestWhatCannotBeReadIsCounted(t *testing.T) {
	telemetry := componenttest.NewTelemetry()
	t.Cleanup(func() { require.NoError(t, telemetry.Shutdown(context.Background())) })
	settings := exportertest.NewNopSettings(metadata.Type)
	settings.TelemetrySettings = telemetry.NewTelemetrySettings()
	e := newExporter(t, newAlertmanager(t).URL, settings)
	logs := plog.NewLogs()
	record := logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName(semconv.EventOutage)
	require.NoError(t, e.ConsumeLogs(t.Context(), logs))
	metadatatest.AssertEqualOutageAlertMalformed(t, telemetry, pointOf(1), metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
}

func pointOf(n int64) []metricdata.DataPoint[int64] { return []metricdata.DataPoint[int64]{{Value: n}} }
