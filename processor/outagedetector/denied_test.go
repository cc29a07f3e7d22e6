package outagedetector

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// denyRequest tells of a request that a waypoint denied by a policy.
func (w *world) denyRequest(e *worldEdge, policy string, repeated bool) {
	record := w.logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords().AppendEmpty()
	record.SetEventName(semconv.EventRequest)
	record.SetTimestamp(pcommon.NewTimestampFromTime(w.now.Add(w.interval / 2)))
	attrs := record.Attributes()
	e.key.PutAttributes(attrs)
	attrs.PutStr(semconv.AttrErrorType, semconv.ErrorTypePolicyDenied)
	attrs.PutStr(semconv.AttrPolicy, policy)
	attrs.PutStr(semconv.AttrResponseDetails, "rbac_access_denied_matched_policy[ns[billing]-policy[no-get]-rule[0]]")
	if repeated {
		attrs.PutBool(semconv.AttrRepeated, true)
	}
}

// TestRequestsDenied holds requests that a waypoint denies to be an outage of what denies them, although they fail by no counter, and
// what their callers answer instead to be its impact.
func TestRequestsDenied(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	payment := s.edge("shop/checkout", "billing/payment")
	s.broken[toPayment] = func(e *worldEdge) {
		e.ok(6, s.payment...).answer(6, 0, time.Millisecond)
		for range 6 {
			s.denyRequest(payment, "billing/no-get", false)
			s.denyRequest(payment, "billing/no-get", true)
		}
	}
	s.broken[toCheckout] = func(e *worldEdge) { e.ok(6, s.checkout...).answer(6, 6, 5*time.Millisecond, s.checkout...) }
	s.fault()
	require.Len(t, s.outages(), 1)
	o := s.outages()[0]
	assert.Equal(t, rules.KindPolicyDenied, o.Kind)
	assert.Equal(t, "billing/no-get", o.Policy)
	assert.Equal(t, "billing/payment", rootText(o.Root))
	assert.Equal(t, o.Edges[0].Total, o.Edges[0].Failed)
	assert.Contains(t, o.Evidence[0].Text, "rbac_access_denied_matched_policy")
	assert.Contains(t, o.Impact, outage.Impact{Name: name("load/loadgen"), How: "depends_on"})
	s.recovery()
	require.Len(t, s.outages(), 1)
	assert.Equal(t, semconv.OutageStateResolved, s.outages()[0].State)
}

// TestDenialByANewPolicy holds one denial of few to be an outage if it names a policy that has just been added, and to end with it.
func TestDenialByANewPolicy(t *testing.T) {
	for _, denials := range []int{1, 4} {
		s := newShop(t, nil)
		payment := s.edge("shop/checkout", "billing/payment")
		s.run(2*time.Minute, func() {
			s.live()
			s.kept(payment)
		})
		p := s.deny()
		s.heal()
		n := 0
		s.broken[toPayment] = func(e *worldEdge) {
			s.kept(e)
			e.answer(6, 0, 25*time.Millisecond, s.payment...)
			if n++; n%2 == 1 && n <= 2*denials {
				e.fail(1, semconv.ErrorTypePolicyDenied, p.Key(), s.payment[0])
			}
		}
		s.fault()
		require.Len(t, s.outages(), 1, denials)
		o := s.outages()[0]
		assert.Equal(t, rules.KindPolicyDenied, o.Kind)
		assert.Equal(t, p.Key(), o.Policy)
		assert.Equal(t, map[bool]string{false: rules.Warning, true: rules.Critical}[denials >= 3], o.Severity)
		s.entity(p, true)
		s.recovery()
		require.Len(t, s.outages(), 1)
		assert.Equal(t, semconv.OutageStateResolved, s.outages()[0].State)
	}
}

// TestDenialByNoneThatAdmits holds one denial of few to be an outage that names no policy if one that admits has just been added: it admits others.
func TestDenialByNoneThatAdmits(t *testing.T) {
	for name, tc := range map[string]struct {
		policy  *mesh.Policy
		outages int
	}{
		"one that admits": {&mesh.Policy{Namespace: "billing", Name: "allow-backup", Scope: "NAMESPACE", Action: "ALLOW"}, 1},
		"one elsewhere":   {&mesh.Policy{Namespace: "shop", Name: "allow-backup", Scope: "NAMESPACE", Action: "ALLOW"}, 0},
		"one that denies": {&mesh.Policy{Namespace: "billing", Name: "no-probe", Scope: "NAMESPACE", Action: "DENY"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, nil)
			payment := s.edge("shop/checkout", "billing/payment")
			s.run(2*time.Minute, func() {
				s.live()
				s.kept(payment)
			})
			s.entity(tc.policy, false)
			s.heal()
			n := 0
			s.broken[toPayment] = func(e *worldEdge) {
				s.kept(e)
				e.answer(6, 0, 25*time.Millisecond, s.payment...)
				if n++; n == 1 {
					e.fail(1, semconv.ErrorTypePolicyDenied, "", s.payment[0])
				}
			}
			s.fault()
			require.Len(t, s.outages(), tc.outages)
			if tc.outages > 0 {
				assert.Equal(t, rules.KindPolicyDenied, s.outages()[0].Kind)
				assert.Equal(t, "billing/payment", rootText(s.outages()[0].Root))
			}
		})
	}
}

// TestDenialWhereConnectionsAreKept holds denials to be news where nothing but connections that are still open tells that others were admitted.
func TestDenialWhereConnectionsAreKept(t *testing.T) {
	for name, open := range map[string]uint64{"admitted before": 3, "never admitted": 0} {
		t.Run(name, func(t *testing.T) {
			s := newShop(t, nil)
			probe := s.edge("load/probe", "billing/payment")
			s.run(10*time.Second, func() { s.live(); probe.open(0) })
			probe.open(open)
			if open == 0 {
				probe.fail(2, semconv.ErrorTypePolicyDenied, "", s.payment...)
			}
			s.run(2*time.Minute, s.live)
			s.run(time.Minute, func() { s.live(); probe.fail(4, semconv.ErrorTypePolicyDenied, "", s.payment...) })
			require.Len(t, s.outages(), int(min(open, 1)))
		})
	}
}

// TestAddressLeftBehind holds who goes on calling the address of a pod that is gone to be failed by nobody, while others serve.
func TestAddressLeftBehind(t *testing.T) {
	s := newShop(t, nil)
	probe := s.edge("load/probe", "billing/payment")
	s.run(2*time.Minute, func() { s.live(); probe.ok(2, s.payment[0]) })
	s.entity(s.workload(s.payment[0]), true)
	s.run(time.Minute, func() { s.live(); probe.fail(2, semconv.ErrorTypeUnknownParty, "", s.payment[0]) })
	assert.Empty(t, s.outages())
	s.entity(s.workload(s.payment[0]), false)
	s.run(time.Minute, func() { s.live(); probe.fail(2, semconv.ErrorTypeUnknownParty, "", s.payment[0]) })
	assert.Len(t, s.outages(), 1)
}
