package history

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/nephilia/nephilia/internal/exphist"
	"github.com/nephilia/nephilia/internal/semconv"
)

// maxFailingNames bounds the names that are told not to be resolved.
const maxFailingNames = 50

// Asked is what was asked of ztunnels' DNS proxies.
type Asked struct {
	Queries   uint64 `json:"queries"`
	Forwarded uint64 `json:"forwarded"`
	// Failed are those of the forwarded that ended without an address: search domains make most do so in health.
	Failed uint64 `json:"failed"`
	// Latency is how long forwarded queries took, by quantile, in milliseconds; empty where none ended.
	Latency map[string]float64 `json:"latency_ms"`
	// FailingNames are those that were not resolved, most often first; known at dns=debug only.
	FailingNames []FailingName `json:"failing_names"`
	// Searched is how many failed lookups were of names with a search domain behind that are asked for without as well.
	Searched uint64 `json:"search_domain_failures"`
}

// FailingName is a name that was not resolved, and why.
type FailingName struct {
	Name   string `json:"name"`
	Result string `json:"result"`
	Count  uint64 `json:"count"`
}

// Names is what was asked in [start, end), in unix milliseconds, by series with these labels, given as names and values; accept may
// narrow them by the node where it was asked.
func (s *Store) Names(ctx context.Context, start, end int64, accept func(node string) bool, pairs ...string) (Asked, error) {
	metrics := [...]string{NameDNSQueries, NameDNSForwarded, NameDNSFailed, NameDNSDuration, NameDNSLookups}
	var answers [len(metrics)]map[uint64]growth
	q, err := s.q.of(ctx, start-s.q.lookback, end)
	if err != nil {
		return Asked{}, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, metric := range metrics {
		group.Go(func() (err error) {
			answers[i], err = q.increase(ctx, q.pick(metric, pairs...), start, end)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return Asked{}, err
	}
	a := Asked{Latency: map[string]float64{}, FailingNames: []FailingName{}}
	var took exphist.Histogram
	var told lookedUp
	for i, metric := range metrics {
		for _, g := range answers[i] {
			if !accept(g.labels.Get(semconv.LabelNode)) {
				continue
			}
			switch metric {
			case NameDNSQueries:
				a.Queries += whole(g.value)
			case NameDNSForwarded:
				a.Forwarded += whole(g.value)
			case NameDNSFailed:
				a.Failed += whole(g.value)
			case NameDNSDuration:
				if g.histogram != nil {
					took.Merge(exphist.NativeLayout, g.histogram)
				}
			case NameDNSLookups:
				told.add(g.labels.Get(semconv.LabelQuestionName), g.labels.Get(semconv.LabelResult), whole(g.value))
			}
		}
	}
	if took.Count > 0 {
		var values [4]float64
		took.Quantiles([]float64{0.5, 0.9, 0.95, 0.99}, values[:])
		for i, name := range [...]string{"p50", "p90", "p95", "p99"} {
			if !math.IsNaN(values[i]) {
				a.Latency[name] = values[i] * 1000
			}
		}
	}
	a.FailingNames, a.Searched = told.failing()
	return a, nil
}

// lookedUp are the names that were looked up, with their results; bounded by the series of an answer.
type lookedUp struct{ names map[string]map[string]uint64 }

func (l *lookedUp) add(name, result string, n uint64) {
	if n == 0 || name == "" {
		return
	}
	if l.names == nil {
		l.names = map[string]map[string]uint64{}
	}
	if l.names[name] == nil {
		l.names[name] = map[string]uint64{}
	}
	l.names[name][result] += n
}

// failing are the names that were not resolved, and how many failures were of search domains alone. That a name has no record of one
// type means nothing where it has one of another.
func (l *lookedUp) failing() (list []FailingName, searched uint64) {
	list = []FailingName{}
	for name, results := range l.names {
		resolved := results[semconv.LookupForwarded]+results[semconv.LookupAnswered] > 0
		for result, n := range results {
			switch {
			case result == semconv.LookupForwarded, result == semconv.LookupAnswered, result == semconv.LookupEmpty:
			case result == semconv.LookupNoRecords && l.searches(name):
				searched += n
			case result == semconv.LookupNoRecords && resolved:
			default:
				list = append(list, FailingName{name, result, n})
			}
		}
	}
	slices.SortFunc(list, func(a, b FailingName) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Name, b.Name), strings.Compare(a.Result, b.Result))
	})
	return list[:min(len(list), maxFailingNames)], searched
}

// searches tells whether a name is another one with a search domain of Kubernetes behind.
func (l *lookedUp) searches(name string) bool {
	for at := strings.IndexByte(name, '.'); at > 0; {
		domain := name[at+1:]
		if _, asked := l.names[name[:at]]; asked && (strings.HasPrefix(domain, "svc.") || strings.Contains(domain, ".svc.") || strings.HasPrefix(domain, "cluster.")) {
			return true
		}
		next := strings.IndexByte(domain, '.')
		if next < 0 {
			return false
		}
		at += next + 1
	}
	return false
}
