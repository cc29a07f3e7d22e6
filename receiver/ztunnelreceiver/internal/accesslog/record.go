// Package accesslog reads what a ztunnel writes to its standard output: one entry at a time, in the plain or
// the JSON format, without allocating. It knows nothing of files, series or telemetry.
package accesslog

import "errors"

// Kind says what an entry is.
type Kind uint8

const (
	// KindUnknown is anything that a ztunnel did not write, or that was cut.
	KindUnknown Kind = iota
	// KindAccess is an entry of the access log.
	KindAccess
	// KindMessage is any other entry of a ztunnel.
	KindMessage
)

// Event is what an access entry reports about its connection.
type Event uint8

const (
	// EventNone belongs to entries that are not of the access log.
	EventNone Event = iota
	// EventComplete is "connection complete": the connection ended, well or not.
	EventComplete
	// EventFailed is "connection failed": ztunnel turned it down before it knew more than its addresses.
	EventFailed
	// EventOpened is "connection opened", written at level debug only.
	EventOpened
)

// Direction is the reporting ztunnel's side of the connection.
type Direction uint8

const (
	// DirectionUnknown means that the entry does not say.
	DirectionUnknown Direction = iota
	// DirectionOutbound means that the ztunnel of the client's node reports.
	DirectionOutbound
	// DirectionInbound means that the ztunnel of the server's node reports.
	DirectionInbound
)

// Level is the severity of an entry.
type Level uint8

// The levels that ztunnel writes, in rising severity.
const (
	LevelUnknown Level = iota
	LevelTrace
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
)

func (l Level) String() string {
	return [...]string{"", "trace", "debug", "info", "warn", "error"}[l]
}

// Addr is a socket address of an entry.
type Addr struct {
	// Text is the address as written, "10.244.1.11:55704", "[fd00::1]:8080" or "host:8080".
	Text []byte
	// Host is Text without port and brackets.
	Host []byte
	Port uint16
	// IsIP tells an IP address from a host name.
	IsIP bool
}

// Field is a key and its value in an entry that is not of the access log.
type Field struct{ Key, Value []byte }

// ScopeDNS is the scope of the lines that the DNS proxy writes of queries, at level debug.
const ScopeDNS = "dns"

// maxFields bounds the fields that are kept of one message.
const maxFields = 16

// Head is what every entry has.
type Head struct {
	Kind  Kind
	Level Level
	// Time is in nanoseconds since the epoch; it means something only with HasTime. A time that no ztunnel
	// can have written (before 2015, after 2099) is not a time.
	Time    int64
	HasTime bool
	// Truncated is set when the entry was longer than the parser's bound and only its beginning was read.
	Truncated bool
	// Invalid counts fields whose value had the wrong type or range and was left out.
	Invalid int

	Scope   []byte
	Message []byte
	// Fields are those of a message, in their order; more than maxFields are left out.
	Fields []Field
}

// Endpoint is one end of a connection.
type Endpoint struct {
	Addr
	Workload, Namespace, Identity, Cluster []byte
}

// Record is one parsed entry. Its slices point into the entry or into the parser and are valid until either
// changes; absent values are empty. Text is valid UTF-8 without NUL and bounded.
type Record struct {
	Head

	Event     Event
	Direction Direction

	Src, Dst Endpoint
	// HBONE is the destination inside the tunnel.
	HBONE      Addr
	DstService []byte

	// BytesSent and BytesRecv are as the reporting ztunnel says: what its side of the connection sent.
	BytesSent, BytesRecv uint64
	// Duration is in nanoseconds.
	Duration    int64
	HasDuration bool

	Error []byte
	// Failure is the class of Error.
	Failure Failure
}

// Failed says whether the connection counts as failed. One that a drain closed does not.
func (r *Record) Failed() bool { return r.Failure.Type != "" }

// TellsRequest tells whether the entry is that of a request, which ztunnels of some vendors write.
func (r *Record) TellsRequest() bool { return string(r.Scope) == scopeHTTPAccess }

func (r *Record) reset() { *r = Record{} }

// Errors of Parse. They carry no text of the entry, which is not to be trusted.
var (
	// ErrForeign is returned for text that does not begin as a ztunnel's entry does.
	ErrForeign = errors.New("not an entry of a ztunnel")
	// ErrCut is returned for an entry that ends in the middle of a value or does not follow its format.
	ErrCut = errors.New("cut or malformed entry")
	// ErrIncomplete is returned for an access entry without a direction or without any address.
	ErrIncomplete = errors.New("access entry without direction or addresses")
)
