package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
	"github.com/nephilia/nephilia/internal/exphist"
)

// maxResponse bounds a server's answer in bytes.
const maxResponse = 256 << 20

// Remote asks a server that speaks Prometheus's HTTP API: Prometheus, Mimir, Thanos and others. It implements Engine.
type Remote struct {
	client   *http.Client
	endpoint string
	memory   *budget.Budget
}

// NewRemote returns an engine that asks the server at endpoint, the URL under which it has /api/v1/query. Answers are counted in
// memory while they are read.
func NewRemote(client *http.Client, endpoint string, memory *budget.Budget) *Remote {
	return &Remote{client, strings.TrimSuffix(endpoint, "/"), memory}
}

// ExplicitZeros implements Engine.
func (r *Remote) ExplicitZeros() bool { return false }

// Instant implements Engine.
func (r *Remote) Instant(ctx context.Context, expression string, at time.Time) ([]Result, error) {
	return r.ask(func(api v1.API) (model.Value, error) {
		value, _, err := api.Query(ctx, expression, at)
		return value, err
	})
}

// Range implements Engine.
func (r *Remote) Range(ctx context.Context, expression string, start, end time.Time, step time.Duration) ([]Result, error) {
	return r.ask(func(api v1.API) (model.Value, error) {
		value, _, err := api.QueryRange(ctx, expression, v1.Range{Start: start, End: end, Step: step})
		return value, err
	})
}

func (r *Remote) ask(query func(api v1.API) (model.Value, error)) ([]Result, error) {
	one := &exchange{Remote: r}
	defer func() { r.memory.Release(one.held) }()
	value, err := query(v1.NewAPI(one))
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus: %w", err)
	}
	results, err := fromModel(value)
	if err != nil {
		return nil, fmt.Errorf("reading Prometheus's answer: %w", err)
	}
	return results, nil
}

// decodedTimes is how much more than an answer's bytes it takes to read and decode it.
const decodedTimes = 4

// exchange is one question and its answer. It implements api.Client.
type exchange struct {
	*Remote
	// held is the memory that is reserved for the answer.
	held int64
}

// URL implements api.Client.
func (e *exchange) URL(path string, _ map[string]string) *url.URL {
	u, err := url.Parse(e.endpoint + path)
	if err != nil {
		return &url.URL{} // The configuration was validated.
	}
	return u
}

// Do implements api.Client: the answer is bounded in size, and in memory.
func (e *exchange) Do(ctx context.Context, request *http.Request) (*http.Response, []byte, error) {
	response, err := e.client.Do(request.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(&reservingReader{response.Body, e}, maxResponse+1))
	if err == nil && len(body) > maxResponse {
		err = errors.New("the answer is too large")
	}
	return response, body, err
}

// reservingReader reserves memory for what is read.
type reservingReader struct {
	io.Reader
	exchange *exchange
}

func (r *reservingReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	size := int64(n) * decodedTimes
	if full := r.exchange.memory.Reserve(size); full != nil {
		return 0, full
	}
	r.exchange.held += size
	return n, err
}

func fromModel(value model.Value) ([]Result, error) {
	switch value := value.(type) {
	case *model.Scalar:
		return []Result{{Points: []Point{{Time: int64(value.Timestamp), Value: float64(value.Value)}}}}, nil
	case model.Vector:
		out := make([]Result, 0, len(value))
		for _, sample := range value {
			h, err := fromSample(sample.Histogram)
			if err != nil {
				return nil, err
			}
			out = append(out, Result{labelsOf(sample.Metric), []Point{{int64(sample.Timestamp), float64(sample.Value), h}}})
		}
		return out, nil
	case model.Matrix:
		out := make([]Result, 0, len(value))
		for _, stream := range value {
			points := make([]Point, 0, len(stream.Values)+len(stream.Histograms))
			for _, pair := range stream.Values {
				points = append(points, Point{Time: int64(pair.Timestamp), Value: float64(pair.Value)})
			}
			for _, pair := range stream.Histograms {
				h, err := fromSample(pair.Histogram)
				if err != nil {
					return nil, err
				}
				points = append(points, Point{Time: int64(pair.Timestamp), Histogram: h})
			}
			if len(points) > 0 {
				out = append(out, Result{labelsOf(stream.Metric), points})
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("unexpected type %s", value.Type())
}

func labelsOf(metric model.Metric) labels.Labels {
	b := labels.NewScratchBuilder(len(metric))
	for name, value := range metric {
		b.Add(string(name), string(value))
	}
	b.Sort()
	return b.Labels()
}

func fromSample(h *model.SampleHistogram) (*exphist.Histogram, error) {
	if h == nil {
		return nil, nil
	}
	out := &exphist.Histogram{Sum: float64(h.Sum)}
	for _, bucket := range h.Buckets {
		lower, upper, count := float64(bucket.Lower), float64(bucket.Upper), whole(float64(bucket.Count))
		if lower <= 0 {
			// The zero bucket, or what lies below: durations are not negative.
			out.AddZero(count)
			continue
		}
		scale, index, ok := exphist.Bucket(lower, upper)
		if !ok {
			return nil, fmt.Errorf("a histogram's bucket from %v to %v is none of an exponential histogram", lower, upper)
		}
		out.AddBucket(exphist.NativeLayout, scale, index, count)
	}
	return out, nil
}
