package httpapi

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/endpoints"
)

const (
	// defaultEndpoints and maxEndpoints bound one answer, maxSteps the steps of its sparklines.
	defaultEndpoints, maxEndpoints = 1000, 10_000
	maxSteps                       = 120
	// maxShownCallers bounds the callers that are listed of one endpoint.
	maxShownCallers = 100
)

// catalogue lists endpoints. endpoints.Catalogue is one.
type catalogue interface {
	List(q *endpoints.Query) (list []endpoints.Endpoint, keptSince int64)
}

type endpointRoutes struct {
	catalogue catalogue
	mesh      serviceMesh
	ranges    *ranges
}

func (s *endpointRoutes) routes() map[string]handler {
	return map[string]handler{"/api/v1/endpoints": s.list}
}

type endpointItem struct {
	Namespace string             `json:"namespace"`
	Service   string             `json:"service"`
	Method    string             `json:"method"`
	Path      string             `json:"path"`
	Requests  requestCounts      `json:"requests"`
	Duration  map[string]float64 `json:"duration_ms"`
	Callers   []endpointCaller   `json:"callers"`
	// CallerCount is the number of all callers.
	CallerCount int       `json:"caller_count"`
	FirstSeen   time.Time `json:"first_seen"`
	LastSeen    time.Time `json:"last_seen"`
	New         bool      `json:"new"`
	Source      string    `json:"source"`
	Series      *steps    `json:"series,omitempty"`
}

type requestCounts struct {
	Total  uint64            `json:"total"`
	Errors uint64            `json:"errors"`
	Rate   float64           `json:"rate"`
	ByCode map[string]uint64 `json:"by_code"`
}

type endpointCaller struct {
	nameBody
	Requests uint64 `json:"requests"`
	Errors   uint64 `json:"errors"`
	Series   *steps `json:"series,omitempty"`
}

// steps are counts in equal steps of time.
type steps struct {
	Step     float64  `json:"step"` // seconds
	Requests []uint64 `json:"requests"`
	Errors   []uint64 `json:"errors"`
}

// orders sort endpoints, by what is asked for; the largest is first.
var orders = map[string]func(a, b *endpointItem) int{
	"requests": func(a, b *endpointItem) int { return cmp.Compare(b.Requests.Total, a.Requests.Total) },
	"errors": func(a, b *endpointItem) int {
		return cmp.Or(cmp.Compare(b.Requests.Errors, a.Requests.Errors), cmp.Compare(b.Requests.Total, a.Requests.Total))
	},
	"latency": func(a, b *endpointItem) int { return cmp.Compare(b.Duration["p95"], a.Duration["p95"]) },
	"path":    func(*endpointItem, *endpointItem) int { return 0 },
}

func (s *endpointRoutes) list(_ *http.Request, p *params) (*answer, error) {
	w := s.ranges.window(p)
	q := endpoints.Query{Namespace: p.text("namespace"), Service: p.text("service"), Start: w.start, End: w.end, Silent: p.boolean("silent")}
	q.Points = int(min(p.number("points", "must be a number"), maxSteps+1))
	if q.Points > maxSteps {
		p.fail("points", "must be at most "+strconv.Itoa(maxSteps))
	}
	newSince := p.time("new_since")
	order := orders[p.oneOf("sort", "path", "requests", "errors", "latency", "path")]
	limit := p.limit(defaultEndpoints, maxEndpoints)
	if p.err != nil {
		return nil, p.err
	}
	if w.end == w.start {
		q.Points = 0
	}
	if known := s.mesh.Service(q.Namespace, q.Service); known != nil {
		q.Service = known.Name // it may have been asked for by its host name
	}
	if newSince.IsZero() {
		newSince = time.UnixMilli(w.start)
	}
	list, keptSince := s.catalogue.List(&q)
	first, _ := s.ranges.data.Clock()
	body := struct {
		Endpoints []endpointItem `json:"endpoints"`
		Total     int            `json:"total"`
		KeptSince *time.Time     `json:"kept_since,omitempty"`
	}{[]endpointItem{}, len(list), timeOf(keptSince)}
	for i := range list {
		item := newEndpointItem(&list[i], &q)
		// What was there when the data began is not new.
		item.New = first > 0 && !item.FirstSeen.Before(newSince) && list[i].First > first+time.Minute.Milliseconds()
		body.Endpoints = append(body.Endpoints, item)
	}
	slices.SortStableFunc(body.Endpoints, func(a, b endpointItem) int { return order(&a, &b) })
	body.Endpoints = body.Endpoints[:min(len(body.Endpoints), limit)]
	return jsonAnswer(body)
}

var endpointQuantiles = []float64{0.5, 0.9, 0.95, 0.99}

func newEndpointItem(e *endpoints.Endpoint, q *endpoints.Query) endpointItem {
	item := endpointItem{
		Namespace: e.Service.Namespace, Service: e.Service.Name, Method: e.Method, Path: e.Path,
		Requests: requestCounts{Total: e.Total, Errors: e.Failed, ByCode: make(map[string]uint64, len(e.ByCode))},
		Callers:  []endpointCaller{}, CallerCount: len(e.Callers), Source: e.Source, Series: newSteps(&e.Counts, q),
		FirstSeen: time.UnixMilli(e.First).UTC(), LastSeen: time.UnixMilli(e.Last).UTC(), Duration: map[string]float64{},
	}
	if q.End > q.Start {
		item.Requests.Rate = float64(e.Total) / (float64(q.End-q.Start) / 1000)
	}
	for code, n := range e.ByCode {
		item.Requests.ByCode[strconv.Itoa(int(code))] = n
	}
	if e.Durations.Count > 0 {
		var values [4]float64
		e.Durations.Quantiles(endpointQuantiles, values[:])
		for i, name := range [...]string{"p50", "p90", "p95", "p99"} {
			item.Duration[name] = values[i] * 1000
		}
	}
	for i := range e.Callers[:min(len(e.Callers), maxShownCallers)] {
		c := &e.Callers[i]
		item.Callers = append(item.Callers, endpointCaller{nameBody{c.Namespace, c.Name.Name}, c.Total, c.Failed, newSteps(&c.Counts, q)})
	}
	return item
}

func newSteps(c *endpoints.Counts, q *endpoints.Query) *steps {
	if q.Points == 0 {
		return nil
	}
	return &steps{float64(q.End-q.Start) / 1000 / float64(q.Points), c.Steps, c.FailedSteps}
}
