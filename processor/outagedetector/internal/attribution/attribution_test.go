package attribution

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

var (
	graphs = flag.Int("graphs", 32, "how many random graphs are blamed")
	from   = flag.Uint64("from", 20000, "the seed of the first of them")
)

// service is one of a random graph: how long a call of it takes by itself, how often it fails by itself, and whom it calls.
type service struct {
	seconds, fails, wanders float64
	calls                   []call
	// retries tells that a failed call of it is tried once more, parallel that its calls are made at once.
	retries, parallel bool
	// patience is after how many seconds it gives a call up, 0 if it waits for ever.
	patience float64
}

type call struct {
	to          int
	probability float64
}

// graph is random services; nobody calls the first, users do.
type graph struct {
	random   *rand.Rand
	services []service
	rate     float64 // of users' calls in an interval
	apart    time.Duration
	now      time.Time
	ticks    int
	took     []float64 // by calls of each service in the newest interval
	store    *observe.Store
	found    *Attribution
}

func newGraph(seed uint64, apart time.Duration) *graph {
	random := rand.New(rand.NewPCG(seed, 0x6e65))
	limits := observe.Limits{Edges: 5000, Endpoints: 10, Nodes: 10, Entities: 10, External: 10}
	g := &graph{
		random: random, services: make([]service, 20+random.IntN(181)), apart: apart, now: time.Date(2026, 3, 2, 3, 0, 0, 0, time.UTC),
		rate: 100 * math.Exp(3*random.Float64()), store: observe.NewStore(rules.NewCatalogue(nil, nil), limits, nil),
	}
	g.found = New(g.store)
	for i := range g.services {
		s := &g.services[i]
		s.seconds, s.wanders, s.retries = 0.002*math.Exp(4*random.Float64()), 0.02+0.1*random.Float64(), random.IntN(6) == 0
		s.parallel = random.IntN(3) == 0
		if random.IntN(4) == 0 {
			s.patience = 0.3 + random.Float64()
		}
		if random.IntN(12) == 0 {
			s.fails = 0.2 * random.Float64() // as it always did
		}
		for range 1 + random.IntN(3) {
			if near := i + 1 + random.IntN(1+len(g.services)/4); near < len(g.services) {
				s.calls = append(s.calls, call{near, 0.3 + 0.7*random.Float64()})
			}
		}
	}
	return g
}

// fault makes a service that is called worse.
func (g *graph) fault(called map[int]float64) (root int, kind string) {
	for {
		root = g.random.IntN(len(g.services))
		if called[root] >= 40 {
			break
		}
	}
	s := &g.services[root]
	switch kind = [...]string{"latency", "errors", "load"}[g.random.IntN(3)]; kind {
	case "latency":
		// Less than twice as long is hard to tell from a cold start.
		s.seconds += max(0.1+0.5*g.random.Float64(), g.took[root])
	case "errors":
		s.fails += 0.1 + 0.4*g.random.Float64()
	case "load":
		// More is asked of it than it can do: it takes longer and gives some calls up.
		s.seconds += max(0.1+0.3*g.random.Float64(), g.took[root])
		s.fails += 0.05
		g.rate *= 1.5
	}
	return root, kind
}

// tick lets an interval pass. It returns how often each service was called.
func (g *graph) tick() map[int]float64 {
	g.now = g.now.Add(g.apart)
	md := pmetric.NewMetrics()
	scope := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	// Users come and go: half as many and twice as many in the course of some hours, and by chance.
	g.ticks++
	rate := g.rate * math.Exp(0.7*math.Sin(float64(g.ticks)/9)+0.1*g.random.NormFloat64())
	called, seconds, fails := map[int]float64{0: rate}, make([]float64, len(g.services)), make([]float64, len(g.services))
	// What a call of each takes and how often it fails, from the leaves up.
	for i := len(g.services) - 1; i >= 0; i-- {
		s := &g.services[i]
		well := 1 - s.fails
		seconds[i] = s.seconds * math.Exp(s.wanders*g.random.NormFloat64())
		if g.random.IntN(60) == 0 {
			seconds[i] *= 2 // cold
		}
		longest := 0.0
		for _, c := range s.calls {
			fail, waits := fails[c.to], seconds[c.to]
			if s.patience > 0 && waits > 0 {
				// Durations are spread about their mean: those that take too long are given up.
				late := math.Exp(-s.patience / waits)
				fail, waits = 1-(1-fail)*(1-late), min(waits, s.patience)
			}
			if s.parallel {
				longest = max(longest, c.probability*waits)
			} else {
				seconds[i] += c.probability * waits
			}
			if s.retries {
				fail *= fail
			}
			well *= 1 - c.probability*fail*0.95
		}
		seconds[i] += longest
		fails[i] = 1 - well
	}
	g.took = seconds
	g.point(scope, "users", g.name(0), rate, fails[0], seconds[0])
	for i := range g.services {
		for _, c := range g.services[i].calls {
			n := called[i] * c.probability
			if g.services[i].retries {
				n *= 1 + fails[c.to]
			}
			called[c.to] += n
			g.point(scope, g.name(i), g.name(c.to), n, fails[c.to], seconds[c.to])
		}
	}
	boundary, _ := g.store.Metrics(md, g.now)
	g.store.Advance(boundary)
	g.found.Round(g.store.Edges.TakeDirty(nil))
	return called
}

