package configdump

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/poll"
)

// Target is a ztunnel's admin endpoint.
type Target struct {
	// Node is the ztunnel's node; empty to believe the dump.
	Node string
	URL  string
}

// TargetProvider says whom to ask. It is asked at every tick and must answer at once.
type TargetProvider interface {
	Targets() []Target
}

// StaticTargets never change.
type StaticTargets []Target

// Targets implements TargetProvider.
func (s StaticTargets) Targets() []Target { return s }

// PollerConfig says how to fetch dumps.
type PollerConfig struct {
	Interval time.Duration
	// Timeout bounds one fetch, from the connection to the last byte, and is at most the interval.
	Timeout time.Duration
	// Concurrency is how many fetches take place at once.
	Concurrency int
	Options     Options
	// Client sends the requests; redirects are not followed.
	Client *http.Client
}

// Result is what one fetch gave.
type Result struct {
	Target Target
	// At is when the request was sent, the time of the dump.
	At       time.Time
	Duration time.Duration
	// Dump is valid without an error.
	Dump Dump
	// Raw is what was read.
	Raw []byte
	Err error
	// Missed counts the ticks left out since the last fetch, because that took too long.
	Missed int
}

// Poller fetches dumps at an interval.
type Poller struct {
	loop    poll.Loop[Target, struct{}]
	options Options
	client  *http.Client
	sink    func(Result)
}

// NewPoller returns a poller that Run starts. The sink is called by several goroutines at once, but for each target by one
// only, and holds up that target's next fetch until it returns.
func NewPoller(config PollerConfig, targets TargetProvider, sink func(Result)) (*Poller, error) {
	p := &Poller{options: config.Options, client: poll.WithoutRedirects(config.Client), sink: sink}
	p.loop = poll.Loop[Target, struct{}]{
		Interval: config.Interval, Timeout: config.Timeout, Concurrency: config.Concurrency,
		Targets: targets.Targets, Key: func(t Target) string { return t.Node + "|" + t.URL }, Visit: p.visit,
	}
	if err := p.loop.Validate(); err != nil {
		return nil, fmt.Errorf("config dump poller: %w", err)
	}
	return p, nil
}

// Run fetches until the context ends and returns when nothing is under way any more.
func (p *Poller) Run(ctx context.Context) { p.loop.Run(ctx) }

func (p *Poller) visit(ctx context.Context, target Target, _ *struct{}, missed int) {
	at := time.Now()
	dump, raw, err := p.fetch(ctx, target, at)
	// A fetch that the end of the poller broke off says nothing about its target.
	if errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	p.sink(Result{Target: target, At: at, Duration: time.Since(at), Dump: dump, Raw: raw, Err: err, Missed: missed})
}

func (p *Poller) fetch(ctx context.Context, target Target, at time.Time) (dump Dump, raw []byte, err error) {
	response, err := poll.Get(ctx, p.client, target.URL, "application/json")
	if err != nil {
		return Dump{}, nil, err
	}
	defer response.Body.Close()
	// One byte more than allowed tells Parse that there is more.
	raw, err = io.ReadAll(io.LimitReader(response.Body, int64(cmp.Or(p.options.MaxBytes, DefaultMaxBytes))+1))
	if err != nil {
		return Dump{}, nil, fmt.Errorf("reading config dump: %w", err)
	}
	dump, err = Parse(raw, target.Node, at, p.options)
	return dump, raw, err
}
