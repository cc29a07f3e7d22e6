// Package shared lets the pipelines of several signals share one component, as contrib's internal/sharedcomponent does: a
// factory's create functions get a Member each, and the component starts with the first of them and stops with the last.
//
// The ztunnel receiver, the service graph and the outage detector are shared by their signals.
package shared

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
)

// Components are a factory's components by ID, bounded by the configuration. The zero value is ready to use, by several goroutines.
type Components[C component.Component] struct {
	mu   sync.Mutex
	byID map[component.ID]*instance[C]
}

type instance[C component.Component] struct {
	component C
	forget    func()

	mu       sync.Mutex
	running  int
	started  bool
	startErr error
	stopped  bool
}

// Member is one signal's share of a component.
type Member[C component.Component] struct {
	instance *instance[C]
	// running is guarded by the instance's mu.
	running bool
}

// Get returns a member of an ID's component, which is created if there is none. After the component has stopped, as for a
// reload, another one is created.
func (c *Components[C]) Get(id component.ID, create func() (C, error)) (*Member[C], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if existing, ok := c.byID[id]; ok {
		return &Member[C]{instance: existing}, nil
	}
	created, err := create()
	if err != nil {
		return nil, err
	}
	i := &instance[C]{component: created}
	i.forget = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.byID[id] == i {
			delete(c.byID, id)
		}
	}
	if c.byID == nil {
		c.byID = map[component.ID]*instance[C]{}
	}
	c.byID[id] = i
	return &Member[C]{instance: i}, nil
}

// Component is what the members share.
func (m *Member[C]) Component() C { return m.instance.component }

// Running tells whether the member was started and not shut down.
func (m *Member[C]) Running() bool {
	m.instance.mu.Lock()
	defer m.instance.mu.Unlock()
	return m.running
}

// Start implements component.Component. A component that could not be started is not tried again.
func (m *Member[C]) Start(ctx context.Context, host component.Host) error {
	i := m.instance
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.started {
		i.started = true
		i.startErr = i.component.Start(ctx, host)
	}
	if i.startErr == nil && !m.running {
		m.running = true
		i.running++
	}
	return i.startErr
}

// Shutdown implements component.Component.
func (m *Member[C]) Shutdown(ctx context.Context) error {
	i := m.instance
	i.mu.Lock()
	defer i.mu.Unlock()
	if m.running {
		m.running = false
		i.running--
	}
	if i.running > 0 || i.stopped {
		return nil
	}
	i.stopped = true
	i.forget()
	return i.component.Shutdown(ctx)
}
