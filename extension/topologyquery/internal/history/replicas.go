package history

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// of returns a querier that asks for one replica's series, where several write their own to one store: the replica's that has the
// most of (start, end], in unix milliseconds. Replicas see the same mesh, but what was told to one a moment later may be in another
// series than with the others, so that what is taken of several could count one connection twice: all of an answer is one
// replica's.
func (q *querier) of(ctx context.Context, start, end int64) (*querier, error) {
	if q.replicaLabel == "" {
		return q, nil
	}
	labeled := *q
	// What has no such label was not written by a replica, but scraped perhaps.
	labeled.matchers = strings.TrimPrefix(q.matchers+","+q.replicaLabel+`!=""`, ",")
	// Heartbeats come with all that was heard; a store that does not keep them has at least connections.
	for _, metric := range []string{NameSourceUp, NameClosed} {
		written := q.over("count_over_time", labeled.pick(metric), start, end)
		heard, err := q.engine.Instant(ctx, fmt.Sprintf("sum by (%s) (%s)", q.replicaLabel, written), at(end))
		if err != nil {
			return nil, fmt.Errorf("choosing a replica: %w", err)
		}
		if replica, ok := most(heard, q.replicaLabel); ok {
			chosen := *q
			chosen.matchers = strings.TrimPrefix(q.matchers+","+q.replicaLabel+"="+strconv.Quote(replica), ",")
			return &chosen, nil
		}
	}
	return &labeled, nil
}

// most is the replica with the highest value, and of equal ones the first by name.
func most(heard []Result, label string) (replica string, ok bool) {
	var highest float64
	for _, r := range heard {
		name, value := r.Labels.Get(label), r.Points[0].Value
		if !ok || value > highest || value == highest && name < replica {
			replica, highest, ok = name, value, true
		}
	}
	return replica, ok
}
