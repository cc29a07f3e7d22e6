package outagedetector

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// worldAsker asks its node's ztunnel for names.
type worldAsker struct {
	namespace, app, node string
	forwarded, failed    uint64
	took                 exphist.Histogram
}

// names are lookups that walk through search domains: four queries each, of which one gives an address if all is well.
func (a *worldAsker) names(lookups uint64, resolved bool, took float64) {
	a.forwarded += 4 * lookups
	a.failed += 3 * lookups
	if !resolved {
		a.failed += lookups
	}
	a.took.Add(exphist.NativeLayout, took, 4*lookups)
}

// proxies says what ztunnels say of themselves beside connections.
type proxies struct {
	askers []*worldAsker
	busy   map[string]float64 // seconds, by node
}

func (p *proxies) append(w *world, md pmetric.Metrics) {
	for node, seconds := range p.busy {
		resource := md.ResourceMetrics().AppendEmpty()
		resource.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
		resource.Resource().Attributes().PutStr(semconv.AttrNodeName, node)
		m := resource.ScopeMetrics().AppendEmpty().Metrics().AppendEmpty()
		m.SetName("tokio_worker_total_busy_duration_seconds_total")
		point := m.SetEmptySum().DataPoints().AppendEmpty()
		point.SetTimestamp(w.stamp() - 1)
		point.SetDoubleValue(seconds)
	}
	if len(p.askers) == 0 {
		return
	}
	scope := md.ResourceMetrics().AppendEmpty().ScopeMetrics().AppendEmpty()
	for _, a := range p.askers {
		point := func(name string, value uint64) pmetric.NumberDataPoint {
			m := scope.Metrics().AppendEmpty()
			m.SetName(name)
			sum := m.SetEmptySum()
			sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
			point := sum.DataPoints().AppendEmpty()
			a.put(point, w, value)
			return point
		}
		point(semconv.MetricDNSForwarded, a.forwarded)
		point(semconv.MetricDNSFailed, a.failed)
		m := scope.Metrics().AppendEmpty()
		m.SetName(semconv.MetricDNSDuration)
		histogram := m.SetEmptyExponentialHistogram()
		histogram.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		took := histogram.DataPoints().AppendEmpty()
		a.took.CopyTo(took)
		like := pmetric.NewNumberDataPoint()
		a.put(like, w, 0)
		like.Attributes().CopyTo(took.Attributes())
		took.SetStartTimestamp(like.StartTimestamp())
		took.SetTimestamp(like.Timestamp())
	}
}

func (a *worldAsker) put(point pmetric.NumberDataPoint, w *world, value uint64) {
	point.SetStartTimestamp(1)
	point.SetTimestamp(w.stamp())
	point.SetIntValue(int64(value))
	attrs := point.Attributes()
	attrs.PutStr(semconv.LabelSourceNamespace, a.namespace)
	attrs.PutStr(semconv.LabelSourceCanonicalService, a.app)
	attrs.PutStr(semconv.LabelNode, a.node)
	attrs.PutStr(semconv.LabelQueryType, "a")
}

// ask lets payment and checkout ask for names outside; payment does so on two nodes.
func (s *shop) ask() (payment []*worldAsker, checkout *worldAsker) {
	payment = []*worldAsker{{namespace: "billing", app: "payment", node: "node-a"}, {namespace: "billing", app: "payment", node: "node-c"}}
	checkout = &worldAsker{namespace: "shop", app: "checkout", node: "node-b"}
	s.proxies.askers = append(slices.Clone(payment), checkout)
	return payment, checkout
}

// pends lets a node's ztunnel say that it cannot set up the proxy of shipping's pod.
func (s *shop) pends(text string) {
	s.message("node-c", "inpod::statemanager", text, plog.SeverityNumberInfo)
	record := s.logs.ResourceLogs().At(s.logs.ResourceLogs().Len() - 1).ScopeLogs().At(0).LogRecords().At(0)
	record.Attributes().PutStr(semconv.AttrFieldPrefix+"uid", "3aca0446")
	record.Attributes().PutStr(semconv.AttrFieldPrefix+"namespace", "shop")
	record.Attributes().PutStr(semconv.AttrFieldPrefix+"name", "shipping-1")
}

const fast, late, gone = 0.0004, 1.6, 12.0

