package history

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/live"
	"github.com/nephilia/nephilia/internal/edge"
	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Asker is a workload whose ztunnels asked a resolver for names.
type Asker struct {
	edge.Party
	// Counts has the queries that were forwarded as requests, and how long they took. How many had no answer is no failure: search domains
	// make most do so in health.
	Counts live.Counts
}

// Askers are the workloads that asked for names beyond those that ztunnels know, in [start, end), in unix milliseconds, by namespace and name.
// What ztunnels' counters do not tell apart, workloads of several namespaces with one canonical name, is left out.
func (s *Store) Askers(ctx context.Context, start, end int64) ([]*Asker, error) {
	q, err := s.q.of(ctx, start-s.q.lookback, end)
	if err != nil {
		return nil, err
	}
	askers := map[edge.Party]*Asker{}
	for _, metric := range [...]string{NameDNSForwarded, NameDNSDuration} {
		grown, err := q.increase(ctx, q.pick(metric), start, end)
		if err != nil {
			return nil, err
		}
		for _, g := range grown {
			party := edge.Party{
				Workload: g.labels.Get(semconv.LabelSourceWorkload), Namespace: g.labels.Get(semconv.LabelSourceNamespace),
				App: g.labels.Get(semconv.LabelSourceCanonicalService), Version: g.labels.Get(semconv.LabelSourceCanonicalRevision),
				Cluster: g.labels.Get(semconv.LabelSourceCluster),
			}
			if party.Workload == "" || party.Namespace == "" {
				continue
			}
			a := askers[party]
			if a == nil {
				a = &Asker{Party: party}
				askers[party] = a
			}
			if metric == NameDNSForwarded {
				a.Counts.Fields[live.Requests] += whole(g.value)
			} else if g.histogram != nil {
				a.Counts.Request.Merge(exphist.NativeLayout, g.histogram)
			}
		}
	}
	list := make([]*Asker, 0, len(askers))
	for _, a := range askers {
		if a.Counts.Fields[live.Requests] > 0 {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b *Asker) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Workload, b.Workload), strings.Compare(a.Version, b.Version), strings.Compare(a.Cluster, b.Cluster))
	})
	return list, nil
}
