package outagedetector

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumertest"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/metadata"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// The story of a recording's kind: two faults apart from each other, one after the other.
func story(s *shop) {
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	s.recovery()
	s.run(3*time.Minute, s.live)
	s.loseNode()
	s.fault()
	s.nodes["node-b"].sources[semconv.SourceMetrics] = true
	s.recovery()
}

func TestSplitBatchesGiveTheSameOutages(t *testing.T) {
	whole := newShop(t, nil)
	story(whole)
	require.Len(t, whole.outages(), 2)

	split := newShop(t, nil)
	split.arrange = func(md pmetric.Metrics) []pmetric.Metrics {
		var batches []pmetric.Metrics
		for _, resource := range md.ResourceMetrics().All() {
			one := pmetric.NewMetrics()
			resource.CopyTo(one.ResourceMetrics().AppendEmpty())
			batches = append(batches, one)
		}
		return batches
	}
	story(split)
	assert.Equal(t, whole.outages(), split.outages())
}

func TestTwoCausesAreTwoOutages(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.broken[toRedis] = func(e *worldEdge) { e.fail(8, semconv.ErrorTypeConnectionReset, "", s.redis...) }
	s.broken[toCart] = func(e *worldEdge) { e.ok(8, s.cart...).answer(8, 8, 7*time.Millisecond, s.cart...) }
	s.fault()
	s.recovery()
	outages := s.outages()
	require.Len(t, outages, 2)
	roots := map[string]string{}
	for _, o := range outages {
		roots[rootText(o.Root)] = o.Kind
		assert.Equal(t, semconv.OutageStateResolved, o.State)
	}
	assert.Equal(t, map[string]string{"billing/payment": "connection_refused", "data/redis": "connection_reset"}, roots)
}

func TestFlappingIsOneOutage(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	for range 4 {
		s.refuse(semconv.ErrorTypeConnectionRefused, "")
		s.run(20*time.Second, s.live)
		s.heal()
		s.run(40*time.Second, s.live)
	}
	require.Len(t, s.outages(), 1)
	assert.Equal(t, semconv.OutageStateResolved, s.outages()[0].State)
	opened := 0
	for _, e := range s.events() {
		if e.Transition == semconv.TransitionOpened {
			opened++
		}
	}
	assert.Equal(t, 1, opened)
}

func TestSeverityGrowsAndStays(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	s.broken[toPayment] = func(e *worldEdge) {
		e.ok(4, s.payment...).fail(2, semconv.ErrorTypeConnectionReset, "", s.payment...)
	}
	s.run(40*time.Second, s.live)
	require.Len(t, s.outages(), 1)
	assert.Equal(t, rules.Warning, s.outages()[0].Severity)
	s.refuse(semconv.ErrorTypeConnectionReset, "")
	s.run(90*time.Second, s.live)
	require.Len(t, s.outages(), 1)
	assert.Equal(t, rules.Critical, s.outages()[0].Severity)
	s.recovery()
	assert.Equal(t, rules.Critical, s.outages()[0].Severity)
	assert.Equal(t, semconv.OutageStateResolved, s.outages()[0].State)
}

func TestWhatNobodyTriesBecomesStale(t *testing.T) {
	s := newShop(t, func(c *Config) { c.QuietTimeout = 2 * time.Minute })
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	s.broken[toPayment], s.broken[toCheckout], s.broken[toFrontend], s.broken[toShipping] = nil, nil, nil, nil
	s.run(4*time.Minute, s.live)
	require.Len(t, s.outages(), 1)
	assert.Equal(t, semconv.OutageStateStale, s.outages()[0].State)
	assert.NotNil(t, s.outages()[0].EndedAt)
}