func init() {
	ruleTests[rules.NamesInVain] = ruleTest{
		kind: rules.KindDNSFailure, root: "kube-system/kube-dns",
		fires: func(s *shop) {
			payment, checkout := s.ask()
			all := slices.Concat(payment, []*worldAsker{checkout})
			s.run(3*time.Minute, func() {
				s.live()
				for _, a := range all {
					a.names(2, true, fast)
				}
			})
			// The resolver is gone: what waits for it fails, and who calls that fails with it.
			s.failUpstream()
			s.broken[toPayment] = func(e *worldEdge) { e.ok(6, s.payment...).answer(6, 6, 25*time.Millisecond, s.payment...) }
			s.run(time.Minute, func() {
				s.live()
				for _, a := range all {
					a.names(1, false, gone)
				}
			})
			s.heal()
			s.run(2*time.Minute, func() {
				s.live()
				for _, a := range all {
					a.names(2, true, fast)
				}
			})
		},
		// A share of failures says nothing: search domains and names that never existed fail all the time, and somebody may ask for nothing else for a while.
		silent: func(s *shop) {
			payment, checkout := s.ask()
			n := 0
			s.run(5*time.Minute, func() {
				s.live()
				n++
				payment[0].names(2, true, fast)
				payment[1].names(6, false, fast)
				checkout.names(3, n%3 == 0, fast)
			})
		},
	}
	ruleTests[rules.NamesSlow] = ruleTest{
		kind: rules.KindDNSSlow, root: "kube-system/kube-dns",
		fires: func(s *shop) {
			payment, checkout := s.ask()
			all := slices.Concat(payment, []*worldAsker{checkout})
			for took, minutes := range map[float64]time.Duration{fast: 3} {
				s.run(minutes*time.Minute, func() {
					s.live()
					for _, a := range all {
						a.names(2, true, took)
					}
				})
			}
			s.run(time.Minute, func() {
				s.live()
				for _, a := range all {
					a.names(1, true, late)
				}
			})
			s.run(2*time.Minute, func() {
				s.live()
				for _, a := range all {
					a.names(2, true, fast)
				}
			})
		},
		silent: func(s *shop) {
			payment, _ := s.ask()
			s.run(4*time.Minute, func() { s.live(); payment[0].names(4, true, fast) })
			payment[0].names(1, true, late/8)
			s.run(time.Minute, func() { s.live(); payment[0].names(4, true, fast) })
		},
	}
	ruleTests[rules.CapturePending] = ruleTest{
		kind: rules.KindCapturePending, root: "shop/shipping",
		fires: func(s *shop) {
			s.health()
			s.pends("pod received, starting proxy")
			s.pends("failed to start proxy: Bind([::]:15008, Os { code: 98, kind: AddrInUse })")
			s.broken[toShipping] = func(e *worldEdge) { e.fail(5, semconv.ErrorTypeHBONEBlocked, "", s.shipping...) }
			s.run(time.Minute, func() {
				s.live()
				s.pends("retrying workload")
				s.pends("retrying workload failed: failed to bind to address [::]:15008: Address already in use (os error 98)")
			})
			s.recovery()
		},
		// One that is set up at the next attempt is no outage, and one that is gone does not wait.
		silent: func(s *shop) {
			s.health()
			s.pends("pod received, starting proxy")
			s.pends("pod delete request, shutting down proxy")
			s.run(2*time.Minute, s.live)
		},
	}
	ruleTests[rules.ZtunnelOverloaded] = ruleTest{
		kind: rules.KindZtunnelOverloaded, root: "node/node-b",
		fires: func(s *shop) {
			s.proxies.busy = map[string]float64{"node-a": 0, "node-b": 0}
			work := func(share float64) func() {
				return func() {
					s.live()
					s.proxies.busy["node-a"] += 0.05 * s.interval.Seconds()
					s.proxies.busy["node-b"] += share * s.interval.Seconds()
				}
			}
			s.run(2*time.Minute, work(0.05))
			s.run(time.Minute, work(0.9))
			s.run(2*time.Minute, work(0.05))
		},
		// One that always has so much to do is none.
		silent: func(s *shop) {
			s.proxies.busy = map[string]float64{"node-b": 0}
			s.run(3*time.Minute, func() { s.live(); s.proxies.busy["node-b"] += 0.7 * s.interval.Seconds() })
		},
	}
}

