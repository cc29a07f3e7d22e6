package xds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/nephilia/nephilia/internal/mesh"
)

const (
	// istiod takes no request above 4 MiB (its PILOT_MAX_RECV_MSG_SIZE), which the versions of some 40,000 resources fill.
	maxInitialRequestBytes = 3 << 20
	maxErrorDetailBytes    = 4 << 10
)

var errNotSynced = errors.New("no answer for every type in time")

// State is how a Client stands with istiod.
type State uint8

// The states, in the order in which a stream goes through them.
const (
	// Connecting: the first stream has not answered yet.
	Connecting State = iota
	// Receiving: the stream has answered, but not for every type.
	Receiving
	// Synced: the stream has answered for every type, so that the mesh is known.
	Synced
	// Reconnecting: a synced stream has ended, as istiod does to every stream after half an hour, and is not yet replaced.
	Reconnecting
	// Failing: the last attempt to get a stream to be synced has failed.
	Failing
)

// String names the state as telemetry does.
func (s State) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Receiving:
		return "receiving"
	case Synced:
		return "synced"
	case Reconnecting:
		return "reconnecting"
	case Failing:
		return "failing"
	}
	return "unknown"
}

// Up tells whether istiod delivers.
func (s State) Up() bool { return s == Receiving || s == Synced || s == Reconnecting }

// Status is what a Client says of itself after every response, failure and change of state.
type Status struct {
	State State
	// LastResponse is the time of the newest response; zero before the first.
	LastResponse time.Time
	// Err is why the last stream ended, or what the last response was rejected for; nil without a fault.
	Err error
	// RetryIn is the wait before the next attempt, if there is one to come.
	RetryIn time.Duration
	// Resources is the number of resources held.
	Resources int
	Stats     Stats
	// Streams counts the attempts, Nacks the responses that were rejected in part or whole.
	Streams uint64
	Nacks   uint64
}

// Callbacks receive what a Client learns. They are called by the goroutine of Run, one at a time; while one does not
// return nothing is read from istiod. Any may be nil.
type Callbacks struct {
	Events func(context.Context, []mesh.Event)
	// Response is given what istiod sent before anything is made of it.
	Response func(at time.Time, response *discoveryv3.DeltaDiscoveryResponse)
	Status   func(Status)
}

// Client keeps a delta ADS stream to istiod.
type Client struct {
	config    Config
	callbacks Callbacks
	mu        sync.Mutex // guards mesh
	mesh      *Mesh
	status    Status
	awaited   []string // types that the current stream has not answered for
	now       func() time.Time
	sleep     func(context.Context, time.Duration) error
}

// NewClient returns a client that Run starts.
func NewClient(config Config, callbacks Callbacks) (*Client, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("xDS client: %w", err)
	}
	config = config.withDefaults()
	return &Client{
		config:    config,
		callbacks: callbacks,
		mesh:      NewMesh(config.MaxResources),
		now:       time.Now,
		sleep:     sleep,
	}, nil
}

// Run follows istiod until the context ends, through any number of broken streams. It returns nil, and only then are
// all goroutines gone. It must be called once.
func (c *Client) Run(ctx context.Context) error {
	backoff := c.config.InitialBackoff
	c.report(Connecting, nil, 0)
	for {
		c.status.Streams++
		err := c.stream(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the stream ended because it was to end
		}
		if c.status.State == Synced {
			backoff = c.config.InitialBackoff
			c.report(Reconnecting, err, jitter(backoff))
		} else {
			c.report(Failing, err, jitter(backoff))
			backoff = min(2*backoff, c.config.MaxBackoff)
		}
		if c.sleep(ctx, c.status.RetryIn) != nil {
			return nil //nolint:nilerr // only the context ends a sleep
		}
	}
}

// Snapshot is the whole state as events. It may be called from any goroutine; a caller that passes it on must do so
// under the lock that its Events callback takes, or a deletion might be overtaken.
func (c *Client) Snapshot(at time.Time) []mesh.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mesh.Snapshot(at)
}

