package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	// What agents compress with.
	_ "go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"

	"github.com/nephilia/nephilia/internal/process"
	"github.com/nephilia/nephilia/internal/semconv"
)

// sink is a gateway that takes everything and counts the connections that it is told of.
type sink struct {
	pmetricotlp.UnimplementedGRPCServer
	closed atomic.Int64
	points atomic.Int64
	last   map[string]int64
}

func measureAgents(ctx context.Context, o *options, rates []float64, out io.Writer) error {
	fmt.Fprintln(out, "| connections/s | edges | CPU cores | peak RSS | wire KiB/s | wire bytes/connection | points/s | counted |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, rate := range rates {
		if err := measureAgent(ctx, o, int(rate), out); err != nil {
			return fmt.Errorf("at %v connections a second: %w", rate, err)
		}
	}
	return nil
}

// Export takes metrics over; it is called by one agent, in order.
func (s *sink) Export(_ context.Context, request pmetricotlp.ExportRequest) (pmetricotlp.ExportResponse, error) {
	s.points.Add(int64(request.Metrics().DataPointCount()))
	for _, rm := range request.Metrics().ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() != semconv.MetricConnectionsClosed {
					continue
				}
				for _, p := range m.Sum().DataPoints().All() {
					key := fmt.Sprint(p.Attributes().AsRaw())
					s.closed.Add(p.IntValue() - s.last[key])
					s.last[key] = p.IntValue()
				}
			}
		}
	}
	return pmetricotlp.NewExportResponse(), nil
}

type logSink struct {
	plogotlp.UnimplementedGRPCServer
}

func (*logSink) Export(context.Context, plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	return plogotlp.NewExportResponse(), nil
}

type traceSink struct {
	ptraceotlp.UnimplementedGRPCServer
}

func (*traceSink) Export(context.Context, ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	return ptraceotlp.NewExportResponse(), nil
}

// countedListener counts the bytes of all its connections.
type countedListener struct {
	net.Listener
	bytes *atomic.Int64
}

func (l countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &counted{conn, l.bytes}, err
}

func measureAgent(ctx context.Context, o *options, rate int, out io.Writer) (err error) {
	folder, leave, err := o.workspace(fmt.Sprintf("agent-%d", rate))
	if err != nil {
		return err
	}
	defer leave()
	// The node's share of the mesh: its pods' edges, in both directions, with its share of the connections.
	m := newMesh(o.nodes, o.workloads, o.edges, o.skew)
	local := newNodeLog(m)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "localhost:0")
	if err != nil {
		return fmt.Errorf("listening as a gateway: %w", err)
	}
	var wire atomic.Int64
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20)) // as config/gateway.yaml has it
	gateway := &sink{last: map[string]int64{}}
	pmetricotlp.RegisterGRPCServer(server, gateway)
	plogotlp.RegisterGRPCServer(server, &logSink{})
	ptraceotlp.RegisterGRPCServer(server, &traceSink{})
	go func() { _ = server.Serve(countedListener{listener, &wire}) }()
	defer server.Stop()
	metrics, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "localhost:0")
	if err != nil {
		return fmt.Errorf("listening as a ztunnel: %w", err)
	}
	ztunnel := &http.Server{Handler: local, ReadHeaderTimeout: time.Minute}
	go func() { _ = ztunnel.Serve(metrics) }()
	defer func() { _ = ztunnel.Close() }()

	path := filepath.Join(folder, "0.log")
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("creating a log: %w", err)
	}
	defer log.Close()
	agent, err := process.Start(ctx, o.binary, folder, []string{
		"K8S_NODE_NAME=" + m.nodes[0], "NEPHILIA_GATEWAY=" + listener.Addr().String(), "NEPHILIA_LOGS=" + path, "NEPHILIA_LOGS_START=beginning",
		"NEPHILIA_ZTUNNEL_METRICS=http://" + metrics.Addr().String() + "/metrics", "NEPHILIA_DATA=" + filepath.Join(folder, "data"),
	}, "config/agent.yaml")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, agent.Stop()) }()
	if err := agent.Ready(ctx); err != nil {
		return err
	}
	before, err := agent.CPU()
	if err != nil {
		return err
	}
	wire.Store(0)
	gateway.points.Store(0)
	began := time.Now()
	written, err := local.write(ctx, log, rate, time.Duration(o.seconds)*time.Second)
	if err != nil {
		return err
	}
	took := time.Since(began)
	after, err := agent.CPU()
	if err != nil {
		return err
	}
	bytes, points := wire.Load(), gateway.points.Load()
	_, peak, err := agent.Memory()
	if err != nil {
		return err
	}
	err = agent.Await(ctx, "everything is counted", func() error {
		if n := gateway.closed.Load(); n < int64(written) && time.Since(began) < took+time.Minute {
			return fmt.Errorf("%d of %d connections are counted", n, written)
		}
		return nil
	})
	fmt.Fprintf(out, "| %d | %d | %.3f | %.0f MiB | %.1f | %.1f | %.0f | %d of %d |\n", rate, len(local.ends), (after-before).Seconds()/took.Seconds(), mib(peak),
		perSecond(bytes, took)/1024, float64(bytes)/float64(written), perSecond(points, took), gateway.closed.Load(), written)
	return err
}

