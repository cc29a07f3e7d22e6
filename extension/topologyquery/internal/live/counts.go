package live

import (
	"iter"
	"slices"
	"sync/atomic"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Field is a counter of an edge.
type Field uint8

// The counters of an edge. Failed connections are counted by reason, not here.
const (
	Opened Field = iota
	Closed
	Sent
	Received
	Requests
	RequestsFailed
	Unanswered
	NumFields
)

// Reason is why connections failed.
type Reason struct {
	ErrorType string
	// Policy is "namespace/name" of the policy that denied, empty if none did or none is known.
	Policy string
}

// ReasonCount is the number of connections that failed for a reason.
type ReasonCount struct {
	Reason Reason
	Count  uint64
}

// Response is what answered requests, and who tells.
type Response struct {
	// Code is a response's code in digits, "0" where nobody answered.
	Code string
	// Flags are Envoy's, with commas; empty if there are none.
	Flags string
	// Source is one of semconv's RequestSource constants.
	Source string
	// Denied tells that a policy did not let the requests pass, Policy which one ("namespace/name") if that is known.
	Denied bool
	Policy string
}

// ResponseOf reads a response from the labels of a series of mesh.edge.responses.
func ResponseOf(label func(name string) string) Response {
	return Response{
		Code: label(semconv.LabelResponseCode), Flags: label(semconv.LabelResponseFlags), Source: label(semconv.LabelRequestSource),
		Denied: label(semconv.LabelErrorType) == semconv.ErrorTypePolicyDenied, Policy: label(semconv.LabelPolicy),
	}
}

// ResponseCount is the number of requests that a response answered.
type ResponseCount struct {
	Response Response
	Count    uint64
}

// Counts is what happened on an edge, or on several, in a window.
type Counts struct {
	Fields [NumFields]uint64
	Failed uint64
	// Active is the number of open connections at the window's end.
	Active  int64
	Reasons []ReasonCount
	// Responses are the requests by what answered them, as far as that is known.
	Responses []ResponseCount
	// Connection is the connections' life, Request the requests' duration, both in seconds.
	Connection exphist.Histogram
	Request    exphist.Histogram
	// Kept, unless nil, tells that the counts are the edge's, kept for further questions: they must not be changed.
	// It is where whoever encodes them may leave the result.
	Kept *atomic.Pointer[Encoding]
}

// Encoding is how counts of a window of so many seconds were encoded, and before them the edge between two nodes.
type Encoding struct {
	Source, Destination string
	Head                []byte
	Seconds             float64
	JSON                []byte
}

// Own returns counts that may be changed: these, or a copy if they are kept.
func (c *Counts) Own() *Counts {
	if c.Kept == nil {
		return c
	}
	return c.Copy()
}

// Copy returns a copy that may be changed.
func (c *Counts) Copy() *Counts {
	own := *c
	own.Kept = nil
	own.Reasons, own.Responses = slices.Clone(c.Reasons), slices.Clone(c.Responses)
	own.Connection = *c.Connection.Clone()
	own.Request = *c.Request.Clone()
	return &own
}

// Reset empties the counts and keeps their memory.
func (c *Counts) Reset() {
	c.Fields = [NumFields]uint64{}
	c.Failed, c.Active, c.Reasons, c.Responses = 0, 0, c.Reasons[:0], c.Responses[:0]
	c.Connection.Reset()
	c.Request.Reset()
}

// Empty tells that nothing happened and nothing is open.
func (c *Counts) Empty() bool {
	return c.Fields == [NumFields]uint64{} && c.Failed == 0 && c.Active <= 0 && c.Connection.Count == 0 && c.Request.Count == 0
}

// AddReason adds n failed connections.
func (c *Counts) AddReason(reason Reason, n uint64) {
	if n == 0 {
		return
	}
	c.Failed += n
	for i := range c.Reasons {
		if c.Reasons[i].Reason == reason {
			c.Reasons[i].Count += n
			return
		}
	}
	c.Reasons = append(c.Reasons, ReasonCount{reason, n})
}

// Denied is how many requests a policy did not let pass.
func (c *Counts) Denied() (n uint64) {
	for i := range c.Responses {
		if c.Responses[i].Response.Denied {
			n += c.Responses[i].Count
		}
	}
	return n
}

// Denials are how many connections and requests a policy denied.
type Denials struct{ Connections, Requests uint64 }

// All is how many of both.
func (d Denials) All() uint64 { return d.Connections + d.Requests }

// DeniedBy gives each policy that denied, "" for those that are not named, with how much it denied. A policy may come more than once.
func (c *Counts) DeniedBy() iter.Seq2[string, Denials] {
	return func(yield func(policy string, n Denials) bool) {
		for i := range c.Reasons {
			if r := &c.Reasons[i]; (r.Reason.Policy != "" || r.Reason.ErrorType == semconv.ErrorTypePolicyDenied) && !yield(r.Reason.Policy, Denials{Connections: r.Count}) {
				return
			}
		}
		for i := range c.Responses {
			if r := &c.Responses[i]; r.Response.Denied && !yield(r.Response.Policy, Denials{Requests: r.Count}) {
				return
			}
		}
	}
}

// AddResponse adds n requests that a response answered.
func (c *Counts) AddResponse(response Response, n uint64) {
	if n == 0 {
		return
	}
	for i := range c.Responses {
		if c.Responses[i].Response == response {
			c.Responses[i].Count += n
			return
		}
	}
	c.Responses = append(c.Responses, ResponseCount{response, n})
}

// Merge adds the other counts.
func (c *Counts) Merge(other *Counts) {
	for i, n := range other.Fields {
		c.Fields[i] += n
	}
	c.Active += other.Active
	for _, r := range other.Reasons {
		c.AddReason(r.Reason, r.Count)
	}
	for _, r := range other.Responses {
		c.AddResponse(r.Response, r.Count)
	}
	c.Connection.Merge(exphist.NativeLayout, &other.Connection)
	c.Request.Merge(exphist.NativeLayout, &other.Request)
}
