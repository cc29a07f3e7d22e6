// Package jaegergrpc serves traces and dependencies over gRPC: as a remote storage of a Jaeger (jaeger-idl, storage/v2) and by the query
// service's own API (jaeger-idl, api_v3/query_service.proto).
//
// The few messages are read and written field by field, as the two packages of protobufs differ in little, and traces travel as pdata
// encodes them.
package jaegergrpc

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/jaegerapi"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// Bounds on one answer: so many traces, and so many bytes of a message. gRPC's clients take 4 MiB unless they are told otherwise.
const (
	maxTraces     = 200
	defaultTraces = 100
	maxMessage    = 3 << 20
)

// Graphs makes the graph of a window. release gives its memory back: nothing of it may be used afterwards.
type Graphs interface {
	Graph(ctx context.Context, options graph.Options) (g *graph.Graph, release func(), err error)
}

// Settings of the API.
type Settings struct {
	Traces traces.Reader
	Graphs Graphs
	// Now is the data's own time.
	Now func() time.Time
	// MaxRange bounds the range of dependencies, Timeout one answer, Concurrent those that are made at a time.
	MaxRange, Timeout time.Duration
	Concurrent        int
}

// api answers calls.
type api struct {
	Settings
	free chan struct{}
}

// call answers a request by what it sends.
type call func(ctx context.Context, request message, send func(response []byte) error) error

// Register adds the services to a server that was made with Codec.
func Register(server *grpc.Server, settings Settings) {
	a := &api{settings, make(chan struct{}, settings.Concurrent)}
	a.register(server, "jaeger.storage.v2.TraceReader",
		map[string]call{"GetServices": a.services, "GetOperations": a.operations, "FindTraceIDs": a.findIDs},
		map[string]call{"GetTraces": a.getTraces, "FindTraces": a.findTraces(storageQuery)})
	a.register(server, "jaeger.storage.v2.DependencyReader", map[string]call{"GetDependencies": a.dependencies}, nil)
	a.register(server, "jaeger.storage.v2.Capabilities", map[string]call{"GetCapabilities": capabilities}, nil)
	a.register(server, "jaeger.api_v3.QueryService",
		map[string]call{"GetServices": a.services, "GetOperations": a.operations, "GetDependencies": a.dependencies},
		map[string]call{"GetTrace": a.getTrace, "FindTraces": a.findTraces(apiQuery)})
}

func (a *api) register(server *grpc.Server, name string, unary, streamed map[string]call) {
	service := &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil)}
	for method, answer := range unary {
		service.Methods = append(service.Methods, grpc.MethodDesc{MethodName: method, Handler: func(_ any, ctx context.Context, read func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			var request message
			if err := read(&request); err != nil {
				return nil, err
			}
			handle := func(ctx context.Context, request any) (response any, err error) {
				err = a.answer(ctx, answer, *request.(*message), func(encoded []byte) error {
					response = message(encoded)
					return nil
				})
				return response, err
			}
			if intercept == nil {
				return handle(ctx, &request)
			}
			return intercept(ctx, &request, &grpc.UnaryServerInfo{Server: a, FullMethod: "/" + name + "/" + method}, handle)
		}})
	}
	for method, answer := range streamed {
		service.Streams = append(service.Streams, grpc.StreamDesc{StreamName: method, ServerStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			var request message
			if err := stream.RecvMsg(&request); err != nil {
				return err
			}
			return a.answer(stream.Context(), answer, request, func(encoded []byte) error { return stream.SendMsg(message(encoded)) })
		}})
	}
	server.RegisterService(service, a)
}

