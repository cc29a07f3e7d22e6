package servicegraphprocessor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor/processortest"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/metadata"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
)

// memory is a storage extension whose values outlive the processors.
type memory struct {
	component.StartFunc
	component.ShutdownFunc
	mu     sync.Mutex
	values map[string][]byte
	full   bool
	behind bool // the last batch was refused
	closed int
}

func (m *memory) GetClient(context.Context, component.Kind, component.ID, string) (storage.Client, error) {
	return m, nil
}

func (m *memory) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[key], nil
}

func (m *memory) Set(ctx context.Context, key string, value []byte) error {
	return m.Batch(ctx, storage.SetOperation(key, value))
}

func (m *memory) Delete(ctx context.Context, key string) error {
	return m.Batch(ctx, storage.DeleteOperation(key))
}

func (m *memory) Batch(_ context.Context, ops ...*storage.Operation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.behind = m.full; m.full {
		return errors.New("no space left on device")
	}
	for _, op := range ops {
		switch op.Type {
		case storage.Set:
			m.values[op.Key] = slices.Clone(op.Value)
		case storage.Delete:
			delete(m.values, op.Key)
		case storage.Get:
			op.Value = m.values[op.Key]
		}
	}
	return nil
}

func (m *memory) Close(context.Context) error {
	m.closed++
	return nil
}

type storageHost map[component.ID]component.Component

func (h storageHost) GetExtensions() map[component.ID]component.Component { return h }

var storageID = component.MustNewID("memory")

func newStoredPipelines(t *testing.T, store *memory) *pipelines {
	p := newPipelines(t, nil)
	p.stop()
	p.cfg.Storage = &storageID
	p.host = storageHost{storageID: store}
	p.start()
	return p
}

// kill ends the processors as SIGKILL does and starts new ones.
func (p *pipelines) kill() {
	g := p.graph()
	g.sending.Lock()
	g.mu.Lock()
	g.saved = nil
	g.mu.Unlock()
	g.sending.Unlock()
	require.NoError(p.t, g.Shutdown(context.Background()))
	p.start()
}

// lasting are the last values of all series by metric and attributes; it fails where one goes back or begins anew.
func lasting(t *testing.T, batches []pmetric.Metrics) map[string]uint64 {
	last := map[string]uint64{}
	starts := map[string]pcommon.Timestamp{}
	note := func(id string, start pcommon.Timestamp, value uint64) {
		if before, ok := starts[id]; ok {
			require.Equal(t, before, start, "start of %s", id)
		}
		starts[id] = start
		require.GreaterOrEqual(t, value, last[id], id)
		last[id] = value
	}
	for _, md := range batches {
		for _, rm := range md.ResourceMetrics().All() {
			for _, sm := range rm.ScopeMetrics().All() {
				for _, m := range sm.Metrics().All() {
					if !strings.HasPrefix(m.Name(), "mesh.") || m.Type() == pmetric.MetricTypeSum && !m.Sum().IsMonotonic() {
						continue
					}
					switch m.Type() {
					case pmetric.MetricTypeSum:
						for _, point := range m.Sum().DataPoints().All() {
							note(m.Name()+fmt.Sprint(sorted(point.Attributes())), point.StartTimestamp(), uint64(point.IntValue()))
						}
					case pmetric.MetricTypeExponentialHistogram:
						for _, point := range m.ExponentialHistogram().DataPoints().All() {
							note(m.Name()+fmt.Sprint(sorted(point.Attributes())), point.StartTimestamp(), point.Count())
						}
					}
				}
			}
		}
	}
	return last
}

func sorted(attrs pcommon.Map) []string {
	var all []string
	for name, value := range attrs.All() {
		all = append(all, name+"="+value.AsString())
	}
	slices.Sort(all)
	return all
}

