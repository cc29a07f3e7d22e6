package cause

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/judge"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observetest"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// inquiry is a mesh, who judges it and who explains it.
type inquiry struct {
	*observetest.Mesh
	judge  *judge.Judge
	finder *Finder
}

func newInquiry() inquiry {
	m := observetest.New()
	j := judge.New(m.Store)
	return inquiry{m, j, New(m.Store, j)}
}

func (i inquiry) pass(intervals int, happens func()) []*Explanation {
	var found []*Explanation
	for range intervals {
		happens()
		i.Tick()
		i.judge.Round()
		found = i.finder.Explain()
	}
	return found
}

func roots(found []*Explanation) map[string]string {
	all := map[string]string{}
	for _, e := range found {
		all[e.Root.Namespace+"/"+e.Root.Name] = e.Kind
	}
	return all
}

func edges(blames []Blame) []string {
	var all []string
	for _, b := range blames {
		all = append(all, b.Pair.Source.Name.Name+">"+b.Pair.Destination.Name.Name)
	}
	slices.Sort(all)
	return all
}

// TestCallersAreImpact follows failures from who feels them to what fails, through callers that fail requests because of it.
func TestCallersAreImpact(t *testing.T) {
	i := newInquiry()
	in, web, api := i.Edge("load/gen", "shop/web"), i.Edge("shop/web", "shop/api"), i.Edge("shop/api", "data/db")
	aside := i.Edge("shop/web", "shop/cart")
	i.pass(30, func() { in.OK(20); web.OK(10); api.OK(10); aside.OK(5) })
	found := i.pass(4, func() {
		in.Err(8)
		in.OK(12)
		web.Err(9)
		api.Fail(9, semconv.ErrorTypeConnectionRefused, "")
		aside.OK(5)
	})
	require.Len(t, found, 1)
	e := found[0]
	assert.Equal(t, outage.Subject{Type: TypeWorkload, Namespace: "data", Name: "db"}, e.Root)
	assert.Equal(t, rules.KindConnectionRefused, e.Kind)
	assert.Equal(t, []string{"api>db"}, edges(e.Edges))
	assert.Equal(t, []string{"gen>web", "web>api"}, edges(e.Affected))
	require.NotEmpty(t, e.Candidates)
	assert.Equal(t, e.Root, e.Candidates[0].Subject)
	assert.True(t, slices.IsSortedFunc(e.Candidates, func(a, b outage.Candidate) int {
		if a.Score < b.Score {
			return 1
		}
		return 0
	}))

	impact := map[string]string{}
	for _, one := range i.finder.Impact(e) {
		impact[one.Name.Name] = one.How
	}
	assert.Equal(t, map[string]string{"api": HowCalls, "web": HowDependsOn, "gen": HowDependsOn}, impact)
}

// TestWaitingForWhatFailsOthers holds a caller whose callee no longer answers it, and fails others, to fail because of that.
func TestWaitingForWhatFailsOthers(t *testing.T) {
	i := newInquiry()
	web, api, job := i.Edge("load/gen", "shop/web"), i.Edge("shop/web", "data/queue"), i.Edge("shop/job", "data/queue")
	i.pass(30, func() { web.OK(20); api.OK(20); job.OK(10) })
	found := i.pass(3, func() {
		web.Err(20)
		job.Fail(10, semconv.ErrorTypeConnectionReset, "")
	})
	require.Len(t, found, 1)
	assert.Equal(t, map[string]string{"data/queue": rules.KindConnectionReset}, roots(found))
	assert.Equal(t, []string{"job>queue", "web>queue"}, edges(found[0].Edges))
	assert.Equal(t, []string{"gen>web"}, edges(found[0].Affected))
}

// TestFewBrokenConnections holds many failed requests to say more of an edge than the few of its connections that are refused meanwhile.
func TestFewBrokenConnections(t *testing.T) {
	i := newInquiry()
	in, api := i.Edge("shop/web", "shop/api"), i.Edge("shop/api", "data/db")
	i.pass(30, func() { in.OK(100); api.OK(100) })
	found := i.pass(3, func() {
		in.Err(94)
		in.Fail(6, semconv.ErrorTypeConnectionRefused, "")
		api.Fail(94, semconv.ErrorTypeConnectionReset, "")
	})
	assert.Equal(t, map[string]string{"data/db": rules.KindConnectionReset}, roots(found))
}

// TestTwoCauses holds what fails apart to be two explanations.
func TestTwoCauses(t *testing.T) {
	i := newInquiry()
	a, b := i.Edge("shop/web", "shop/api"), i.Edge("shop/job", "shop/cart")
	i.pass(30, func() { a.OK(10); b.OK(10) })
	found := i.pass(3, func() {
		a.Fail(10, semconv.ErrorTypeConnectionReset, "")
		b.Fail(10, semconv.ErrorTypeTLSFailure, "")
	})
	assert.Equal(t, map[string]string{"shop/api": rules.KindConnectionReset, "shop/cart": rules.KindTLSFailure}, roots(found))
}

