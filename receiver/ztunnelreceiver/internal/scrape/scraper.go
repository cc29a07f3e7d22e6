package scrape

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/poll"
)

// accept prefers what a ztunnel serves; Envoy knows the other only.
const accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"

// TargetProvider says whom to scrape. It is asked at every tick and must answer at once.
type TargetProvider interface {
	Targets() []Target
}

// StaticTargets never change.
type StaticTargets []Target

// Targets implements TargetProvider.
func (s StaticTargets) Targets() []Target { return s }

// ScraperConfig says how to scrape.
type ScraperConfig struct {
	Interval time.Duration
	// Timeout bounds one scrape, from the connection to the last byte, and is at most the interval.
	Timeout time.Duration
	// Concurrency is how many scrapes take place at once.
	Concurrency int
	Options     Options
	// Client sends the requests; redirects are not followed.
	Client *http.Client
	// Raw says to give what was read, too.
	Raw bool
}

// Result is what one scrape gave.
type Result struct {
	Target Target
	// At is when the request was sent, the timestamp of all points.
	At       time.Time
	Duration time.Duration
	// Metrics are the series with up = 1 or, when the scrape failed, up = 0 alone.
	Metrics pmetric.Metrics
	Stats   Stats
	// Raw is the exposition, if that was asked for and one was read.
	Raw []byte
	// Err tells why the scrape failed.
	Err error
	// Restarted tells that the target began anew since the last scrape.
	Restarted bool
	// Missed counts the ticks left out since the last scrape, because that took too long.
	Missed int
	// Gone tells that the target is no longer there; Metrics then end its "up".
	Gone bool
}

// Scraper scrapes targets at an interval.
type Scraper struct {
	loop    poll.Loop[Target, memory]
	options Options
	client  *http.Client
	raw     bool
	sink    func(Result)
	repeats atomic.Uint64
}

type memory struct {
	tracker *Tracker
	repeats uint64
}

// NewScraper returns a scraper that Run starts. The sink is called by several goroutines at once, but for each target by
// one only, and holds up that target's next scrape until it returns.
func NewScraper(config ScraperConfig, targets TargetProvider, sink func(Result)) (*Scraper, error) {
	s := &Scraper{options: config.Options, client: poll.WithoutRedirects(config.Client), raw: config.Raw, sink: sink}
	s.loop = poll.Loop[Target, memory]{
		Interval: config.Interval, Timeout: config.Timeout, Concurrency: config.Concurrency,
		Targets: targets.Targets, Key: Target.Key, Visit: s.visit, Forget: s.forget,
	}
	if err := s.loop.Validate(); err != nil {
		return nil, fmt.Errorf("scraper: %w", err)
	}
	if err := s.options.Validate(); err != nil {
		return nil, fmt.Errorf("scraper: %w", err)
	}
	return s, nil
}

// Run scrapes until the context ends and returns when nothing is under way any more.
func (s *Scraper) Run(ctx context.Context) { s.loop.Run(ctx) }

// Repeat lets every target's next scrape tell all series, because of what was told some was lost.
func (s *Scraper) Repeat() { s.repeats.Add(1) }

func (s *Scraper) visit(ctx context.Context, target Target, m *memory, missed int) {
	if m.tracker == nil {
		m.tracker = NewTracker()
	}
	if repeats := s.repeats.Load(); repeats != m.repeats {
		m.repeats = repeats
		m.tracker.Repeat()
	}
	restarts := m.tracker.Restarts()
	at := time.Now()
	md, stats, raw, err := s.scrape(ctx, target, at, m.tracker)
	if err != nil {
		md = Down(target, at)
	}
	result := Result{
		Target: target, At: at, Duration: time.Since(at), Metrics: md, Stats: stats, Raw: raw, Err: err,
		Restarted: m.tracker.Restarts() > restarts, Missed: missed,
	}
	// A scrape that the end of the scraper broke off says nothing about its target.
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	s.sink(result)
}

func (s *Scraper) forget(target Target) {
	at := time.Now()
	s.sink(Result{Target: target, At: at, Metrics: Stale(target, at), Gone: true})
}

func (s *Scraper) scrape(ctx context.Context, target Target, at time.Time, tracker *Tracker) (md pmetric.Metrics, stats Stats, raw []byte, err error) {
	if target.URL == "" {
		return md, stats, nil, fmt.Errorf("it has no address yet: %s", target.Waiting)
	}
	response, err := poll.Get(ctx, s.client, target.URL, accept)
	if err != nil {
		if target.Waiting != "" {
			err = fmt.Errorf("%w (%s)", err, target.Waiting)
		}
		return md, stats, nil, err
	}
	defer response.Body.Close()
	if most := s.options.withDefaults().MaxBytes; response.ContentLength > most {
		return md, stats, nil, fmt.Errorf("reading exposition: %w: %d bytes, more than %d", ErrTooLarge, response.ContentLength, most)
	}
	body := io.Reader(response.Body)
	var read bytes.Buffer
	if s.raw {
		body = io.TeeReader(body, &read)
	}
	md, stats, err = Parse(body, response.Header.Get("Content-Type"), at, target, s.options, tracker)
	return md, stats, read.Bytes(), err
}
