package ztunnelreceiver

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// retryPause is how long a replay, which has time, waits before it offers again what was refused.
const retryPause = 500 * time.Millisecond

// replayTarget takes a recording's parts as if they came from live sources. It implements replay.Target.
type replayTarget struct {
	*ingest

	players map[replay.Kind]source.Player // bounded by the kinds of parts
	// reached is the last boundary.
	reached time.Time
	pause   func(ctx context.Context, d time.Duration)
}

func newReplayTarget(in *ingest) *replayTarget {
	t := &replayTarget{
		ingest: in,
		players: in.cfg.newPlayers(&source.Env{
			Sink: in, Telemetry: in.tel, Cluster: in.cfg.ClusterName, Refresh: in.cfg.RefreshInterval, Record: in.record,
		}),
		pause: func(ctx context.Context, d time.Duration) {
			_ = replay.WallClock{}.Sleep(ctx, time.Now().Add(d))
		},
	}
	in.repeatScraped = func() {
		for _, player := range t.players {
			if repeater, ok := player.(source.Repeater); ok {
				repeater.Repeat()
			}
		}
	}
	return t
}

// newPlayer returns the player of the configured recording.
func newPlayer(cfg *Config, tel *telemetry.Telemetry, clock replay.Clock) *replay.Player {
	config := cfg.Replay.Get()
	return &replay.Player{
		Directory: config.Directory,
		Limits:    replay.Limits{Entry: cfg.maxEntry(), Part: replay.MaxPart, Format: cfg.EnvoyLogs.Get().CompiledFormat()},
		Speed:     float64(config.Speed),
		RebaseNow: config.Rebase == rebaseNow,
		Loop:      config.Loop,
		Interval:  cfg.FlushInterval,
		Clock:     clock,
		Report:    tel,
	}
}

// Begin implements replay.Target.
func (t *replayTarget) Begin(contents replay.Contents) {
	for _, player := range t.players {
		player.Begin(contents)
	}
}

// Part implements replay.Target.
func (t *replayTarget) Part(ctx context.Context, part *replay.Part) error {
	t.flow.SetTimeShift(part.Shift)
	t.players[part.Kind].Part(part)
	if t.out.backlog() >= maxGathered {
		t.out.records(ctx)
	}
	return nil
}

// Boundary implements replay.Target.
func (t *replayTarget) Boundary(ctx context.Context, at time.Time) error {
	t.reached = at
	taken := t.take(at, true)
	appendPosition(taken.metrics, at, semconv.ReplayRunning, "", t.cfg.ClusterName)
	t.deliver(ctx, taken, nil)
	return t.settle(ctx)
}

// Done implements replay.Target.
func (t *replayTarget) Done(ctx context.Context, at time.Time) error {
	return t.end(ctx, at, semconv.ReplayDone, "")
}

// Failed implements replay.Target.
func (t *replayTarget) Failed(ctx context.Context, reason error) error {
	return t.end(ctx, t.reached, semconv.ReplayFailed, reason.Error())
}

// end says as the very last thing that the replay is over.
func (t *replayTarget) end(ctx context.Context, at time.Time, state, reason string) error {
	md := pmetric.NewMetrics()
	appendPosition(md, at, state, reason, t.cfg.ClusterName)
	t.deliver(ctx, boundary{metrics: md}, nil)
	return t.settle(ctx)
}

// settle waits until what was refused is taken or given up, so that a replay's outcome does not depend on who was slow.
func (t *replayTarget) settle(ctx context.Context) error {
	for !t.out.empty() {
		if err := ctx.Err(); err != nil {
			return err
		}
		t.pause(ctx, retryPause)
		t.retry(ctx)
	}
	return ctx.Err()
}

// runReplay plays the recording and reports what keeps it from being played.
func (r *ztunnelReceiver) runReplay(ctx context.Context, player *replay.Player, target *replayTarget) {
	err := player.Play(ctx, target)
	switch {
	case err == nil:
		r.tel.Log.Info("The recording is played", zap.String("directory", player.Directory))
	case errors.Is(err, context.Canceled):
	default:
		r.tel.Log.Error("The recording cannot be played", zap.String("directory", player.Directory), zap.Error(err))
		r.fail(err)
	}
}
