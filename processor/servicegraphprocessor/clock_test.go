package servicegraphprocessor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pcommon"
)

func TestClock(t *testing.T) {
	type beat struct {
		wall float64 // seconds
		node string
		at   float64
		want float64 // the clock afterwards
	}
	live := []beat{{1, "a", 1, 1}, {1, "b", 1, 1}, {2, "a", 2, 1}, {2, "b", 2, 2}}
	for name, tt := range map[string]struct {
		replay   bool
		restored map[string]float64
		beats    []beat
	}{
		"the slowest node is waited for": {beats: live},
		"but not for long":               {beats: append(live[:4:4], beat{6, "a", 6, 2}, beat{8, "a", 8, 8}, beat{9, "b", 3, 8})},
		"what belongs to no node has no say where there are nodes": {
			beats: append(live[:4:4], beat{9, "", 9, 2}, beat{3, "a", 3, 2}, beat{3, "b", 3, 3}),
		},
		"what belongs to no node drives time alone": {beats: []beat{{1, "", 1, 1}, {20, "", 20, 20}}},
		// The graph is cut off from 2 to 60. Then each node sends what it kept, one after the other.
		"nodes that come back together are all waited for": {beats: append(live[:4:4],
			beat{60, "", 60, 2}, beat{60, "a", 3, 2}, beat{60, "a", 30, 2}, beat{60.5, "a", 60, 2},
			beat{80, "b", 3, 3}, beat{80.1, "b", 40, 40}, beat{80.2, "b", 80, 60}, beat{81, "a", 81, 80})},
		"who does not come back is not waited for": {beats: append(live[:4:4], beat{60, "a", 60, 2}, beat{80, "a", 80, 2}, beat{91, "a", 91, 91})},
		"who catches up is waited for longer": {beats: append(live[:4:4],
			beat{60, "a", 60, 2}, beat{89, "b", 3, 3}, beat{92, "a", 92, 3}, beat{93, "b", 40, 40}, beat{97, "b", 95, 92})},
		"but not for ever": {beats: append(live[:4:4],
			beat{60, "a", 60, 2}, beat{89, "b", 3, 3}, beat{93, "b", 4, 4}, beat{97, "b", 5, 5}, beat{101, "b", 6, 6}, beat{105, "b", 7, 7},
			beat{109, "b", 8, 8}, beat{113, "b", 9, 9}, beat{117, "b", 10, 10}, beat{121, "b", 11, 11}, beat{125, "b", 12, 12}, beat{129, "b", 13, 13},
			beat{133, "b", 14, 14}, beat{137, "b", 15, 15}, beat{141, "b", 16, 16}, beat{145, "b", 17, 17}, beat{149, "b", 18, 18},
			beat{153, "b", 19, 19}, beat{157, "b", 20, 20}, beat{161, "b", 21, 21}, beat{165, "b", 22, 22}, beat{169, "b", 23, 23},
			beat{173, "b", 24, 24}, beat{177, "b", 25, 25}, beat{179, "b", 26, 26}, beat{181, "b", 27, 60})},
		"a node that was lost before is not": {beats: append(live[:4:4],
			beat{5, "a", 5, 2}, beat{8, "a", 8, 8}, beat{60, "a", 9, 9})},
		"after a restart those before it are waited for": {
			restored: map[string]float64{"a": 2, "b": 2, "gone": 1},
			beats:    []beat{{10, "", 10, 2}, {10, "a", 3, 2}, {10, "a", 10, 2}, {14, "b", 3, 3}, {14, "b", 10, 10}},
		},
		"a slow replay is no interruption": {replay: true, beats: append(live[:4:4], beat{60, "a", 6, 2}, beat{120, "a", 8, 8})},
	} {
		t.Run(name, func(t *testing.T) {
			at := func(s float64) pcommon.Timestamp {
				return pcommon.NewTimestampFromTime(epoch.Add(time.Duration(s * float64(time.Second))))
			}
			c := newClock(5 * time.Second)
			c.replay = tt.replay
			for node, s := range tt.restored {
				c.restore(node, at(s))
				c.time = max(c.time, at(s))
			}
			for i, b := range tt.beats {
				wall := at(b.wall).AsTime()
				c.heartbeat(b.node, at(b.at), wall)
				c.advance(wall)
				assert.InDelta(t, b.want, c.time.AsTime().Sub(epoch).Seconds(), 1e-9, "after beat %d (%+v)", i, b)
			}
		})
	}
}