// nodeLog writes the access log of one node and serves its ztunnel's metrics.
type nodeLog struct {
	mesh   *mesh
	fleet  *fleet
	ends   []end
	random *rand.Rand
	sum    []float64
	closed []atomic.Int64 // of each end
}

func newNodeLog(m *mesh) *nodeLog {
	l := &nodeLog{mesh: m, fleet: newFleet(m, 0, 0), random: rand.New(rand.NewPCG(5, 6))}
	l.ends = l.fleet.ends[0]
	l.closed = make([]atomic.Int64, len(l.ends))
	total := 0.0
	for _, e := range l.ends {
		weight := m.sum[e.edge]
		if e.edge > 0 {
			weight -= m.sum[e.edge-1]
		}
		total += weight
		l.sum = append(l.sum, total)
	}
	return l
}

// write appends entries at a rate, in portions of a twentieth of a second.
func (l *nodeLog) write(ctx context.Context, log io.Writer, rate int, over time.Duration) (written int, err error) {
	began := time.Now()
	w := bufio.NewWriterSize(log, 1<<20)
	for elapsed := time.Duration(0); elapsed < over; elapsed = time.Since(began) {
		for ; float64(written) < elapsed.Seconds()*float64(rate); written++ {
			l.entry(w, time.Now())
		}
		if err := w.Flush(); err != nil {
			return written, fmt.Errorf("writing a log: %w", err)
		}
		select {
		case <-ctx.Done():
			return written, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return written, nil
}

func (l *nodeLog) entry(w io.Writer, now time.Time) {
	picked := pick(l.random, l.sum)
	l.closed[picked].Add(1)
	e := &l.ends[picked]
	from, to := &l.mesh.pods[l.mesh.edges[e.edge].from], &l.mesh.pods[l.mesh.edges[e.edge].to]
	direction := map[string]string{semconv.ReporterSource: "outbound", semconv.ReporterDestination: "inbound"}[e.reporter]
	stamp := now.UTC()
	sent, received := 400, 4000
	if e.reporter == semconv.ReporterDestination {
		sent, received = received, sent
	}
	fmt.Fprintf(w, "%s stdout F %s\tinfo\taccess\tconnection complete\tsrc.addr=%s:%d src.workload=%q src.namespace=%q src.identity=\"spiffe://cluster.local/ns/%s/sa/%s\" src.cluster=\"Kubernetes\" dst.addr=%s:15008 dst.hbone_addr=%s:%d dst.service=%q dst.workload=%q dst.namespace=%q dst.identity=\"spiffe://cluster.local/ns/%s/sa/%s\" dst.cluster=\"Kubernetes\" direction=%q bytes_sent=%d bytes_recv=%d duration=\"%dms\"\n",
		stamp.Format(time.RFC3339Nano), stamp.Format("2006-01-02T15:04:05.000000Z"), from.address, 30000+l.random.IntN(30000), from.name, from.namespace, from.namespace, from.app,
		to.address, to.address, port, to.service, to.name, to.namespace, to.namespace, to.app, direction, sent, received, 1+l.random.IntN(15))
}

// ServeHTTP is the ztunnel's /metrics: its own counters of every edge.
func (l *nodeLog) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
	out := bufio.NewWriterSize(w, 1<<16)
	for _, family := range []struct {
		name string
		each int64
	}{{"istio_tcp_connections_opened", 1}, {"istio_tcp_connections_closed", 1}, {"istio_tcp_sent_bytes", 4000}, {"istio_tcp_received_bytes", 400}} {
		fmt.Fprintf(out, "# TYPE %s counter\n", family.name)
		for i := range l.ends {
			fmt.Fprintf(out, "%s_total{", family.name)
			first := true
			for name, value := range l.mesh.labels(l.ends[i].edge, l.ends[i].reporter).All() {
				if !first {
					_ = out.WriteByte(',')
				}
				first = false
				fmt.Fprintf(out, "%s=%q", name, value.Str())
			}
			fmt.Fprintf(out, "} %d\n", family.each*l.closed[i].Load())
		}
	}
	_, _ = out.WriteString("# EOF\n")
	_ = out.Flush()
}
