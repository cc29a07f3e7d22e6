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

// client says how to ask an istiod.
func (c *XDSClusterConfig) client(node string, maxResources int) xds.Config {
	config := xds.Config{
		Endpoint:     c.Endpoint,
		MaxResources: maxResources,
		Node:         xds.Node{PodName: c.PodName, Namespace: c.Namespace, NodeName: node, ClusterID: c.ClusterID},
	}
	if !c.TLS.Insecure {
		config.TLS = &xds.TLS{CAFile: c.TLS.CAFile, TokenFile: c.TokenFile, ServerName: c.TLS.ServerNameOverride}
	}
	return config
}

// controlPlane is what the istiods say; its fields are guarded by the lock.
type controlPlane struct {
	*live

	union *xds.Union
	// newest is how each cluster's client stands.
	newest []xds.Status
}

func (l *live) openXDS() error {
	config := l.cfg.XDS.Get()
	if config == nil {
		return nil
	}
	clusters := config.clusters()
	ids := make([]string, len(clusters))
	for i := range clusters {
		ids[i] = clusters[i].ClusterID
	}
	plane := &controlPlane{live: l, union: xds.NewUnion(ids), newest: make([]xds.Status, len(clusters))}
	for i := range clusters {
		client, err := xds.NewClient(clusters[i].client(l.cfg.NodeName, config.MaxResources), xds.Callbacks{
			Events: func(_ context.Context, events []mesh.Event) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.addEvents(plane.union.Apply(i, events))
			},
			Status: func(status xds.Status) {
				l.mu.Lock()
				defer l.mu.Unlock()
				plane.status(i, clusters[i].Endpoint, status)
			},
		})
		if err != nil {
			return fmt.Errorf("xds: %w", err)
		}
		l.sources = append(l.sources, func(ctx context.Context) {
			if err := client.Run(ctx); err != nil {
				l.tel.log.Error("The xDS client ended", zap.String("endpoint", clusters[i].Endpoint), zap.Error(err))
			}
		})
	}
	l.snapshot = func(at time.Time) { l.addEvents(plane.union.Snapshot(at)) }
	return nil
}

// status takes over how a cluster's client stands with its istiod; the lock is held.
func (p *controlPlane) status(cluster int, endpoint string, now xds.Status) {
	ctx := context.Background()
	before := p.newest[cluster]
	p.newest[cluster] = now
	if now.State != xds.Connecting {
		// The control plane delivers if all of it does.
		up := true
		for _, one := range p.newest {
			up = up && (one.State == xds.Connecting || one.State.Up())
		}
		p.live.live.set(semconv.SourceXDS, "", up, now.LastResponse)
	}
	if now.State != before.State && (now.State == xds.Reconnecting || now.State == xds.Failing) {
		p.tel.ReceiverZtunnelXdsReconnects.Add(ctx, 1)
	}
	if n := now.Nacks - before.Nacks; n > 0 {
		p.tel.ReceiverZtunnelScrapeErrors.Add(ctx, int64(n), with(attrSource, semconv.SourceXDS))
	}
	p.dropped(reasonEntityLimit, int(now.Stats.Overflowed-before.Stats.Overflowed))
	// istiod ends every stream after a while, which is no fault.
	if now.Err != nil && now.State != xds.Reconnecting {
		p.tel.warn("The control plane does not deliver as it should", zap.String("endpoint", endpoint), zap.Stringer("state", now.State),
			zap.Error(now.Err), zap.Duration("retry_in", now.RetryIn))
	}
}
