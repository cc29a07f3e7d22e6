package source

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/podlogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// FollowFiles begins to follow files, whose positions are stored under keys. Where what was stored is lost they are read from their beginning.
func FollowFiles(ctx context.Context, env *Env, keys Keys, settings tail.Config, sink tail.Sink) (*tail.Tail, error) {
	if env.ReadAgain {
		settings.StartAt = tail.StartAtBeginning
		// What is stored does not say what counted before.
		settings.WholeAtFirst = true
	}
	var store tail.Store
	if kept := keys.Store(env.Storage); kept != nil {
		store = kept
	}
	followed, err := tail.New(settings, env.Settings.TelemetrySettings, store, sink, env.Sink, env.Ready)
	if err != nil {
		return nil, err
	}
	if err := followed.Start(ctx); err != nil {
		return nil, err
	}
	return followed, nil
}

// FollowPods begins to follow the logs of pods through the API server, with positions as FollowFiles has them. found asks to be told of the
// pods, and whose says what they are, as in PodLogs.
func FollowPods(
	ctx context.Context, env *Env, keys Keys, settings podlogs.Config, whose string, sink podlogs.Sink,
	found func(follow func(pods []kube.Pod, now time.Time)),
) (*podlogs.Tail, error) {
	settings.FromEnd = settings.FromEnd && !env.ReadAgain
	followed := podlogs.New(settings, env.Kubernetes.LogSource(), sink, env.Sink, env.Ready)
	if kept := keys.Store(env.Storage); kept != nil {
		if err := followed.Restore(ctx, kept); err != nil {
			return nil, errors.Join(err, followed.Stop())
		}
	}
	found(func(pods []kube.Pod, now time.Time) {
		if damaged := followed.Follow(pods, now); damaged > 0 {
			env.Telemetry.ReceiverZtunnelCheckpointErrors.Add(context.Background(), int64(damaged))
			env.Telemetry.Warn("The stored positions in "+whose+"s' logs are damaged; these are read from now on", zap.Int("pods", damaged))
		}
	})
	return followed, nil
}