// TestOnePolicy holds what one policy denies at several workloads to be one explanation, and another policy's to be another.
func TestOnePolicy(t *testing.T) {
	i := newInquiry()
	a, b, c := i.Edge("shop/web", "shop/api"), i.Edge("shop/web", "shop/cart"), i.Edge("shop/job", "data/db")
	i.pass(30, func() { a.OK(10); b.OK(10); c.OK(10) })
	found := i.pass(3, func() {
		a.Fail(12, semconv.ErrorTypePolicyDenied, "shop/closed")
		b.Fail(10, semconv.ErrorTypePolicyDenied, "shop/closed")
		c.Fail(10, semconv.ErrorTypePolicyDenied, "data/closed")
	})
	require.Len(t, found, 2)
	slices.SortFunc(found, func(a, b *Explanation) int { return len(b.Edges) - len(a.Edges) })
	assert.Equal(t, "shop/closed", found[0].Policy)
	assert.Equal(t, "api", found[0].Root.Name, "where most is denied")
	assert.Equal(t, []string{"web>api", "web>cart"}, edges(found[0].Edges))
	assert.Equal(t, "data/closed", found[1].Policy)
	assert.Equal(t, "db", found[1].Root.Name)
}

// TestOneClient holds a client that reaches nobody to be the cause, where those it calls serve others well.
func TestOneClient(t *testing.T) {
	i := newInquiry()
	targets := []string{"shop/api", "shop/cart", "data/db", "data/cache"}
	every := func(client func(*observetest.Edge)) func() {
		return func() {
			for _, target := range targets {
				client(i.Edge("shop/web", target))
				i.Edge("shop/job", target).OK(10)
			}
		}
	}
	i.pass(30, every(func(e *observetest.Edge) { e.OK(10) }))
	found := i.pass(3, every(func(e *observetest.Edge) { e.Fail(10, semconv.ErrorTypeConnectionTimeout, "") }))
	assert.Equal(t, map[string]string{"shop/web": rules.KindConnectionTimeout}, roots(found))
}

// TestNode holds a node that is down to explain what fails there, but not what fails elsewhere.
func TestNode(t *testing.T) {
	i := newInquiry()
	i.Scraped["node-a"], i.Scraped["node-b"] = true, true
	api, db, cart := i.Pod("shop/api", "api-1", "node-b"), i.Pod("data/db", "db-1", "node-b"), i.Pod("shop/cart", "cart-1", "node-a")
	toAPI, toDB, toCart := i.Edge("shop/web", "shop/api"), i.Edge("shop/web", "data/db"), i.Edge("shop/web", "shop/cart")
	i.pass(30, func() { toAPI.OK(10, api); toDB.OK(10, db); toCart.OK(10, cart) })
	i.Scraped["node-b"] = false
	found := i.pass(4, func() {
		toAPI.Fail(10, semconv.ErrorTypeConnectionRefused, "", api)
		toDB.Fail(10, semconv.ErrorTypeConnectionTimeout, "", db)
		toCart.Fail(10, semconv.ErrorTypePolicyDenied, "shop/closed", cart)
	})
	assert.Equal(t, map[string]string{"/node-b": rules.KindNodeDown, "shop/cart": rules.KindPolicyDenied}, roots(found))
	for _, e := range found {
		if e.Root.Type == TypeNode {
			assert.Equal(t, []string{"web>api", "web>db"}, edges(e.Edges))
			assert.True(t, e.Confirmed)
		}
	}
}

// TestWaypoint holds connections that fail at a waypoint to be its doing, and those that it passes on to a server that fails not to.
func TestWaypoint(t *testing.T) {
	for name, test := range map[string]struct {
		scraped bool // the waypoint's node
		fails   func(waypoint, api *observetest.Pod) *observetest.Pod
		want    map[string]string
	}{
		"the waypoint refuses": {
			scraped: true, fails: func(waypoint, _ *observetest.Pod) *observetest.Pod { return waypoint },
			want: map[string]string{"shop/waypoint": rules.KindConnectionRefused},
		},
		"the server refuses": {
			scraped: true, fails: func(_, api *observetest.Pod) *observetest.Pod { return api },
			want: map[string]string{"shop/api": rules.KindConnectionRefused},
		},
		"the waypoint's node is down": {
			fails: func(waypoint, _ *observetest.Pod) *observetest.Pod { return waypoint },
			want:  map[string]string{"/node-b": rules.KindNodeDown},
		},
	} {
		t.Run(name, func(t *testing.T) {
			i := newInquiry()
			i.Scraped["node-a"], i.Scraped["node-b"] = true, true
			waypoint := i.Pod("shop/waypoint", "waypoint-1", "node-b")
			api, cart, db := i.Pod("shop/api", "api-1", "node-a"), i.Pod("shop/cart", "cart-1", "node-a"), i.Pod("data/db", "db-1", "node-a")
			in := i.Edge("load/gen", "shop/web")
			toAPI, toCart := i.Edge("shop/web", "shop/api").Through("shop/waypoint"), i.Edge("shop/job", "shop/cart").Through("shop/waypoint")
			toDB := i.Edge("shop/api", "data/db")
			i.pass(30, func() {
				in.OK(10)
				toAPI.OK(10, waypoint, api)
				toCart.OK(10, waypoint, cart)
				toDB.OK(10, db)
			})
			i.Scraped["node-b"] = test.scraped
			failing := test.fails(waypoint, api)
			found := i.pass(4, func() {
				in.Err(10)
				toAPI.Fail(10, semconv.ErrorTypeConnectionRefused, "", failing)
				if failing == waypoint {
					toCart.Fail(10, semconv.ErrorTypeConnectionRefused, "", failing)
				} else {
					toCart.OK(10, waypoint, cart)
				}
			})
			assert.Equal(t, test.want, roots(found))
			require.Len(t, found, 1)
			if failing == waypoint {
				assert.Equal(t, []string{"job>cart", "web>api"}, edges(found[0].Edges))
				var felt []string
				for _, one := range i.finder.Impact(found[0]) {
					felt = append(felt, one.Name.Name)
				}
				assert.Subset(t, felt, []string{"job", "web", "gen"})
			}
		})
	}
}

