package source

import (
	"context"

	"go.uber.org/zap"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// PodLogs says what befalls logs that are followed through the API server. It is a part of a podlogs.Sink.
type PodLogs struct {
	Telemetry *telemetry.Telemetry
	// Whose logs they are: those of a "pod", or a "waypoint".
	Whose string
}

// Skipped implements podlogs.Sink.
func (p PodLogs) Skipped(n int64) {
	p.Telemetry.ReceiverZtunnelLogLinesRepeated.Add(context.Background(), n)
}

// Reconnect implements podlogs.Sink.
func (p PodLogs) Reconnect(pod kube.Pod, reason string, err error) {
	p.Telemetry.Reconnected(reason)
	if err != nil && !pod.Leaving {
		p.Telemetry.Warn("A "+p.Whose+"'s log cannot be followed",
			zap.String("pod", pod.Namespace+"/"+pod.Name), zap.String("reason", reason), zap.Error(err))
	}
}

// Gap implements podlogs.Sink.
func (p PodLogs) Gap(pod kube.Pod) {
	p.Telemetry.ReceiverZtunnelLogGaps.Add(context.Background(), 1)
	p.Telemetry.Warn("Lines of a "+p.Whose+"'s log may be missing: it was rotated while it could not be followed, or its container restarted twice",
		zap.String("pod", pod.Namespace+"/"+pod.Name))
}
