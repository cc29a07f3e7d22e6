package history

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sync/errgroup"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// parallel is the number of queries that one window has under way.
const parallel = 4

// activeFor is how long, in milliseconds, the newest count of open connections holds.
const activeFor = 180_000

// Store answers for windows of the past through an Engine.
type Store struct{ q querier }

// Settings say how a store asks its engine.
type Settings struct {
	// Matchers, unless empty, is a list of label matchers that every query adds.
	Matchers string
	// ReplicaLabel, unless empty, is the label by which the series of several that write the same differ.
	ReplicaLabel string
	// Lookback is how long the newest sample of a series stands for what follows.
	Lookback time.Duration
}

// NewStore returns a store.
func NewStore(engine Engine, settings Settings) *Store {
	return &Store{querier{engine, settings.Matchers, settings.ReplicaLabel, settings.Lookback.Milliseconds()}}
}

// Engine is what evaluates the store's queries.
func (s *Store) Engine() Engine { return s.q.engine }

// counters are the metrics of an edge that grow, and what they count.
var counters = map[string]func(c *live.Counts, l labels.Labels, n uint64){
	NameOpened:         func(c *live.Counts, _ labels.Labels, n uint64) { c.Fields[live.Opened] += n },
	NameClosed:         func(c *live.Counts, _ labels.Labels, n uint64) { c.Fields[live.Closed] += n },
	NameUnanswered:     func(c *live.Counts, _ labels.Labels, n uint64) { c.Fields[live.Unanswered] += n },
	NameRequests:       func(c *live.Counts, _ labels.Labels, n uint64) { c.Fields[live.Requests] += n },
	NameRequestsFailed: func(c *live.Counts, _ labels.Labels, n uint64) { c.Fields[live.RequestsFailed] += n },
	NameIO: func(c *live.Counts, l labels.Labels, n uint64) {
		if l.Get(semconv.LabelDirection) == semconv.DirectionReceived {
			c.Fields[live.Received] += n
		} else {
			c.Fields[live.Sent] += n
		}
	},
	NameFailed: func(c *live.Counts, l labels.Labels, n uint64) {
		c.AddReason(live.Reason{
			ErrorType: cmp.Or(l.Get(semconv.LabelErrorType), semconv.ErrorTypeOther),
			Policy:    l.Get(semconv.LabelPolicy),
		}, n)
	},
	NameResponses: func(c *live.Counts, l labels.Labels, n uint64) {
		c.AddResponse(live.ResponseOf(l.Get), n)
	},
	NameConnectionDuration: nil,
	NameRequestDuration:    nil,
}

// Window calls visit for every edge with what happened in [start, end), in unix milliseconds.
func (s *Store) Window(ctx context.Context, start, end int64, visit func(key *edge.Key, counts *live.Counts)) error {
	q, err := s.q.of(ctx, start-s.q.lookback, end)
	if err != nil {
		return err
	}
	type answer struct {
		metric string
		grown  map[uint64]growth
	}
	answers := make(chan answer, len(counters))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for metric := range counters {
		group.Go(func() error {
			grown, err := q.increase(ctx, q.pick(metric), start, end)
			answers <- answer{metric, grown}
			return err
		})
	}
	var active []Result
	group.Go(func() (err error) {
		active, err = q.engine.Instant(ctx, q.over("last_over_time", q.pick(NameActive), end-activeFor, end), at(end))
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	close(answers)
	edges := map[edge.Key]*live.Counts{}
	of := func(l labels.Labels) *live.Counts {
		key := keyOf(l)
		c, ok := edges[key]
		if !ok {
			c = &live.Counts{}
			edges[key] = c
		}
		return c
	}
	for a := range answers {
		for _, g := range a.grown {
			if g.histogram != nil {
				if c := of(g.labels); a.metric == NameRequestDuration {
					c.Request.Merge(exphist.NativeLayout, g.histogram)
				} else {
					c.Connection.Merge(exphist.NativeLayout, g.histogram)
				}
				continue
			}
			if count := counters[a.metric]; count != nil {
				if n := whole(g.value); n > 0 {
					count(of(g.labels), g.labels, n)
				}
			}
		}
	}
	for _, r := range active {
		if n := r.Points[len(r.Points)-1].Value; n > 0 {
			of(r.Labels).Active += int64(n)
		}
	}
	keys := make([]edge.Key, 0, len(edges))
	for key := range edges {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareKeys)
	for i := range keys {
		visit(&keys[i], edges[keys[i]])
	}
	return nil
}

func compareKeys(a, b edge.Key) int {
	return cmp.Or(
		strings.Compare(a.Source.Namespace, b.Source.Namespace), strings.Compare(a.Source.Workload, b.Source.Workload),
		strings.Compare(a.Destination.Namespace, b.Destination.Namespace), strings.Compare(a.Destination.Workload, b.Destination.Workload),
		strings.Compare(a.Service, b.Service), cmp.Compare(a.Port, b.Port),
	)
}

func whole(v float64) uint64 {
	if !(v > 0) || v > 1<<62 {
		return 0
	}
	return uint64(math.Round(v))
}

// keyOf reads an edge's key from a series' labels, as edge.KeyOf does from attributes.
func keyOf(l labels.Labels) edge.Key {
	var k edge.Key
	l.Range(func(label labels.Label) {
		switch label.Name {
		case semconv.LabelSourceWorkload:
			k.Source.Workload = label.Value
		case semconv.LabelSourceNamespace:
			k.Source.Namespace = label.Value
		case semconv.LabelSourceCanonicalService:
			k.Source.App = label.Value
		case semconv.LabelSourceCanonicalRevision:
			k.Source.Version = label.Value
		case semconv.LabelSourceCluster:
			k.Source.Cluster = label.Value
		case semconv.LabelDestinationWorkload:
			k.Destination.Workload = label.Value
		case semconv.LabelDestinationNamespace:
			k.Destination.Namespace = label.Value
		case semconv.LabelDestinationCanonicalService:
			k.Destination.App = label.Value
		case semconv.LabelDestinationCanonicalRevision:
			k.Destination.Version = label.Value
		case semconv.LabelDestinationCluster:
			k.Destination.Cluster = label.Value
		case semconv.LabelDestinationService:
			k.Service = label.Value
		case semconv.LabelDestinationPort:
			if port, err := strconv.ParseUint(label.Value, 10, 16); err == nil {
				k.Port = uint16(port)
			}
		case semconv.LabelRequestProtocol:
			k.Protocol = label.Value
		case semconv.LabelSecurityPolicy:
			k.Security = label.Value
		case semconv.LabelWaypoint:
			k.Waypoint = label.Value
		case semconv.LabelEdgeSource:
			k.Teller = label.Value
		}
	})
	return k
}
