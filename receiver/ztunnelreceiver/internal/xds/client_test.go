package xds

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"istio.io/istio/pkg/workloadapi"
)

func TestClientSubscribesAsZtunnelDoes(t *testing.T) {
	istiod := startIstiod(t, "")
	h := runClient(t, Config{Endpoint: istiod.address, Node: Node{
		IP: "10.0.0.9", PodName: "nephilia-0", Namespace: "observability", NodeName: "node-a", Metadata: map[string]string{"NETWORK": "n"},
	}})
	assert.Equal(t, Connecting, (<-h.statuses).State)

	stream := istiod.accept()
	forAddresses, forPolicies := stream.subscribe()
	for _, request := range []*discoveryv3.DeltaDiscoveryRequest{forAddresses, forPolicies} {
		assert.Equal(t, "ztunnel~10.0.0.9~nephilia-0.observability~observability.svc.cluster.local", request.GetNode().GetId())
		assert.Equal(t, map[string]any{
			"NAME": "nephilia-0", "NAMESPACE": "observability", "INSTANCE_IPS": "10.0.0.9", "NODE_NAME": "node-a",
			"CLUSTER_ID": "Kubernetes", "NETWORK": "n",
		}, request.GetNode().GetMetadata().AsMap())
		assert.Empty(t, request.GetResourceNamesSubscribe(), "no names means all")
		assert.Empty(t, request.GetInitialResourceVersions())
	}
	assert.Empty(t, stream.header.Get("authorization"))

	response := addresses(workloadResource(t, "a", "1"))
	response.Nonce = "first"
	ack := stream.answer(response)
	assert.Equal(t, "first", ack.GetResponseNonce())
	assert.Equal(t, AddressType, ack.GetTypeUrl())
	assert.Nil(t, ack.GetErrorDetail())
	assert.Nil(t, ack.GetNode())
	received := h.until(Receiving)
	assert.True(t, received.State.Up())
	assert.False(t, received.LastResponse.IsZero())

	stream.answer(policies(policyResource(t, "p")))
	synced := h.until(Synced)
	require.NoError(t, synced.Err)
	assert.Equal(t, 2, synced.Resources)
	assert.Equal(t, []string{"+a", "+shop/p"}, h.told())
}

func TestClientResumes(t *testing.T) {
	istiod := startIstiod(t, "")
	h := runClient(t, Config{Endpoint: istiod.address})
	stream := istiod.accept()
	stream.sync(workloadResource(t, "a", "1"), workloadResource(t, "b", "1"), workloadResource(t, "c", "7"))
	h.until(Synced)
	assert.Equal(t, []string{"+a", "+b", "+c"}, h.told())

	stream.breakOff(codes.Unavailable, "max connection age")
	broken := h.until(Reconnecting)
	require.ErrorContains(t, broken.Err, "max connection age")
	assert.True(t, broken.State.Up(), "istiod ends streams now and then")

	stream = istiod.accept()
	forAddresses, forPolicies := stream.subscribe()
	assert.Equal(t, map[string]string{"a": "1", "b": "1", "c": "7"}, forAddresses.GetInitialResourceVersions())
	assert.Empty(t, forPolicies.GetInitialResourceVersions())
	delta := addresses(workloadResource(t, "b", "2"))
	delta.RemovedResources = []string{"c"}
	stream.answer(delta)
	stream.answer(policies())
	h.until(Synced)
	assert.Equal(t, []string{"+b", "-c"}, h.told())
}

func TestClientFindsWhatVanishedThoughTheServerDoesNotSay(t *testing.T) {
	istiod := startIstiod(t, "")
	h := runClient(t, Config{Endpoint: istiod.address})
	stream := istiod.accept()
	stream.sync(workloadResource(t, "a", "1"), workloadResource(t, "b", "1"))
	h.until(Synced)
	istiod.stop()
	h.until(Failing)
	h.told()

	stream = startIstiod(t, istiod.address).accept()
	stream.sync(workloadResource(t, "b", "1"))
	synced := h.until(Synced)
	assert.Equal(t, []string{"-a"}, h.told())
	assert.EqualValues(t, 1, synced.Stats.Vanished)
}

func TestClientRejectsOnlyWhatIsBad(t *testing.T) {
	istiod := startIstiod(t, "")
	h := runClient(t, Config{Endpoint: istiod.address})
	stream := istiod.accept()
	stream.subscribe()
	bad := workloadResource(t, "bad", "1")
	bad.Resource.Value = []byte{0xff}
	response := addresses(workloadResource(t, "good", "1"), bad)
	response.Nonce = "second"
	nack := stream.answer(response)
	assert.Equal(t, "second", nack.GetResponseNonce())
	assert.EqualValues(t, codes.InvalidArgument, nack.GetErrorDetail().GetCode())
	assert.Contains(t, nack.GetErrorDetail().GetMessage(), `"bad": decoding address`)
	rejected := h.until(Receiving)
	assert.Equal(t, []string{"+good"}, h.told())
	assert.EqualValues(t, 1, rejected.Nacks)
	require.ErrorContains(t, rejected.Err, "1 resources rejected")

	nack = stream.answer(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: "type.googleapis.com/no.such", Nonce: "third"})
	assert.Equal(t, "third", nack.GetResponseNonce())
	assert.Contains(t, nack.GetErrorDetail().GetMessage(), "unknown type")

	ack := stream.answer(policies())
	assert.Nil(t, ack.GetErrorDetail())
	h.until(Synced)
}