// TestTelemetryThatGoesAway is an outage of which nothing more is heard because what told of it is gone: it is neither over nor does it
// go on, and that nothing is known is told by itself.
func TestTelemetryThatGoesAway(t *testing.T) {
	s := newShop(t, func(c *Config) { c.QuietTimeout = 2 * time.Minute })
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	require.Len(t, s.outages(), 1)
	s.nodes["node-b"].mute = true
	s.broken[toPayment], s.broken[toShipping], s.broken[toCheckout] = nil, nil, nil
	s.broken[toFrontend] = func(e *worldEdge) { e.ok(10, s.frontend[0]) }
	s.run(4*time.Minute, s.live)
	states := map[string]string{}
	for _, o := range s.outages() {
		states[o.Kind+" "+rootText(o.Root)] = o.State
	}
	assert.Equal(t, map[string]string{
		"connection_refused billing/payment": semconv.OutageStateStale, "telemetry_lost node/node-b": semconv.OutageStateOpen,
	}, states)
}

func TestNotOutages(t *testing.T) {
	for name, live := range map[string]func(*shop){
		"a rollout": func(s *shop) {
			s.health()
			old := s.payment[0]
			fresh := s.pod("billing/payment", "payment-3", "node-b")
			s.payment[0] = fresh
			s.run(20*time.Second, s.live)
			s.entity(s.workload(old), true)
			s.run(2*time.Minute, s.live)
		},
		"a workload removed on purpose": func(s *shop) {
			s.health()
			s.entity(s.workload(s.shipping[0]), true)
			s.broken[toShipping] = nil
			s.run(10*time.Minute, s.live)
		},
		"a client that went away": func(s *shop) {
			batch := s.pod("legacy/batch", "batch-1", "node-a")
			e := s.edge("legacy/batch", "shop/cart")
			s.run(3*time.Minute, func() { s.live(); e.ok(9, s.cart...) })
			s.entity(s.workload(batch), true)
			s.run(10*time.Minute, s.live)
		},
		"a client outside the mesh that stops": func(s *shop) {
			e := s.edge("/192.0.2.7", "shop/cart")
			s.run(3*time.Minute, func() { s.live(); e.ok(9, s.cart...) })
			s.run(10*time.Minute, s.live)
		},
		"errors as ever": func(s *shop) {
			n := 0
			s.broken[toShipping] = func(e *worldEdge) {
				n++
				bad := uint64(0)
				if n%4 == 0 {
					bad = 1
				}
				e.ok(5, s.shipping...).answer(5, bad, 8*time.Millisecond, s.shipping...)
			}
			s.run(20*time.Minute, s.live)
		},
		"the end of everything": func(s *shop) {
			s.health()
			s.run(5*time.Minute, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, nil)
			live(s)
			assert.Empty(t, s.outages())
		})
	}
}

// TestEventsLeaveFirst holds the events to leave before the metrics that caused them.
func TestEventsLeaveFirst(t *testing.T) {
	var order []string
	factory := NewFactory()
	cfg := createDefaultConfig()
	set := processortest.NewNopSettings(metadata.Type)
	metricsSink := &orderSink{order: &order}
	metrics, err := factory.CreateMetrics(context.Background(), set, cfg, metricsSink)
	require.NoError(t, err)
	logs, err := factory.CreateLogs(context.Background(), set, cfg, orderLogs{metricsSink})
	require.NoError(t, err)
	host := componenttest.NewNopHost()
	require.NoError(t, metrics.Start(context.Background(), host))
	require.NoError(t, logs.Start(context.Background(), host))
	s := newShop(t, nil)
	s.stop()
	s.metrics, s.logsIn = metrics, logs
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	require.Contains(t, order, "opened")
	for i, what := range order {
		if what == "opened" {
			assert.Equal(t, "metrics with outage", order[i+1])
		}
	}
}

// orderSink notes in which order events and metrics arrive.
type orderSink struct {
	order *[]string
}

func (s *orderSink) ConsumeMetrics(_ context.Context, md pmetric.Metrics) error {
	what := "metrics"
	for _, resource := range md.ResourceMetrics().All() {
		for _, scope := range resource.ScopeMetrics().All() {
			if scope.Scope().Name() == semconv.ScopeOutageDetector {
				what = "metrics with outage"
			}
		}
	}
	*s.order = append(*s.order, what)
	return nil
}