// TestWhoDoesNotResolve finds who is behind names that are not resolved: by who asks in vain, and who does not meanwhile.
func TestWhoDoesNotResolve(t *testing.T) {
	type askers struct {
		payment  []*worldAsker
		checkout *worldAsker
	}
	well := func(a *worldAsker) { a.names(2, true, fast) }
	vain := func(a *worldAsker) { a.names(2, false, fast) }
	for name, test := range map[string]struct {
		ill  func(a askers)
		root string // none where it is empty
	}{
		"all ask in vain":                     {func(a askers) { vain(a.payment[0]); vain(a.payment[1]); vain(a.checkout) }, "kube-system/kube-dns"},
		"one app does, nobody knows for what": {func(a askers) { vain(a.payment[0]); vain(a.payment[1]); well(a.checkout) }, "kube-system/kube-dns"},
		"one node does":                       {func(a askers) { vain(a.payment[0]); well(a.payment[1]); well(a.checkout) }, "node/node-a"},
		"one node waits": {
			func(a askers) { a.payment[0].names(1, false, gone); well(a.payment[1]); well(a.checkout) }, "node/node-a",
		},
		"what used to be asked for is not asked for any more, misspelt names go on": {
			func(a askers) { a.payment[0].names(1, false, fast); well(a.payment[1]); well(a.checkout) }, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, only(rules.NamesInVain))
			var a askers
			a.payment, a.checkout = s.ask()
			typo := func() { a.payment[0].names(1, false, fast) }
			s.run(3*time.Minute, func() {
				s.live()
				for _, one := range append(a.payment, a.checkout) {
					well(one)
				}
				typo()
			})
			s.run(time.Minute, func() { s.live(); test.ill(a) })
			found := s.outages()
			if test.root == "" {
				assert.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			root := found[0].Root
			assert.Equal(t, test.root, cmp.Or(root.Namespace, root.Type)+"/"+root.Name)
		})
	}
}

// TestSlowBehindCaches finds a resolver that is slow although most answers come out of ztunnels' caches, and waits for more than one that
// came late.
func TestSlowBehindCaches(t *testing.T) {
	for name, test := range map[string]struct {
		slow  int // intervals
		found int
	}{"one answer": {1, 0}, "for a minute": {12, 1}} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, only(rules.NamesSlow))
			payment, checkout := s.ask()
			n := 0
			live := func(slow bool) func() {
				return func() {
					s.live()
					for i, a := range append(payment, checkout) {
						a.names(4, true, fast)
						if slow && n%3 == i {
							a.names(1, true, late)
						}
					}
					n++
				}
			}
			s.run(3*time.Minute, live(false))
			s.run(time.Duration(test.slow)*s.interval, live(true))
			s.run(2*time.Minute, live(false))
			found := s.outages()
			require.Len(t, found, test.found)
			for _, o := range found {
				assert.Equal(t, rules.KindDNSSlow, o.Kind)
				assert.Equal(t, "kube-dns", o.Root.Name)
				assert.NotNil(t, o.EndedAt)
			}
		})
	}
}

// TestLateConnections finds a ztunnel that is too busy by its connections alone: all of its node last longer, in and out, and no others.
func TestLateConnections(t *testing.T) {
	for name, test := range map[string]struct {
		late func(l link) bool
		root string // none where it is empty
	}{
		"all of a node": {
			func(l link) bool {
				return l.edge == toCheckout || l.edge == toPayment || l.edge == toShipping || l.edge == toRedis
			}, "node/node-b",
		},
		"one app":  {func(l link) bool { return l.edge == toPayment || l.edge == toCheckout || l.edge == toFrontend }, ""},
		"all":      {func(link) bool { return true }, ""},
		"two apps": {func(l link) bool { return l.edge == toPayment || l.edge == toRedis }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, only(rules.ZtunnelOverloaded))
			more := s.pod("load/cron", "cron-1", "node-a")
			other := s.pod("load/report", "report-1", "node-c")
			live := func(late func(link) bool) func() {
				links := append(s.links(), link{"load/cron>load/report", more.namespace + "/cron", "load/report", 10, 0, false, []*worldPod{other}})
				return func() {
					for _, l := range links {
						took := 12 * time.Millisecond
						if late(l) {
							took = 600 * time.Millisecond
						}
						s.edge(l.source, l.destination).last(l.calls, took, l.pods...)
					}
				}
			}
			healthy := func(link) bool { return false }
			s.run(2*time.Minute, live(healthy))
			s.run(time.Minute, live(test.late))
			s.run(time.Minute, live(healthy))
			found := s.outages()
			if test.root == "" {
				for _, o := range found {
					assert.Equal(t, rules.KindLatency, o.Kind, "the apps are slow, no node")
				}
				return
			}
			require.Len(t, found, 1)
			assert.Equal(t, test.root, found[0].Root.Type+"/"+found[0].Root.Name)
			assert.NotNil(t, found[0].EndedAt)
		})
	}
}

