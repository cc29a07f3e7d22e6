package flow

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares OTLP JSON, or writes it.
func golden(t *testing.T, name string, got []byte, err error) {
	t.Helper()
	require.NoError(t, err)
	var indented bytes.Buffer
	require.NoError(t, json.Indent(&indented, got, "", "  "))
	indented.WriteByte('\n')
	file := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(file, indented.Bytes(), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(want), indented.String())
}

// TestGolden runs a handful of lines of two nodes through every signal. The lines hold both formats, both sides
// of one connection, a denial, a refusal, an early denial, a drain, a connection to outside the mesh, messages.
func TestGolden(t *testing.T) {
	p := New(Config{RecordMetrics: true, RecordLogs: true, RecordSpans: true, SamplingRatio: 1, Cluster: "Kubernetes"}, nil)
	for _, node := range []string{"node-a", "node-b"} {
		text, err := os.ReadFile(filepath.Join("testdata", node+".log"))
		require.NoError(t, err)
		splitter := accesslog.NewEntrySplitter(accesslog.Style{}, 0, 0)
		emit := func(entry []byte) { p.Entry(node, entry, time.Time{}) }
		for line := range strings.Lines(string(text)) {
			splitter.Line([]byte(strings.TrimSuffix(line, "\n")), emit)
		}
		splitter.Flush(emit)
	}
	at := time.Date(2026, 11, 23, 21, 40, 0, 0, time.UTC)
	metrics, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(p.FlushMetrics(at, false))
	golden(t, "metrics.json", metrics, err)
	logs, err := (&plog.JSONMarshaler{}).MarshalLogs(p.FlushLogs())
	golden(t, "logs.json", logs, err)
	traces, err := (&ptrace.JSONMarshaler{}).MarshalTraces(p.FlushSpans())
	golden(t, "traces.json", traces, err)
}