// stream opens one stream and follows it to its end, which is always an error.
func (c *Client) stream(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	unsynced := time.AfterFunc(c.config.SyncTimeout, func() { cancel(errNotSynced) })
	defer func() {
		unsynced.Stop()
		if errors.Is(context.Cause(ctx), errNotSynced) {
			err = fmt.Errorf("stream to %s: %w", c.config.Endpoint, errNotSynced)
		}
	}()
	node, err := c.config.Node.proto()
	if err != nil {
		return err
	}
	authorized, err := c.config.authorize(ctx)
	if err != nil {
		return err
	}
	conn, err := c.config.dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(authorized)
	if err != nil {
		return fmt.Errorf("opening stream to %s: %w", c.config.Endpoint, err)
	}
	c.awaited = Types()
	for _, typeURL := range Types() {
		if err := send(stream, c.subscription(node, typeURL)); err != nil {
			return fmt.Errorf("subscribing to %s: %w", typeURL, err)
		}
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("stream to %s ended: %w", c.config.Endpoint, err)
		}
		if err := c.take(ctx, stream, response); err != nil {
			return err
		}
		if c.status.State == Synced {
			unsynced.Stop()
		}
	}
}

// subscription asks for all resources of a type, telling which of them are known.
func (c *Client) subscription(node *corev3.Node, typeURL string) *discoveryv3.DeltaDiscoveryRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	request := &discoveryv3.DeltaDiscoveryRequest{
		Node:                    node,
		TypeUrl:                 typeURL,
		InitialResourceVersions: c.mesh.Versions(typeURL),
	}
	if proto.Size(request) > maxInitialRequestBytes {
		request.InitialResourceVersions = nil
	}
	c.mesh.NewStream(typeURL, len(request.InitialResourceVersions) == 0)
	return request
}

func (c *Client) apply(response *discoveryv3.DeltaDiscoveryResponse, now time.Time) ([]mesh.Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mesh.Apply(response, now)
}

type requests interface {
	Send(*discoveryv3.DeltaDiscoveryRequest) error
	Recv() (*discoveryv3.DeltaDiscoveryResponse, error)
}

// send returns the reason for which a stream takes no more requests.
func send(stream requests, request *discoveryv3.DeltaDiscoveryRequest) error {
	err := stream.Send(request)
	if !errors.Is(err, io.EOF) {
		return err
	}
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	return err
}

func (c *Client) take(ctx context.Context, stream requests, response *discoveryv3.DeltaDiscoveryResponse) error {
	now := c.now()
	if c.callbacks.Response != nil {
		c.callbacks.Response(now, response)
	}
	events, rejection := c.apply(response, now)
	c.status.LastResponse = now
	if len(events) > 0 && c.callbacks.Events != nil {
		c.callbacks.Events(ctx, events)
	}
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}
	if rejection != nil {
		c.status.Nacks++
		answer.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: detail(rejection)}
	}
	// Without a nonce an acknowledgement would read as a new subscription.
	if answer.ResponseNonce != "" || rejection != nil {
		if err := send(stream, answer); err != nil {
			return fmt.Errorf("answering %s: %w", response.GetTypeUrl(), err)
		}
	}
	c.awaited = slices.DeleteFunc(c.awaited, func(typeURL string) bool { return typeURL == response.GetTypeUrl() })
	state := Synced
	if len(c.awaited) > 0 {
		state = Receiving
	}
	c.report(state, rejection, 0)
	return nil
}

func (c *Client) report(state State, err error, retryIn time.Duration) {
	c.status.State, c.status.Err, c.status.RetryIn = state, err, retryIn
	c.mu.Lock()
	c.status.Resources, c.status.Stats = c.mesh.Len(), c.mesh.Stats()
	c.mu.Unlock()
	if c.callbacks.Status != nil {
		c.callbacks.Status(c.status)
	}
}

func detail(err error) string {
	text := err.Error()
	if len(text) > maxErrorDetailBytes {
		text = text[:maxErrorDetailBytes]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// jitter shortens a wait by up to a half.
func jitter(wait time.Duration) time.Duration {
	return wait - rand.N(wait/2+1)
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
