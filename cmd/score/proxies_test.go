package main

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/meshsim"
)

// ofProxies are the kinds of outages that ztunnels tell of beside connections.
var ofProxies = []string{"dns_failure", "dns_slow", "capture_pending", "ztunnel_overloaded", "identity_error"}

// TestProxyFaults finds each fault of which ztunnels tell beside connections in a simulated mesh, with its kind and root, in time.
// `make score-sim SIM="-traits proxies"` does so with many meshes.
func TestProxyFaults(t *testing.T) {
	faults := meshsim.ProxyFaults
	if testing.Short() {
		faults = faults[:3]
	}
	for n, fault := range faults {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			series := meshsim.Series{From: uint64(n) + 1, Count: 1, Options: meshsim.Options{
				Fault: fault, Workloads: 12, RootRate: 6, Instrumented: 1, Traits: []meshsim.Trait{meshsim.TraitProxies},
			}}
			result, err := scoreSimulated(t.Context(), &series, 0, "max")
			require.NoError(t, err)
			m := result.Expected[0]
			require.NotNil(t, m.Outage, "found %s", describeAll(result.found))
			assert.True(t, m.RootOK && m.KindOK && m.DelayOK && m.Times == 1, "%+v\nfound %s", m.Expected, describeAll(result.found))
			for _, o := range result.FalseAlarms {
				assert.NotContains(t, ofProxies, o.Kind, o.Summary)
			}
		})
	}
}

// TestProxiesInHealth finds none of these where pods only ask for names with search domains and ztunnels are started again.
// `make score-sim SIM="-healthy -traits proxies,restarts"` does so with many meshes.
func TestProxiesInHealth(t *testing.T) {
	for seed := range uint64(3) {
		series := meshsim.Series{From: seed + 1, Count: 1, Healthy: true, Options: meshsim.Options{
			Workloads: 12, RootRate: 6, Instrumented: -1, Traits: []meshsim.Trait{meshsim.TraitProxies, meshsim.TraitRestarts},
		}}
		result, err := scoreSimulated(t.Context(), &series, 0, "max")
		require.NoError(t, err)
		for _, o := range result.found {
			assert.False(t, slices.Contains(ofProxies, o.Kind), o.Summary)
		}
	}
}