func (*orderSink) Capabilities() consumer.Capabilities { return consumer.Capabilities{} }

type orderLogs struct{ *orderSink }

func (s orderLogs) ConsumeLogs(_ context.Context, logs plog.Logs) error {
	for _, resource := range logs.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if transition, ok := record.Attributes().Get(semconv.AttrOutageTransition); ok {
					*s.order = append(*s.order, transition.Str())
				}
			}
		}
	}
	return nil
}

// points are all points of a metric that the detector added, in the order in which they came.
func (w *world) points(name string) (all []pmetric.NumberDataPoint) {
	for _, md := range w.outMetrics.AllMetrics() {
		for _, resource := range md.ResourceMetrics().All() {
			for _, scope := range resource.ScopeMetrics().All() {
				for _, m := range scope.Metrics().All() {
					if m.Name() != name {
						continue
					}
					var points pmetric.NumberDataPointSlice
					if m.Type() == pmetric.MetricTypeSum {
						points = m.Sum().DataPoints()
					} else {
						points = m.Gauge().DataPoints()
					}
					for _, p := range points.All() {
						all = append(all, p)
					}
				}
			}
		}
	}
	return all
}

func TestGauges(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	s.recovery()
	points := s.points(semconv.MetricOutage)
	require.Greater(t, len(points), 4)
	for i, p := range points {
		assert.Equal(t, map[string]any{
			"outage_id": s.outages()[0].ID, "kind": "connection_refused", "severity": "critical",
			"root_type": "workload", "root_namespace": "billing", "root_name": "payment",
		}, p.Attributes().AsRaw())
		want := int64(1)
		if i == len(points)-1 {
			want = 0
		}
		assert.Equal(t, want, p.IntValue())
	}
	opened := s.points(metricOpened)
	require.NotEmpty(t, opened)
	last := opened[len(opened)-1]
	assert.Equal(t, int64(1), last.IntValue())
	assert.Equal(t, map[string]any{"kind": "connection_refused", "severity": "critical"}, last.Attributes().AsRaw())
}

// TestGaugeOfAnotherSeverity holds the gauge under former labels to end when the outage gets others.
func TestGaugeOfAnotherSeverity(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	s.broken[toPayment] = func(e *worldEdge) {
		e.ok(4, s.payment...).fail(2, semconv.ErrorTypeConnectionReset, "", s.payment...)
	}
	s.run(40*time.Second, s.live)
	s.refuse(semconv.ErrorTypeConnectionReset, "")
	s.run(90*time.Second, s.live)
	newest := map[string]int64{}
	for _, p := range s.points(semconv.MetricOutage) {
		severity, _ := p.Attributes().Get("severity")
		newest[severity.Str()] = p.IntValue()
	}
	assert.Equal(t, map[string]int64{"warning": 0, "critical": 1}, newest)
}

func TestEverythingPassesUnchanged(t *testing.T) {
	s := newShop(t, nil)
	in := pmetric.NewMetrics()
	s.now = s.now.Add(s.interval)
	s.heartbeats(in)
	s.edgePoints(in)
	want := pmetric.NewMetrics()
	in.CopyTo(want)
	require.NoError(t, s.metrics.ConsumeMetrics(context.Background(), in))
	require.Len(t, s.outMetrics.AllMetrics(), 1)
	assert.Equal(t, want, s.outMetrics.AllMetrics()[0])

	logs := plog.NewLogs()
	logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty().Body().SetStr("anything")
	require.NoError(t, s.logsIn.ConsumeLogs(context.Background(), logs))
	require.NotEmpty(t, s.outLogs.AllLogs())
	assert.Equal(t, logs, s.outLogs.AllLogs()[len(s.outLogs.AllLogs())-1])
}

