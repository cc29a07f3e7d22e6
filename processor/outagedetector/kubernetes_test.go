package outagedetector

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// change tells of a change in Kubernetes that happened a while ago.
func (w *world) change(c mesh.Change, ago time.Duration) {
	c.Time, c.Observed = pcommon.NewTimestampFromTime(w.now.Add(-ago)), pcommon.NewTimestampFromTime(w.now)
	c.AppendTo(w.logs.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords())
}

func TestChangesInKubernetesAreEvidence(t *testing.T) {
	s := newShop(t, nil)
	s.change(mesh.Change{Reason: mesh.ChangeScaled, Kind: "Deployment", Namespace: "billing", Name: "payment-v1", App: "payment", Text: "scaled long ago"}, time.Hour)
	s.health()
	s.change(mesh.Change{Reason: mesh.ChangeRollout, Kind: "Deployment", Namespace: "billing", Name: "payment-v1", App: "payment", Text: "rolls out image 2"}, 10*time.Second)
	// The pod's app is known by the mesh's state.
	s.change(mesh.Change{Reason: mesh.ChangeEvent, Kind: "Pod", Namespace: "billing", Name: "payment-1", Text: "does not answer its probe", Warning: true}, 0)
	s.change(mesh.Change{Reason: mesh.ChangeRollout, Kind: "Deployment", Namespace: "shop", Name: "cart-v1", App: "cart", Text: "another app"}, 0)
	s.change(mesh.Change{Reason: mesh.ChangeEvent, Kind: "Job", Namespace: "billing", Name: "nightly", Text: "nobody's"}, 0)
	s.change(mesh.Change{Kind: "Pod", Name: "says nothing"}, 0)
	s.refuse(semconv.ErrorTypeConnectionRefused, "")
	s.fault()
	require.Len(t, s.outages(), 1)
	o := s.outages()[0]
	assert.Equal(t, "payment", o.Root.Name)
	var told []string
	for _, e := range o.Evidence {
		if e.Source == "kubernetes" {
			told = append(told, e.Text)
		}
	}
	assert.Equal(t, []string{"rolls out image 2", "does not answer its probe"}, told)
}

func TestChangesInKubernetesAreNoSign(t *testing.T) {
	s := newShop(t, nil)
	s.health()
	for _, reason := range []mesh.ChangeReason{mesh.ChangeOOMKilled, mesh.ChangeCrashLoop, mesh.ChangeNotReady} {
		s.change(mesh.Change{Reason: reason, Kind: "Pod", Namespace: "billing", Name: "payment-1", App: "payment", Node: "node-a", Text: "bad", Warning: true}, 0)
	}
	s.fault()
	assert.Empty(t, s.outages(), "what harms nobody is no outage")
}

// A node that is taken out of the mesh: its ztunnel's end is told, and its silence is none.
func TestNodeThatLeaves(t *testing.T) {
	s := newShop(t, nil)
	s.node("node-d")
	s.health()
	s.entity(&mesh.Ztunnel{Node: "node-d"}, true)
	s.nodes["node-d"].mute = true
	s.run(5*time.Minute, s.live)
	assert.Empty(t, s.outages())

	// It comes back, and then its agent really falls silent.
	s.nodes["node-d"].mute = false
	s.run(2*time.Minute, s.live)
	s.nodes["node-d"].mute = true
	s.run(5*time.Minute, s.live)
	assert.True(t, slices.ContainsFunc(s.events(), func(e told) bool { return e.Outage.Kind == "telemetry_lost" }))
}
