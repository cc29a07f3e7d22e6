package ztunnelreceiver

import (
	"context"
	"fmt"

	"go.opentelemetry.io/collector/config/configoptional"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/accesslogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cnilogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/configdumps"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/controlplane"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/envoylogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/metrics"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/spans"
)

// opener opens a source; the source is nil if it is not configured.
type opener func(ctx context.Context, env *source.Env) (source.Source, error)

// openers are the live sources, in the order in which they are opened. What is found through Kubernetes is opened before.
func (c *Config) openers() []opener {
	return []opener{
		openerOf("metrics", &c.Metrics, metrics.Open),
		openerOf("config_dump", &c.ConfigDump, configdumps.Open),
		openerOf("xds", &c.XDS, controlplane.Open),
		openerOf("access_logs", &c.AccessLogs, accesslogs.Open),
		openerOf("envoy_logs", &c.EnvoyLogs, envoylogs.Open),
		openerOf("cni_logs", &c.CNILogs, cnilogs.Open),
	}
}

// newPlayers are what takes the parts of a recording, by their kind.
func (c *Config) newPlayers(env *source.Env) map[replay.Kind]source.Player {
	return map[replay.Kind]source.Player{
		replay.KindXDS:        controlplane.NewPlayer(env),
		replay.KindConfigDump: configdumps.NewPlayer(env),
		replay.KindScrape:     metrics.NewPlayer(env),
		replay.KindEntry:      accesslogs.NewPlayer(env),
		replay.KindRequest:    envoylogs.NewPlayer(env, c.EnvoyLogs.Get()),
		replay.KindCNI:        cnilogs.NewPlayer(env),
		replay.KindSpans:      spans.NewPlayer(env),
	}
}

func openerOf[C any](name string, config *configoptional.Optional[C], open func(context.Context, *C, *source.Env) (source.Source, error)) opener {
	return func(ctx context.Context, env *source.Env) (source.Source, error) {
		if !config.HasValue() {
			return nil, nil
		}
		opened, err := open(ctx, config.Get(), env)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return opened, nil
	}
}
