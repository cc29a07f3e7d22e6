package ztunnelreceiver

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

// client says how to ask istiod.
func (c *XDSConfig) client(node string) xds.Config {
	config := xds.Config{
		Endpoint:     c.Endpoint,
		MaxResources: c.MaxResources,
		Node:         xds.Node{PodName: c.PodName, Namespace: c.Namespace, NodeName: node, ClusterID: c.ClusterID},
	}
	if !c.TLS.Insecure {
		config.TLS = &xds.TLS{CAFile: c.TLS.CAFile, TokenFile: c.TokenFile, ServerName: c.TLS.ServerNameOverride}
	}
	return config
}

func (l *live) openXDS() error {
	config := l.cfg.XDS.Get()
	if config == nil {
		return nil
	}
	var last xds.Status
	client, err := xds.NewClient(config.client(l.cfg.NodeName), xds.Callbacks{
		Events: func(_ context.Context, events []mesh.Event) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.addEvents(events)
		},
		Status: func(status xds.Status) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.xdsStatus(last, status)
			last = status
		},
	})
	if err != nil {
		return fmt.Errorf("xds: %w", err)
	}
	l.snapshot = func(at time.Time) { l.addEvents(client.Snapshot(at)) }
	l.sources = append(l.sources, func(ctx context.Context) {
		if err := client.Run(ctx); err != nil {
			l.tel.log.Error("The xDS client ended", zap.Error(err))
		}
	})
	return nil
}

// xdsStatus takes over how the client stands with istiod; the lock is held.
func (l *live) xdsStatus(before, now xds.Status) {
	ctx := context.Background()
	if now.State != xds.Connecting {
		l.live.set(semconv.SourceXDS, "", now.State.Up(), now.LastResponse)
	}
	if now.State != before.State && (now.State == xds.Reconnecting || now.State == xds.Failing) {
		l.tel.ReceiverZtunnelXdsReconnects.Add(ctx, 1)
	}
	if n := now.Nacks - before.Nacks; n > 0 {
		l.tel.ReceiverZtunnelScrapeErrors.Add(ctx, int64(n), with(attrSource, semconv.SourceXDS))
	}
	l.dropped(reasonEntityLimit, int(now.Stats.Overflowed-before.Stats.Overflowed))
	// istiod ends every stream after a while, which is no fault.
	if now.Err != nil && now.State != xds.Reconnecting {
		l.tel.warn("The control plane does not deliver as it should", zap.Stringer("state", now.State), zap.Error(now.Err),
			zap.Duration("retry_in", now.RetryIn))
	}
}
