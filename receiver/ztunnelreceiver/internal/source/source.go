// Package source says what a source of telemetry is to the receiver. Each source is a package below this one, with its configuration
// and what it makes of a live mesh and of a recording: accesslogs, envoylogs, cnilogs, metrics, configdumps, controlplane, cluster and spans. How to read
// and parse is the matter of packages that know nothing of sources (tail, podlogs, scrape, configdump, xds, kube, kubestate).
//
// To add a source:
//   - a package here with a Config (and its Validate), Open for what is live, and NewPlayer for the parts of a recording;
//   - a field of the receiver's Config, and a line in each of the two tables of sources.go in the receiver's folder;
//   - for recordings, a line in the table of file names in internal/replay, with the reader of its parts;
//   - a name in semconv (Source…) for its heartbeat, docs/data-model.md and the receiver's README.
//
// Sources call the Sink with the lock held, which they take. What they wait for (networks, files), they wait for without it.
package source

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/receiver"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/record"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cluster"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// Source brings in one kind of telemetry. It may be a Follower, a Teller, a Repeater and a Closer, too.
type Source interface {
	// Run reads until the context ends, and has ended all that it started when it returns.
	Run(ctx context.Context)
}

// Teller has something to say at each boundary.
type Teller interface {
	// Boundary is called with the lock held before what belongs before the boundary leaves. lost tells that records were dropped, so
	// that the state of entities is to be told again.
	Boundary(at time.Time, lost bool)
}

// Repeater leaves out what did not change.
type Repeater interface {
	// Repeat lets it bring everything once more, because some of what it brought was lost.
	Repeat()
}

// Follower follows logs and says how far it is, so that its position is stored together with what was made of what it read.
type Follower interface {
	// Of is whose logs they are, one of semconv's Source constants.
	Of() string
	// Quiesce returns with the lock held, and with true if positions and entries say the same.
	Quiesce(ctx context.Context) bool
	// Settled tells, with the lock held, whether they do.
	Settled() bool
	// Changes are the positions that changed since they were last asked for. written is told, with the lock held, whether they were
	// stored; if not, they come again.
	Changes() (ops []*storage.Operation, written func(ok bool), err error)
	// Readable says for each node whether its log can be read.
	Readable() map[string]bool
	// Stop ends reading. The lock is not held.
	Stop() error
}

// Closer holds something that is to be let go after Run, or after another source could not be opened.
type Closer interface{ Close() }

// Player takes a recording's parts as if they came from a live source.
type Player interface {
	// Begin says what the recording has, before the first part of each round.
	Begin(contents replay.Contents)
	// Part takes a part, which is not to be kept.
	Part(part *replay.Part)
}

// Sink takes what sources read. All but Lock are called with the lock held.
type Sink interface {
	sync.Locker
	// Entry takes one entry of a node's ztunnel, read at that time.
	Entry(node string, entry []byte, observed time.Time)
	// AddEvents takes what happened to the mesh's entities, AddChanges what changed of what it runs on.
	AddEvents(events []mesh.Event)
	AddChanges(changes []mesh.Change)
	// NewRequest gives a log record of a proxy, to be filled in; ok is false where nobody wants log records.
	NewRequest(of Proxy) (record plog.LogRecord, ok bool)
	// AddMetrics and AddSpans take telemetry that is not used by its source afterwards.
	AddMetrics(metrics pmetric.Metrics)
	AddSpans(spans ptrace.Traces)
	// Up says that a source, one of semconv's, delivers or fails; node is empty for what is no node's. A zero seen leaves the time of
	// its newest record as it was. Forget forgets all sources of a node.
	Up(source, node string, up bool, seen time.Time)
	// Ails says what is wrong with what a source says, by one of semconv's Problem constants and in a sentence; nothing if all is well.
	Ails(source, node, problem, detail string)
	Forget(node string)
	// Left says that n items of what a source tells were left out beyond a bound; 0 is nothing.
	Left(source, node string, n int)
}

// Proxy is a waypoint or a gateway, or the CNI agent of a node.
type Proxy struct {
	// Node is set for the node's CNI agent, which has nothing else.
	Node    string
	Gateway bool
	// Name is its NAMESPACE/NAME, in a recording NAMESPACE-NAME.
	Name string
	// Namespace and Pod are its pod's, if that is known.
	Namespace, Pod string
}

// Env is what a source works in.
type Env struct {
	Sink      Sink
	Telemetry *telemetry.Telemetry
	// Node is the node that the collector runs on, Cluster the mesh's cluster; both may be empty.
	Node, Cluster string
	// Refresh is after how long what did not change is told again.
	Refresh time.Duration
	// Record takes what is read as it was read; it may be nil.
	Record *record.Recorder

	// All below is for live sources.

	Settings receiver.Settings
	Host     component.Host
	Clock    replay.Clock
	// Storage is nil if nothing is stored.
	Storage storage.Client
	// ReadAgain tells that what was stored is lost: logs are to be read from their beginning, whatever is configured.
	ReadAgain bool
	// CountedUntil, in unix nanoseconds, is when what ended before was counted then, and is not to be counted again; otherwise 0.
	CountedUntil int64
	// Kubernetes is nil without it.
	Kubernetes *cluster.Source
	// Ready is to be called after entries were brought, without the lock: it waits while too many have not left.
	Ready func(ctx context.Context)
	// Told is to be called after entities' events were brought, without the lock: it waits while too many have not left.
	Told func(ctx context.Context)
}
