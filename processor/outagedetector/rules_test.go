package outagedetector

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/reasons"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// ruleTest shows a rule firing, from the outage's opening to its end, and a case that looks alike in which it is silent.
type ruleTest struct {
	kind   string
	root   string
	config func(*Config)
	fires  func(*shop)
	silent func(*shop)
}

// stops are the ways for connections to fail outright; one failure of many is none.
func reasonTest(kind, errorType string) ruleTest {
	return ruleTest{
		kind: kind, root: "billing/payment",
		fires: func(s *shop) {
			s.health()
			s.refuse(errorType, "")
			s.fault()
			s.recovery()
		},
		silent: func(s *shop) {
			s.health()
			s.broken[toPayment] = func(e *worldEdge) { e.ok(5, s.payment...).fail(1, errorType, "", s.payment[0]) }
			s.run(5*time.Second, s.live)
			s.recovery()
		},
	}
}

var ruleTests = map[string]ruleTest{
	rules.PolicyDenied: {
		kind: rules.KindPolicyDenied, root: "billing/payment",
		fires: func(s *shop) {
			s.health()
			p := s.deny()
			s.flow("node-a", "checkout-1", "payment-1", semconv.DirectionInbound, semconv.ErrorTypePolicyDenied, p.Key(),
				"connection closed due to policy rejection: explicitly denied by: billing/no-checkout")
			s.fault()
			s.entity(p, true)
			s.recovery()
		},
		// A policy that was there before anyone looked denies what it always denied.
		silent: func(s *shop) {
			s.deny()
			s.heal()
			intruder := s.edge("shop/intruder", "billing/payment")
			s.run(4*time.Minute, func() {
				s.live()
				intruder.fail(3, semconv.ErrorTypePolicyDenied, "billing/no-checkout", s.payment...)
			})
		},
	},
	rules.NewFailure: {
		kind: rules.KindConnectionReset, root: "shop/frontend",
		fires: func(s *shop) {
			s.run(5*time.Minute, s.live)
			n := 0
			s.broken[toFrontend] = func(e *worldEdge) {
				n++
				if n%3 == 0 {
					e.ok(18, s.frontend...).fail(2, semconv.ErrorTypeConnectionReset, "", s.frontend...)
				} else {
					e.ok(20, s.frontend...)
				}
				e.answer(20, 0, 20*time.Millisecond, s.frontend...)
			}
			s.fault()
			s.heal()
			s.run(4*time.Minute, s.live)
		},
		// What the edge always had is not new.
		silent: func(s *shop) {
			n := 0
			s.broken[toFrontend] = func(e *worldEdge) {
				n++
				if n%8 == 0 {
					e.ok(19, s.frontend...).fail(1, semconv.ErrorTypeConnectionReset, "", s.frontend[0])
				} else {
					e.ok(20, s.frontend...)
				}
			}
			s.run(8*time.Minute, s.live)
		},
	},
	rules.PartialOutage: {
		kind: rules.KindConnectionRefused, root: "shop/frontend",
		fires: func(s *shop) {
			third := s.pod("shop/frontend", "frontend-3", "node-c")
			s.health()
			// One pod of many fails alone: too small a share of its edge to show there.
			s.broken[toFrontend] = func(e *worldEdge) {
				e.ok(49, s.frontend...).fail(1, semconv.ErrorTypeConnectionRefused, "", third).answer(49, 0, 20*time.Millisecond, s.frontend...)
			}
			s.fault()
			s.heal()
			s.frontend = append(s.frontend, third)
			s.run(3*time.Minute, s.live)
		},
		silent: func(s *shop) {
			s.health()
			n := 0
			s.broken[toFrontend] = func(e *worldEdge) {
				n++
				e.ok(20, s.frontend...)
				if n == 3 {
					e.fail(1, semconv.ErrorTypeConnectionRefused, "", s.frontend[0])
				}
			}
			s.fault()
			s.recovery()
		},
	},
	rules.StalledConnections: {
		kind: rules.KindConnectionTimeout, root: "data/redis",
		fires: func(s *shop) {
			s.health()
			s.broken[toRedis] = func(e *worldEdge) { e.open(8) }
			s.run(30*time.Second, s.live)
			s.recovery()
		},
		// Connections that were long-lived before do not hang.
		silent: func(s *shop) {
			s.broken[toRedis] = func(e *worldEdge) { e.open(1) }
			s.health()
			s.broken[toRedis] = func(e *worldEdge) { e.open(8) }
			s.fault()
		},
	},
	rules.HTTPErrors: {
		kind: rules.KindHTTPErrors, root: "shop/shipping",
		fires: func(s *shop) {
			s.health()
			s.broken[toShipping] = func(e *worldEdge) { e.ok(5, s.shipping...).answer(5, 5, 8*time.Millisecond, s.shipping...) }
			s.failUpstream()
			s.fault()
			s.recovery()
		},
		silent: func(s *shop) {
			s.health()
			s.broken[toShipping] = func(e *worldEdge) { e.ok(5, s.shipping...).answer(5, 1, 8*time.Millisecond, s.shipping...) }
			s.run(5*time.Second, s.live)
			s.recovery()
		},
	},
	rules.SlowRequests: {
		kind: rules.KindLatency, root: "billing/payment",
		fires: func(s *shop) {
			s.health()
			s.broken[toPayment] = func(e *worldEdge) { e.ok(6, s.payment...).answer(6, 0, 425*time.Millisecond, s.payment...) }
			s.broken[toCheckout] = func(e *worldEdge) { e.ok(6, s.checkout...).answer(6, 0, 460*time.Millisecond, s.checkout...) }
			s.fault()
			s.recovery()
		},
		silent: func(s *shop) {
			s.health()
			s.broken[toPayment] = func(e *worldEdge) { e.ok(6, s.payment...).answer(6, 0, 35*time.Millisecond, s.payment...) }
			s.fault()
		},
	},
	rules.SlowConnections: {
		kind: rules.KindLatency, root: "data/redis",
		fires: func(s *shop) {
			s.broken[toRedis] = func(e *worldEdge) { e.last(8, 4*time.Millisecond, s.redis...) }
			s.health()
			s.broken[toRedis] = func(e *worldEdge) { e.last(8, 300*time.Millisecond, s.redis...) }
			s.fault()
			s.broken[toRedis] = func(e *worldEdge) { e.last(8, 4*time.Millisecond, s.redis...) }
			s.run(time.Minute, s.live)
		},
		silent: func(s *shop) {
			s.broken[toRedis] = func(e *worldEdge) { e.last(8, 4*time.Millisecond, s.redis...) }
			s.health()
			s.broken[toRedis] = func(e *worldEdge) { e.last(8, 6*time.Millisecond, s.redis...) }
			s.fault()
		},
	},
	rules.ErrorExcess: sparseTest(rules.KindHTTPErrors, func(s *shop) {
		s.broken[toPayment] = func(e *worldEdge) { e.ok(60, s.payment...).answer(60, 9, 25*time.Millisecond, s.payment...) }
		s.broken[toCheckout] = func(e *worldEdge) { e.ok(60, s.checkout...).answer(60, 9, 60*time.Millisecond, s.checkout...) }
	}, func(s *shop) {
		s.broken[toPayment] = func(e *worldEdge) { e.ok(60, s.payment...).answer(60, 1, 25*time.Millisecond, s.payment...) }
	}),
	rules.LatencyExcess: sparseTest(rules.KindLatency, func(s *shop) {
		s.broken[toPayment] = func(e *worldEdge) { e.ok(60, s.payment...).answer(60, 0, 60*time.Millisecond, s.payment...) }
		s.broken[toCheckout] = func(e *worldEdge) { e.ok(60, s.checkout...).answer(60, 0, 100*time.Millisecond, s.checkout...) }
	}, func(s *shop) {
		// Calls that come more often take no longer.
		s.broken[toPayment] = func(e *worldEdge) { e.ok(600, s.payment...).answer(600, 0, 25*time.Millisecond, s.payment...) }
	}),
	rules.NoAnswer: {
		kind: rules.KindConnectionReset, root: "data/redis",
		fires: func(s *shop) {
			s.health()
			s.broken[toRedis] = func(e *worldEdge) { e.ignore(8, s.redis...) }
			s.broken[toCart] = func(e *worldEdge) { e.ok(8, s.cart...).answer(8, 8, 7*time.Millisecond, s.cart...) }
			s.broken[toFrontend] = func(e *worldEdge) { e.ok(20, s.frontend...).answer(20, 8, 20*time.Millisecond, s.frontend...) }
			s.fault()
			s.recovery()
		},
		// Who never answers is not asked to.
		silent: func(s *shop) {
			s.broken[toRedis] = func(e *worldEdge) { e.ignore(8, s.redis...) }
			s.run(4*time.Minute, s.live)
		},
	},
	rules.TrafficLoss: {
		kind: rules.KindTrafficLoss, root: "shop/checkout",
		fires: func(s *shop) {
			s.health()
			s.broken[toShipping] = nil
			s.fault()
			s.recovery()
		},
		// Who is not called any more has nothing to call for: a quiet hour.
		silent: func(s *shop) {
			s.health()
			for _, e := range []string{toFrontend, toCheckout, toPayment, toShipping, toCart, toRedis} {
				s.broken[e] = nil
			}
			s.run(10*time.Minute, s.live)
		},
	},
	rules.CertificateExpiry: {
		kind: rules.KindIdentityError, root: "billing/payment",
		fires: func(s *shop) {
			s.certificate(-22*time.Hour, time.Hour)
			s.run(2*time.Minute, s.live)
			s.certificate(-time.Minute, 24*time.Hour)
			s.run(time.Minute, s.live)
		},
		silent: func(s *shop) {
			s.certificate(-12*time.Hour, 12*time.Hour)
			s.run(2*time.Minute, s.live)
		},
	},
	rules.CertificateFailures: {
		kind: rules.KindIdentityError, root: "node/node-a",
		fires: func(s *shop) {
			s.health()
			s.run(time.Minute, func() {
				s.live()
				s.message("node-a", "identity::manager", "certificate fetch failed: connection refused", plog.SeverityNumberWarn)
			})
			s.run(3*time.Minute, s.live)
		},
		silent: func(s *shop) {
			s.health()
			s.message("node-a", "identity::manager", "certificate fetch failed: connection refused", plog.SeverityNumberWarn)
			s.message("node-a", "proxy::h2::client", "peer closed connection without sending TLS close_notify", plog.SeverityNumberError)
			s.run(2*time.Minute, s.live)
		},
	},
	rules.CertificatesMissing: {
		kind: rules.KindIdentityError, root: "node/node-a",
		fires: func(s *shop) {
			s.health()
			s.certificates("Available", "Available", "Initializing")
			s.run(time.Minute, s.live)
			s.certificates("Unavailable: signing gRPC error", "Unavailable: signing gRPC error", "Initializing")
			s.run(3*time.Minute, s.live)
			s.certificates("Available", "Available", "Available")
			s.run(time.Minute, s.live)
		},
		silent: func(s *shop) {
			s.health()
			s.certificates("Available", "Initializing")
			s.run(2*time.Minute, s.live)
			s.certificates("Available", "Unavailable: signing gRPC error")
			s.run(10*time.Second, s.live)
			s.certificates("Available", "Available")
			s.run(2*time.Minute, s.live)
		},
	},
	rules.NodeDown: {
		kind: rules.KindNodeDown, root: "node/node-b",
		fires: func(s *shop) {
			s.health()
			s.loseNode()
			s.fault()
			s.nodes["node-b"].sources[semconv.SourceMetrics] = true
			s.recovery()
		},
		// A scrape that fails once, of a node that works, is nothing.
		silent: func(s *shop) {
			s.health()
			s.nodes["node-b"].sources[semconv.SourceMetrics] = false
			s.run(5*time.Second, s.live)
			s.nodes["node-b"].sources[semconv.SourceMetrics] = true
			s.run(time.Minute, s.live)
		},
	},
	rules.TelemetryLost: {
		kind: rules.KindTelemetryLost, root: "node/node-b",
		fires: func(s *shop) {
			s.health()
			s.nodes["node-b"].sources[semconv.SourceMetrics] = false
			s.fault()
			s.nodes["node-b"].sources[semconv.SourceMetrics] = true
			s.recovery()
		},
		silent: func(s *shop) {
			s.nodes["node-b"].sources[semconv.SourceMetrics] = false
			s.run(3*time.Minute, s.live) // never was: not configured there
		},
	},
	rules.ControlPlaneDown: {
		kind: rules.KindControlPlaneDown, root: "istio-system/istiod",
		fires: func(s *shop) {
			s.health()
			s.run(time.Minute, func() {
				s.live()
				for _, node := range []string{"node-a", "node-b", "node-c"} {
					s.message(node, "xds::client:xds{id=3}", "XDS client connection error: gRPC connection error, retrying in 15s", plog.SeverityNumberWarn)
				}
			})
			for _, node := range []string{"node-a", "node-b", "node-c"} {
				s.message(node, "xds::client:xds{id=4}", "Stream established", plog.SeverityNumberInfo)
			}
			s.run(time.Minute, s.live)
		},
		// One ztunnel that reconnects, and streams that are renewed everywhere, are nothing.
		silent: func(s *shop) {
			s.health()
			s.message("node-a", "xds::client:xds{id=3}", "XDS client connection error: gRPC connection error, retrying in 20ms", plog.SeverityNumberWarn)
			for _, node := range []string{"node-a", "node-b", "node-c"} {
				s.message(node, "xds::client:xds{id=4}", "Stream established", plog.SeverityNumberInfo)
			}
			s.run(2*time.Minute, s.live)
		},
	},
	rules.BurnFast:   burnTest(50*time.Minute, 10*time.Minute, 10*time.Minute),
	rules.BurnMedium: burnTest(4*time.Hour, time.Hour, time.Hour),
	rules.BurnSlow:   burnTest(40*time.Hour, 6*time.Hour, 8*time.Hour),
}

