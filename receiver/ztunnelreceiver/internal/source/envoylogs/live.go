package envoylogs

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/nephilia/nephilia/internal/requestlog"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/podlogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// Open begins to follow the logs. The source is a source.Follower.
func Open(ctx context.Context, config *Config, env *source.Env) (source.Source, error) {
	format, err := config.compile()
	if err != nil {
		return nil, err
	}
	read := &lineSink{env: env, reader: newReader(env, format)}
	if env.Kubernetes.WaypointLogs() {
		return openPods(ctx, config, env, read)
	}
	pattern, err := regexp.Compile(cmp.Or(config.ProxyFrom.PathRegexp, podLogPath))
	if err != nil {
		return nil, fmt.Errorf("proxy_from::path_regexp: %w", err)
	}
	settings := tail.Config{
		Include: config.Include, Exclude: config.Exclude, StartAt: config.StartAt, PollInterval: config.PollInterval,
		Format: tail.FormatAuto, Style: accesslog.Style{Begins: format.Begins}, MaxEntry: config.MaxEntrySize, NodeFrom: pattern,
	}
	if config.ProxyFrom.Static != "" {
		settings.Node, settings.NodeFrom = config.ProxyFrom.Static, nil
	}
	followed, err := source.FollowFiles(ctx, env, keys, settings, read)
	if err != nil {
		return nil, err
	}
	return files{logs{env.Node}, followed}, nil
}

func openPods(ctx context.Context, config *Config, env *source.Env, read *lineSink) (source.Source, error) {
	const whose = "waypoint"
	followed, err := source.FollowPods(ctx, env, keys, podlogs.Config{
		FromEnd: config.StartAt == tail.StartAtEnd, MaxEntry: config.MaxEntrySize, Style: accesslog.Style{Begins: config.CompiledFormat().Begins},
		Of: func(pod kube.Pod) string { return pod.Namespace + podSeparator + pod.Name },
	}, whose, podSink{source.PodLogs{Telemetry: env.Telemetry, Whose: whose}, read}, env.Kubernetes.OnWaypoints)
	if err != nil {
		return nil, err
	}
	return pods{logs{env.Node}, followed}, nil
}

// logs is what files and pods have in common as a source: one for all proxies of a node, or of all nodes.
type logs struct{ node string }

// Run implements source.Source: logs are read until they are told to stop.
func (logs) Run(context.Context) {}

// Of implements source.Follower.
func (logs) Of() string { return semconv.SourceEnvoyLog }

// files are the logs of files, pods those of pods.
type (
	files struct {
		logs
		*tail.Tail
	}
	pods struct {
		logs
		*podlogs.Tail
	}
)

// Readable implements source.Follower.
func (f files) Readable() map[string]bool { return f.together(f.Tail.Readable()) }

// Readable implements source.Follower.
func (p pods) Readable() map[string]bool { return p.together(p.Tail.Readable()) }

func (l logs) together(readable map[string]bool) map[string]bool {
	all := true
	for _, ok := range readable {
		all = all && ok
	}
	return map[string]bool{l.node: all}
}

// Changes implements source.Follower.
func (f files) Changes() ([]*storage.Operation, func(ok bool), error) {
	return prefixed(f.Tail.Changes())
}

// Changes implements source.Follower.
func (p pods) Changes() ([]*storage.Operation, func(ok bool), error) {
	return prefixed(p.Tail.Changes())
}

// keys keeps these positions apart from those in ztunnels' logs.
const keys source.Keys = "envoy/"

func prefixed(ops []*storage.Operation, written func(ok bool), err error) ([]*storage.Operation, func(ok bool), error) {
	return keys.Of(ops), written, err
}

// podSeparator stands between a pod's namespace and name, as in the path of its log.
const podSeparator = "_"

// lineSink takes lines of files and pods.
type lineSink struct {
	env    *source.Env
	reader *reader
	// read is when the lines that come were read.
	read time.Time
}

// Begin implements tail.Sink.
func (s *lineSink) Begin() { s.read = s.env.Clock.Now() }

// Entry implements tail.Sink. of is NAMESPACE_POD or NAMESPACE/NAME.
func (s *lineSink) Entry(of string, line []byte) {
	p := s.reader.proxyOf(of, func() proxy { return proxyNamed(of) })
	s.reader.line(p, line, stamp{observed: s.read, ahead: maxSkew})
	s.env.Record.Request(p.Name, p.Gateway, s.read, line)
}

// proxyNamed is a proxy as its log's name describes it. It is a gateway until its lines say otherwise.
func proxyNamed(of string) proxy {
	p := proxy{Proxy: source.Proxy{Gateway: true, Name: of}}
	if namespace, pod, ok := strings.Cut(of, podSeparator); ok {
		p.Namespace, p.Pod = namespace, pod
		p.Name = requestlog.ProxyOfPod(namespace, pod).Name
	}
	return p
}

// Damaged implements tail.Sink.
func (s *lineSink) Damaged(what tail.Damage, n int64) {
	s.env.Telemetry.LeftOut("envoy_"+string(what), n)
}

// podSink takes lines of pods.
type podSink struct {
	source.PodLogs
	*lineSink
}

// Entry implements podlogs.Sink.
func (s podSink) Entry(of string, line []byte) {
	s.Begin()
	s.lineSink.Entry(of, line)
}

// Damaged implements podlogs.Sink.
func (s podSink) Damaged(what podlogs.Damage, n int64) {
	s.env.Telemetry.LeftOut("envoy_"+string(what), n)
}