func TestClientDoesNotAcknowledgeWithoutNonce(t *testing.T) {
	istiod := startIstiod(t, "")
	runClient(t, Config{Endpoint: istiod.address})
	stream := istiod.accept()
	stream.subscribe()
	response := addresses(workloadResource(t, "a", "1"))
	response.Nonce = ""
	stream.send(response)
	next := policies()
	next.Nonce = "nonce of the second response"
	assert.Equal(t, next.GetNonce(), stream.answer(next).GetResponseNonce())
}

func TestClientBacksOff(t *testing.T) {
	istiod := startIstiod(t, "")
	h := runClient(t, Config{Endpoint: istiod.address, InitialBackoff: time.Second, MaxBackoff: 4 * time.Second})
	between := func(full time.Duration) {
		t.Helper()
		wait := <-h.waits
		assert.LessOrEqual(t, wait, full)
		assert.GreaterOrEqual(t, wait, full/2)
	}
	for _, full := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second} {
		istiod.accept().breakOff(codes.Unavailable, "not ready")
		failed := h.until(Failing)
		require.ErrorContains(t, failed.Err, "not ready")
		assert.False(t, failed.State.Up())
		between(full)
	}
	stream := istiod.accept()
	stream.subscribe()
	stream.answer(addresses())
	stream.breakOff(codes.Internal, "half a start is no health")
	between(4 * time.Second)

	stream = istiod.accept()
	stream.sync()
	stream.breakOff(codes.Unavailable, "max connection age")
	between(time.Second)
	istiod.accept().breakOff(codes.Unavailable, "not ready")
	between(time.Second)
	istiod.accept().breakOff(codes.Unavailable, "not ready")
	between(2 * time.Second)
}

func TestClientSurvivesHugeMessages(t *testing.T) {
	istiod := startIstiod(t, "")
	h := runClient(t, Config{Endpoint: istiod.address, MaxMessageBytes: 64 << 10})
	stream := istiod.accept()
	stream.subscribe()
	huge := addresses()
	huge.SystemVersionInfo = strings.Repeat("x", 65<<10)
	stream.send(huge)
	failed := h.until(Failing)
	require.ErrorContains(t, failed.Err, "larger than max")
	istiod.accept().sync(workloadResource(t, "a", "1"))
	h.until(Synced)
	assert.Equal(t, []string{"+a"}, h.told())
}

func TestClientSurvivesRubbish(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		rubbish := make([]byte, 1000)
		_, _ = rand.Read(rubbish)
		rubbish[0] = 0xff // no tag has this wire type
		if err := stream.SendMsg(&rubbish); err != nil {
			return err
		}
		<-stream.Context().Done()
		return nil
	}))
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	h := runClient(t, Config{Endpoint: listener.Addr().String()})
	failed := h.until(Failing)
	require.ErrorContains(t, failed.Err, "unmarshal")
	h.cancel()
	server.Stop()
	require.NoError(t, <-done)
}

func TestClientSurvivesOtherServers(t *testing.T) {
	t.Run("HTML", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
		defer server.Close()
		h := runClient(t, Config{Endpoint: server.Listener.Addr().String()})
		require.ErrorContains(t, h.until(Failing).Err, "opening stream")
		h.cancel()
	})
	t.Run("reset", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			}
		}()
		h := runClient(t, Config{Endpoint: listener.Addr().String()})
		require.Error(t, h.until(Failing).Err)
		h.until(Failing)
		h.cancel()
		require.NoError(t, listener.Close())
		<-done
	})
	t.Run("nobody", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, listener.Close())
		h := runClient(t, Config{Endpoint: listener.Addr().String()})
		require.ErrorContains(t, h.until(Failing).Err, "refused")
	})
}

func TestClientGivesUpOnASilentServer(t *testing.T) {
	istiod := startIstiod(t, "")
	h := runClient(t, Config{Endpoint: istiod.address, SyncTimeout: 50 * time.Millisecond})
	stream := istiod.accept()
	stream.subscribe()
	stream.answer(addresses())
	require.ErrorIs(t, h.until(Failing).Err, errNotSynced)
}