// sparseTest has points a minute apart, and a fault of four of them.
func sparseTest(kind string, fault, harmless func(*shop)) ruleTest {
	run := func(happens func(*shop)) func(*shop) {
		return func(s *shop) {
			s.interval = time.Minute
			s.run(20*time.Minute, s.live)
			happens(s)
			s.run(4*time.Minute, s.live)
			s.heal()
			s.run(6*time.Minute, s.live)
		}
	}
	return ruleTest{
		kind: kind, root: "billing/payment",
		config: func(c *Config) {
			c.Rules = map[string]rules.Change{rules.PartialOutage: {Enabled: ptr(false)}, rules.TelemetryLost: {Enabled: ptr(false)}}
		},
		fires: run(fault), silent: run(harmless),
	}
}

// burnTest burns a budget so evenly that no other rule sees it.
func burnTest(health, fault, recovery time.Duration) ruleTest {
	burn := func(failing bool) func(*shop) {
		return func(s *shop) {
			s.interval = time.Minute
			e := s.edge("load/loadgen", "shop/frontend")
			live := func(bad uint64) func() {
				return func() { e.ok(1000, s.frontend...).answer(1000, bad, 20*time.Millisecond, s.frontend...) }
			}
			s.run(health, live(0))
			if failing {
				s.run(fault, live(120))
				s.run(recovery, live(0))
			}
		}
	}
	return ruleTest{
		kind: rules.KindHTTPErrors, root: "shop/frontend",
		config: func(c *Config) {
			c.SLOs = []SLO{{Subject: rules.Subject{Workload: "frontend"}, Objective: 0.999}}
			c.Rules = map[string]rules.Change{
				rules.HTTPErrors: {Enabled: ptr(false)}, rules.ErrorExcess: {Enabled: ptr(false)}, rules.PartialOutage: {Enabled: ptr(false)}, rules.TelemetryLost: {Enabled: ptr(false)},
			}
		},
		fires: burn(true), silent: burn(false),
	}
}

