package topologyquery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/jaegergrpc"
)

// grpcServer is the server of Jaeger's gRPC APIs, nil where none is configured.
type grpcServer struct {
	*grpc.Server
	listener net.Listener
}

func (t *topologyQuery) serveGRPC(ctx context.Context, host component.Host) error {
	if !t.config.GRPC.HasValue() {
		return nil
	}
	config := t.config.GRPC.Get()
	server, err := config.ToServer(ctx, host.GetExtensions(), t.settings.TelemetrySettings, configgrpc.WithGrpcServerOption(jaegergrpc.Codec()))
	if err != nil {
		return fmt.Errorf("making the gRPC server: %w", err)
	}
	jaegergrpc.Register(server, jaegergrpc.Settings{
		Traces: t.stores.Traces, Graphs: t.api, Now: t.storage.now,
		MaxRange: t.config.Limits.MaxRange, Timeout: t.config.Limits.Timeout, Concurrent: t.config.Limits.MaxConcurrent,
	})
	listener, err := config.NetAddr.Listen(ctx)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", config.NetAddr.Endpoint, err)
	}
	t.grpc = &grpcServer{server, listener}
	t.settings.Logger.Info("Serving Jaeger's gRPC APIs", zap.String("endpoint", listener.Addr().String()))
	t.done.Go(func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			componentstatus.ReportStatus(host, componentstatus.NewFatalErrorEvent(err))
		}
	})
	return nil
}

// stop stops the server. What is being answered has a while to finish: it still reads the stores.
func (g *grpcServer) stop() {
	if g == nil {
		return
	}
	cut := time.AfterFunc(shutdownGrace, g.Stop)
	defer cut.Stop()
	g.GracefulStop()
}
