// Package envoylogs is the source of what waypoints and gateways log of requests: files, or pods' logs through the API server. It makes
// a log record of each request (docs/data-model.md, section 2).
package envoylogs

import (
	"errors"
	"time"

	"github.com/nephilia/nephilia/internal/envoylog"
	"github.com/nephilia/nephilia/internal/requestlog"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
)

const (
	// maxProxies bounds the proxies of which it is known how well their logs are read; the lines of others are read all the same.
	maxProxies = 10_000
	// maxSkew is how far ahead of when it was read a line's own time may be, maxAhead how far ahead of the lines around it in a recording.
	maxSkew  = time.Hour
	maxAhead = 10 * time.Second
)

// Why lines were left out, for the telemetry.
const (
	reasonForeign   = "envoy_foreign"
	reasonCut       = "envoy_cut"
	reasonAmbiguous = "envoy_ambiguous"
)

// reader makes records of lines. It is used with the sink's lock held.
type reader struct {
	env    *source.Env
	parser *envoylog.Parser
	record envoylog.Record
	writer requestlog.Writer

	proxies map[string]*proxy // bounded by maxProxies
	// ailing is whose problem is told, nil if all is well.
	ailing *proxy
	// second is the newest one of which a record was told.
	second int64
}

// proxy is a waypoint or a gateway.
type proxy struct {
	source.Proxy
	// told is set where the log's own name says whether it is a gateway's.
	told    bool
	reading reading
}

func newReader(env *source.Env, format *envoylog.Format) *reader {
	return &reader{env: env, parser: envoylog.NewParser(format), proxies: map[string]*proxy{}}
}

// proxyOf finds a proxy by a key of its log; describe says what it is when it is seen first.
func (r *reader) proxyOf(key string, describe func() proxy) *proxy {
	p := r.proxies[key]
	if p == nil {
		described := describe()
		p = &described
		if len(r.proxies) < maxProxies {
			r.proxies[key] = p
		}
	}
	return p
}

// stamp says when a line was read and what is to be done about its own time.
type stamp struct {
	observed time.Time
	ahead    time.Duration
	shift    time.Duration
	// outlier tells that the line's own time is not to be believed, ahead how far it may be ahead of when the line was read.
	outlier bool
}

// line takes one line of a proxy.
func (r *reader) line(p *proxy, line []byte, at stamp) {
	kind, err := r.parser.Parse(line, &r.record)
	switch {
	case err == nil:
		if kind == envoylog.KindOther {
			p.reading.own()
			return
		}
	case errors.Is(err, envoylog.ErrCut):
		r.env.Telemetry.LeftOut(reasonCut, 1)
	case errors.Is(err, envoylog.ErrAmbiguous):
		r.env.Telemetry.LeftOut(reasonAmbiguous, 1)
	case p.reading.goesOn(line):
		return
	default:
		r.env.Telemetry.LeftOut(reasonForeign, 1)
	}
	if p.reading.line(err == nil) {
		r.tellProblems()
	}
	if err != nil {
		return
	}
	p.learn(r.record.Values[envoylog.Cluster])
	end := r.record.End() + int64(at.shift)
	if at.outlier || !at.observed.IsZero() && end > at.observed.Add(at.ahead).UnixNano() {
		end = at.observed.UnixNano()
	}
	if second := end / int64(time.Second); second > r.second {
		r.second = second
		r.env.Sink.Up(semconv.SourceEnvoyLog, r.env.Node, true, time.Unix(0, end))
	}
	if kind != envoylog.KindRequest || end < r.env.CountedUntil {
		return
	}
	if record, ok := r.env.Sink.NewRequest(p.Proxy); ok {
		r.writer.Write(record, &r.record, end, requestlog.ID(p.Name, line, at.shift))
	}
}

// learn tells a waypoint from a gateway by the clusters of its lines, where nothing else does.
func (p *proxy) learn(cluster []byte) {
	if !p.told && envoylog.OfWaypoint(cluster) {
		p.Gateway, p.told = false, true
	}
}

// tellProblems says what is wrong with the logs, by the first of the proxies whose log has a problem.
func (r *reader) tellProblems() {
	var worst *proxy
	for _, p := range r.proxies {
		if p.reading.problem() != "" && (worst == nil || p.Name < worst.Name) {
			worst = p
		}
	}
	if worst == nil && r.ailing == nil {
		return
	}
	r.ailing = worst
	if worst == nil {
		r.env.Sink.Ails(semconv.SourceEnvoyLog, r.env.Node, "", "")
		return
	}
	r.env.Sink.Ails(semconv.SourceEnvoyLog, r.env.Node, semconv.ProblemNotUnderstood, "Of the log of "+worst.Name+": "+worst.reading.problem())
}

// player takes recorded logs.
type player struct{ reader *reader }

// NewPlayer returns what takes the logs of waypoints and gateways of a recording.
func NewPlayer(env *source.Env, config *Config) source.Player {
	format, _ := config.compile() // Validate has said what is wrong with it
	return player{newReader(env, format)}
}

// Begin implements source.Player.
func (p player) Begin(contents replay.Contents) {
	if contents.Requests {
		p.reader.env.Sink.Up(semconv.SourceEnvoyLog, p.reader.env.Node, true, time.Time{})
	}
}

// Part implements source.Player.
func (p player) Part(part *replay.Part) {
	key := "waypoint " + part.Name
	if part.Gateway {
		key = "gateway " + part.Name
	}
	of := p.reader.proxyOf(key, func() proxy {
		return proxy{Proxy: source.Proxy{Gateway: part.Gateway, Name: part.Name}, told: true}
	})
	p.reader.env.Record.Request(part.Name, part.Gateway, part.Recorded(), part.Raw)
	p.reader.line(of, part.Raw, stamp{observed: part.Time, ahead: maxAhead, shift: part.Shift, outlier: part.Outlier})
}
