package ztunnelreceiver

import (
	"context"
	"errors"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/receiver"
)

func (l *live) openScrapes(context.Context, receiver.Settings, component.Host) error {
	if l.cfg.Metrics.HasValue() || l.cfg.ConfigDump.HasValue() {
		return errors.New("metrics and config_dump cannot be scraped yet")
	}
	return nil
}