// TestCircle lets two apps call each other while both fail: an end is found all the same, the one that failed first, and if
// something that they call explains both, it is that.
func TestCircle(t *testing.T) {
	for _, below := range []bool{false, true} {
		i := newInquiry()
		in, there, back := i.Edge("load/gen", "shop/a"), i.Edge("shop/a", "shop/b"), i.Edge("shop/b", "shop/a")
		db := i.Edge("shop/b", "data/db")
		live := func() { in.OK(10); there.OK(10); back.OK(10); db.OK(10) }
		i.pass(30, live)
		i.pass(1, func() {
			in.OK(10)
			back.OK(10)
			there.Err(10)
			if below {
				db.Fail(10, semconv.ErrorTypeConnectionRefused, "")
			}
		})
		found := i.pass(4, func() {
			in.Err(10)
			there.Err(10)
			back.Err(10)
			if below {
				db.Fail(10, semconv.ErrorTypeConnectionRefused, "")
			}
		})
		require.Len(t, found, 1)
		if below {
			assert.Equal(t, "db", found[0].Root.Name)
			assert.Equal(t, []string{"a>b", "b>a", "gen>a"}, edges(found[0].Affected))
		} else {
			assert.Equal(t, "b", found[0].Root.Name)
			assert.Equal(t, []string{"b>a", "gen>a"}, edges(found[0].Affected))
		}
	}
}

// TestPrimary holds a broken connection to say more than a failed request, and that more than slowness and silence.
func TestPrimary(t *testing.T) {
	p := &observe.Pair{}
	_, wrong := Primary(p)
	assert.False(t, wrong)
	for _, family := range []observe.Family{observe.Silence, observe.Latency, observe.RequestErrors, observe.Stalled, observe.Connections} {
		p.Faults[family].On = true
		first, wrong := Primary(p)
		assert.True(t, wrong)
		assert.Equal(t, family, first)
	}
}

// TestRevoked says of a handshake that fails what only the server's ztunnel counts: that a certificate is revoked.
func TestRevoked(t *testing.T) {
	i := newInquiry()
	i.Scraped["a"], i.Scraped["b"] = true, true
	call, pod := i.Edge("shop/cart", "shop/payment"), i.Pod("shop/payment", "payment-0", "b")
	var rejected int64
	scraped := func() {
		md := pmetric.NewMetrics()
		resource := md.ResourceMetrics().AppendEmpty()
		resource.Resource().Attributes().PutStr(semconv.AttrServiceName, semconv.ServiceNameZtunnel)
		resource.Resource().Attributes().PutStr(semconv.AttrNodeName, "b")
		metrics := resource.ScopeMetrics().AppendEmpty().Metrics()
		for name, value := range map[string]int64{"process_open_fds": 8, "istio_crl_policy_rejections_total": rejected} {
			metric := metrics.AppendEmpty()
			metric.SetName(name)
			point := metric.SetEmptySum().DataPoints().AppendEmpty()
			point.SetTimestamp(pcommon.Timestamp(i.Now))
			point.SetIntValue(value)
		}
		i.Metrics(md, time.Unix(0, i.Now))
	}
	i.pass(20, func() {
		call.OK(20, pod)
		scraped()
	})
	found := i.pass(3, func() {
		call.Fail(20, semconv.ErrorTypeTLSFailure, "", pod)
		rejected += 20
		scraped()
	})
	require.Len(t, found, 1)
	texts := make([]string, 0, 1)
	for _, one := range found[0].Evidence {
		texts = append(texts, one.Text)
	}
	assert.Contains(t, strings.Join(texts, "\n"), "connections that the ztunnel of b turned down because the other end's certificate is revoked: 60")
}
