package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/config/configcompression"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/nephilia/nephilia/internal/process"
)

// limits raise what a gateway's defaults bound below the size that is measured.
const limits = `yaml:
processors: {service_graph: {max_edges: 200000, max_flows: 2000000}, outage_detector: {max_edges: 200000, max_endpoints: 100000}}
extensions: {topology_query: {live: {max_edges: 200000, max_series: 4000000}}}
`

// warm is the seconds of data in which every edge shows itself, before anything is measured.
const warm = 30

// gateway is the measured collector, what it serves and where it keeps its data.
type gateway struct {
	*process.Collector
	otlp, api, pprof, data string
}

// gatewayFigures are what one size took.
type gatewayFigures struct {
	size
	cold, coldCPU         time.Duration
	seconds               int
	wall, cpu, latest     time.Duration
	rss, peak, wire, disk int64
	points                int
	answer                time.Duration
	connections, counted  int
}

func measureGateways(ctx context.Context, o *options, shares []float64, out io.Writer) error {
	fmt.Fprintln(out, "| nodes | workloads | edges | connections/s | cold start | its CPU | CPU s per s of data | s of data per s | worst lag | RSS | peak RSS | wire KiB/s | points/s | disk MiB/min | graph answer | counted |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, share := range shares {
		f, err := measureGateway(ctx, o, share)
		if err != nil {
			return fmt.Errorf("at %v of the size: %w", share, err)
		}
		data := float64(f.seconds)
		fmt.Fprintf(out, "| %d | %d | %d | %d | %.2f s | %.2f s | %.2f | %.2f | %.2f s | %.0f MiB | %.0f MiB | %.0f | %.0f | %.0f | %.2f s | %d of %d |\n",
			f.nodes, f.workloads, f.edges, f.rate, f.cold.Seconds(), f.coldCPU.Seconds(), f.cpu.Seconds()/data, data/f.wall.Seconds(), f.latest.Seconds(),
			mib(f.rss), mib(f.peak), float64(f.wire)/1024/data, float64(f.points)/data, mib(f.disk)/data*60, f.answer.Seconds(), f.counted, f.connections)
	}
	return nil
}

// sized are the figures of a share of the size, in what is to be varied.
func (o *options) sized(share float64) gatewayFigures {
	part := func(of string, n int) int {
		if o.vary != "all" && o.vary != of {
			return n
		}
		return max(1, int(float64(n)*share))
	}
	return gatewayFigures{seconds: o.seconds, size: size{
		nodes: part("nodes", o.nodes), workloads: part("workloads", o.workloads), edges: part("edges", o.edges), rate: part("connections", o.rate),
	}}
}

func measureGateway(ctx context.Context, o *options, share float64) (f gatewayFigures, err error) {
	f = o.sized(share)
	folder, leave, err := o.workspace(fmt.Sprintf("gateway-%s-%v", o.vary, share))
	if err != nil {
		return f, err
	}
	defer leave()
	m := newMesh(f.nodes, f.workloads, f.edges, o.skew)
	control, err := startIstiod(ctx, m)
	if err != nil {
		return f, err
	}
	defer control.server.Stop()
	gateway, err := f.start(ctx, o, m, control, folder)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, gateway.Stop()) }()
	if o.seconds == 0 {
		return f, nil
	}
	data := time.Now().Truncate(time.Second).Add(-time.Duration(warm) * time.Second)
	if err := f.load(ctx, o, m, gateway, data); err != nil {
		return f, fmt.Errorf("%w; the collector says: %s", err, gateway.Said())
	}
	if f.rss, f.peak, err = gateway.Memory(); err != nil {
		return f, err
	}
	f.disk = sizeOf(filepath.Join(folder, "data")) - f.disk
	return f, f.count(ctx, gateway, data)
}

// start starts a gateway and waits until it knows the mesh.
func (f *gatewayFigures) start(ctx context.Context, o *options, m *mesh, control *istiod, folder string) (*gateway, error) {
	ports, err := process.FreePorts(ctx, 5)
	if err != nil {
		return nil, err
	}
	address := func(i int) string { return fmt.Sprintf("localhost:%d", ports[i]) }
	configs := []string{"config/gateway.yaml", limits}
	if o.profile != "" {
		configs = append(configs, fmt.Sprintf("yaml:\nextensions: {pprof: {endpoint: '%s'}}\nservice: {extensions: [file_storage, topology_query, health_check, pprof]}\n", address(4)))
	}
	if o.with != "" {
		configs = append(configs, o.with)
	}
	began := time.Now()
	collector, err := process.Start(ctx, o.binary, folder, []string{
		"NEPHILIA_OTLP_GRPC=" + address(0), "NEPHILIA_OTLP_HTTP=" + address(1), "NEPHILIA_API=" + address(2), "NEPHILIA_PROMETHEUS=" + address(3),
		"NEPHILIA_XDS=" + control.address, "NEPHILIA_XDS_INSECURE=true", "NEPHILIA_DATA=" + filepath.Join(folder, "data"),
		"NEPHILIA_MEMORY_LIMIT_MIB=" + o.memoryLimit,
	}, configs...)
	if err != nil {
		return nil, err
	}
	gateway := &gateway{Collector: collector, otlp: address(0), api: address(2), pprof: address(4), data: filepath.Join(folder, "data")}
	err = gateway.Await(ctx, "the mesh is known", func() error { return known(ctx, gateway.api, m) })
	f.cold = time.Since(began)
	if err == nil {
		f.coldCPU, err = gateway.CPU()
	}
	if err == nil {
		err = gateway.Ready(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, gateway.Stop())
	}
	return gateway, nil
}

