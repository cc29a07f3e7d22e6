package topologyquery

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confignet"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// rawCodec passes messages on as bytes.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// fields are a message's fields by number: the bytes of each, or a number's.
func fields(t *testing.T, message []byte) map[protowire.Number][][]byte {
	out := map[protowire.Number][][]byte{}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		require.Positive(t, n)
		message = message[n:]
		n = protowire.ConsumeFieldValue(number, kind, message)
		require.Positive(t, n)
		value := message[:n]
		if kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(value)
		}
		out[number] = append(out[number], value)
		message = message[n:]
	}
	return out
}

func part(number protowire.Number, value string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), value)
}

func instant(t time.Time) string {
	return string(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(t.Unix())))
}

// The messages are those of jaeger-idl: storage/v2 and api_v3/query_service.proto.
func TestJaegerGRPC(t *testing.T) {
	e, _ := start(t, func(c *Config) {
		server := configgrpc.NewDefaultServerConfig()
		server.NetAddr = confignet.AddrConfig{Transport: confignet.TransportTypeTCP, Endpoint: "127.0.0.1:0"}
		c.GRPC = configoptional.Some(server)
	})
	play(t, e, "policy-deny")
	connection, err := grpc.NewClient(e.grpc.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	require.NoError(t, err)
	defer func() { require.NoError(t, connection.Close()) }()
	ask := func(method string, request []byte) (map[protowire.Number][][]byte, error) {
		var response []byte
		err := connection.Invoke(t.Context(), method, &request, &response)
		return fields(t, response), err
	}
	read := func(method string, request []byte) (all []ptrace.Traces, err error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
		require.NoError(t, err)
		require.NoError(t, stream.SendMsg(&request))
		require.NoError(t, stream.CloseSend())
		for {
			var response []byte
			if err := stream.RecvMsg(&response); errors.Is(err, io.EOF) {
				return all, nil
			} else if err != nil {
				return all, err
			}
			td, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(response)
			require.NoError(t, err)
			all = append(all, td)
		}
	}
	first, last := e.stores.Sources.Clock()
	window := append(part(4, instant(time.UnixMilli(first))), part(5, instant(time.UnixMilli(last+60_000)))...)
	for _, service := range []string{"/jaeger.storage.v2.TraceReader", "/jaeger.api_v3.QueryService"} {
		services, err := ask(service+"/GetServices", nil)
		require.NoError(t, err)
		assert.Contains(t, services[1], []byte("checkout"))
		operations, err := ask(service+"/GetOperations", append(part(1, "checkout"), part(2, "client")...))
		require.NoError(t, err)
		require.NotEmpty(t, operations[1])
		for _, operation := range operations[1] {
			assert.Equal(t, "client", string(fields(t, operation)[2][0]))
		}
		query := append(part(1, "checkout"), window...)
		query = protowire.AppendVarint(protowire.AppendTag(query, 8, protowire.VarintType), 3)
		found, err := read(service+"/FindTraces", part(1, string(query)))
		require.NoError(t, err)
		require.Len(t, found, 3)
		for _, td := range found {
			id := td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).TraceID()
			for _, rs := range td.ResourceSpans().All() {
				for _, ss := range rs.ScopeSpans().All() {
					for _, span := range ss.Spans().All() {
						assert.Equal(t, id, span.TraceID(), "one trace a message")
					}
				}
			}
		}
		// In the one an attribute's value is an AnyValue, in the other text.
		value := part(2, "true")
		if service == "/jaeger.storage.v2.TraceReader" {
			value = part(2, string(part(1, "true")))
		}
		failed, err := read(service+"/FindTraces", part(1, string(append(query, part(3, string(append(part(1, "error"), value...)))...))))
		require.NoError(t, err)
		require.NotEmpty(t, failed)
		_, err = read(service+"/FindTraces", part(1, string(append(query, part(10, "x")...))))
		assert.Equal(t, codes.Unimplemented, status.Code(err))
		_, err = read(service+"/FindTraces", []byte{0xff})
		assert.Equal(t, codes.InvalidArgument, status.Code(err))
	}
	query := append(part(1, "checkout"), window...)
	ids, err := ask("/jaeger.storage.v2.TraceReader/FindTraceIDs", part(1, string(query)))
	require.NoError(t, err)
	require.NotEmpty(t, ids[1])
	id := fields(t, ids[1][0])[1][0]
	assert.Len(t, id, 16)
	byID, err := read("/jaeger.storage.v2.TraceReader/GetTraces", append(part(1, string(part(1, string(id)))), part(1, string(part(1, "0123456789abcdef")))...))
	require.NoError(t, err)
	require.Len(t, byID, 1, "what is unknown is left out")
	one, err := read("/jaeger.api_v3.QueryService/GetTrace", part(1, hex.EncodeToString(id)))
	require.NoError(t, err)
	assert.Equal(t, byID[0].SpanCount(), one[0].SpanCount())
	_, err = read("/jaeger.api_v3.QueryService/GetTrace", part(1, "abc"))
	assert.Equal(t, codes.NotFound, status.Code(err))

	links, err := ask("/jaeger.storage.v2.DependencyReader/GetDependencies", append(part(1, instant(time.UnixMilli(first))), part(2, instant(time.UnixMilli(last+1000)))...))
	require.NoError(t, err)
	assert.Len(t, links[1], 11, "as many as the mesh has")
	for _, link := range links[1] {
		f := fields(t, link)
		if string(f[1][0]) == "checkout" && string(f[2][0]) == "payment" {
			calls, _ := protowire.ConsumeVarint(f[3][0])
			assert.EqualValues(t, 179, calls)
		}
	}
	capabilities, err := ask("/jaeger.storage.v2.Capabilities/GetCapabilities", nil)
	require.NoError(t, err)
	assert.NotEmpty(t, capabilities[1])
	_, err = ask("/jaeger.storage.v2.TraceReader/FindTraceSummaries", nil)
	assert.Equal(t, codes.Unimplemented, status.Code(err), "Jaeger then makes summaries itself")
}
