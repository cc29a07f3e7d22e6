//go:build ignore

// Reads a mesh through the client that a Jaeger itself has for its remote storage, and writes what it got as JSON. The test copies it into
// Jaeger's source, whose packages are internal.
package main

import (
	"context"
	"encoding/json"
	"os"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/jaegertracing/jaeger/internal/storage/v2/api/depstore"
	"github.com/jaegertracing/jaeger/internal/storage/v2/api/tracestore"
	storage "github.com/jaegertracing/jaeger/internal/storage/v2/grpc"
)

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	start, err := time.Parse(time.RFC3339, os.Args[2])
	must(err)
	ctx, end := context.Background(), start.Add(time.Hour)
	var out struct {
		Services, Operations []string
		Found                []string
		Failed, IDs, Got     int
		Links                map[string]uint64
	}
	reader := storage.NewTraceReader(connection)
	out.Services, err = reader.GetServices(ctx)
	must(err)
	operations, err := reader.GetOperations(ctx, tracestore.OperationQueryParams{ServiceName: "checkout", SpanKind: "client"})
	must(err)
	for _, operation := range operations {
		out.Operations = append(out.Operations, operation.Name+" "+operation.SpanKind)
	}
	query := tracestore.TraceQueryParams{ServiceName: "checkout", Attributes: pcommon.NewMap(), StartTimeMin: start, StartTimeMax: end, SearchDepth: 3}
	var id pcommon.TraceID
	for list, err := range reader.FindTraces(ctx, query) {
		must(err)
		for _, td := range list {
			id = td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).TraceID()
			out.Found = append(out.Found, id.String())
		}
	}
	query.Attributes.PutStr("error", "true")
	query.Attributes.PutInt("http.response.status_code", 500)
	for list, err := range reader.FindTraces(ctx, query) {
		must(err)
		out.Failed += len(list)
	}
	for list, err := range reader.FindTraceIDs(ctx, query) {
		must(err)
		out.IDs += len(list)
	}
	for list, err := range reader.GetTraces(ctx, tracestore.GetTraceParams{TraceID: id}, tracestore.GetTraceParams{TraceID: pcommon.TraceID{1}}) {
		must(err)
		for _, td := range list {
			out.Got += td.SpanCount()
		}
	}
	links, err := storage.NewDependencyReader(connection).GetDependencies(ctx, depstore.QueryParameters{StartTime: start, EndTime: end})
	must(err)
	out.Links = map[string]uint64{}
	for _, l := range links {
		out.Links[l.Parent+" "+l.Child] = l.CallCount
	}
	must(json.NewEncoder(os.Stdout).Encode(out))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
