package flow

import (
	"time"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

const (
	// recentLines is about how many of a node's last lines tell how well its log is read.
	recentLines = 64
	// leastForeign is how many lines must not be understood before that is a problem, leastAbove how many must be warnings or
	// errors, without any other, before ztunnel's log level is: fewer do as long as there was never any other.
	leastForeign    = 5
	leastAbove      = 5
	leastAboveFirst = 3
)

// reading says how well a node's log is read.
type reading struct {
	// understood and foreign are of about the last lines.
	understood, foreign int
	// above are the warnings and errors since the last line of a lower level, up to leastAbove.
	above int
	// below tells that there was a line of a lower level.
	below bool
	// requests are the lines of requests since the last line of a connection, up to leastForeign.
	requests int
	// dropped counts what was left out of the telemetry beyond a bound.
	dropped uint64
	// ahead is by how much the last entry's time was too far ahead.
	ahead time.Duration
}

// access notes a line of a connection, or of a request.
func (r *reading) access(request bool) {
	if !request {
		r.requests = 0
	} else if r.requests < leastForeign {
		r.requests++
	}
}

// line notes a line: the level of one that was understood.
func (r *reading) line(level accesslog.Level, understood bool) {
	if !understood {
		r.foreign++
	} else {
		r.understood++
		if level < accesslog.LevelWarn {
			r.above, r.below = 0, true
		} else if r.above < leastAbove {
			r.above++
		}
	}
	if r.understood+r.foreign == recentLines {
		r.understood /= 2
		r.foreign /= 2
	}
}

// problem says what is wrong with the log, by one of semconv's Problem constants and in a sentence; nothing if all is well.
func (r *reading) problem() (problem, detail string) {
	switch {
	case r.foreign < leastForeign || r.foreign <= 4*r.understood:
	case r.understood == 0:
		return semconv.ProblemNotUnderstood, "Lines come, and none of them is an entry of a ztunnel's log from 1.22 on."
	default:
		return semconv.ProblemNotUnderstood, "Lines come, and most of them are no entries of a ztunnel's log."
	}
	if r.ahead > 0 {
		return semconv.ProblemClockAhead, "The times of its entries are " + r.ahead.Round(time.Second).String() + " ahead: they count when they are read."
	}
	if r.above >= leastAbove || !r.below && r.above >= leastAboveFirst {
		return semconv.ProblemLevelTooLow, "Only warnings and errors come: ztunnel's log level is above info, so connections that succeed are missing."
	}
	return "", ""
}

// Log is what is known of the log of a node's ztunnel.
type Log struct {
	// LastSeen is the time of its newest entry, zero before the first.
	LastSeen time.Time
	// RequestsOnly tells that the log tells of requests and no connections. Only metrics make up for that.
	RequestsOnly bool
	// Dropped is how much was left out of the telemetry beyond a bound.
	Dropped uint64
	// Problem is one of semconv's Problem constants, and Detail a sentence, if the log does not tell all; empty if all is well.
	Problem, Detail string
}

// Log says what is known of the log of a node's ztunnel.
func (p *Processor) Log(node string) (log Log) {
	n := p.nodes.index[node]
	if n == nil {
		return log
	}
	if n.lastSeen != 0 {
		log.LastSeen = time.Unix(0, n.lastSeen).UTC()
	}
	log.Problem, log.Detail = n.reading.problem()
	log.RequestsOnly, log.Dropped = n.reading.requests >= leastForeign, n.reading.dropped
	return log
}
