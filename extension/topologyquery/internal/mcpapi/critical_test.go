package mcpapi

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// one is a store of one trace.
type one struct {
	traces.Reader
	spans []*traces.Span
}

func (o one) Trace(context.Context, string) (*traces.Trace, error) {
	return &traces.Trace{TraceID: "1", Spans: o.spans}, nil
}

func span(id, parent string, from, to int) *traces.Span {
	return &traces.Span{
		SpanID: id, ParentID: parent, Name: id, Start: time.UnixMilli(int64(from)).UTC(), DurationMS: float64(to - from),
	}
}

func TestCriticalPath(t *testing.T) {
	consumer := span("c", "r", 10, 90)
	consumer.Kind = "consumer"
	for name, test := range map[string]struct {
		spans []*traces.Span
		want  []string
	}{
		"alone":                 {[]*traces.Span{span("r", "", 0, 100)}, []string{"r"}},
		"a call":                {[]*traces.Span{span("r", "", 0, 100), span("a", "r", 20, 60)}, []string{"r", "a", "r"}},
		"the later of two":      {[]*traces.Span{span("r", "", 0, 100), span("a", "r", 20, 60), span("b", "r", 30, 80)}, []string{"r", "a", "b", "r"}},
		"one after the other":   {[]*traces.Span{span("r", "", 0, 100), span("a", "r", 10, 40), span("b", "r", 50, 90)}, []string{"r", "a", "r", "b", "r"}},
		"nobody waits":          {[]*traces.Span{span("r", "", 0, 100), consumer}, []string{"r"}},
		"beyond its parent":     {[]*traces.Span{span("r", "", 0, 100), span("a", "r", -20, 160)}, []string{"a"}},
		"spans that are a ring": {[]*traces.Span{span("a", "b", 0, 50), span("b", "a", 0, 100)}, []string{"a", "b"}},
		"its own parent":        {[]*traces.Span{span("a", "a", 0, 50)}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := traceTools{&server{Settings{Traces: one{spans: test.spans}}}}.criticalPath(t.Context(), traceIn{"1"})
			require.NoError(t, err)
			var ids []string
			for _, s := range out.Segments {
				ids = append(ids, s.SpanID)
			}
			assert.Equal(t, test.want, ids)
		})
	}
}

func TestTopologyIsBounded(t *testing.T) {
	var spans []*traces.Span
	for i := range 2 * maxTopology {
		id := string(rune('a' + i%26))
		spans = append(spans, span(id+time.Duration(i).String(), "r", i, i+1))
	}
	spans = append(spans, span("r", "", 0, 3*maxTopology))
	tools := traceTools{&server{Settings{Traces: one{spans: spans}}}}
	out, err := tools.traceTopology(t.Context(), topologyIn{TraceID: "1"})
	require.NoError(t, err)
	assert.Len(t, out.Spans, maxTopology)
	assert.Equal(t, maxTopology+1, out.Omitted)
	out, err = tools.traceTopology(t.Context(), topologyIn{TraceID: "1", Depth: 1})
	require.NoError(t, err)
	require.Len(t, out.Spans, 1)
	assert.Equal(t, 2*maxTopology, out.Spans[0].TruncatedChildren)
}
