package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// spanSink is an exporter that keeps the flow spans that reach it.
type spanSink struct {
	mu    sync.Mutex
	spans []flowSpan
}

// flowSpan is one side's span of a connection.
type flowSpan struct {
	traceID    pcommon.TraceID
	id, parent pcommon.SpanID
	outbound   bool
	start, end time.Time
	client     netip.Addr
	clientPort int64
	hbone      string
}

func (s *spanSink) add(factories *otelcol.Factories) {
	factory := exporter.NewFactory(component.MustNewType("sink"),
		func() component.Config { return &struct{}{} },
		exporter.WithTraces(func(ctx context.Context, set exporter.Settings, cfg component.Config) (exporter.Traces, error) {
			return exporterhelper.NewTraces(ctx, set, cfg, s.consume,
				exporterhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}))
		}, component.StabilityLevelDevelopment))
	factories.Exporters[factory.Type()] = factory
}

func (s *spanSink) consume(_ context.Context, traces ptrace.Traces) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range traces.ResourceSpans().All() {
		for _, scope := range resource.ScopeSpans().All() {
			for _, span := range scope.Spans().All() {
				attrs := span.Attributes()
				direction, ok := attrs.Get("ztunnel.direction")
				if !ok {
					continue
				}
				f := flowSpan{
					traceID: span.TraceID(), id: span.SpanID(), parent: span.ParentSpanID(),
					outbound: direction.Str() == "outbound",
					start:    span.StartTimestamp().AsTime(), end: span.EndTimestamp().AsTime(),
				}
				if v, ok := attrs.Get("source.address"); ok {
					f.client, _ = netip.ParseAddr(v.Str())
				}
				if v, ok := attrs.Get("source.port"); ok {
					f.clientPort = v.Int()
				}
				if v, ok := attrs.Get("destination.hbone_address"); ok {
					f.hbone = v.Str()
				}
				s.spans = append(s.spans, f)
			}
		}
	}
	return nil
}

// side identifies one record of a connection in the raw logs and among the spans.
type side struct {
	outbound bool
	client   netip.Addr
	port     int
	hbone    string
	closed   time.Time
}

// TestPairing checks the joining of a connection's two records into one trace: how many, and that none is wrong. Which
// records belong together is worked out from the applications' spans, which neither ztunnel saw: a call's client span
// lies within exactly one outbound record of that pair of pods, its server span within exactly one inbound record.
// Where several would fit, the call decides nothing.
func TestPairing(t *testing.T) {
	for _, name := range recordingNames(t) {
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(root, "recordings", name)
			tr := readTruth(t, folder)
			sink := &spanSink{}
			c := startCollector(t, options{
				config: "replay.yaml",
				env:    map[string]string{"NEPHILIA_RECORDING": folder, "NEPHILIA_REPLAY_SPEED": "max"},
				set: []string{
					sampleAll,
					"exporters::sink:",
					"service::pipelines::traces::exporters: [sink]",
				},
				factories: sink.add,
			})
			c.awaitReplay(t, 2*time.Minute)
			sink.mu.Lock()
			defer sink.mu.Unlock()

			_, withInbound := tr.connections()
			spans := map[side]flowSpan{}
			byID := map[pcommon.SpanID]side{}
			for _, span := range sink.spans {
				key := tr.sideOf(&span)
				spans[key] = span
				byID[span.id] = key
			}
			require.GreaterOrEqual(t, len(spans), len(tr.records)*999/1000, "every record gives a span that can be told from others")

			// inboundOf maps an outbound record to the inbound one that was joined to it.
			inboundOf := map[side]side{}
			for key, span := range spans {
				if key.outbound || span.parent.IsEmpty() {
					continue
				}
				client, ok := byID[span.parent]
				if !ok || !client.outbound {
					continue
				}
				assert.Equal(t, spans[client].traceID, span.traceID, "one trace")
				assert.NotContains(t, inboundOf, client, "two server sides for one client side")
				inboundOf[client] = key
			}
			assert.GreaterOrEqual(t, len(inboundOf), withInbound*99/100, "paired")
			assert.LessOrEqual(t, len(inboundOf), withInbound, "more pairs than counterparts")

			decided, wrong := tr.judge(inboundOf)
			t.Logf("%d of %d paired (%.2f %%), %d of them decided by application spans, %d wrong",
				len(inboundOf), withInbound, 100*float64(len(inboundOf))/float64(withInbound), decided, len(wrong))
			assert.Greater(t, decided, withInbound/4, "enough pairs are decided to judge")
			assert.Empty(t, wrong)
		})
	}
}

// sampleAll makes every connection a pair of spans.
const sampleAll = "receivers::ztunnel::spans::sampling_percentage: 100"

// slack is what a record's rounding to milliseconds and the time between an application and its ztunnel may add.
const slack = 3 * time.Millisecond

// sideOf is the record that a span was made of. The graph moves a span by some milliseconds into the one around it.
func (tr *truth) sideOf(span *flowSpan) side {
	key := side{span.outbound, span.client, int(span.clientPort), span.hbone, span.end}
	nearest := 10 * time.Millisecond
	for i := range tr.records {
		r := &tr.records[i]
		at := r.side()
		if apart := at.closed.Sub(span.end).Abs(); at.outbound == key.outbound && at.client == key.client && at.port == key.port && at.hbone == key.hbone && apart <= nearest {
			key.closed, nearest = at.closed, apart
		}
	}
	return key
}

// judge compares pairs with what the applications' calls say of them.
func (tr *truth) judge(inboundOf map[side]side) (decided int, wrong []string) {
	type pods struct{ client, server party }
	outbound, inbound := map[pods][]record{}, map[pods][]record{}
	for _, r := range tr.records {
		key := pods{tr.podIP[r.client], tr.podIP[r.server]}
		if r.outbound {
			outbound[key] = append(outbound[key], r)
		} else {
			inbound[key] = append(inbound[key], r)
		}
	}
	judged := map[side]bool{}
	for _, c := range tr.calls {
		key := pods{c.clientPod, c.serverPod}
		client := containing(outbound[key], c.clientStart, c.clientEnd)
		server := containing(inbound[key], c.serverStart, c.serverEnd)
		if client == nil || server == nil {
			continue
		}
		at := client.side()
		if judged[at] {
			continue // a connection that carried several calls
		}
		judged[at] = true
		paired, ok := inboundOf[at]
		if !ok {
			continue
		}
		decided++
		if paired != server.side() {
			wrong = append(wrong, fmt.Sprintf("%v is joined to %v, and call %s went over %v", at, paired, c.traceID, server.side()))
		}
	}
	return decided, wrong
}

// containing is the only record whose life holds [start, end] and, so that it can be told from its neighbours, the only
// one that overlaps it at all.
func containing(records []record, start, end time.Time) *record {
	var found *record
	for i := range records {
		r := &records[i]
		opened := r.closed.Add(-r.duration)
		if opened.Add(-slack).After(end) || r.closed.Add(slack).Before(start) {
			continue
		}
		if found != nil {
			return nil
		}
		found = r
	}
	if found == nil || found.closed.Add(-found.duration-slack).After(start) || found.closed.Add(slack).Before(end) {
		return nil
	}
	return found
}

func (r *record) side() side {
	return side{r.outbound, r.client, r.clientSocketPort, r.hbone, r.closed}
}
