package ztunnelreceiver

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/receiver"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/record"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// defaultMaxEntry is the largest log entry in bytes where no source says otherwise.
const defaultMaxEntry = 64 << 10

// ztunnelReceiver runs the sources of one component ID.
type ztunnelReceiver struct {
	cfg  *Config
	set  receiver.Settings
	tel  *telemetry.Telemetry
	next consumers

	host   component.Host
	live   *live // nil for a replay
	record *record.Recorder
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newReceiver(cfg *Config, set receiver.Settings) (*ztunnelReceiver, error) {
	tel, err := telemetry.New(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	return &ztunnelReceiver{cfg: cfg, set: set, tel: tel}, nil
}

// Start implements component.Component.
func (r *ztunnelReceiver) Start(ctx context.Context, host component.Host) error {
	for _, sentence := range r.cfg.deprecated {
		r.tel.Log.Warn(sentence)
	}
	in, err := newIngest(r.cfg, r.set, r.next, r.tel)
	if err != nil {
		return err
	}
	r.host, r.record = host, in.record
	running, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	if r.cfg.Replay.HasValue() {
		player, target := newPlayer(r.cfg, r.tel, replay.WallClock{}), newReplayTarget(in)
		if err := player.Open(); err != nil {
			return fmt.Errorf("replay: %w", err)
		}
		r.wg.Go(func() { r.runReplay(running, player, target) })
		return nil
	}
	sources := newLive(r.cfg, in, replay.WallClock{})
	if err := sources.open(ctx, r.set, host); err != nil {
		return errors.Join(err, sources.close(ctx))
	}
	r.live = sources
	r.wg.Go(func() { sources.run(running) })
	return nil
}

// Shutdown implements component.Component.
func (r *ztunnelReceiver) Shutdown(ctx context.Context) error {
	if r.cancel != nil {
		r.cancel()
	}
	r.wg.Wait()
	var err error
	if r.live != nil {
		err = r.live.close(ctx)
	}
	err = errors.Join(err, r.record.Close())
	r.tel.Shutdown()
	return err
}

// fail reports that the receiver cannot do its work.
func (r *ztunnelReceiver) fail(err error) {
	componentstatus.ReportStatus(r.host, componentstatus.NewPermanentErrorEvent(err))
}
