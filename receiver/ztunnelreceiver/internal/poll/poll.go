// Package poll visits a changing list of HTTP targets at an interval: what scraping metrics and fetching config dumps have
// in common.
package poll

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Loop visits every target at every tick. Ticks lie at multiples of the interval, the same for all targets and all
// processes; the first one comes at once. Its fields must not be changed once Run is called.
//
// M is what is remembered of a target from visit to visit, as long as Targets lists it.
type Loop[T, M any] struct {
	Interval time.Duration
	// Timeout bounds one visit, Concurrency how many take place at once.
	Timeout     time.Duration
	Concurrency int
	// Targets is asked at every tick.
	Targets func() []T
	// Key tells targets apart.
	Key func(T) string
	// Visit is called by several goroutines at once, but for each target by one only. missed counts the ticks since the
	// target's last visit that were left out because that visit was still waiting or going on.
	Visit func(ctx context.Context, target T, memory *M, missed int)
	// Forget is told of a target that was visited and is listed no longer, after its last visit. It may be nil.
	Forget func(target T)

	mu     sync.Mutex
	known  map[string]*visited[T, M] // bounded by the targets listed
	visits sync.WaitGroup
	slots  chan struct{}
}

type visited[T, M any] struct {
	target T
	memory M
	busy   bool
	missed int
}

// Validate tells what keeps the loop from running.
func (l *Loop[T, M]) Validate() error {
	switch {
	case l.Interval <= 0:
		return errors.New("interval must be positive")
	case l.Timeout <= 0:
		return errors.New("timeout must be positive")
	case l.Timeout > l.Interval:
		return fmt.Errorf("timeout %s is longer than the interval %s", l.Timeout, l.Interval)
	case l.Concurrency <= 0:
		return errors.New("concurrency must be positive")
	}
	return nil
}

// Run visits until the context ends and returns when all visits have.
func (l *Loop[T, M]) Run(ctx context.Context) {
	defer l.visits.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			l.tick(ctx)
			timer.Reset(untilTick(time.Now(), l.Interval))
		}
	}
}

func untilTick(now time.Time, interval time.Duration) time.Duration {
	return now.Truncate(interval).Add(interval).Sub(now)
}

func (l *Loop[T, M]) tick(ctx context.Context) {
	for _, target := range l.begin(ctx) {
		if l.Forget != nil {
			l.Forget(target)
		}
	}
}

// begin begins all visits that are due and returns the targets that are gone.
func (l *Loop[T, M]) begin(ctx context.Context) (gone []T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.slots == nil {
		l.slots = make(chan struct{}, l.Concurrency)
		l.known = map[string]*visited[T, M]{}
	}
	listed := map[string]struct{}{}
	for _, target := range l.Targets() {
		key := l.Key(target)
		if _, twice := listed[key]; twice {
			continue
		}
		listed[key] = struct{}{}
		state := l.known[key]
		if state == nil {
			state = &visited[T, M]{}
			l.known[key] = state
		}
		if state.busy {
			state.missed++
			continue
		}
		state.busy, state.target = true, target
		l.visits.Go(func() { l.visit(ctx, target, state) })
	}
	for key, state := range l.known {
		if _, ok := listed[key]; !ok && !state.busy {
			gone = append(gone, state.target)
			delete(l.known, key)
		}
	}
	return gone
}

func (l *Loop[T, M]) visit(ctx context.Context, target T, state *visited[T, M]) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() {
		<-l.slots
		l.mu.Lock()
		state.busy = false
		l.mu.Unlock()
	}()
	// The slot may have come free because everything ends.
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	missed := state.missed
	state.missed = 0
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.Timeout)
	defer cancel()
	l.Visit(ctx, target, &state.memory, missed)
}

// maxDrained is how much of an unwanted answer is read so that its connection can serve again.
const maxDrained = 4 << 10

// Get asks for a URL and returns the response if it is a 200. The caller closes the body, which is not bounded.
func Get(ctx context.Context, client *http.Client, url, accept string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	request.Header.Set("User-Agent", "nephilia")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, response.Body, maxDrained)
		_ = response.Body.Close()
		return nil, fmt.Errorf("%s answers %s", url, response.Status)
	}
	return response, nil
}

// WithoutRedirects is the client, except that it takes a redirect for the answer: a target must not be able to
// send the collector anywhere else.
func WithoutRedirects(client *http.Client) *http.Client {
	strict := *client
	strict.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &strict
}