// TestRestart holds an outage that is open over a restart to its id, and to its end.
func TestRestart(t *testing.T) {
	backend := &memoryStorage{values: map[string][]byte{}}
	id := component.MustNewID("memory")
	host := hostWith{extensions: map[component.ID]component.Component{id: backend}}
	cfg := func() *Config {
		c := createDefaultConfig().(*Config)
		c.Storage = &id
		return c
	}
	s := newShop(t, nil)
	s.stop()
	s.start(cfg(), host)
	s.replayPods()
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	require.Len(t, s.outages(), 1)
	before := s.outages()[0]
	s.stop()

	s.start(cfg(), host)
	s.replayPods()
	s.fault()
	s.recovery()
	require.Len(t, s.outages(), 1)
	after := s.outages()[0]
	assert.Equal(t, before.ID, after.ID)
	assert.Equal(t, before.StartedAt, after.StartedAt)
	assert.Equal(t, before.DetectedAt, after.DetectedAt)
	assert.Equal(t, semconv.OutageStateResolved, after.State)
	assert.Greater(t, after.Edges[0].Failed, before.Edges[0].Failed)
}

// TestSameIDWithoutThePolicy holds an outage's id to what every gateway sees: which policy denies is known to one of them sooner.
func TestSameIDWithoutThePolicy(t *testing.T) {
	var ids []string
	for _, policy := range []string{"", "billing/no-checkout"} {
		s := newShop(t, nil)
		s.health()
		s.refuse(semconv.ErrorTypePolicyDenied, policy)
		s.fault()
		require.Len(t, s.outages(), 1)
		require.Equal(t, policy, s.outages()[0].Policy)
		ids = append(ids, s.outages()[0].ID)
	}
	assert.Equal(t, ids[0], ids[1])
}

// TestRestartAfterTheEnd holds an outage that ended while nobody looked to end once that is seen.
func TestRestartAfterTheEnd(t *testing.T) {
	backend := &memoryStorage{values: map[string][]byte{}}
	id := component.MustNewID("memory")
	host := hostWith{extensions: map[component.ID]component.Component{id: backend}}
	s := newShop(t, nil)
	s.stop()
	cfg := createDefaultConfig().(*Config)
	cfg.Storage = &id
	s.start(cfg, host)
	s.replayPods()
	s.health()
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	before := s.outages()[0]
	s.stop()
	s.heal()
	again := createDefaultConfig().(*Config)
	again.Storage = &id
	s.start(again, host)
	s.replayPods()
	s.run(3*time.Minute, s.live)
	require.Len(t, s.outages(), 1)
	assert.Equal(t, before.ID, s.outages()[0].ID)
	assert.Equal(t, semconv.OutageStateResolved, s.outages()[0].State)
}

func (s *shop) replayPods() {
	for _, p := range s.pods {
		s.entity(s.workload(p), false)
	}
}

func TestStorageThatIsNotThere(t *testing.T) {
	id := component.MustNewID("nowhere")
	cfg := createDefaultConfig().(*Config)
	cfg.Storage = &id
	p, err := NewFactory().CreateMetrics(context.Background(), processortest.NewNopSettings(metadata.Type), cfg, consumertest.NewNop())
	require.NoError(t, err)
	require.ErrorContains(t, p.Start(context.Background(), componenttest.NewNopHost()), `storage extension "nowhere" not found`)
	require.NoError(t, p.Shutdown(context.Background()))
}

