// Package controlplane is the source of what istiod says: the mesh's workloads, services and policies by xDS.
package controlplane

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

// client says how to ask an istiod.
func (c *ClusterConfig) client(node string, maxResources int) xds.Config {
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

// live is what the istiods say; its fields but clients are guarded by the lock.
type live struct {
	env     *source.Env
	clients []*xds.Client
	// endpoints are the clients' istiods.
	endpoints []string

	union *xds.Union
	// newest is how each cluster's client stands.
	newest []xds.Status
}

// Open prepares the streams.
func Open(_ context.Context, config *Config, env *source.Env) (source.Source, error) {
	clusters := config.All()
	ids := make([]string, len(clusters))
	for i := range clusters {
		ids[i] = clusters[i].ClusterID
	}
	l := &live{env: env, union: xds.NewUnion(ids), newest: make([]xds.Status, len(clusters))}
	for i := range clusters {
		client, err := xds.NewClient(clusters[i].client(env.Node, config.MaxResources), xds.Callbacks{
			Events: func(ctx context.Context, events []mesh.Event) {
				env.Sink.Lock()
				env.Sink.AddEvents(l.union.Apply(i, events))
				env.Sink.Unlock()
				env.Told(ctx)
			},
			Response: env.Record.Response,
			Status: func(status xds.Status) {
				env.Sink.Lock()
				defer env.Sink.Unlock()
				l.status(i, clusters[i].Endpoint, status)
			},
		})
		if err != nil {
			return nil, err
		}
		l.clients = append(l.clients, client)
		l.endpoints = append(l.endpoints, clusters[i].Endpoint)
	}
	return l, nil
}

// Run implements source.Source.
func (l *live) Run(ctx context.Context) {
	var running sync.WaitGroup
	for i, client := range l.clients {
		running.Go(func() {
			if err := client.Run(ctx); err != nil {
				l.env.Telemetry.Log.Error("The xDS client ended", zap.String("endpoint", l.endpoints[i]), zap.Error(err))
			}
		})
	}
	running.Wait()
}

// Boundary implements source.Teller.
func (l *live) Boundary(at time.Time, lost bool) {
	if lost {
		l.env.Sink.AddEvents(l.union.Snapshot(at))
	}
}

// status takes over how a cluster's client stands with its istiod; the lock is held.
func (l *live) status(cluster int, endpoint string, now xds.Status) {
	before := l.newest[cluster]
	l.newest[cluster] = now
	if now.State != xds.Connecting {
		// The control plane delivers if all of it does.
		up := true
		for _, one := range l.newest {
			up = up && (one.State == xds.Connecting || one.State.Up())
		}
		l.env.Sink.Up(semconv.SourceXDS, "", up, now.LastResponse)
	}
	if now.State != before.State && (now.State == xds.Reconnecting || now.State == xds.Failing) {
		l.env.Telemetry.ReceiverZtunnelXdsReconnects.Add(context.Background(), 1)
	}
	if n := now.Nacks - before.Nacks; n > 0 {
		l.env.Telemetry.SourceErrors(semconv.SourceXDS, int64(n))
	}
	overflowed := int(now.Stats.Overflowed - before.Stats.Overflowed)
	l.env.Telemetry.Dropped(telemetry.ReasonEntityLimit, overflowed)
	l.env.Sink.Left(semconv.SourceXDS, "", overflowed)
	// istiod ends every stream after a while, which is no fault.
	if now.Err != nil && now.State != xds.Reconnecting {
		l.env.Telemetry.Warn("The control plane does not deliver as it should", zap.String("endpoint", endpoint), zap.Stringer("state", now.State),
			zap.Error(now.Err), zap.Duration("retry_in", now.RetryIn))
	}
}

// player takes recorded responses.
type player struct {
	env  *source.Env
	mesh *xds.Mesh
	// begun is set once a round has begun.
	begun bool
}

// NewPlayer returns what takes istiod's responses of a recording.
func NewPlayer(env *source.Env) source.Player { return &player{env: env, mesh: xds.NewMesh(0)} }

// Begin implements source.Player: what was said in an earlier round was said in streams that are gone.
func (p *player) Begin(replay.Contents) {
	if p.begun {
		for _, typeURL := range xds.Types() {
			p.mesh.NewStream(typeURL, true)
		}
	}
	p.begun = true
}

// Part implements source.Player.
func (p *player) Part(part *replay.Part) {
	p.env.Record.Response(part.Recorded(), part.Response)
	// Events are valid even if some resources were not.
	events, err := p.mesh.Apply(part.Response, part.Time)
	if err != nil {
		p.env.Telemetry.Failed(semconv.SourceXDS, "An xDS response cannot be read, or not all of it", "", err)
	}
	p.env.Sink.AddEvents(events)
	p.env.Sink.Up(semconv.SourceXDS, "", true, part.Time)
}