func TestClientOverTLS(t *testing.T) {
	var (
		folder = t.TempDir()
		ca     = newAuthority(t)
		names  []string
		config = Config{
			TLS: &TLS{
				CAFile: filepath.Join(folder, "root-cert.pem"), TokenFile: filepath.Join(folder, "token"), ServerName: "istiod.istio-system.svc",
			},
			Node: Node{ClusterID: "west"},
		}
	)
	istiod := startIstiod(t, "", ca.serve("istiod.istio-system.svc", &names))
	config.Endpoint = istiod.address

	h := runClient(t, config)
	require.ErrorContains(t, h.until(Failing).Err, "reading token")
	h.cancel()

	write(t, config.TLS.TokenFile, []byte("  \n"))
	h = runClient(t, config)
	require.ErrorContains(t, h.until(Failing).Err, "is empty")
	h.cancel()

	write(t, config.TLS.TokenFile, []byte("two\nlines"))
	h = runClient(t, config)
	require.ErrorContains(t, h.until(Failing).Err, "holds no token")
	h.cancel()

	write(t, config.TLS.TokenFile, []byte("first\n"))
	h = runClient(t, config)
	require.ErrorContains(t, h.until(Failing).Err, "reading CA certificates")
	h.cancel()

	write(t, config.TLS.CAFile, []byte("-----BEGIN NONSENSE-----"))
	h = runClient(t, config)
	require.ErrorContains(t, h.until(Failing).Err, "none in")
	h.cancel()

	write(t, config.TLS.CAFile, newAuthority(t).pem)
	h = runClient(t, config)
	require.ErrorContains(t, h.until(Failing).Err, "unknown authority")
	h.cancel()

	write(t, config.TLS.CAFile, ca.pem)
	other := config
	other.TLS = &TLS{CAFile: config.TLS.CAFile, TokenFile: config.TLS.TokenFile, ServerName: "other.example"}
	h = runClient(t, other)
	require.ErrorContains(t, h.until(Failing).Err, "other.example")
	h.cancel()

	h = runClient(t, config)
	stream := istiod.accept()
	assert.Equal(t, []string{"Bearer first"}, stream.header.Get("authorization"))
	assert.Equal(t, []string{"west"}, stream.header.Get("clusterid"))
	assert.Equal(t, "istiod.istio-system.svc", names[len(names)-1])
	stream.sync(workloadResource(t, "a", "1"))
	h.until(Synced)

	write(t, config.TLS.TokenFile, []byte("second"))
	stream.breakOff(codes.Unauthenticated, "token expired")
	stream = istiod.accept()
	assert.Equal(t, []string{"Bearer second"}, stream.header.Get("authorization"), "a rotated token is read again")
	stream.sync(workloadResource(t, "a", "1"))
	h.until(Synced)

	// istiod comes back with certificates of a new authority.
	rotated := newAuthority(t)
	istiod.stop()
	successor := startIstiod(t, istiod.address, rotated.serve("istiod.istio-system.svc", nil))
	for failed := h.until(Failing); !strings.Contains(failed.Err.Error(), "unknown authority"); {
		failed = h.until(Failing)
	}
	write(t, config.TLS.CAFile, rotated.pem)
	successor.accept().sync(workloadResource(t, "b", "1"), workloadResource(t, "a", "1"))
	h.until(Synced)
	assert.Equal(t, []string{"+a", "+b"}, h.told())
}

func TestClientTellsNoVersionsThatIstiodWouldNotTake(t *testing.T) {
	c, err := NewClient(Config{Endpoint: "localhost:15010"}, Callbacks{})
	require.NoError(t, err)
	var resources []*discoveryv3.Resource
	for i := range 8_000 {
		uid := fmt.Sprintf("Kubernetes//Pod/%s/%s-%d", strings.Repeat("n", 200), strings.Repeat("p", 200), i)
		resources = append(resources, pack(t, uid, "0123456789abcdef", &workloadapi.Address{
			Type: &workloadapi.Address_Workload{Workload: &workloadapi.Workload{Uid: uid}},
		}))
	}
	_, err = c.apply(addresses(resources[:1000]...), at)
	require.NoError(t, err)
	assert.Len(t, c.subscription(nil, AddressType).GetInitialResourceVersions(), 1000)
	_, err = c.apply(addresses(resources...), at)
	require.NoError(t, err)
	assert.Empty(t, c.subscription(nil, AddressType).GetInitialResourceVersions())
	events, err := c.apply(addresses(resources[1:]...), at)
	require.NoError(t, err)
	assert.Equal(t, []string{"-" + resources[0].GetName()}, describe(events), "what follows is taken for everything")
	assert.Len(t, c.Snapshot(at), len(resources)-1)
}

func TestSleepEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, sleep(ctx, time.Hour), context.Canceled)
	require.NoError(t, sleep(t.Context(), time.Nanosecond))
}

func TestValidate(t *testing.T) {
	require.NoError(t, Config{Endpoint: "istiod.istio-system.svc:15012"}.Validate())
	for want, config := range map[string]Config{
		"no endpoint":          {},
		"is not host:port":     {Endpoint: "istiod"},
		"a bound is negative":  {Endpoint: "istiod:15010", MaxResources: -1},
		"duration is negative": {Endpoint: "istiod:15010", KeepaliveTime: -1},
		"is shorter than":      {Endpoint: "istiod:15010", InitialBackoff: time.Minute, MaxBackoff: time.Second},
	} {
		_, err := NewClient(config, Callbacks{})
		require.ErrorContains(t, err, want)
	}
}

func write(tb testing.TB, path string, content []byte) {
	tb.Helper()
	require.NoError(tb, os.WriteFile(path, content, 0o600))
}