// TestAKilledGraphGoesOnWhereItWas kills the graph between any two batches. What was not acknowledged comes again; the
// mesh's state may be late.
func TestAKilledGraphGoesOnWhereItWas(t *testing.T) {
	for _, name := range recordingNames {
		for _, scrapes := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/scrapes=%v", name, scrapes), func(t *testing.T) {
				r := readRecording(t, name)
				p := newPipelines(t, nil)
				p.play(r, playOptions{scrapes: scrapes})
				want := lasting(t, p.outMetrics.AllMetrics())
				require.NotEmpty(t, want)
				for seed := range uint64(2) {
					random := rand.New(rand.NewPCG(seed, 9))
					store := &memory{values: map[string][]byte{}}
					p := newStoredPipelines(t, store)
					late, kills := 0, 0
					p.play(r, playOptions{scrapes: scrapes, shuffle: random, consume: func(b pmetric.Metrics, entities []mesh.Entity) {
						if late > 0 {
							if late--; late == 0 || replayEnded(b) {
								p.learn(time.Unix(0, 0), entities...)
							}
						}
						again := pmetric.NewMetrics()
						b.CopyTo(again)
						store.full = random.IntN(20) == 0
						if random.IntN(25) == 0 && !store.behind && !replayEnded(b) {
							kills++
							store.full = false
							if random.IntN(2) == 0 {
								p.consume(b) // taken over, but not acknowledged
							}
							p.kill()
							late = 1 + random.IntN(4)
						}
						p.consume(again)
						store.full = false
					}})
					require.Greater(t, kills, 3)
					got := lasting(t, p.outMetrics.AllMetrics())
					for id, value := range want {
						if scrapes && strings.Contains(id, ".opened") {
							// What only the counters told begins anew.
							require.InDelta(t, value, got[id], 8, id)
							continue
						}
						require.Equal(t, value, got[id], "seed %d: %s", seed, id)
					}
					require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(got)))
				}
			})
		}
	}
}

func TestAStoppedGraphGoesOnWhereItWas(t *testing.T) {
	store := &memory{values: map[string][]byte{}}
	p := newStoredPipelines(t, store)
	r := readRecording(t, "policy-deny")
	var edges, series int
	p.play(r, playOptions{spans: true, scrapes: true})
	g := p.graph()
	edges, series = g.store.Edges.Len(), g.flows.Len()
	require.NotZero(t, edges)
	p.stop()
	require.NotZero(t, store.closed)
	before := lasting(t, p.outMetrics.AllMetrics())
	p.start()
	g = p.graph()
	require.Equal(t, edges, g.store.Edges.Len())
	require.Equal(t, series, g.flows.Len())
	b := newBatch(r.connections[len(r.connections)-1].time.Add(time.Minute))
	b.heartbeat("node-a")
	p.consume(b.metrics)
	require.Equal(t, before, lasting(t, p.outMetrics.AllMetrics()), "everything leaves again as it was")
}

func TestStorage(t *testing.T) {
	start := func(t *testing.T, host component.Host) error {
		p := newPipelines(t, nil)
		g, err := newGraph(processortest.NewNopSettings(metadata.Type), p.cfg)
		require.NoError(t, err)
		g.cfg.Storage = &storageID
		err = g.Start(t.Context(), host)
		require.NoError(t, g.Shutdown(t.Context()))
		g.cfg.Storage = nil
		return err
	}
	require.ErrorContains(t, start(t, storageHost{}), "not found")
	require.ErrorContains(t, start(t, storageHost{storageID: struct {
		component.StartFunc
		component.ShutdownFunc
	}{}}), "does not store")
	damaged := &memory{values: map[string][]byte{"journal": {1, 0, 2}, "journal/0": []byte("rubbish"), "journal/1": nil}}
	require.NoError(t, start(t, storageHost{storageID: damaged}), "a state that cannot be read does not stop the graph")
	require.Equal(t, 1, damaged.closed)
}

// FuzzRestore reads rubbish with a valid checksum.
func FuzzRestore(f *testing.F) {
	l := newLoadedGraph(f, 3)
	l.cfg.Storage = &storageID
	store := &memory{values: map[string][]byte{}}
	require.NoError(f, l.open(context.Background(), storageHost{storageID: store}))
	l.apply()
	l.applyTraces(call{number: 1, at: 0, serverPod: "server1-1", client: "10.1.0.1"}.serverSpan(), netip.Addr{})
	l.names.Weights.Add(naming.WeightKey{Service: "a"}, 1, 1)
	l.clock.Set(pcommon.NewTimestampFromTime(l.at))
	l.flush(true)
	l.commit(context.Background(), l.saved.record(l.graph))
	f.Add(store.values["journal/0"][4:])
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := newGraph(processortest.NewNopSettings(metadata.Type), createDefaultConfig().(*Config))
		require.NoError(t, err)
		defer func() { require.NoError(t, g.Shutdown(t.Context())) }()
		state := newRestored()
		if journal.Records(data, naming.Intern, state.read) != nil {
			return
		}
		state.into(g)
		g.clock.Set(g.clock.Now() + 1)
		g.flush(true)
	})
}
