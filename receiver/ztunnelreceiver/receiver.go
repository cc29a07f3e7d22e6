package ztunnelreceiver

import (
	"context"
	"sync"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/receiver"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
)

// defaultMaxEntry is the largest log entry in bytes where no source says otherwise.
const defaultMaxEntry = 64 << 10

// ztunnelReceiver runs the sources of one component ID.
type ztunnelReceiver struct {
	cfg  *Config
	set  receiver.Settings
	tel  *telemetry
	next consumers

	host   component.Host
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newReceiver(cfg *Config, set receiver.Settings) (*ztunnelReceiver, error) {
	tel, err := newTelemetry(set.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	return &ztunnelReceiver{cfg: cfg, set: set, tel: tel}, nil
}

// Start implements component.Component.
func (r *ztunnelReceiver) Start(_ context.Context, host component.Host) error {
	in, err := newIngest(r.cfg, r.set, r.next, r.tel)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.host, r.cancel = host, cancel
	if r.cfg.Replay.HasValue() {
		player, err := newPlayer(r.cfg, r.tel, replay.WallClock{})
		if err != nil {
			cancel()
			return err
		}
		r.wg.Go(func() { r.runReplay(ctx, player, newReplayTarget(in)) })
		return nil
	}
	return nil
}

// Shutdown implements component.Component.
func (r *ztunnelReceiver) Shutdown(context.Context) error {
	if r.cancel != nil {
		r.cancel()
	}
	r.wg.Wait()
	r.tel.Shutdown()
	return nil
}

// fail reports that the receiver cannot do its work.
func (r *ztunnelReceiver) fail(err error) {
	componentstatus.ReportStatus(r.host, componentstatus.NewPermanentErrorEvent(err))
}
