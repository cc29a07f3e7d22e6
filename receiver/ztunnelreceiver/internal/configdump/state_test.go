package configdump

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/internal/mesh"
)

// dump is what a node's ztunnel says of workloads by uid and revision.
func dump(node string, seconds int, workloads ...string) Dump {
	d := Dump{Time: at.Add(time.Duration(seconds) * time.Second), Ztunnel: &mesh.Ztunnel{Node: node}, HasState: true}
	for i := 0; i < len(workloads); i += 2 {
		d.Workloads = append(d.Workloads, &mesh.Workload{UID: workloads[i], Naming: mesh.Naming{CanonicalRevision: workloads[i+1]}})
	}
	return d
}

func describe(events []mesh.Event) []string {
	texts := []string{}
	for _, event := range events {
		sign := "+"
		if event.Deleted {
			sign = "-"
		}
		texts = append(texts, sign+event.Entity.Key())
	}
	return texts
}

func TestState(t *testing.T) {
	s := NewState(time.Minute)
	assert.Equal(t, []string{"+node-a", "+u", "+v"}, describe(s.Apply(dump("node-a", 0, "u", "1", "v", "1"))))
	assert.Equal(t, []string{"+node-b"}, describe(s.Apply(dump("node-b", 1, "w", "1"))), "one ztunnel is followed")
	assert.Equal(t, []string{"+node-a"}, describe(s.Apply(dump("node-a", 30, "v", "1", "u", "1"))), "what is known is no event")
	events := s.Apply(dump("node-a", 60, "v", "2", "w", "1"))
	assert.Equal(t, []string{"+node-a", "+v", "+w", "-u"}, describe(events))
	assert.Equal(t, at.Add(time.Minute), events[3].Time.AsTime())
	assert.Equal(t, "1", events[3].Entity.(*mesh.Workload).CanonicalRevision, "a deletion says what was deleted")

	ztunnelOnly := dump("node-a", 61)
	ztunnelOnly.HasState = false
	assert.Equal(t, []string{"+node-a"}, describe(s.Apply(ztunnelOnly)))

	cut := dump("node-a", 90, "x", "1")
	cut.Dropped = 1
	assert.Equal(t, []string{"+node-a", "+x"}, describe(s.Apply(cut)), "what a dump had no room for is not gone")

	assert.Equal(t, []string{"+node-b"}, describe(s.Apply(dump("node-b", 150))), "not silent for long enough")
	assert.Equal(t, []string{"+node-b", "-v", "-w"}, describe(s.Apply(dump("node-b", 151, "x", "1"))), "another one takes over")
	assert.Equal(t, []string{"+node-a"}, describe(s.Apply(dump("node-a", 152, "v", "1"))))
}
