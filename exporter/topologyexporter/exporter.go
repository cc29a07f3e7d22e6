package topologyexporter

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Store takes telemetry over. The topology_query extension is one.
type Store interface {
	// WriteMetrics, WriteLogs and WriteTraces return when what they were given can be queried. They do not keep or
	// change it.
	WriteMetrics(ctx context.Context, md pmetric.Metrics) error
	WriteLogs(ctx context.Context, ld plog.Logs) error
	WriteTraces(ctx context.Context, td ptrace.Traces) error
}

type topologyExporter struct {
	config *Config
	store  Store
}

func (e *topologyExporter) start(_ context.Context, host component.Host) error {
	extension, ok := host.GetExtensions()[e.config.Extension]
	if !ok {
		return fmt.Errorf("extension %q is not configured, or not in service::extensions", e.config.Extension)
	}
	store, ok := extension.(Store)
	if !ok {
		return fmt.Errorf("extension %q is no topology store", e.config.Extension)
	}
	e.store = store
	return nil
}

func (e *topologyExporter) metrics(ctx context.Context, md pmetric.Metrics) error {
	return e.store.WriteMetrics(ctx, md)
}

func (e *topologyExporter) logs(ctx context.Context, ld plog.Logs) error {
	return e.store.WriteLogs(ctx, ld)
}

func (e *topologyExporter) traces(ctx context.Context, td ptrace.Traces) error {
	return e.store.WriteTraces(ctx, td)
}
