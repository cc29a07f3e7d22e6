package judge

import (
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// ControlPlane is what is wrong with the control plane.
type ControlPlane struct {
	Fault observe.Fault
	// Nodes are the ztunnels that cannot reach it.
	Nodes    []string
	Evidence []outage.Evidence

	store *observe.Store
}

func (c *ControlPlane) judge(now int64) {
	rule := c.store.Catalogue.Base().Get(rules.ControlPlaneDown)
	if rule == nil {
		return
	}
	var nodes []string
	var evidence []outage.Evidence
	alive, first := 0, int64(0)
	var attempts uint64
	for _, name := range c.store.Nodes.Names() {
		n := c.store.Nodes.ByName[name]
		if name == "" || n.Down.On || c.store.Nodes.WithoutHeartbeat(n) {
			continue
		}
		alive++
		if n.XDS.Failing(now, rule.Window) && int(n.XDS.Count) >= rule.MinIntervals {
			nodes = append(nodes, name)
			attempts += n.XDS.Count
			if n.XDS.Evidence.Text != "" && len(evidence) < 3 {
				evidence = append(evidence, n.XDS.Evidence)
			}
			if first == 0 || n.XDS.First < first {
				first = n.XDS.First
			}
		}
	}
	needed := min(int(rule.MinCount), max(alive, 1))
	bad := len(nodes) >= needed && 2*len(nodes) >= alive && (alive > 1 || attempts > rule.MinCount)
	if bad {
		c.Nodes, c.Evidence = nodes, evidence
	}
	f := &c.Fault
	switch {
	case bad && !f.On && now-first >= int64(rule.Hold):
		*f = observe.Fault{On: true, Rule: rule, Since: first, Fired: now, LastBad: now, Kind: rule.Kind, Tally: observe.Tally{Ratio: 1, Failed: attempts, Total: attempts}}
	case bad && f.On:
		f.LastBad, f.Recovered = now, 0
		f.Failed, f.Total = attempts, attempts
	case f.On && len(nodes) == 0:
		if f.Recovered == 0 {
			f.Recovered = now
		}
		if now-f.Recovered >= int64(4*time.Second) {
			f.On = false
		}
	}
}
