package observe

import (
	"strings"

	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

// kubernetes takes over a change of what the mesh runs on. It is evidence, no sign: what fails shows on the edges.
func (s *Store) kubernetes(record plog.LogRecord) {
	c, err := mesh.ParseChange(record)
	if err != nil {
		s.Drops.Malformed++
		return
	}
	t, ok := s.timeOf(c.Time)
	if !ok {
		return
	}
	app := c.App
	if app == "" && c.Kind == "Pod" {
		if w := s.State.Pod(c.Namespace, c.Name); w != nil {
			app = w.App()
		}
	}
	if app == "" && c.Node == "" {
		return
	}
	change := Change{Time: t, Source: fromKubernetes, Node: strings.Clone(c.Node), Text: bounded(c.Text)}
	if app != "" {
		change.App = outage.Name{Namespace: strings.Clone(c.Namespace), Name: strings.Clone(app)}
	}
	s.change(change)
}

// left forgets what was heard of a node's ztunnel, which is no longer there: that nothing more is heard is as it should be.
func (s *Store) left(node string) {
	if n, ok := s.Nodes[node]; ok {
		n.LastBeat = 0
		clear(n.Sources)
	}
}
