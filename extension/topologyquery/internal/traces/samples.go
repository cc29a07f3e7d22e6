package traces

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/records"
)

// maxSamples bounds the traces that are kept of an outage when a file leaves.
const maxSamples = 50

// KeepSamples copies the spans of an outage's traces, which ended at a time, to the samples, of those with sequence numbers between two,
// both excluded: of the traces that it names, and of those in which a caller of it met errors.
func (s *Store) KeepSamples(ctx context.Context, o *outage.Outage, ended time.Time, after, before uint64) error {
	ids := map[string]struct{}{} // bounded by maxSamples
	for _, id := range o.TraceIDs {
		if decoded, err := hex.DecodeString(id); err == nil && len(ids) < maxSamples {
			ids[string(decoded)] = struct{}{}
		}
	}
	callers := map[string]struct{}{}
	for _, e := range o.Edges {
		callers[e.Source.Name] = struct{}{}
	}
	failed := records.Query{
		From: nanos(o.StartedAt), Until: nanos(ended), After: after, Before: before,
		Where: []records.Clause{{{Field: fieldStatus, Equals: "error"}}, {{Field: fieldService, In: callers}}},
	}
	err := records.Find(ctx, s.table, &failed, func(r records.Row) bool {
		ids[r.Text(fieldTrace)] = struct{}{}
		return len(ids) < maxSamples
	})
	if err != nil || len(ids) == 0 {
		return err
	}
	var batch []records.Record
	all := records.Query{
		Order: records.Oldest,
		From:  nanos(o.StartedAt.Add(-nearby)), Until: nanos(ended.Add(nearby)), After: after, Before: before,
		Where: []records.Clause{{{Field: fieldTrace, In: ids}}},
	}
	err = records.Find(ctx, s.table, &all, func(r records.Row) bool {
		batch = append(batch, r.Record())
		return len(batch) < maxSpansPerTrace
	})
	s.samples.table.Append(batch)
	return err
}