func TestOnePipelineOfEachKind(t *testing.T) {
	factory, cfg, set := NewFactory(), createDefaultConfig(), processortest.NewNopSettings(metadata.Type)
	_, err := factory.CreateMetrics(context.Background(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	_, err = factory.CreateMetrics(context.Background(), set, cfg, consumertest.NewNop())
	require.ErrorContains(t, err, "belongs into one metrics pipeline")
	_, err = factory.CreateLogs(context.Background(), set, cfg, consumertest.NewNop())
	require.NoError(t, err)
	_, err = factory.CreateLogs(context.Background(), set, cfg, consumertest.NewNop())
	require.ErrorContains(t, err, "belongs into one logs pipeline")
}

// TestSilenceByTheWallClock holds open outages to become stale when nothing arrives, but never in a replay.
func TestSilenceByTheWallClock(t *testing.T) {
	for _, replay := range []bool{false, true} {
		t.Run(fmt.Sprintf("replay %t", replay), func(t *testing.T) {
			s := newShop(t, func(c *Config) { c.SilenceTimeout = time.Hour })
			s.health()
			s.refuse(semconv.ErrorTypeConnectionRefused, "")
			s.fault()
			if replay {
				md := pmetric.NewMetrics()
				m := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
				m.SetName(semconv.MetricReplayPosition)
				p := m.SetEmptyGauge().DataPoints().AppendEmpty()
				p.SetTimestamp(pcommon.NewTimestampFromTime(s.now))
				p.Attributes().PutStr(semconv.LabelState, semconv.ReplayDone)
				require.NoError(t, s.metrics.ConsumeMetrics(context.Background(), md))
			}
			d := s.metrics.(*metricsProcessor).Component()
			d.checkSilence(time.Now().Add(30 * time.Minute))
			assert.Equal(t, semconv.OutageStateOpen, s.outages()[0].State)
			d.checkSilence(time.Now().Add(2 * time.Hour))
			want := semconv.OutageStateStale
			if replay {
				want = semconv.OutageStateOpen
			}
			assert.Equal(t, want, s.outages()[0].State)
		})
	}
}

// TestOverrides holds a rule that is off for one workload to be silent there and nowhere else.
func TestOverrides(t *testing.T) {
	s := newShop(t, func(c *Config) {
		c.Overrides = []rules.Override{{
			Subject: rules.Subject{Namespace: "billing", Workload: "payment"},
			Rules:   map[string]rules.Change{rules.Refused: {Enabled: ptr(false)}},
		}}
	})
	s.health()
	s.broken[toPayment] = func(e *worldEdge) { e.fail(6, semconv.ErrorTypeConnectionRefused, "", s.payment...) }
	s.broken[toRedis] = func(e *worldEdge) { e.fail(6, semconv.ErrorTypeConnectionRefused, "", s.redis...) }
	s.fault()
	require.Len(t, s.outages(), 1)
	assert.Equal(t, "data/redis", rootText(s.outages()[0].Root))
}

// TestLimits holds the detector to its bounds, and to counting what it leaves out.
func TestLimits(t *testing.T) {
	s := newShop(t, func(c *Config) { c.MaxEdges, c.MaxEndpoints, c.MaxNodes = 3, 2, 2 })
	s.run(30*time.Second, s.live)
	d := s.metrics.(*metricsProcessor).Component()
	assert.Equal(t, 3, d.store.Edges.Len())
	assert.Len(t, d.store.Nodes.ByName, 2)
	assert.Positive(t, d.store.Drops.Edges)
	assert.Positive(t, d.store.Drops.Endpoints)
	assert.Positive(t, d.store.Drops.Nodes)
}

// memoryStorage is a storage extension in memory.
type memoryStorage struct {
	component.StartFunc
	component.ShutdownFunc
	values map[string][]byte
}

func (m *memoryStorage) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return m, nil
}

func (m *memoryStorage) Get(_ context.Context, key string) ([]byte, error) { return m.values[key], nil }

func (m *memoryStorage) Set(_ context.Context, key string, value []byte) error {
	m.values[key] = value
	return nil
}

func (m *memoryStorage) Delete(_ context.Context, key string) error {
	delete(m.values, key)
	return nil
}

func (*memoryStorage) Batch(context.Context, ...*storage.Operation) error { return nil }

func (*memoryStorage) Close(context.Context) error { return nil }

type hostWith struct {
	extensions map[component.ID]component.Component
}

func (h hostWith) GetExtensions() map[component.ID]component.Component { return h.extensions }
