// Package spans is the source of applications' own spans, in recordings. Live, they come from other receivers.
package spans

import (
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
)

type player struct{ env *source.Env }

// NewPlayer returns what takes the spans of a recording.
func NewPlayer(env *source.Env) source.Player { return player{env} }

// Begin implements source.Player.
func (player) Begin(replay.Contents) {}

// Part implements source.Player.
func (p player) Part(part *replay.Part) {
	p.env.Sink.Up(semconv.SourceSpans, "", true, part.Time)
	p.env.Sink.AddSpans(part.Spans)
}
