package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

// span is what the test reads of a span in OTLP JSON.
type span struct {
	TraceID, SpanID, ParentSpanID string
	Kind                          int
	Attributes                    []struct {
		Key   string
		Value struct{ StringValue string }
	}
}

func (s *span) direction() string {
	for _, attribute := range s.Attributes {
		if attribute.Key == "ztunnel.direction" {
			return attribute.Value.StringValue
		}
	}
	return ""
}

// An OTLP endpoint (another collector's receiver) gets the applications' spans and the connections', the two sides of a
// connection in one trace, and that one the application's where one used it.
func TestTracesReachAnOTLPEndpoint(t *testing.T) {
	folder := t.TempDir()
	endpoint, received := loopback.FreeAddress(t), filepath.Join(folder, "traces.jsonl")
	backend := filepath.Join(folder, "backend.yaml")
	config := `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: ` + endpoint + `}
exporters:
  file: {path: ` + received + `, flush_interval: 200ms}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
`
	if err := os.WriteFile(backend, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	startNephilia(t, nil, backend)
	n := startNephilia(t, replayAtOnce(map[string]string{"NEPHILIA_JAEGER_OTLP": endpoint}), "replay.yaml", "examples/jaeger.yaml")
	n.replayed(t)
	eventually(t, "the endpoint has the traces", func() error {
		spans, err := readSpans(received)
		if err != nil {
			return err
		}
		byID := map[string]*span{}
		for i := range spans {
			byID[spans[i].SpanID] = &spans[i]
		}
		applications, joined, carried := 0, 0, 0
		for i := range spans {
			s := &spans[i]
			parent := byID[s.ParentSpanID]
			switch {
			case s.direction() == "":
				applications++
			case s.direction() == "inbound" && parent != nil && parent.direction() == "outbound" && parent.TraceID == s.TraceID:
				joined++
			case s.direction() == "outbound" && parent != nil && parent.direction() == "" && parent.TraceID == s.TraceID:
				carried++
			}
		}
		if applications < 4000 || joined < 2900 || carried < 1000 {
			return fmt.Errorf("%d application spans, %d joined connections, %d below the request that they carried", applications, joined, carried)
		}
		return nil
	})
}

func readSpans(path string) ([]span, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var spans []span
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 256<<20)
	for lines.Scan() {
		var request struct {
			ResourceSpans []struct {
				ScopeSpans []struct{ Spans []span }
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				spans = append(spans, scope.Spans...)
			}
		}
	}
	return spans, lines.Err()
}