func (s *shop) certificate(issued, expires time.Duration) {
	s.entity(&mesh.Ztunnel{Node: "node-a", Certificates: []mesh.Certificate{{
		Identity: "spiffe://cluster.local/ns/billing/sa/payment", State: "Available", NotBefore: begin.Add(issued), NotAfter: begin.Add(expires),
	}}}, false)
}

// certificates are those of node-a, by their states.
func (s *shop) certificates(states ...string) {
	z := &mesh.Ztunnel{Node: "node-a"}
	for i, state := range states {
		z.Certificates = append(z.Certificates, mesh.Certificate{Identity: fmt.Sprintf("spiffe://cluster.local/ns/shop/sa/%d", i), State: state})
	}
	s.entity(z, false)
}

// loseNode kills the ztunnel of node-b: who calls what runs there is refused, what runs there is silent.
func (s *shop) loseNode() {
	s.nodes["node-b"].sources[semconv.SourceMetrics] = false
	s.broken[toFrontend] = func(e *worldEdge) {
		e.ok(10, s.frontend[0]).fail(10, semconv.ErrorTypeConnectionRefused, "", s.frontend[1]).answer(20, 14, 20*time.Millisecond, s.frontend[0])
	}
	s.broken[toCheckout] = func(e *worldEdge) { e.fail(3, semconv.ErrorTypeConnectionRefused, "", s.checkout...) }
	s.broken[toRedis] = func(e *worldEdge) { e.fail(4, semconv.ErrorTypeConnectionRefused, "", s.redis...) }
	s.broken[toCart] = func(e *worldEdge) { e.ok(4, s.cart...).answer(4, 4, 7*time.Millisecond, s.cart...) }
	s.broken[toPayment], s.broken[toShipping] = nil, nil
}

