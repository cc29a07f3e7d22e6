package mcpapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

// tree is a trace's spans by parent, each by start. It has no cycles: a span that leads to itself is a root.
type tree struct {
	roots    []*traces.Span
	children map[string][]*traces.Span // bounded by the trace's spans
}

func (t *tree) of(parent *traces.Span) []*traces.Span { return t.children[parent.SpanID] }

func treeOf(spans []*traces.Span) *tree {
	t := &tree{children: map[string][]*traces.Span{}}
	byID := make(map[string]*traces.Span, len(spans))
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	const unknown, underWay, rooted = 0, 1, 2
	state := make(map[*traces.Span]int, len(spans))
	cyclic := map[*traces.Span]bool{}
	for _, s := range spans {
		var way []*traces.Span
		for at := s; at != nil && state[at] == unknown; at = byID[at.ParentID] {
			state[at] = underWay
			way = append(way, at)
			if parent := byID[at.ParentID]; parent != nil && state[parent] == underWay {
				cyclic[at] = true
			}
		}
		for _, at := range way {
			state[at] = rooted
		}
	}
	for _, s := range spans {
		if byID[s.ParentID] == nil || cyclic[s] {
			t.roots = append(t.roots, s)
		} else {
			t.children[s.ParentID] = append(t.children[s.ParentID], s)
		}
	}
	order := func(a, b *traces.Span) int { return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.SpanID, b.SpanID)) }
	slices.SortFunc(t.roots, order)
	for _, children := range t.children {
		slices.SortFunc(children, order)
	}
	return t
}

func endOf(s *traces.Span) time.Time {
	return s.Start.Add(time.Duration(s.DurationMS * float64(time.Millisecond)))
}

type segment struct {
	SpanID        string `json:"span_id"`
	Service       string `json:"service"`
	SpanName      string `json:"span_name"`
	SelfTimeUs    int64  `json:"self_time_us" jsonschema:"Time spent in this segment in microseconds"`
	StartOffsetUs int64  `json:"start_offset_us" jsonschema:"Start of this segment from the trace's start on, in microseconds"`
	EndOffsetUs   int64  `json:"end_offset_us"`
}

type criticalPathOut struct {
	TraceID                string    `json:"trace_id"`
	TotalDurationUs        int64     `json:"total_duration_us"`
	CriticalPathDurationUs int64     `json:"critical_path_duration_us"`
	Segments               []segment `json:"segments" jsonschema:"Ordered list of span segments on the critical path"`
}

// criticalPath goes back from the end of the earliest root: what a span waited for last is its child that ended last before.
func (s traceTools) criticalPath(ctx context.Context, in traceIn) (out criticalPathOut, err error) {
	t, err := s.trace(ctx, in.TraceID)
	if err != nil {
		return out, err
	}
	tree := treeOf(t.Spans)
	first, last := t.Spans[0].Start, time.Time{}
	for _, sp := range t.Spans {
		if sp.Start.Before(first) {
			first = sp.Start
		}
		if end := endOf(sp); end.After(last) {
			last = end
		}
	}
	out = criticalPathOut{TraceID: in.TraceID, TotalDurationUs: last.Sub(first).Microseconds(), Segments: []segment{}}
	took := func(sp *traces.Span, from, to time.Time) {
		if us := to.Sub(from).Microseconds(); us > 0 {
			out.CriticalPathDurationUs += us
			out.Segments = append(out.Segments, segment{sp.SpanID, sp.Service, sp.Name, us, from.Sub(first).Microseconds(), to.Sub(first).Microseconds()})
		}
	}
	var back func(sp *traces.Span, from, to time.Time)
	back = func(sp *traces.Span, from, to time.Time) {
		children := slices.SortedStableFunc(slices.Values(tree.of(sp)), func(a, b *traces.Span) int { return endOf(b).Compare(endOf(a)) })
		for _, child := range children {
			start, end := child.Start, endOf(child)
			if start.Before(from) {
				start = from
			}
			if end.After(to) {
				end = to
			}
			// Nobody waits for whoever reads a message.
			if child.Kind == "consumer" || !start.Before(end) {
				continue
			}
			took(sp, end, to)
			back(child, start, end)
			to = start
		}
		took(sp, from, to)
	}
	root := tree.roots[0]
	back(root, root.Start, endOf(root))
	slices.Reverse(out.Segments)
	return out, nil
}
