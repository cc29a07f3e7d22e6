package flows

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/records"
)

// Store keeps flows as records. Its methods may be called from several goroutines.
type Store struct {
	table records.Keeper
	// samples are the flows of outages that have left the table, nil without any.
	samples records.Keeper
}

// NewStore returns a store over the records of Kind, and over those of SampleKind where samples is not nil.
func NewStore(table, samples records.Keeper) *Store { return &Store{table, samples} }

// Batch are flows that are stored together.
type Batch []records.Record

// Add takes over an access record of a node (docs/data-model.md, section 2.1).
func (b *Batch) Add(node string, record plog.LogRecord) {
	f := parse(record)
	f.Node = node
	*b = append(*b, encode(&f))
}

// AddRequest takes over a request's record (docs/data-model.md, section 2.5).
func (b *Batch) AddRequest(resource pcommon.Map, record plog.LogRecord) {
	f := parseRequest(resource, record)
	*b = append(*b, encode(&f))
}

// Add stores flows; one that is stored already is not stored again.
func (s *Store) Add(batch Batch) { s.table.Append(batch) }

// Filter selects flows; an empty field selects all.
type Filter struct {
	Source, Destination string // part of "namespace/pod", or an address
	Namespace           string // either side's
	Direction           string
	Verdict             string
	Reason              string
	Text                string // part of any text, in any case
	Since, Until        time.Time
	RequestFilter
	LookupFilter
}

// query is what asks for records of the flows that the filter selects.
func (f *Filter) query() records.Query {
	q := records.Query{Where: f.where()}
	if !f.Since.IsZero() {
		q.From = f.Since.UnixNano()
	}
	if !f.Until.IsZero() {
		q.Until = f.Until.UnixNano()
	}
	where := func(clause ...records.Test) { q.Where = append(q.Where, clause) }
	part := func(want string) func(string) bool {
		return func(name string) bool { return strings.Contains(name, want) }
	}
	if f.Source != "" {
		where(records.Test{Field: fieldSourceIP, Equals: f.Source}, records.Test{Field: fieldSource, Text: part(f.Source)})
	}
	if f.Destination != "" {
		where(records.Test{Field: fieldDestIP, Equals: f.Destination}, records.Test{Field: fieldDestination, Text: part(f.Destination)},
			records.Test{Field: fieldService, Equals: f.Destination})
	}
	if f.Namespace != "" {
		where(records.Test{Field: fieldSourceNS, Equals: f.Namespace}, records.Test{Field: fieldDestNS, Equals: f.Namespace})
	}
	for field, value := range map[string]string{fieldDirection: f.Direction, fieldVerdict: f.Verdict, fieldReason: f.Reason} {
		if value != "" {
			where(records.Test{Field: field, Equals: value})
		}
	}
	if f.Query != "" {
		where(records.Test{Field: fieldQueryName, Text: part(f.Query)})
	}
	if f.Result != "" {
		where(records.Test{Field: fieldQueryResult, Equals: f.Result})
	}
	if want := strings.ToLower(f.Text); want != "" {
		where(records.Test{Field: records.AnyText, Text: func(text string) bool { return strings.Contains(strings.ToLower(text), want) }})
	}
	return q
}

// List returns at most limit flows that the filter selects, newest first, older than before (a cursor, 0 for the
// newest). next is the cursor for the flows that follow, 0 if there are none. Where nothing else is found, the samples of outages are
// looked through.
func (s *Store) List(ctx context.Context, filter Filter, before uint64, limit int) (list []*Flow, next uint64, err error) {
	q := filter.query()
	q.Before = before
	list, next, err = records.Page(ctx, s.table, q, limit, decode)
	if err == nil && len(list) == 0 && before == 0 && s.samples != nil {
		list, _, err = records.Page(ctx, s.samples, q, limit, decode)
	}
	return list, next, err
}

// maxSamples bounds the flows that are kept of an outage's edge when a file leaves.
const maxSamples = 100

// KeepSamples copies what failed on the edges of an outage, which ended at a time, to the samples, of flows with sequence numbers between
// two, both excluded.
func (s *Store) KeepSamples(ctx context.Context, o *outage.Outage, ended time.Time, after, before uint64) error {
	for _, e := range o.Edges {
		filter := Filter{Source: e.Source.Name, Destination: e.Destination.Name, Since: o.StartedAt, Until: ended}
		q := filter.query()
		q.After, q.Before = after, before
		q.Where = append(q.Where, records.Clause{{Field: fieldVerdict, Text: func(verdict string) bool { return verdict != VerdictForwarded }}})
		var batch []records.Record
		err := records.Find(ctx, s.table, &q, func(r records.Row) bool {
			batch = append(batch, r.Record())
			return len(batch) < maxSamples
		})
		slices.Reverse(batch)
		s.samples.Append(batch)
		if err != nil {
			return err
		}
	}
	return nil
}

