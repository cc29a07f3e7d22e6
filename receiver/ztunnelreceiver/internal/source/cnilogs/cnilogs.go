// Package cnilogs is the source of what istio-cni-node logs, the agent that hands pods over to the ztunnel of its node: files, or pods' logs
// through the API server. It makes a log record of each line about a pod or a ztunnel, and of each warning and error (docs/data-model.md, section 2).
package cnilogs

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/requestlog"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/podlogs"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/tail"
)

const (
	// keys keeps these positions apart from those in other logs.
	keys source.Keys = "cni/"
	// damageOf begins the reasons why lines were left out, in the telemetry.
	damageOf = "cni_"
	// maxSkew is how far ahead of when it was read a line's own time may be.
	maxSkew = time.Hour
)

// notable begin the messages at level info that are kept: what becomes of a pod, and of the ztunnel's stream.
var notable = [...]string{
	"adding pod to the mesh", "removing pod from mesh", "sending pod", "new ztunnel connected", "ztunnel disconnected", "received hello from ztunnel",
	"CNI ambient server",
}

// reader makes records of lines. It is used with the sink's lock held.
type reader struct {
	env    *source.Env
	parser *accesslog.Parser
	record accesslog.Record
}

func newReader(env *source.Env, maxEntry int) *reader {
	return &reader{env: env, parser: accesslog.NewParser(maxEntry)}
}

// line takes one line of a node's agent, which was read at a time; shift is what is added to its own.
func (r *reader) line(node string, line []byte, observed time.Time, shift time.Duration) {
	kind, err := r.parser.Parse(line, &r.record)
	if err != nil || kind != accesslog.KindMessage {
		r.env.Telemetry.LeftOut(damageOf+"foreign", 1)
		return
	}
	at := observed.UnixNano()
	if r.record.HasTime && r.record.Time+int64(shift) <= at+int64(maxSkew) {
		at = r.record.Time + int64(shift)
	}
	r.env.Sink.Up(semconv.SourceCNILog, node, true, time.Unix(0, at))
	if !r.kept() || at < r.env.CountedUntil {
		return
	}
	if record, ok := r.env.Sink.NewRequest(source.Proxy{Node: node}); ok {
		r.fill(record, node, line, pcommon.Timestamp(at), shift)
	}
}

// kept tells whether a message is worth a record.
func (r *reader) kept() bool {
	if r.record.Level != accesslog.LevelInfo {
		return r.record.Level == accesslog.LevelWarn || r.record.Level == accesslog.LevelError
	}
	for _, beginning := range notable {
		if strings.HasPrefix(string(r.record.Message), beginning) {
			return true
		}
	}
	return false
}

func (r *reader) fill(record plog.LogRecord, node string, line []byte, at pcommon.Timestamp, shift time.Duration) {
	record.SetEventName(semconv.EventCNILog)
	record.SetTimestamp(at)
	record.SetObservedTimestamp(at)
	record.SetSeverityText(r.record.Level.String())
	switch r.record.Level {
	case accesslog.LevelWarn:
		record.SetSeverityNumber(plog.SeverityNumberWarn)
	case accesslog.LevelError:
		record.SetSeverityNumber(plog.SeverityNumberError)
	default:
		record.SetSeverityNumber(plog.SeverityNumberInfo)
	}
	record.Body().SetStr(string(r.record.Message))
	attrs := record.Attributes()
	attrs.PutStr(semconv.AttrScope, string(r.record.Scope))
	for i := range r.record.Fields {
		f := &r.record.Fields[i]
		attrs.PutStr(semconv.AttrFieldPrefix+string(f.Key), string(f.Value))
	}
	attrs.PutStr(semconv.AttrRecordUID, requestlog.ID(node, line, shift))
}

// Open begins to follow the logs. The source is a source.Follower.
func Open(ctx context.Context, config *Config, env *source.Env) (source.Source, error) {
	read := sink{newReader(env, config.MaxEntrySize)}
	followed, err := open(ctx, config, env, read)
	if err != nil {
		return nil, err
	}
	return logs{followed, map[string]bool{}}, nil
}

func open(ctx context.Context, config *Config, env *source.Env, read sink) (followed, error) {
	const whose = "CNI agent"
	if env.Kubernetes.CNILogs() {
		return source.FollowPods(ctx, env, keys, podlogs.Config{FromEnd: config.StartAt == tail.StartAtEnd, MaxEntry: config.MaxEntrySize},
			whose, podSink{source.PodLogs{Telemetry: env.Telemetry, Whose: whose}, read}, env.Kubernetes.OnCNIAgents)
	}
	settings := tail.Config{
		Include: config.Include, Exclude: config.Exclude, StartAt: config.StartAt, PollInterval: config.PollInterval,
		Format: tail.FormatAuto, MaxEntry: config.MaxEntrySize,
	}
	if err := config.NodeFrom.Apply(&settings, env.Node); err != nil {
		return nil, err
	}
	return source.FollowFiles(ctx, env, keys, settings, read)
}

// followed is what tail.Tail and podlogs.Tail have in common.
type followed interface {
	Quiesce(ctx context.Context) bool
	Settled() bool
	Changes() (ops []*storage.Operation, written func(ok bool), err error)
	Readable() map[string]bool
	Stop() error
}

// logs are those of files or of pods.
type logs struct {
	followed
	// seen are the nodes whose log could be read once: bounded by what is followed.
	seen map[string]bool
}

// Run implements source.Source: logs are read until they are told to stop.
func (logs) Run(context.Context) {}

// Of implements source.Follower.
func (logs) Of() string { return semconv.SourceCNILog }

// Readable implements source.Follower. Where there never was a log there need not be an agent.
func (l logs) Readable() map[string]bool {
	readable := l.followed.Readable()
	for node, ok := range readable {
		if ok {
			l.seen[node] = true
		} else if !l.seen[node] {
			delete(readable, node)
		}
	}
	return readable
}

// Changes implements source.Follower.
func (l logs) Changes() ([]*storage.Operation, func(ok bool), error) {
	ops, written, err := l.followed.Changes()
	return keys.Of(ops), written, err
}

// sink takes lines of files and pods.
type sink struct{ *reader }

// Begin implements tail.Sink. Lines are few, and each is asked when it was read.
func (sink) Begin() {}

// Entry implements tail.Sink and podlogs.Sink.
func (s sink) Entry(node string, line []byte) { s.line(node, line, s.env.Clock.Now(), 0) }

// Damaged implements tail.Sink.
func (s sink) Damaged(what tail.Damage, n int64) { s.env.Telemetry.LeftOut(damageOf+string(what), n) }

// podSink takes lines of pods.
type podSink struct {
	source.PodLogs
	sink
}

// Damaged implements podlogs.Sink.
func (s podSink) Damaged(what podlogs.Damage, n int64) {
	s.env.Telemetry.LeftOut(damageOf+string(what), n)
}

// player takes recorded logs.
type player struct{ *reader }

// NewPlayer returns what takes the logs of CNI agents of a recording.
func NewPlayer(env *source.Env) source.Player { return player{newReader(env, 0)} }

// Begin implements source.Player.
func (p player) Begin(contents replay.Contents) {
	for _, node := range contents.CNINodes {
		p.env.Sink.Up(semconv.SourceCNILog, node, true, time.Time{})
	}
}

// Part implements source.Player.
func (p player) Part(part *replay.Part) { p.line(part.Name, part.Raw, part.Time, part.Shift) }
