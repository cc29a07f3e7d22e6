package outagealertexporter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

var (
	began = time.Date(2026, 3, 2, 2, 51, 7, 0, time.UTC)
	later = began.Add(time.Minute)
	until = began.Add(5 * time.Minute)
)

func openOutage(id string) *outage.Outage {
	return &outage.Outage{
		ID: id, State: semconv.OutageStateOpen, Kind: "policy_denied", Severity: "critical", Policy: "billing/no-checkout",
		Summary: "checkout → payment fails since 02:51:07: AuthorizationPolicy billing/no-checkout denies it (58 of 58).",
		Root:    outage.Subject{Type: "workload", Namespace: "billing", Name: "payment"}, StartedAt: began, DetectedAt: began.Add(6 * time.Second),
		Findings: outage.Findings{
			Impact: []outage.Impact{{Name: outage.Name{Namespace: "shop", Name: "checkout"}, How: "calls"}},
			Evidence: []outage.Evidence{{
				Time: began, Source: "ztunnel node-a",
				Text: "connection closed due to policy rejection: explicitly denied by: billing/no-checkout",
			}},
		},
	}
}

func ended(o *outage.Outage, at time.Time) *outage.Outage {
	o.State, o.EndedAt = semconv.OutageStateResolved, &at
	return o
}

func newTestBook(most int) *book {
	return newBook(most, func(o *outage.Outage) alert {
		return alert{Labels: labelsOf(o, nil), Annotations: annotationsOf(o, ""), StartsAt: o.StartedAt}
	})
}

func TestBookTellsWhatChangesOnce(t *testing.T) {
	b := newTestBook(10)
	assert.Zero(t, b.take(openOutage("a"), began))
	alerts, taken := b.due(false, until)
	require.Len(t, alerts, 1)
	assert.Equal(t, began, alerts[0].StartsAt)
	assert.Equal(t, until, alerts[0].EndsAt)
	b.told(taken)
	alerts, _ = b.due(false, until)
	assert.Empty(t, alerts)
	alerts, _ = b.due(true, until)
	assert.Len(t, alerts, 1, "and again with all the others")
}

func TestBookKeepsWhatCouldNotBeTold(t *testing.T) {
	b := newTestBook(10)
	b.take(openOutage("a"), began)
	b.take(openOutage("b"), began)
	b.take(ended(openOutage("b"), later), later.Add(time.Second))
	for range 2 {
		alerts, taken := b.due(false, until)
		require.Len(t, alerts, 2)
		assert.Equal(t, later, alerts[0].EndsAt, "the end")
		assert.Equal(t, until, alerts[1].EndsAt)
		b.untold(taken)
	}
	_, taken := b.due(false, until)
	b.told(taken)
	alerts, _ := b.due(true, until)
	assert.Len(t, alerts, 1, "an end is told once")
	assert.Equal(t, 1, b.active())
}

func TestBookEndsAnAlertUnderItsOldLabels(t *testing.T) {
	b := newTestBook(10)
	b.take(openOutage("a"), began)
	other := openOutage("a")
	other.Root = outage.Subject{Type: "node", Name: "node-b"}
	b.take(other, later)
	alerts, _ := b.due(false, until)
	require.Len(t, alerts, 2)
	assert.Equal(t, "payment", alerts[0].Labels[semconv.LabelRootName])
	assert.Equal(t, later, alerts[0].EndsAt)
	assert.Equal(t, "node-b", alerts[1].Labels[semconv.LabelRootName])
	assert.NotContains(t, alerts[1].Labels, semconv.LabelRootNamespace)
	assert.Equal(t, until, alerts[1].EndsAt)
}

func TestBookEnds(t *testing.T) {
	for name, test := range map[string]struct {
		outage *outage.Outage
		want   time.Time
	}{
		"when the outage ended":               {ended(openOutage("a"), later), later},
		"now, if that lies ahead":             {ended(openOutage("a"), began.Add(time.Hour)), began.Add(2 * time.Minute)},
		"not before it began":                 {ended(openOutage("a"), began.Add(-time.Hour)), began},
		"now, if nobody says when":            {&outage.Outage{ID: "a", State: semconv.OutageStateStale}, began.Add(2 * time.Minute)},
		"and nothing of what was never known": {ended(openOutage("b"), later), time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newTestBook(10)
			b.take(openOutage("a"), began)
			b.take(test.outage, began.Add(2*time.Minute))
			alerts, _ := b.due(false, until)
			require.Len(t, alerts, 1)
			if test.want.IsZero() {
				test.want = until
			}
			assert.Equal(t, test.want, alerts[0].EndsAt)
		})
	}
}

func TestBookIsBounded(t *testing.T) {
	b := newTestBook(2)
	for n := range 3 {
		dropped := b.take(openOutage(fmt.Sprint(n)), began)
		assert.Equal(t, max(0, n-1), dropped)
	}
	assert.Equal(t, 2, b.active())
	dropped := 0
	for n := range 5 {
		b.take(openOutage(fmt.Sprint("more", n)), began)
		dropped += b.take(ended(openOutage(fmt.Sprint("more", n)), later), later)
		b.take(ended(openOutage(fmt.Sprint(n)), later), later)
	}
	alerts, _ := b.due(true, until)
	assert.Len(t, alerts, 2)
	assert.Positive(t, dropped)
}

func TestAlert(t *testing.T) {
	o := openOutage("0123")
	labels := labelsOf(o, map[string]string{"cluster": "one"})
	assert.Equal(t, map[string]string{
		"alertname": "MeshOutage", "outage_id": "0123", "kind": "policy_denied", "severity": "critical",
		"root_type": "workload", "root_namespace": "billing", "root_name": "payment", "namespace": "billing", "cluster": "one",
	}, labels)
	assert.Equal(t, "east", labelsOf(o, map[string]string{"namespace": "east"})["namespace"], "as configured")
	assert.Equal(t, map[string]string{
		"summary":     o.Summary,
		"description": "02:51:07 ztunnel node-a: connection closed due to policy rejection: explicitly denied by: billing/no-checkout",
		"impact":      "shop/checkout",
		"policy":      "billing/no-checkout",
		"runbook_url": "https://runbooks.example/mesh#policy_denied",
	}, annotationsOf(o, "https://runbooks.example/mesh"))
	assert.Equal(t, "http://mesh/ui/outages/0123", pageOf("http://mesh/ui/", "0123"))

	for n := range 30 {
		o.Impact = append(o.Impact, outage.Impact{Name: outage.Name{Name: fmt.Sprint("app-", n)}})
	}
	o.Summary = strings.Repeat("é", maxAnnotation)
	long := annotationsOf(o, "")
	assert.True(t, strings.HasSuffix(long["impact"], "app-8, 21 more"), long["impact"])
	assert.LessOrEqual(t, len(long["summary"]), maxAnnotation+len("…"))
}