// Each calls visit with the flows that the filter selects, newest first, until visit returns false.
func (s *Store) Each(ctx context.Context, filter Filter, visit func(f *Flow) bool) error {
	q := filter.query()
	return records.Find(ctx, s.table, &q, func(r records.Row) bool { return visit(decode(r)) })
}

// Newest is the newest flow's cursor.
func (s *Store) Newest() uint64 { return s.table.Newest() }

// KeptSince is the time from which on flows are kept, zero as long as none was forgotten.
func (s *Store) KeptSince() time.Time {
	if status := s.table.Status(); !status.Complete {
		return status.Since
	}
	return time.Time{}
}

// After returns at most limit flows that the filter selects, oldest first, newer than a cursor, and the newest cursor.
func (s *Store) After(ctx context.Context, filter Filter, after uint64, limit int) (list []*Flow, newest uint64, err error) {
	q := filter.query()
	q.After, q.Order = after, records.Oldest
	newest = s.table.Newest()
	q.Before = newest + 1
	list = []*Flow{}
	err = records.Find(ctx, s.table, &q, func(r records.Row) bool {
		if len(list) == limit {
			newest = r.Sequence() - 1
			return false
		}
		list = append(list, decode(r))
		return true
	})
	return list, newest, err
}

// Group is how many flows have the same values.
type Group struct {
	By    map[string]string `json:"by"` // by what was grouped by
	Count uint64            `json:"count"`
	// Failed are those of them that failed or were denied.
	Failed uint64 `json:"failed"`
}

// maxGroups bounds the groups that are told apart.
const maxGroups = 10_000

// groupings are what flows may be grouped by, each with the fields of which the first that is not empty counts.
var groupings = map[string][]string{
	"source": {fieldSource, fieldSourceIP}, "destination": {fieldDestination, fieldDestIP}, "source_namespace": {fieldSourceNS},
	"destination_namespace": {fieldDestNS}, fieldService: {fieldService}, fieldDirection: {fieldDirection}, fieldProtocol: {fieldProtocol},
	fieldVerdict: {fieldVerdict}, fieldReason: {fieldReason}, fieldPolicy: {fieldPolicy}, fieldNode: {fieldNode}, fieldSecurity: {fieldSecurity},
	fieldQueryName: {fieldQueryName}, fieldQueryResult: {fieldQueryResult},
	fieldMethod: {fieldMethod}, fieldPath: {fieldPath}, fieldStatus: nil, fieldRoute: {fieldRoute}, fieldWaypoint: {fieldWaypoint},
	fieldResponseFlag: {fieldResponseFlag},
}

// Groupings are the names by which flows can be grouped.
func Groupings() []string { return slices.Sorted(maps.Keys(groupings)) }

// Count counts the flows that the filter selects, by names of Groupings, the most first. others are those beyond the groups that can be
// told apart, total are all.
func (s *Store) Count(ctx context.Context, filter Filter, by []string) (groups []Group, others, total uint64, err error) {
	q := filter.query()
	counts := map[string]*Group{} // bounded by maxGroups
	var key []byte
	err = records.Find(ctx, s.table, &q, func(r records.Row) bool {
		total++
		key = key[:0]
		for _, name := range by {
			key = append(append(key, valueOf(r, name)...), 0)
		}
		g := counts[string(key)]
		if g == nil {
			if len(counts) >= maxGroups {
				others++
				return true
			}
			g = &Group{By: map[string]string{}}
			for _, name := range by {
				g.By[name] = strings.Clone(valueOf(r, name))
			}
			counts[string(key)] = g
		}
		g.Count++
		if r.Text(fieldVerdict) != VerdictForwarded {
			g.Failed++
		}
		return true
	})
	groups = make([]Group, 0, len(counts))
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		groups = append(groups, *counts[key])
	}
	slices.SortStableFunc(groups, func(a, b Group) int { return cmp.Compare(b.Count, a.Count) })
	return groups, others, total, err
}

func valueOf(r records.Row, name string) string {
	if name == fieldStatus {
		if isRequest(r.Text(fieldProtocol)) {
			return strconv.FormatInt(r.Number(fieldStatus), 10)
		}
		return ""
	}
	for _, field := range groupings[name] {
		if value := r.Text(field); value != "" {
			return value
		}
	}
	return ""
}
