package history

import (
	"cmp"
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/internal/semconv"
)

// Endpoint is what happened at a pod as a destination.
type Endpoint struct {
	Closed   uint64            `json:"closed"`
	Failed   uint64            `json:"failed"`
	Requests uint64            `json:"requests"`
	Errors   uint64            `json:"errors"`
	Failures map[string]uint64 `json:"failures,omitempty"`
}

// Endpoints is what happened at each pod of a workload in [start, end), in unix milliseconds, by the pod's name.
func (s *Store) Endpoints(ctx context.Context, start, end int64, workload inventory.Name) (map[string]Endpoint, error) {
	metrics := [...]string{NameEndpointClosed, NameEndpointFailed, NameEndpointRequests, NameEndpointRequestsFailed}
	var answers [len(metrics)]map[uint64]growth
	q, err := s.q.of(ctx, start-s.q.lookback, end)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, metric := range metrics {
		group.Go(func() (err error) {
			answers[i], err = q.increase(ctx, q.pick(metric,
				semconv.LabelDestinationNamespace, workload.Namespace, semconv.LabelDestinationWorkload, workload.Name), start, end)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := map[string]Endpoint{}
	for i, metric := range metrics {
		for _, g := range answers[i] {
			pod := g.labels.Get(semconv.LabelDestinationPod)
			e, n := out[pod], whole(g.value)
			switch metric {
			case NameEndpointClosed:
				e.Closed += n
			case NameEndpointFailed:
				e.Failed += n
				if n > 0 {
					if e.Failures == nil {
						e.Failures = map[string]uint64{}
					}
					e.Failures[cmp.Or(g.labels.Get(semconv.LabelErrorType), semconv.ErrorTypeOther)] += n
				}
			case NameEndpointRequests:
				e.Requests += n
			case NameEndpointRequestsFailed:
				e.Errors += n
			}
			out[pod] = e
		}
	}
	return out, nil
}