// TestNoPodIsCaptured blames the node whose ztunnel can set up the proxy of none of its pods, until the last one is served.
func TestNoPodIsCaptured(t *testing.T) {
	s := newShop(t, only(rules.CapturePending))
	s.health()
	pods := map[string]string{"3aca0446": "shipping-1", "8655c4f9": "payment-2"}
	say := func(text string) {
		for uid, pod := range pods {
			s.message("node-c", "inpod::statemanager", text, plog.SeverityNumberInfo)
			attrs := s.logs.ResourceLogs().At(s.logs.ResourceLogs().Len() - 1).ScopeLogs().At(0).LogRecords().At(0).Attributes()
			attrs.PutStr(semconv.AttrFieldPrefix+"uid", uid)
			attrs.PutStr(semconv.AttrFieldPrefix+"namespace", map[string]string{"shipping-1": "shop", "payment-2": "billing"}[pod])
			attrs.PutStr(semconv.AttrFieldPrefix+"name", pod)
		}
	}
	say("pod received, starting proxy")
	say("failed to start proxy: Bind([::]:15008, Os { code: 98, kind: AddrInUse })")
	again := func() {
		s.live()
		say("retrying workload")
		say("retrying workload failed: failed to bind to address [::]:15008: Address already in use (os error 98)")
	}
	s.run(time.Minute, again)
	delete(pods, "8655c4f9")
	s.run(20*time.Second, again)
	s.run(time.Minute, s.live)
	found := s.outages()
	require.Len(t, found, 1)
	assert.Equal(t, "node/node-c", found[0].Root.Type+"/"+found[0].Root.Name)
	assert.NotNil(t, found[0].EndedAt)
}

// TestPodNotHandedOver finds a pod that the CNI agent cannot hand over to the ztunnel, and none where that only begins anew.
func TestPodNotHandedOver(t *testing.T) {
	const failure = "failed to add pod to ztunnel: pod partially added, annotating with pending status"
	for _, test := range []struct {
		name  string
		lasts time.Duration
		want  int
	}{{"for a minute", time.Minute, 1}, {"while the ztunnel restarts", 5 * time.Second, 0}} {
		t.Run(test.name, func(t *testing.T) {
			s := newShop(t, only(rules.CapturePending))
			s.health()
			says := func(text string) {
				s.message("node-c", "cni-agent", text, plog.SeverityNumberError)
				record := s.logs.ResourceLogs().At(s.logs.ResourceLogs().Len() - 1).ScopeLogs().At(0).LogRecords().At(0)
				record.SetEventName(semconv.EventCNILog)
				record.Attributes().PutStr(semconv.AttrFieldPrefix+"ns", "shop")
				record.Attributes().PutStr(semconv.AttrFieldPrefix+"name", "shipping-1")
			}
			says("adding pod to the mesh")
			says(failure)
			s.run(test.lasts, s.live)
			says("adding pod to the mesh")
			s.run(time.Minute, s.live)
			found := s.outages()
			require.Len(t, found, test.want)
			for _, o := range found {
				assert.Equal(t, "capture_pending shop/shipping", o.Kind+" "+o.Root.Namespace+"/"+o.Root.Name)
				assert.NotNil(t, o.EndedAt)
				assert.Equal(t, "shop/shipping-1: "+failure, o.Evidence[0].Text)
				assert.Equal(t, "istio-cni-node node-c", o.Evidence[0].Source)
			}
		})
	}
}
