package topologyexporter

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap/confmaptest"
	"go.opentelemetry.io/collector/confmap/xconfmap"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/exporter/topologyexporter/internal/metadata"
)

// store is an extension that remembers what it was given.
type store struct {
	component.StartFunc
	component.ShutdownFunc
	metrics, logs, traces int
	err                   error
}

func (s *store) WriteMetrics(context.Context, pmetric.Metrics) error { s.metrics++; return s.err }
func (s *store) WriteLogs(context.Context, plog.Logs) error          { s.logs++; return s.err }
func (s *store) WriteTraces(context.Context, ptrace.Traces) error    { s.traces++; return s.err }

type host struct {
	component.Host
	extensions map[component.ID]component.Component
}

func (h host) GetExtensions() map[component.ID]component.Component { return h.extensions }

func newHost(extensions map[component.ID]component.Component) component.Host {
	return host{componenttest.NewNopHost(), extensions}
}

func TestEverySignalReachesTheStoreBeforeTheCallReturns(t *testing.T) {
	s := &store{}
	factory := NewFactory()
	config, settings := factory.CreateDefaultConfig(), exportertest.NewNopSettings(metadata.Type)
	h := newHost(map[component.ID]component.Component{component.MustNewID("topology_query"): s})
	metrics, err := factory.CreateMetrics(t.Context(), settings, config)
	require.NoError(t, err)
	logs, err := factory.CreateLogs(t.Context(), settings, config)
	require.NoError(t, err)
	traces, err := factory.CreateTraces(t.Context(), settings, config)
	require.NoError(t, err)
	for _, e := range []component.Component{metrics, logs, traces} {
		require.NoError(t, e.Start(t.Context(), h))
		defer func() { require.NoError(t, e.Shutdown(context.Background())) }()
	}
	md := pmetric.NewMetrics()
	md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty().SetEmptyGauge().DataPoints().AppendEmpty()
	require.NoError(t, metrics.ConsumeMetrics(t.Context(), md))
	ld := plog.NewLogs()
	ld.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	require.NoError(t, logs.ConsumeLogs(t.Context(), ld))
	td := ptrace.NewTraces()
	td.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty()
	require.NoError(t, traces.ConsumeTraces(t.Context(), td))
	assert.Equal(t, [3]int{1, 1, 1}, [3]int{s.metrics, s.logs, s.traces})
	s.err = errors.New("disk full")
	require.ErrorContains(t, metrics.ConsumeMetrics(t.Context(), md), "disk full")
	assert.False(t, metrics.Capabilities().MutatesData)
}

func TestStartWithoutAStore(t *testing.T) {
	factory := NewFactory()
	for name, test := range map[string]struct {
		extensions map[component.ID]component.Component
		want       string
	}{
		"missing": {nil, `extension "topology_query" is not configured`},
		"another one": {map[component.ID]component.Component{component.MustNewID("topology_query"): struct {
			component.StartFunc
			component.ShutdownFunc
		}{}}, "is no topology store"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := factory.CreateLogs(t.Context(), exportertest.NewNopSettings(metadata.Type), factory.CreateDefaultConfig())
			require.NoError(t, err)
			require.ErrorContains(t, e.Start(t.Context(), newHost(test.extensions)), test.want)
			require.NoError(t, e.Shutdown(t.Context()))
		})
	}
}

func TestConfig(t *testing.T) {
	all, err := confmaptest.LoadConf(filepath.Join("testdata", "config.yaml"))
	require.NoError(t, err)
	load := func(name string) (*Config, error) {
		sub, err := all.Sub(component.NewIDWithName(metadata.Type, name).String())
		require.NoError(t, err)
		config := createDefaultConfig().(*Config)
		if err := sub.Unmarshal(config); err != nil {
			return nil, err
		}
		return config, xconfmap.Validate(config)
	}
	plain, err := load("")
	require.NoError(t, err)
	assert.Equal(t, component.MustNewID("topology_query"), plain.Extension)
	assert.False(t, plain.QueueConfig.HasValue())
	other, err := load("all")
	require.NoError(t, err)
	assert.Equal(t, component.MustNewIDWithName("topology_query", "other"), other.Extension)
	assert.True(t, other.QueueConfig.HasValue())
	_, err = load("bad")
	require.Error(t, err)
}