func (*graph) name(i int) string { return fmt.Sprintf("s%03d", i) }

func (g *graph) poisson(mean float64) float64 {
	return max(math.Round(mean+math.Sqrt(mean)*g.random.NormFloat64()), 0)
}

// point tells of the calls of an edge in an interval.
func (g *graph) point(scope pmetric.ScopeMetrics, client, server string, calls, fails, seconds float64) {
	n := g.poisson(calls)
	failed := min(g.poisson(calls*fails), n)
	took := n * seconds * math.Exp(g.random.NormFloat64()/math.Sqrt(max(n, 1)))
	label := func(attrs pcommon.Map) {
		attrs.PutStr("client", client)
		attrs.PutStr("server", server)
	}
	for name, value := range map[string]float64{"traces_service_graph_request_total": n, "traces_service_graph_request_failed_total": failed} {
		metric := scope.Metrics().AppendEmpty()
		metric.SetName(name)
		sum := metric.SetEmptySum()
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		point := sum.DataPoints().AppendEmpty()
		point.SetTimestamp(pcommon.NewTimestampFromTime(g.now))
		point.SetDoubleValue(value)
		label(point.Attributes())
	}
	metric := scope.Metrics().AppendEmpty()
	metric.SetName("traces_service_graph_request_server_seconds")
	histogram := metric.SetEmptyHistogram()
	histogram.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	point := histogram.DataPoints().AppendEmpty()
	point.SetTimestamp(pcommon.NewTimestampFromTime(g.now))
	point.SetCount(uint64(n))
	point.SetSum(took)
	point.ExplicitBounds().FromRaw([]float64{1})
	point.BucketCounts().FromRaw([]uint64{uint64(n), 0})
	label(point.Attributes())
}

// TestRandomGraphs blames one fault of each of many random graphs, and holds graphs without one to be quiet.
func TestRandomGraphs(t *testing.T) {
	for _, apart := range []time.Duration{5 * time.Minute, 15 * time.Second} {
		t.Run(apart.String(), func(t *testing.T) {
			t.Parallel()
			right, found, alarms, others := 0, 0, 0, 0
			for seed := *from; seed < *from+uint64(*graphs); seed++ {
				g := newGraph(seed, apart)
				var called map[int]float64
				before := map[*Incident]bool{}
				for range 40 {
					called = g.tick()
					for _, incident := range g.found.Incidents {
						before[incident] = true
					}
				}
				alarms += len(before)
				root, kind := g.fault(called)
				for range 4 {
					g.tick()
				}
				found += min(len(g.found.Incidents), 1)
				others += max(len(g.found.Incidents)-1, 0)
				first := "nobody"
				if len(g.found.Incidents) > 0 {
					first = g.found.Incidents[0].Root.Name.Name
				}
				if first == g.name(root) {
					right++
				} else {
					t.Logf("seed %d, %d services: %s of %s, not %s", seed, len(g.services), kind, g.name(root), first)
				}
			}
			t.Logf("%d graphs: %d found, %d blamed right, %d further incidents, %d alarms before", *graphs, found, right, others, alarms)
			assert.GreaterOrEqual(t, float64(right), 0.9*float64(*graphs))
			assert.LessOrEqual(t, alarms, *graphs/4)
			assert.LessOrEqual(t, others, *graphs/8)
		})
	}
}