// without keeps other rules from finding what a test is about first.
func only(id string) func(*Config) {
	return func(c *Config) {
		switch id {
		case rules.BurnMedium:
			c.Rules[rules.BurnFast] = rules.Change{Enabled: ptr(false)}
		case rules.BurnSlow:
			c.Rules[rules.BurnFast] = rules.Change{Enabled: ptr(false)}
			c.Rules[rules.BurnMedium] = rules.Change{Enabled: ptr(false)}
		}
	}
}

// forKind is the test of a rule that judges connections by their reason, which needs no golden file: they differ in a sentence.
func forKind(kind string) ruleTest {
	i := slices.IndexFunc(reasons.All, func(r reasons.Reason) bool { return r.Kind == kind })
	test := reasonTest(kind, reasons.All[i].Name)
	if reasons.All[i].Fault == reasons.Client {
		test.root = "shop/checkout"
	}
	return test
}

func TestRules(t *testing.T) {
	for _, kind := range reasons.Kinds {
		if _, ok := ruleTests[kind.Name]; !ok && kind.Sentence != "" {
			ruleTests[kind.Name] = forKind(kind.Name)
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.json"))
	require.NoError(t, err)
	for _, file := range files {
		assert.NotNil(t, rules.Named(strings.TrimSuffix(filepath.Base(file), ".json")), "%s is of no rule", file)
	}
	for id := range ruleTests {
		assert.NotNil(t, rules.Named(id), "there is no rule %s", id)
	}
	for i := range rules.Defaults {
		id := rules.Defaults[i].ID
		t.Run(id, func(t *testing.T) {
			test, ok := ruleTests[id]
			require.True(t, ok, "every rule has a test that shows it firing and one that shows it silent")
			configure := func(c *Config) {
				if test.config != nil {
					test.config(c)
				}
				only(id)(c)
			}
			fires := newShop(t, configure)
			test.fires(fires)
			outages := fires.outages()
			if _, err := os.Stat(goldenFile(id)); err == nil || !slices.ContainsFunc(reasons.Kinds, func(k reasons.Kind) bool { return k.Name == id && k.Sentence != "" }) {
				golden(t, id, fires.events())
			}
			require.Len(t, outages, 1)
			assert.Equal(t, test.kind, outages[0].Kind)
			assert.Equal(t, test.root, rootText(outages[0].Root))
			assert.Equal(t, semconv.OutageStateResolved, outages[0].State)

			silent := newShop(t, configure)
			test.silent(silent)
			assert.Empty(t, silent.outages())
		})
	}
}

func rootText(s outage.Subject) string {
	if s.Type == "node" {
		return "node/" + s.Name
	}
	return s.Namespace + "/" + s.Name
}

// goldenEvent is what a golden file tells of an outage event: the opening and the end in full, changes in short.
type goldenEvent struct {
	Transition string
	Summary    string
	Outage     *outage.Outage `json:",omitempty"`
}

func goldenFile(id string) string { return filepath.Join("testdata", "golden", id+".json") }

func golden(t *testing.T, id string, events []told) {
	t.Helper()
	require.GreaterOrEqual(t, len(events), 2)
	assert.Equal(t, semconv.TransitionOpened, events[0].Transition)
	assert.Equal(t, semconv.TransitionClosed, events[len(events)-1].Transition)
	var list []goldenEvent
	for _, e := range events {
		g := goldenEvent{Transition: e.Transition, Summary: e.Outage.Summary}
		if e.Transition != semconv.TransitionChanged {
			g.Outage = e.Outage
		}
		list = append(list, g)
	}
	got, err := json.MarshalIndent(list, "", " ")
	require.NoError(t, err)
	path := goldenFile(id)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, append(got, '\n'), 0o644)) //nolint:gosec // a golden file is no secret
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(want), string(got)+"\n")
}