// known tells whether the API has the mesh's last workload and policy, and then whether it has them all.
func known(ctx context.Context, api string, m *mesh) error {
	last := &m.pods[len(m.pods)-1]
	for _, resource := range []string{"workloads/" + last.namespace + "/" + last.app, "policies/" + m.policies[len(m.policies)-1]} {
		if err := process.Get(ctx, "http://"+api+"/api/v1/"+resource, nil); err != nil {
			return err
		}
	}
	for list, want := range map[string]int{"workloads": len(m.pods), "services": len(m.pods), "policies": len(m.policies)} {
		var answer struct{ Total int }
		if err := process.Get(ctx, "http://"+api+"/api/v1/"+list+"?limit=1", &answer); err != nil {
			return err
		}
		if answer.Total < want {
			return fmt.Errorf("%d of %d %s are known", answer.Total, want, list)
		}
	}
	return nil
}

// load sends what the agents send, a second at a time: first of every edge, then, measured, what the rate makes.
func (f *gatewayFigures) load(ctx context.Context, o *options, m *mesh, gateway *gateway, data time.Time) error {
	agents := newFleet(m, f.rate, o.scrape)
	var wire atomic.Int64
	send, leave, err := connect(ctx, len(m.nodes), gateway.otlp, &wire)
	if err != nil {
		return err
	}
	defer leave()
	for number := range warm {
		at := data.Add(time.Duration(number+1) * time.Second)
		next := agents.second
		if number < warm/2 {
			next = func(number int, at time.Time) []pmetric.Metrics { return agents.first(number, number, warm/2, at) }
		}
		if err := send(ctx, next(number, at)); err != nil {
			return err
		}
	}
	profiled := make(chan error, 1)
	if o.profile != "" {
		go func() {
			profiled <- save(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", gateway.pprof, o.seconds), o.profile+".cpu")
		}()
	}
	before, err := gateway.CPU()
	if err != nil {
		return err
	}
	f.disk = sizeOf(gateway.data)
	wire.Store(0)
	agents.points = 0
	began := time.Now()
	for number := warm; number < warm+o.seconds; number++ {
		batches := agents.second(number, data.Add(time.Duration(number+1)*time.Second))
		due := time.Now()
		if o.pace > 0 {
			due = began.Add(time.Duration(float64(number-warm) / o.pace * float64(time.Second)))
			time.Sleep(time.Until(due))
		}
		if err := send(ctx, batches); err != nil {
			return err
		}
		f.latest = max(f.latest, time.Since(due))
	}
	f.wall = time.Since(began)
	after, err := gateway.CPU()
	if err != nil {
		return err
	}
	f.cpu, f.wire, f.points, f.connections = after-before, wire.Load(), agents.points, agents.connections
	if o.profile != "" {
		return errors.Join(<-profiled, save(ctx, "http://"+gateway.pprof+"/debug/pprof/heap", o.profile+".heap"))
	}
	return nil
}

// count asks for the graph since a time until it has all connections, or for a minute.
func (f *gatewayFigures) count(ctx context.Context, gateway *gateway, since time.Time) error {
	until := time.Now().Add(time.Minute)
	return gateway.Await(ctx, "the graph is complete", func() error {
		asked := time.Now()
		var graph struct {
			Edges []struct {
				Connections struct{ Closed float64 }
			}
		}
		if err := process.Get(ctx, "http://"+gateway.api+"/api/v1/graph?start="+since.UTC().Format(time.RFC3339), &graph); err != nil {
			return err
		}
		f.answer, f.counted = time.Since(asked), 0
		for i := range graph.Edges {
			f.counted += int(graph.Edges[i].Connections.Closed)
		}
		if f.counted < f.connections && time.Now().Before(until) {
			return fmt.Errorf("%d of %d connections are counted", f.counted, f.connections)
		}
		return nil
	})
}

// connect connects so many agents, compressing as they do. The bytes that go either way are counted in wire.
func connect(ctx context.Context, agents int, gateway string, wire *atomic.Int64) (send func(context.Context, []pmetric.Metrics) error, leave func(), err error) {
	var conns []*grpc.ClientConn
	leave = func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
	var clients []pmetricotlp.GRPCClient
	for range agents {
		client := configgrpc.NewDefaultClientConfig()
		client.Endpoint, client.Compression = gateway, configcompression.TypeZstd
		client.TLS = configtls.ClientConfig{Insecure: true}
		conn, err := client.ToClientConn(ctx, nil, componenttest.NewNopTelemetrySettings(),
			configgrpc.WithGrpcDialOption(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
				if err != nil {
					return nil, err
				}
				return &counted{conn, wire}, nil
			})))
		if err != nil {
			leave()
			return nil, nil, fmt.Errorf("connecting an agent: %w", err)
		}
		conns = append(conns, conn)
		clients = append(clients, pmetricotlp.NewGRPCClient(conn))
	}
	return func(ctx context.Context, batches []pmetric.Metrics) error {
		group, ctx := errgroup.WithContext(ctx)
		for i, batch := range batches {
			group.Go(func() error {
				if _, err := clients[i].Export(ctx, pmetricotlp.NewExportRequestFromMetrics(batch)); err != nil {
					return fmt.Errorf("sending a batch: %w", err)
				}
				return nil
			})
		}
		return group.Wait()
	}, leave, nil
}

// counted counts the bytes that go through a connection, both ways.
type counted struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

func sizeOf(folder string) (bytes int64) {
	_ = filepath.Walk(folder, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

func save(ctx context.Context, address, path string) error {
	return process.Fetch(ctx, address, func(body io.Reader) error {
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, body)
		return errors.Join(err, file.Close())
	})
}
