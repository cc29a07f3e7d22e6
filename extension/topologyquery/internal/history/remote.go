package history

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/exphist"
)

// maxResponse bounds a server's answer in bytes.
const maxResponse = 256 << 20

// Remote asks a server that speaks Prometheus's HTTP API: Prometheus, Mimir, Thanos and others. It implements Engine.
type Remote struct {
	client   *http.Client
	endpoint string
}

// NewRemote returns an engine that asks the server at endpoint, the URL under which it has /api/v1/query.
func NewRemote(client *http.Client, endpoint string) *Remote {
	return &Remote{client, strings.TrimSuffix(endpoint, "/")}
}

// ExplicitZeros implements Engine.
func (r *Remote) ExplicitZeros() bool { return false }

// Instant implements Engine.
func (r *Remote) Instant(ctx context.Context, expression string, at time.Time) ([]Result, error) {
	return r.ask(ctx, "/api/v1/query", url.Values{"query": {expression}, "time": {unix(at)}})
}

// Range implements Engine.
func (r *Remote) Range(ctx context.Context, expression string, start, end time.Time, step time.Duration) ([]Result, error) {
	return r.ask(ctx, "/api/v1/query_range", url.Values{
		"query": {expression}, "start": {unix(start)}, "end": {unix(end)},
		"step": {strconv.FormatFloat(step.Seconds(), 'f', 3, 64)},
	})
}

func unix(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func (r *Remote) ask(ctx context.Context, path string, form url.Values) ([]Result, error) {
	// A POST, since expressions can be longer than URLs may be.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.endpoint+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("reading Prometheus's answer: %w", err)
	}
	if len(body) > maxResponse {
		return nil, errors.New("reading Prometheus's answer: it is too large")
	}
	results, err := decode(body)
	if err != nil {
		return nil, fmt.Errorf("reading Prometheus's answer (%s): %w", response.Status, err)
	}
	return results, nil
}

type promAnswer struct {
	Status    string `json:"status"`
	ErrorType string `json:"errorType"`
	Error     string `json:"error"`
	Data      struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

type promSeries struct {
	Metric     map[string]string `json:"metric"`
	Value      *promPoint        `json:"value"`
	Values     []promPoint       `json:"values"`
	Histogram  *promHistogram    `json:"histogram"`
	Histograms []promHistogram   `json:"histograms"`
}

type promPoint struct {
	time  int64
	value float64
}

func (p *promPoint) UnmarshalJSON(b []byte) error {
	var value string
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil || len(raw) != 2 {
		return errors.New("a sample is no pair")
	}
	var err error
	if p.time, err = milliseconds(raw[0]); err != nil {
		return err
	}
	if err := json.Unmarshal(raw[1], &value); err != nil {
		return fmt.Errorf("a sample's value: %w", err)
	}
	if p.value, err = strconv.ParseFloat(value, 64); err != nil {
		return fmt.Errorf("a sample's value: %w", err)
	}
	return nil
}

func milliseconds(raw []byte) (int64, error) {
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, fmt.Errorf("a sample's time: %w", err)
	}
	return int64(math.Round(seconds * 1000)), nil
}

type promHistogram struct {
	time      int64
	histogram exphist.Histogram
}

func (p *promHistogram) UnmarshalJSON(b []byte) error {
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil || len(raw) != 2 {
		return errors.New("a histogram is no pair")
	}
	var err error
	if p.time, err = milliseconds(raw[0]); err != nil {
		return err
	}
	var body struct {
		Sum     string               `json:"sum"`
		Buckets [][4]json.RawMessage `json:"buckets"`
	}
	if err := json.Unmarshal(raw[1], &body); err != nil {
		return fmt.Errorf("a histogram: %w", err)
	}
	p.histogram.Sum, _ = strconv.ParseFloat(body.Sum, 64)
	for _, bucket := range body.Buckets {
		var numbers [3]float64
		for i := range numbers {
			text := strings.Trim(string(bucket[i+1]), `"`)
			if numbers[i], err = strconv.ParseFloat(text, 64); err != nil {
				return fmt.Errorf("a histogram's bucket: %w", err)
			}
		}
		lower, upper, count := numbers[0], numbers[1], whole(numbers[2])
		if lower <= 0 {
			// The zero bucket, or what lies below: durations are not negative.
			p.histogram.AddZero(count)
			continue
		}
		scale, index, ok := exphist.Bucket(lower, upper)
		if !ok {
			return fmt.Errorf("a histogram's bucket from %v to %v is none of an exponential histogram", lower, upper)
		}
		p.histogram.Add(scale, index, count)
	}
	return nil
}

func decode(body []byte) ([]Result, error) {
	var answer promAnswer
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", answer.ErrorType, answer.Error)
	}
	if answer.Data.ResultType == "scalar" {
		var p promPoint
		if err := json.Unmarshal(answer.Data.Result, &p); err != nil {
			return nil, err
		}
		return []Result{{Points: []Point{{Time: p.time, Value: p.value}}}}, nil
	}
	var all []promSeries
	decoder := json.NewDecoder(bytes.NewReader(answer.Data.Result))
	if err := decoder.Decode(&all); err != nil {
		return nil, err
	}
	out := make([]Result, 0, len(all))
	for i := range all {
		s := &all[i]
		r := Result{Labels: labels.FromMap(s.Metric)}
		if s.Value != nil {
			s.Values = append(s.Values, *s.Value)
		}
		if s.Histogram != nil {
			s.Histograms = append(s.Histograms, *s.Histogram)
		}
		for _, p := range s.Values {
			r.Points = append(r.Points, Point{Time: p.time, Value: p.value})
		}
		for j := range s.Histograms {
			r.Points = append(r.Points, Point{Time: s.Histograms[j].time, Histogram: &s.Histograms[j].histogram})
		}
		if len(r.Points) > 0 {
			out = append(out, r)
		}
	}
	return out, nil
}
