// Package configdumps is the source of what ztunnels know: their config dumps.
package configdumps

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/collector/config/confighttp"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/configdump"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cluster"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/endpoints"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

const (
	path = "/config_dump"
	// adminPort is where a ztunnel serves its config dump, on its own localhost.
	adminPort = 15000
	// patience is after how long without a dump another ztunnel's is believed about the mesh.
	patience = 2 * time.Minute
)

// Config says where ztunnels serve their config dump.
type Config struct {
	confighttp.ClientConfig `mapstructure:",squash"`

	Endpoints          []endpoints.Config `mapstructure:"endpoints"`
	CollectionInterval time.Duration      `mapstructure:"collection_interval"`
	MaxResponseSize    int64              `mapstructure:"max_response_size"`
	// State takes workloads, services and policies from the dumps too: for a mesh whose istiod cannot be asked.
	State bool `mapstructure:"state"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{ClientConfig: endpoints.DefaultClient(), CollectionInterval: 30 * time.Second, MaxResponseSize: 128 << 20}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	return endpoints.ValidateClient(&c.ClientConfig, c.CollectionInterval, c.MaxResponseSize)
}

// live polls endpoints of the configuration and those that are found through Kubernetes.
type live []func(ctx context.Context)

// Open prepares the polling.
func Open(ctx context.Context, config *Config, env *source.Env) (source.Source, error) {
	client, err := endpoints.Client(ctx, config.ClientConfig, env.Host, env.Settings.TelemetrySettings)
	if err != nil {
		return nil, err
	}
	var static configdump.StaticTargets
	for _, endpoint := range config.Endpoints {
		address, err := endpoints.WithPath(endpoint.Endpoint, path)
		if err != nil {
			return nil, err
		}
		static = append(static, configdump.Target{Node: cmp.Or(endpoint.Node, env.Node), URL: address})
	}
	taken := newTaker(env)
	var polls live
	poll := func(client *http.Client, targets configdump.TargetProvider) error {
		poller, err := configdump.NewPoller(configdump.PollerConfig{
			Interval: config.CollectionInterval, Timeout: config.Timeout, Concurrency: endpoints.Concurrency, Client: client,
			Options: configdump.Options{State: config.State, MaxBytes: int(config.MaxResponseSize)},
		}, targets, func(result configdump.Result) {
			env.Sink.Lock()
			defer env.Sink.Unlock()
			taken.take(result)
			node := result.Target.Node
			if result.Err != nil {
				result.Raw = nil
			} else if result.Dump.Ztunnel != nil {
				node = result.Dump.Ztunnel.Node
			}
			env.Record.ConfigDump(node, result.At, result.Raw)
		})
		if err != nil {
			return err
		}
		polls = append(polls, func(ctx context.Context) {
			poller.Run(ctx)
			client.CloseIdleConnections()
		})
		return nil
	}
	if len(static) > 0 {
		if err := poll(client, static); err != nil {
			return nil, err
		}
	}
	if env.Kubernetes.Dumps() {
		if err := poll(forwarding(env.Kubernetes), found{env.Kubernetes}); err != nil {
			return nil, err
		}
	}
	return polls, nil
}

// Run implements source.Source.
func (l live) Run(ctx context.Context) {
	var polls sync.WaitGroup
	for _, poll := range l {
		polls.Go(func() { poll(ctx) })
	}
	polls.Wait()
}

// found are the ztunnels' config dumps, of those that speak for their node.
type found struct{ cluster *cluster.Source }

func hostOf(pod *kube.Pod) string { return pod.Name + "." + pod.Namespace }

// Targets implements configdump.TargetProvider.
func (f found) Targets() []configdump.Target {
	var targets []configdump.Target
	for _, pod := range f.cluster.Ztunnels() {
		if !pod.Aside {
			targets = append(targets, configdump.Target{
				Node: pod.Node, URL: "http://" + net.JoinHostPort(hostOf(&pod), strconv.Itoa(adminPort)) + path,
			})
		}
	}
	return targets
}

// forwarding returns a client that reaches the ztunnels' localhosts by forwarding a port for each request.
func forwarding(c *cluster.Source) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			for _, pod := range c.Ztunnels() {
				if hostOf(&pod) == host {
					return c.Forward(ctx, pod, adminPort)
				}
			}
			return nil, fmt.Errorf("no pod %s any more", host)
		},
	}}
}

// taker takes config dumps, live or recorded.
type taker struct {
	env *source.Env
	// state says what is new in the mesh's state that dumps hold.
	state *configdump.State
}

func newTaker(env *source.Env) *taker { return &taker{env, configdump.NewState(patience)} }

// take takes a config dump. The lock is held.
func (t *taker) take(result configdump.Result) {
	up, seen := result.Err == nil, result.At
	if up {
		t.env.Telemetry.Dropped(telemetry.ReasonEntityLimit, result.Dump.Dropped)
		t.env.Sink.Left(semconv.SourceConfigDump, result.Target.Node, result.Dump.Dropped)
		t.env.Sink.AddEvents(t.state.Apply(result.Dump))
	} else {
		seen = time.Time{}
		t.env.Telemetry.Failed(semconv.SourceConfigDump, "A config dump failed", result.Target.Node, result.Err)
	}
	t.env.Sink.Up(semconv.SourceConfigDump, result.Target.Node, up, seen)
}

// player takes recorded config dumps.
type player struct {
	*taker
	// withState takes the mesh's state from them, because the recording has nothing of istiod.
	withState bool
}

// NewPlayer returns what takes the config dumps of a recording.
func NewPlayer(env *source.Env) source.Player { return &player{taker: newTaker(env)} }

// Begin implements source.Player.
func (p *player) Begin(contents replay.Contents) { p.withState = !contents.XDS }

// Part implements source.Player.
func (p *player) Part(part *replay.Part) {
	p.env.Record.ConfigDump(part.Name, part.Recorded(), part.Raw)
	result := configdump.Result{Target: configdump.Target{Node: part.Name}, At: part.Time, Err: replay.ErrFailed}
	if !part.Failed {
		result.Dump, result.Err = configdump.Parse(part.Raw, part.Name, part.Time, configdump.Options{State: p.withState})
		if result.Err == nil {
			shiftCertificates(result.Dump.Ztunnel, part.Shift)
		}
	}
	p.take(result)
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