// answer lets a call answer, bounded in number and time.
func (a *api) answer(ctx context.Context, answer call, request message, send func([]byte) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	select {
	case a.free <- struct{}{}:
	case <-ctx.Done():
		return status.Error(codes.ResourceExhausted, "too many requests are being answered")
	}
	defer func() { <-a.free }()
	err := answer(ctx, request, send)
	if _, is := status.FromError(err); is {
		return err
	}
	switch {
	case errors.Is(err, errMalformed):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return status.Error(codes.Unavailable, err.Error())
}

// Codec passes messages on as they are.
func Codec() grpc.ServerOption { return grpc.ForceServerCodecV2(codec{}) }

type codec struct{}

var _ encoding.CodecV2 = codec{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	encoded, ok := v.(message)
	if !ok {
		return nil, fmt.Errorf("encoding %T: not a message", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(encoded)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*message)
	if !ok {
		return fmt.Errorf("decoding into %T: not a message", v)
	}
	*into = data.Materialize()
	return nil
}

func (a *api) services(ctx context.Context, _ message, send func([]byte) error) error {
	all, err := a.Traces.Services(ctx, time.Time{}, time.Time{})
	if err != nil {
		return fmt.Errorf("reading services: %w", err)
	}
	var out message
	for i := range all {
		out = out.text(1, all[i].Name)
	}
	return send(out)
}

func (a *api) operations(ctx context.Context, request message, send func([]byte) error) error {
	var service, kind string
	if err := request.fields(func(f field) error {
		switch f.number {
		case 1:
			service = f.text()
		case 2:
			kind = strings.ToLower(f.text())
		}
		return nil
	}); err != nil {
		return err
	}
	all, err := a.Traces.Services(ctx, time.Time{}, time.Time{})
	if err != nil {
		return fmt.Errorf("reading operations: %w", err)
	}
	var out message
	for i := range all {
		for _, o := range all[i].Kinds {
			if known := jaegerapi.Kind(o.Kind); all[i].Name == service && (kind == "" || kind == known) {
				out = out.embedded(1, message(nil).text(1, o.Name).text(2, known))
			}
		}
	}
	return send(out)
}

// sendTrace sends a trace as OTLP, in several messages if it is too large for one.
func sendTrace(t *traces.Trace, send func([]byte) error) error {
	encoded, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(jaegerapi.OTLP(t))
	if err != nil {
		return fmt.Errorf("encoding a trace: %w", err)
	}
	if len(encoded) <= maxMessage || len(t.Spans) < 2 {
		return send(encoded)
	}
	middle := len(t.Spans) / 2
	for _, spans := range [...][]*traces.Span{t.Spans[:middle], t.Spans[middle:]} {
		if err := sendTrace(&traces.Trace{TraceID: t.TraceID, Spans: spans}, send); err != nil {
			return err
		}
	}
	return nil
}

// each sends traces; those that are unknown are left out. It tells how many there were.
func (a *api) each(ctx context.Context, ids []string, send func([]byte) error) (sent int, err error) {
	for _, id := range ids[:min(len(ids), maxTraces)] {
		t, err := a.Traces.Trace(ctx, id)
		if err != nil {
			return sent, fmt.Errorf("reading trace %s: %w", id, err)
		}
		if t == nil || len(t.Spans) == 0 {
			continue
		}
		if err := sendTrace(t, send); err != nil {
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// getTraces answers the storage's GetTraces. Where spans are is known without the range that a request may name.
func (a *api) getTraces(ctx context.Context, request message, send func([]byte) error) error {
	var ids []string
	if err := request.fields(func(f field) error {
		if f.number != 1 {
			return nil
		}
		return f.message().fields(func(f field) error {
			if f.number == 1 {
				ids = append(ids, hex.EncodeToString(f.bytes))
			}
			return nil
		})
	}); err != nil {
		return err
	}
	if len(ids) > maxTraces {
		return status.Errorf(codes.InvalidArgument, "at most %d traces at a time", maxTraces)
	}
	_, err := a.each(ctx, ids, send)
	return err
}

// getTrace answers the query service's GetTrace, whose id is text.
func (a *api) getTrace(ctx context.Context, request message, send func([]byte) error) error {
	var id string
	if err := request.fields(func(f field) error {
		if f.number == 1 {
			id = jaegerapi.FullID(f.text())
		}
		return nil
	}); err != nil {
		return err
	}
	sent, err := a.each(ctx, []string{id}, send)
	if err == nil && sent == 0 {
		err = status.Error(codes.NotFound, "trace not found")
	}
	return err
}

// dialect is in what the two packages of protobufs differ: how attributes are written, and the numbers of what is not understood.
type dialect struct {
	attribute func(f field) (name, value string, err error)
	refused   []int
}

var (
	storageQuery = dialect{keyValue, []int{9, 10}}
	apiQuery     = dialect{mapEntry, []int{10, 11}}
)

// found searches as a request asks.
func (a *api) found(ctx context.Context, request message, d dialect) ([]traces.Summary, error) {
	q, err := a.query(request, d)
	if err != nil {
		return nil, err
	}
	list, err := a.Traces.Search(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("searching traces: %w", err)
	}
	return list, nil
}

func (a *api) findTraces(d dialect) call {
	return func(ctx context.Context, request message, send func([]byte) error) error {
		list, err := a.found(ctx, request, d)
		if err != nil {
			return err
		}
		ids := make([]string, len(list))
		for i := range list {
			ids[i] = list[i].TraceID
		}
		_, err = a.each(ctx, ids, send)
		return err
	}
}

func (a *api) findIDs(ctx context.Context, request message, send func([]byte) error) error {
	list, err := a.found(ctx, request, storageQuery)
	if err != nil {
		return err
	}
	var out message
	for i := range list {
		id, err := hex.DecodeString(list[i].TraceID)
		if err != nil {
			continue
		}
		end := list[i].Start.Add(time.Duration(list[i].DurationMS * float64(time.Millisecond)))
		out = out.embedded(1, message(nil).text(1, string(id)).embedded(2, timestamp(list[i].Start)).embedded(3, timestamp(end)))
	}
	return send(out)
}

func (a *api) dependencies(ctx context.Context, request message, send func([]byte) error) error {
	end := a.Now()
	start := end.Add(-24 * time.Hour)
	if err := request.fields(func(f field) (err error) {
		switch f.number {
		case 1:
			start, err = f.time()
		case 2:
			end, err = f.time()
		}
		return err
	}); err != nil {
		return err
	}
	// Jaeger asks for the last days by its own clock.
	if earliest := end.Add(-a.MaxRange); start.Before(earliest) {
		start = earliest
	}
	if !start.Before(end) {
		return status.Error(codes.InvalidArgument, "start_time must lie before end_time")
	}
	g, release, err := a.Graphs.Graph(ctx, graph.Options{Start: max(start.UnixMilli(), 1), End: end.UnixMilli(), GroupBy: graph.ByApp})
	if err != nil {
		return fmt.Errorf("making the graph: %w", err)
	}
	defer release()
	var out message
	for _, l := range g.Links() {
		out = out.embedded(1, message(nil).text(1, l.Parent).text(2, l.Child).number(3, l.Calls))
	}
	return send(out)
}

// capabilities tell that a search needs no service, and that one span has all that is asked for.
func capabilities(_ context.Context, _ message, send func([]byte) error) error {
	return send(message(nil).embedded(1, message(nil).number(1, 1).number(2, 1)))
}
