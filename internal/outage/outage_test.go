package outage

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

func TestBodyHoldsTheOutage(t *testing.T) {
	began := time.Date(2026, 3, 2, 2, 51, 7, 123_000_000, time.UTC)
	ended := began.Add(time.Minute)
	want := &Outage{
		ID: "0123", State: "resolved", Kind: "policy_denied", Severity: "critical", Summary: "checkout → payment fails",
		Root: Subject{Type: "workload", Namespace: "billing", Name: "payment"}, StartedAt: began, DetectedAt: began, EndedAt: &ended,
		Edges:  []Edge{{Source: Name{"shop", "checkout"}, Destination: Name{"billing", "payment"}, Failed: 58, Total: 58}},
		Policy: "billing/no-checkout",
		Findings: Findings{
			Candidates: []Candidate{{Subject: Subject{Type: "node", Name: "node-a"}, Score: 0.25, Reason: "runs what fails"}},
			Impact:     []Impact{{Name: Name{"shop", "frontend"}, How: "depends_on", Since: &began}},
			Evidence:   []Evidence{{Time: began, Text: "denied", Source: "ztunnel node-a", Kind: EvidenceLog}},
		},
	}
	body := pcommon.NewValueMap()
	require.NoError(t, want.PutMap(body.Map()))
	got, err := FromBody(body)
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func TestBodyThatHoldsNone(t *testing.T) {
	wrong := pcommon.NewValueMap()
	wrong.Map().PutStr("id", "0123")
	wrong.Map().PutStr("edges", "none")
	for name, body := range map[string]pcommon.Value{
		"empty": pcommon.NewValueEmpty(), "text": pcommon.NewValueStr("{}"), "without an id": pcommon.NewValueMap(), "of another shape": wrong,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := FromBody(body)
			require.ErrorContains(t, err, "reading outage")
		})
	}
}
