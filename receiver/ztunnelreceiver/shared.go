package ztunnelreceiver

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/receiver"
)

// instances are the receivers of one factory: one per component ID, however many signals it serves. The service hands the same
// *Config to the create functions of all signals of an ID.
type instances struct {
	mu       sync.Mutex
	byConfig map[*Config]*shared // bounded by the configuration
}

// shared starts and stops a receiver once, whichever of its signals comes first.
type shared struct {
	*ztunnelReceiver

	forget  func()
	start   sync.Once
	started error
	stop    sync.Once
	stopped error
}

func newInstances() *instances { return &instances{byConfig: map[*Config]*shared{}} }

func (i *instances) get(cfg *Config, set receiver.Settings) (*shared, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if existing, ok := i.byConfig[cfg]; ok {
		return existing, nil
	}
	created, err := newReceiver(cfg, set)
	if err != nil {
		return nil, err
	}
	instance := &shared{ztunnelReceiver: created, forget: func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.byConfig, cfg)
	}}
	i.byConfig[cfg] = instance
	return instance, nil
}

// Start implements component.Component.
func (s *shared) Start(ctx context.Context, host component.Host) error {
	s.start.Do(func() { s.started = s.ztunnelReceiver.Start(ctx, host) })
	return s.started
}

// Shutdown implements component.Component.
func (s *shared) Shutdown(ctx context.Context) error {
	s.stop.Do(func() {
		s.forget()
		s.stopped = s.ztunnelReceiver.Shutdown(ctx)
	})
	return s.stopped
}
