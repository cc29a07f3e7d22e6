package servicegraphprocessor

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/internal/semconv"
)

// TestLoggedRequests plays a recording of a gateway and of the waypoint behind it through the real receiver: what both logged is one request,
// on the edge of the connection.
func TestLoggedRequests(t *testing.T) {
	p := newPipelines(t, nil)
	replay(t, p, "../processor/servicegraphprocessor/testdata/gateway-then-waypoint")
	got := map[string]map[string]uint64{}
	for key, v := range readEdges(t, p.outMetrics.AllMetrics()) {
		if len(v.Responses) > 0 {
			got[key.Source.Workload+" → "+key.Destination.Workload+" by "+key.Waypoint] = v.Responses
			assert.Equal(t, sum(v.Responses), total(v.Requests))
		}
		if key.Source.Workload == "till" {
			assert.EqualValues(t, 1, v.Closed, "it is the connection's edge")
		}
	}
	assert.Equal(t, map[string]map[string]uint64{
		"front → oven by bakery/waypoint": {"200  waypoint_log": 5, "500  waypoint_log": 1},
		"till → oven by bakery/waypoint":  {"200  waypoint_log": 2},
	}, got)

	left, repeated := 0, 0
	for _, logs := range p.outLogs.AllLogs() {
		for _, rl := range logs.ResourceLogs().All() {
			for _, sl := range rl.ScopeLogs().All() {
				for _, record := range sl.LogRecords().All() {
					if record.EventName() != semconv.EventRequest {
						continue
					}
					left++
					if _, ok := record.Attributes().Get(semconv.AttrRepeated); ok {
						repeated++
					}
					workload, _ := record.Attributes().Get(semconv.LabelDestinationWorkload)
					assert.Equal(t, "oven", workload.Str())
				}
			}
		}
	}
	assert.Equal(t, 14, left, "all records go on")
	assert.Equal(t, 6, repeated)
}

// TestDeniedRequests plays denials of a waypoint, by a policy that it names and by none that admits, beside a 403 of the application's own.
func TestDeniedRequests(t *testing.T) {
	p := newPipelines(t, nil)
	replay(t, p, "../processor/servicegraphprocessor/testdata/denied-by-policy")
	got := map[string]map[string]uint64{}
	for key, v := range readEdges(t, p.outMetrics.AllMetrics()) {
		if len(v.Responses) > 0 {
			got[key.Source.Workload+" → "+key.Destination.Workload] = v.Responses
		}
	}
	assert.Equal(t, map[string]map[string]uint64{
		"kiosk → oven": {"403  waypoint_log policy_denied bakery/no-delete": 6, "403  waypoint_log policy_denied": 1},
		"till → oven":  {"200  waypoint_log": 4, "403  waypoint_log": 1},
	}, got)
}

func sum(counts map[string]uint64) (n uint64) {
	for _, count := range counts {
		n += count
	}
	return n
}
