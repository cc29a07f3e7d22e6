package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

var epoch = time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)

func podNames(pods []kube.Pod) (names []string) {
	for _, pod := range pods {
		names = append(names, pod.Name)
	}
	return names
}

func TestANodeWithTwoZtunnelsIsReportedOnce(t *testing.T) {
	f := newFleet()
	old, young := kube.Pod{Node: "a", Name: "old", Aside: true}, kube.Pod{Node: "a", Name: "new"}
	for i, pods := range [][]kube.Pod{{old, young}, {young, old}, {old, young}} {
		f.update(pods, epoch)
		due := f.due(epoch.Add(time.Duration(i)*time.Second), time.Hour)
		if i == 0 {
			assert.Equal(t, []string{"new"}, podNames(due))
		} else {
			assert.Empty(t, due)
		}
	}
	assert.Len(t, f.due(epoch.Add(-time.Hour), time.Hour), 1, "a clock that was set back")
}

func TestNodesThatLeftAreBounded(t *testing.T) {
	f := newFleet()
	now := epoch
	for i := range maxLeft + 50 {
		f.update([]kube.Pod{{Node: fmt.Sprint("n", i), Name: "p"}}, now)
		now = now.Add(fleetPatience)
		f.expire(now)
	}
	assert.Equal(t, maxLeft, f.left.Len())
	assert.True(t, f.gone(fmt.Sprint("n", maxLeft)))
	assert.False(t, f.gone("n0"))
	f.update([]kube.Pod{{Node: fmt.Sprint("n", maxLeft), Name: "p"}}, now)
	assert.False(t, f.gone(fmt.Sprint("n", maxLeft)), "it is back")
}
