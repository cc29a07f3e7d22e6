// Package accesslogs is the source of what ztunnels log: files, or pods' logs through the API server.
package accesslogs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"go.opentelemetry.io/collector/component"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/podlogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

// Config says which files ztunnels write their logs to.
type Config struct {
	Include []string `mapstructure:"include"`
	Exclude []string `mapstructure:"exclude"`
	// StartAt is "beginning" or "end": where to begin in a file that is there at the very first start.
	StartAt      string        `mapstructure:"start_at"`
	PollInterval time.Duration `mapstructure:"poll_interval"`
	// Format is "auto", "cri" (Kubernetes' log files) or "bare".
	Format       string         `mapstructure:"format"`
	NodeFrom     NodeFromConfig `mapstructure:"node_from"`
	MaxEntrySize int            `mapstructure:"max_entry_size"`
	// StorageID is the storage extension that keeps offsets and series over a restart.
	StorageID *component.ID `mapstructure:"storage"`
}

// NodeFromConfig says which node a file belongs to: the one, or the other.
type NodeFromConfig struct {
	// PathRegexp has one group, which gives the node in a file's path.
	PathRegexp string `mapstructure:"path_regexp"`
	// Static is the node of all files; by default node_name.
	Static string `mapstructure:"static"`
}

// Apply says so to what follows files; node is the collector's.
func (c *NodeFromConfig) Apply(to *tail.Config, node string) error {
	to.Node = cmp.Or(c.Static, node)
	if c.PathRegexp == "" {
		return nil
	}
	pattern, err := regexp.Compile(c.PathRegexp)
	if err != nil {
		return fmt.Errorf("node_from::path_regexp: %w", err)
	}
	to.NodeFrom = pattern
	return nil
}

// keys are as they were before there were other logs: those of ztunnels begin with nothing.
const keys source.Keys = ""

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		StartAt:      tail.StartAtEnd,
		PollInterval: 200 * time.Millisecond,
		Format:       string(tail.FormatAuto),
		MaxEntrySize: 64 << 10,
	}
}

// Validate implements xconfmap.Validator.
func (c *Config) Validate() error {
	var format error
	switch tail.Format(c.Format) {
	case tail.FormatAuto, tail.FormatCRI, tail.FormatBare:
	default:
		format = fmt.Errorf("format %q must be %q, %q or %q", c.Format, tail.FormatAuto, tail.FormatCRI, tail.FormatBare)
	}
	return errors.Join(
		tail.ValidateReading(c.StartAt, c.PollInterval, c.MaxEntrySize), format,
		tail.ValidateOrigin("node_from", c.NodeFrom.PathRegexp, c.NodeFrom.Static, "the node"),
	)
}

// ValidateFiles checks where the logs are; node is the collector's, and fromAPI tells that they come through the API server.
func (c *Config) ValidateFiles(node string, fromAPI bool) error {
	switch {
	case fromAPI && len(c.Include) > 0:
		return errors.New(`include and kubernetes::logs "api" exclude each other`)
	case fromAPI:
		return nil
	case len(c.Include) == 0:
		return errors.New("include is required: the files that ztunnels log to")
	case node == "" && c.NodeFrom == (NodeFromConfig{}):
		return errors.New("node_name (in Kubernetes ${env:K8S_NODE_NAME}) or access_logs::node_from is required")
	}
	return nil
}

// Open begins to follow the logs. The source is a source.Follower.
func Open(ctx context.Context, config *Config, env *source.Env) (source.Source, error) {
	if env.Kubernetes.Logs() {
		return openPods(ctx, config, env)
	}
	return openFiles(ctx, config, env)
}

// files are the logs of files.
type files struct{ *tail.Tail }

func openFiles(ctx context.Context, config *Config, env *source.Env) (source.Source, error) {
	settings := tail.Config{
		Include: config.Include, Exclude: config.Exclude,
		StartAt: config.StartAt, PollInterval: config.PollInterval,
		Format: tail.Format(config.Format), MaxEntry: config.MaxEntrySize,
	}
	if err := config.NodeFrom.Apply(&settings, env.Node); err != nil {
		return nil, err
	}
	followed, err := source.FollowFiles(ctx, env, keys, settings, &fileSink{env: env})
	if err != nil {
		return nil, err
	}
	return files{followed}, nil
}

// Run implements source.Source: files are read until they are told to stop.
func (files) Run(context.Context) {}

// Of implements source.Follower.
func (files) Of() string { return semconv.SourceAccessLog }

// take takes an entry that was read at a time.
func take(env *source.Env, node string, entry []byte, now time.Time) {
	env.Record.Entry(node, now, entry)
	env.Sink.Entry(node, entry, now)
}

type fileSink struct {
	env *source.Env
	// read is when the entries that come were read.
	read time.Time
}

// Begin implements tail.Sink.
func (s *fileSink) Begin() { s.read = s.env.Clock.Now() }

// Entry implements tail.Sink.
func (s *fileSink) Entry(node string, entry []byte) { take(s.env, node, entry, s.read) }

// Damaged implements tail.Sink.
func (s *fileSink) Damaged(what tail.Damage, n int64) { s.env.Telemetry.LeftOut(string(what), n) }

// pods are the logs of pods.
type pods struct{ *podlogs.Tail }

func openPods(ctx context.Context, config *Config, env *source.Env) (source.Source, error) {
	const whose = "pod"
	followed, err := source.FollowPods(ctx, env, keys, podlogs.Config{FromEnd: config.StartAt == tail.StartAtEnd, MaxEntry: config.MaxEntrySize},
		whose, podSink{source.PodLogs{Telemetry: env.Telemetry, Whose: whose}, env}, env.Kubernetes.OnZtunnels)
	if err != nil {
		return nil, err
	}
	return pods{followed}, nil
}

// Run implements source.Source: pods are followed as they are found.
func (pods) Run(context.Context) {}

// Of implements source.Follower.
func (pods) Of() string { return semconv.SourceAccessLog }

type podSink struct {
	source.PodLogs
	env *source.Env
}

// Entry implements podlogs.Sink.
func (s podSink) Entry(node string, entry []byte) { take(s.env, node, entry, s.env.Clock.Now()) }

// Damaged implements podlogs.Sink.
func (s podSink) Damaged(what podlogs.Damage, n int64) { s.env.Telemetry.LeftOut(string(what), n) }

// player takes recorded logs.
type player struct{ env *source.Env }

// NewPlayer returns what takes the logs of a recording.
func NewPlayer(env *source.Env) source.Player { return player{env} }

// Begin implements source.Player.
func (p player) Begin(contents replay.Contents) {
	for _, node := range contents.EntryNodes {
		p.env.Sink.Up(semconv.SourceAccessLog, node, true, time.Time{})
	}
}

// Part implements source.Player.
func (p player) Part(part *replay.Part) {
	p.env.Record.Entry(part.Name, part.Recorded(), part.Raw)
	p.env.Sink.Entry(part.Name, part.Raw, part.Time)
}
