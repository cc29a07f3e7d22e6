// Package replay reads a recording of a mesh (a folder, see recordings/README.md) and plays it: every part of every file,
// merged in the order of the parts' times, at a chosen speed. It holds a bounded number of parts in memory, never a file.
package replay

import (
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Kind says what a part is. Parts of one time are played in the order of their kinds: state before what is joined with it.
type Kind uint8

// The kinds of parts.
const (
	KindXDS Kind = iota
	KindConfigDump
	KindScrape
	KindEntry
	KindRequest
	KindCNI
	KindSpans
)

// String names the kind as the file names do.
func (k Kind) String() string {
	switch k {
	case KindXDS:
		return "xds"
	case KindConfigDump:
		return "config_dump"
	case KindScrape:
		return "metrics"
	case KindEntry:
		return "ztunnel"
	case KindRequest:
		return "envoy"
	case KindCNI:
		return "istio-cni"
	case KindSpans:
		return "otlp-traces"
	}
	return "unknown"
}

// Part is one thing that a mesh said at one time.
type Part struct {
	Kind Kind
	// Name is the NODE or NAME of the part's file; empty for kinds that are not per node.
	Name string
	// Time is when the part was said, shifted by the player; never before the part that precedes it.
	Time time.Time
	// Shift is what was added to the recording's own time.
	Shift time.Duration
	// Raw is a log entry or line, a scrape's body or a config dump's JSON, as recorded: the times in it are not shifted, but an entry's
	// time that was not to be believed is replaced. It is valid until the next part is asked for.
	Raw []byte
	// Gateway tells that a line of Envoy's is a gateway's, Outlier that the time that it states of itself is not to be believed.
	Gateway, Outlier bool
	// Failed tells of a scrape or a dump that did not succeed; Raw is then empty.
	Failed bool
	// Waypoint tells of a scrape that is a waypoint's, not a ztunnel's.
	Waypoint bool
	// Response is set for KindXDS.
	Response *discoveryv3.DeltaDiscoveryResponse
	// Spans is set for KindSpans, its times already shifted.
	Spans ptrace.Traces

	// own is the part's own time in unix nanoseconds, unshifted; 0 if it has none.
	own int64
	// seq orders parts of one source that have the same time.
	seq uint64
	// timeAt is where the entry's own time stands in Raw; zero for entries without one.
	timeAt textRange
	// clamped tells that own was replaced, so that Raw no longer says it.
	clamped bool
}

// Recorded is when the part was said by the recording's own time.
func (p *Part) Recorded() time.Time { return p.Time.Add(-p.Shift) }

type textRange struct{ from, to int }

func (r textRange) empty() bool { return r.to <= r.from }
