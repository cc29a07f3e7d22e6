package ztunnelreceiver

import (
	"bytes"
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.uber.org/zap"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/configdump"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/scrape"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/xds"
)

// maxPart bounds a scrape, a config dump, a response and a request of a recording, in bytes.
const maxPart = 128 << 20

// errFailed is why a scrape or a dump failed of which the recording says no more than that.
var errFailed = errors.New("failed when it was recorded")

// retryPause is how long a replay, which has time, waits before it offers again what was refused.
const retryPause = 500 * time.Millisecond

// replayTarget takes a recording's parts as if they came from live sources. It implements replay.Target.
type replayTarget struct {
	*ingest

	mesh *xds.Mesh
	// withState takes the mesh's state from config dumps, because the recording has nothing of istiod.
	withState bool
	trackers  map[string]*scrape.Tracker // bounded by the recording's files
	// reached is the last boundary.
	reached time.Time
	pause   func(ctx context.Context, d time.Duration)
}

func newReplayTarget(in *ingest) *replayTarget {
	t := &replayTarget{
		ingest:   in,
		mesh:     xds.NewMesh(0),
		trackers: map[string]*scrape.Tracker{},
		pause: func(ctx context.Context, d time.Duration) {
			_ = replay.WallClock{}.Sleep(ctx, time.Now().Add(d))
		},
	}
	in.repeatScraped = func() {
		for _, tracker := range t.trackers {
			tracker.Repeat()
		}
	}
	return t
}

// newPlayer returns the player of the configured recording.
func newPlayer(cfg *Config, tel *telemetry, clock replay.Clock) *replay.Player {
	config := cfg.Replay.Get()
	return &replay.Player{
		Directory: config.Directory,
		Limits:    replay.Limits{Entry: cfg.maxEntry(), Part: maxPart},
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
	t.withState = !contents.XDS
	for _, node := range contents.EntryNodes {
		t.live.set(semconv.SourceAccessLog, node, true, time.Time{})
	}
}

// Part implements replay.Target.
func (t *replayTarget) Part(ctx context.Context, part *replay.Part) error {
	switch part.Kind {
	case replay.KindEntry:
		t.flow.SetTimeShift(part.Shift)
		t.entry(part.Name, part.Raw, part.Time)
		if t.out.backlog() >= maxGathered {
			t.out.records(ctx)
		}
	case replay.KindScrape:
		t.scrape(part)
	case replay.KindConfigDump:
		t.configDump(part)
	case replay.KindXDS:
		t.response(part)
	case replay.KindSpans:
		t.live.set(semconv.SourceSpans, "", true, part.Time)
		t.addSpans(part.Spans)
	}
	return nil
}

func (t *replayTarget) scrape(part *replay.Part) {
	target := scrape.Target{Name: part.Name, Instance: part.Name, Cluster: t.cfg.ClusterName}
	if part.Waypoint {
		target.Kind = scrape.Waypoint
	}
	tracker := t.trackers[part.Name]
	if tracker == nil {
		tracker = scrape.NewTracker()
		t.trackers[part.Name] = tracker
	}
	result := scrape.Result{Target: target, At: part.Time, Err: errFailed}
	if !part.Failed {
		result.Metrics, result.Stats, result.Err = scrape.Parse(
			bytes.NewReader(part.Raw), "", part.Time, target, scrape.Options{MaxBytes: maxPart, Refresh: t.cfg.RefreshInterval}, tracker)
	}
	if result.Err != nil {
		result.Metrics = scrape.Down(target, part.Time)
	}
	t.addScrape(result)
}

func (t *replayTarget) configDump(part *replay.Part) {
	result := configdump.Result{Target: configdump.Target{Node: part.Name}, At: part.Time, Err: errFailed}
	if !part.Failed {
		result.Dump, result.Err = configdump.Parse(part.Raw, part.Name, part.Time, configdump.Options{State: t.withState})
		if result.Err == nil {
			shiftCertificates(result.Dump.Ztunnel, part.Shift)
		}
	}
	t.addDump(result)
}

// shiftCertificates keeps a certificate's expiry as far away as it was when the dump was recorded.
func shiftCertificates(z *mesh.Ztunnel, shift time.Duration) {
	if z == nil || shift == 0 {
		return
	}
	move := func(t *time.Time) {
		if !t.IsZero() {
			*t = t.Add(shift)
		}
	}
	for i := range z.Certificates {
		move(&z.Certificates[i].NotBefore)
		move(&z.Certificates[i].NotAfter)
		move(&z.Certificates[i].RootNotAfter)
	}
}

func (t *replayTarget) response(part *replay.Part) {
	// Events are valid even if some resources were not.
	events, err := t.mesh.Apply(part.Response, part.Time)
	if err != nil {
		t.failed(semconv.SourceXDS, "An xDS response cannot be read, or not all of it", "", err)
	}
	t.addEvents(events)
	t.live.set(semconv.SourceXDS, "", true, part.Time)
}

// Boundary implements replay.Target.
func (t *replayTarget) Boundary(ctx context.Context, at time.Time) error {
	t.reached = at
	taken := t.take(at, true)
	appendPosition(taken.metrics, at, semconv.ReplayRunning, "", t.cfg.ClusterName)
	t.deliver(ctx, taken, nil)
	return t.settle(ctx)
}

// Round implements replay.Target.
func (t *replayTarget) Round() {
	for _, typeURL := range xds.Types() {
		t.mesh.NewStream(typeURL, true)
	}
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
		r.tel.log.Info("The recording is played", zap.String("directory", player.Directory))
	case errors.Is(err, context.Canceled):
	default:
		r.tel.log.Error("The recording cannot be played", zap.String("directory", player.Directory), zap.Error(err))
		r.fail(err)
	}
}
