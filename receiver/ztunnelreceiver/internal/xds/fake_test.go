package xds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/nephilia/nephilia/internal/mesh"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// fakeIstiod hands every stream to the test, which plays istiod's part.
type fakeIstiod struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	tb      testing.TB
	address string
	streams chan *fakeStream
	stop    func()
}

type fakeStream struct {
	tb     testing.TB
	header metadata.MD
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	end    chan error
}

// startIstiod listens on a free port, or again on the given address.
func startIstiod(tb testing.TB, address string, options ...grpc.ServerOption) *fakeIstiod {
	tb.Helper()
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	require.NoError(tb, err)
	server := grpc.NewServer(options...)
	f := &fakeIstiod{tb: tb, address: listener.Addr().String(), streams: make(chan *fakeStream)}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// It may be stopped before it has begun.
		if err := server.Serve(listener); !errors.Is(err, grpc.ErrServerStopped) {
			assert.NoError(tb, err)
		}
	}()
	f.stop = sync.OnceFunc(func() {
		server.Stop()
		<-done
	})
	tb.Cleanup(f.stop)
	return f
}

func (f *fakeIstiod) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	header, _ := metadata.FromIncomingContext(stream.Context())
	s := &fakeStream{tb: f.tb, header: header, stream: stream, end: make(chan error, 1)}
	select {
	case f.streams <- s:
	case <-stream.Context().Done():
		return nil
	}
	select {
	case err := <-s.end:
		return err
	case <-stream.Context().Done():
		return nil
	}
}

func (f *fakeIstiod) accept() *fakeStream {
	f.tb.Helper()
	select {
	case s := <-f.streams:
		return s
	case <-time.After(patience):
		require.FailNow(f.tb, "no stream was opened")
		return nil
	}
}

func (s *fakeStream) receive() *discoveryv3.DeltaDiscoveryRequest {
	s.tb.Helper()
	request, err := s.stream.Recv()
	require.NoError(s.tb, err)
	return request
}

func (s *fakeStream) send(response *discoveryv3.DeltaDiscoveryResponse) {
	s.tb.Helper()
	require.NoError(s.tb, s.stream.Send(response))
}

// subscribe takes the client's subscriptions.
func (s *fakeStream) subscribe() (forAddresses, forPolicies *discoveryv3.DeltaDiscoveryRequest) {
	s.tb.Helper()
	forAddresses, forPolicies = s.receive(), s.receive()
	require.Equal(s.tb, AddressType, forAddresses.GetTypeUrl())
	require.Equal(s.tb, AuthorizationType, forPolicies.GetTypeUrl())
	return forAddresses, forPolicies
}

// answer sends a response and returns what the client says to it.
func (s *fakeStream) answer(response *discoveryv3.DeltaDiscoveryResponse) *discoveryv3.DeltaDiscoveryRequest {
	s.tb.Helper()
	s.send(response)
	return s.receive()
}

// sync goes through a whole start with those addresses and no policies.
func (s *fakeStream) sync(resources ...*discoveryv3.Resource) {
	s.tb.Helper()
	s.subscribe()
	s.answer(addresses(resources...))
	s.answer(policies())
}

func (s *fakeStream) breakOff(code codes.Code, text string) { s.end <- status.Error(code, text) }

// harness runs a client against an address and notes what it tells.
type harness struct {
	tb       testing.TB
	events   chan mesh.Event
	statuses chan Status
	waits    chan time.Duration
	cancel   func()
	done     chan error
}

func runClient(tb testing.TB, config Config) *harness {
	tb.Helper()
	h := &harness{
		tb: tb, events: make(chan mesh.Event, 10_000), statuses: make(chan Status, 10_000),
		waits: make(chan time.Duration, 10_000), done: make(chan error, 1),
	}
	client, err := NewClient(config, Callbacks{
		Events: func(_ context.Context, events []mesh.Event) {
			for _, event := range events {
				h.events <- event
			}
		},
		Status: func(s Status) { h.statuses <- s },
	})
	require.NoError(tb, err)
	client.sleep = func(ctx context.Context, wait time.Duration) error {
		h.waits <- wait
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { h.done <- client.Run(ctx) }()
	h.cancel = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-h.done:
			assert.NoError(tb, err, "the end of its context is no error of a client") //nolint:testifylint // a cleanup must not stop the others
		case <-time.After(patience):
			assert.Fail(tb, "Run does not return")
		}
	})
	tb.Cleanup(h.cancel)
	return h
}

// until returns the next status in that state.
func (h *harness) until(state State) Status {
	h.tb.Helper()
	deadline := time.After(patience)
	for {
		select {
		case s := <-h.statuses:
			if s.State == state {
				return s
			}
		case <-deadline:
			require.FailNow(h.tb, "never "+state.String())
		}
	}
}

// told returns the events told since, once the client is synced.
func (h *harness) told() []string {
	h.tb.Helper()
	var events []mesh.Event
	for len(h.events) > 0 {
		events = append(events, <-h.events)
	}
	return describe(events)
}

// authority is a certificate authority of a test.
type authority struct {
	tb   testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(tb, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(tb, err)
	return &authority{tb: tb, cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// serve gives a server a certificate for the name; seen receives the names that clients ask for.
func (a *authority) serve(name string, seen *[]string) grpc.ServerOption {
	a.tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.tb, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, a.cert, key.Public(), a.key)
	require.NoError(a.tb, err)
	var mu sync.Mutex
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if seen != nil {
				mu.Lock()
				defer mu.Unlock()
				*seen = append(*seen, hello.ServerName)
			}
			return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
		},
	}))
}

// rawCodec sends bytes as they are, so that a server can say what is no protobuf.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (rawCodec) Unmarshal(raw []byte, v any) error {
	p, ok := v.(*[]byte)
	if !ok {
		return errors.New("not raw")
	}
	*p = raw
	return nil
}
