package xds

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/mesh"
)

const recordings = "../../../../recordings"

type recordedResponse struct {
	at       time.Time
	response *discoveryv3.DeltaDiscoveryResponse
}

func openRecording(tb testing.TB, name ...string) io.Reader {
	tb.Helper()
	file, err := os.Open(filepath.Join(append([]string{recordings}, name...)...))
	require.NoError(tb, err)
	tb.Cleanup(func() { assert.NoError(tb, file.Close()) })
	unzipped, err := gzip.NewReader(file)
	require.NoError(tb, err)
	return unzipped
}

func readJSON(tb testing.TB, recording string) []recordedResponse {
	tb.Helper()
	var responses []recordedResponse
	lines := bufio.NewScanner(openRecording(tb, recording, "xds.jsonl.gz"))
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		at, response, err := ReadJSON(lines.Bytes())
		require.NoError(tb, err)
		responses = append(responses, recordedResponse{at, response})
	}
	require.NoError(tb, lines.Err())
	require.NotEmpty(tb, responses)
	return responses
}

func readBinary(tb testing.TB, recording string) []recordedResponse {
	tb.Helper()
	var responses []recordedResponse
	in := bufio.NewReader(openRecording(tb, recording, "xds.binpb.gz"))
	for {
		at, response, err := ReadBinary(in, 0)
		if errors.Is(err, io.EOF) {
			return responses
		}
		require.NoError(tb, err)
		responses = append(responses, recordedResponse{at, response})
	}
}

func applyAll(tb testing.TB, m *Mesh, responses []recordedResponse) []mesh.Event {
	tb.Helper()
	var events []mesh.Event
	for _, r := range responses {
		changed, err := m.Apply(r.response, r.at)
		require.NoError(tb, err)
		events = append(events, changed...)
	}
	return events
}

// timeless leaves out the times: the recorder stamped its two files one after the other.
func timeless(events []mesh.Event) []mesh.Event {
	events = slices.Clone(events)
	for i := range events {
		events[i].Time = 0
	}
	return events
}

func TestRecordings(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join(recordings, "*", "xds.jsonl.gz"))
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	for _, path := range folders {
		name := filepath.Base(filepath.Dir(path))
		t.Run(name, func(t *testing.T) {
			responses := readJSON(t, name)
			m := NewMesh(0)
			events := applyAll(t, m, responses)
			assert.Equal(t, timeless(events), timeless(applyAll(t, NewMesh(0), readBinary(t, name))), "both encodings tell the same")

			last := responses[len(responses)-1].at
			state := mesh.NewState(1000)
			for _, event := range events {
				state.Apply(event)
			}
			assert.Len(t, state.Workloads(), 14)
			assert.Len(t, state.Services(), 9)
			assert.Empty(t, state.Policies(), "no policy outlasts a recording")
			assert.Len(t, m.Snapshot(last), 23)
			assert.Equal(t, 23, m.Len())
			assert.Zero(t, m.Stats().Rejected)

			for _, r := range responses[len(responses)-2:] {
				again, err := m.Apply(r.response, r.at)
				require.NoError(t, err)
				assert.Empty(t, again, "what is known is no event")
			}
		})
	}
}

func TestRecordedPolicy(t *testing.T) {
	var policies []mesh.Event
	var payment []*mesh.Workload
	for _, event := range applyAll(t, NewMesh(0), readJSON(t, "policy-deny")) {
		switch entity := event.Entity.(type) {
		case *mesh.Policy:
			policies = append(policies, event)
		case *mesh.Workload:
			if entity.UID == "Kubernetes//Pod/billing/payment-66cd-a1" {
				payment = append(payment, entity)
			}
		}
	}
	require.Len(t, policies, 2)
	want := &mesh.Policy{
		Name: "no-checkout", Namespace: "billing", Scope: "WORKLOAD_SELECTOR", Action: "DENY",
		Rules: `[{"rules":[{"matches":[{"principals":[{"exact":"cluster.local/ns/shop/sa/checkout"}]}]}]}]`,
	}
	assert.Equal(t, want, policies[0].Entity)
	assert.False(t, policies[0].Deleted)
	assert.Equal(t, want, policies[1].Entity, "a deletion says what was deleted")
	assert.True(t, policies[1].Deleted)
	assert.Equal(t, time.Date(2026, 11, 23, 21, 26, 41, 618488710, time.UTC), policies[1].Time.AsTime())

	require.Len(t, payment, 3)
	assert.Equal(t, &mesh.Workload{
		UID: "Kubernetes//Pod/billing/payment-66cd-a1", Name: "payment-66cd-a1", Namespace: "billing", Node: "node-a",
		ClusterID: "Kubernetes", Identity: mesh.Identity{ServiceAccount: "payment", TrustDomain: "cluster.local"}, Naming: mesh.Naming{WorkloadName: "payment-v1", WorkloadType: "pod", CanonicalName: "payment", CanonicalRevision: "v1"}, Addresses: []string{"10.244.1.14"}, TunnelProtocol: "HBONE",
		Services: map[string][]mesh.Port{
			"billing/payment.billing.svc.cluster.local": {{ServicePort: 8080, TargetPort: 8080}},
		},
		Policies: []string{"billing/no-checkout"}, Healthy: true, Locality: mesh.Locality{Region: "eu-west", Zone: "eu-west-1a"},
	}, payment[1])
	assert.Equal(t, payment[0], payment[2])
}
