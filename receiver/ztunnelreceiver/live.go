package ztunnelreceiver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/receiver"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source/cluster"
)

const (
	// maxBacklog is how many records may wait to be taken before no more lines are read.
	maxBacklog = 8192
	// maxUntold is how many entities' events may wait for a boundary before no more are read.
	maxUntold = 20_000
	// quiesce is the part of an interval that a flush waits for a poll of the files to end.
	quiesce = 0.5
)

// live brings the live sources together. The sources' goroutines bring what they read and one goroutine flushes, all of
// them with the lock held.
type live struct {
	*ingest

	cfg   *Config
	clock replay.Clock
	stored
	// followers follow logs.
	followers []source.Follower
	kube      *cluster.Source // nil without Kubernetes
	times     boundaries

	pace pace
	// opened is set when open succeeded.
	opened bool
	// sources run until the context ends.
	sources []source.Source
}

// pace is how the sources and the one that sends wait for each other.
type pace struct {
	// flushed is closed and replaced when something was sent.
	flushed chan struct{}
	// pressing is set when records should not wait for the next boundary; wake ends the wait for it.
	pressing bool
	wake     context.CancelFunc
	// stuck ends the wait for the end of a poll, which will not come before something is sent.
	stuck context.CancelFunc
}

func newLive(cfg *Config, in *ingest, clock replay.Clock) *live {
	l := &live{
		ingest: in, cfg: cfg, clock: clock,
		times: boundaries{interval: cfg.FlushInterval},
		pace:  pace{flushed: make(chan struct{}), wake: func() {}, stuck: func() {}},
	}
	in.full = func() {
		l.pace.pressing = true
		l.pace.wake()
	}
	return l
}

// open prepares all sources and restores what is stored.
func (l *live) open(ctx context.Context, set receiver.Settings, host component.Host) error {
	var last time.Time
	if id := l.cfg.storageID(); id != nil {
		var err error
		if last, err = l.openStorage(ctx, host, *id, set.ID); err != nil {
			return err
		}
		l.checkpoint = l.takeCheckpoint
	}
	now := l.clock.Now()
	if l.times.begin(now, last) {
		l.tel.ReceiverZtunnelClockSteps.Add(ctx, 1)
	}
	l.flow.Begin(l.times.last)
	l.flow.Advance(l.times.next())
	return l.openSources(ctx, set, host)
}

// openSources opens what is configured. What was opened is closed by close.
func (l *live) openSources(ctx context.Context, set receiver.Settings, host component.Host) error {
	env := &source.Env{
		Sink: l.ingest, Telemetry: l.tel, Record: l.record, Node: l.cfg.NodeName, Cluster: l.cfg.ClusterName, Refresh: l.cfg.RefreshInterval,
		Settings: set, Host: host, Clock: l.clock, Storage: l.client, ReadAgain: l.lost, CountedUntil: l.flow.Counted.Until, Ready: l.awaitRoom, Told: l.awaitEvents,
	}
	found := cluster.Env{Sink: l.ingest, Telemetry: l.tel, Now: l.clock.Now, Cluster: l.cfg.ClusterName}
	if !l.cfg.ConfigDump.HasValue() { // a config dump knows more of its ztunnel
		found.Refresh = l.cfg.RefreshInterval
	}
	var err error
	if l.kube, err = cluster.Open(l.cfg.Kubernetes.Get(), found); err != nil {
		return fmt.Errorf("kubernetes: %w", err)
	}
	if l.kube != nil {
		l.sources = append(l.sources, l.kube)
		env.Kubernetes = l.kube
	}
	for _, open := range l.cfg.openers() {
		opened, err := open(ctx, env)
		if err != nil {
			return err
		}
		if opened == nil {
			continue
		}
		l.sources = append(l.sources, opened)
		if follower, ok := opened.(source.Follower); ok {
			l.followers = append(l.followers, follower)
		}
	}
	l.repeatScraped = func() {
		for _, s := range l.sources {
			if repeater, ok := s.(source.Repeater); ok {
				repeater.Repeat()
			}
		}
	}
	l.opened = true
	return nil
}

// awaitRoom holds up reading while what was refused waits for another attempt.
func (l *live) awaitRoom(ctx context.Context) {
	l.awaitSent(ctx, func() bool { return l.out.backlog() > maxBacklog })
}

// awaitEvents holds up a source of entities' events: one that changes its mind all the time must not take the time of all others.
func (l *live) awaitEvents(ctx context.Context) {
	l.awaitSent(ctx, func() bool { return len(l.gathered.events) > maxUntold || l.out.backlog() > maxBacklog })
}

// awaitSent waits for as long as too much has not been sent. It asks with the lock held.
func (l *live) awaitSent(ctx context.Context, tooMuch func() bool) {
	for {
		l.Lock()
		full := tooMuch()
		flushed := l.pace.flushed
		if full {
			l.pace.stuck()
		}
		l.Unlock()
		if !full {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-flushed:
		}
	}
}

// run flushes at every boundary until the context ends and the sources with it.
func (l *live) run(ctx context.Context) {
	var sources sync.WaitGroup
	for _, s := range l.sources {
		sources.Go(func() { s.Run(ctx) })
	}
	for l.await(ctx) {
	}
	sources.Wait()
}

// await waits for the next boundary and flushes it, or hands on records that cannot wait for it. It is false once the context has ended.
func (l *live) await(ctx context.Context) bool {
	waiting, wake := context.WithCancel(ctx)
	defer wake()
	l.Lock()
	l.pace.wake = wake
	if l.pace.pressing {
		wake()
	}
	l.Unlock()
	now := l.clock.Now()
	err := l.clock.Sleep(waiting, now.Add(l.times.wait(now)))
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil:
		l.tick(ctx)
	default:
		l.Lock()
		l.pace.pressing = false
		l.Unlock()
		l.out.records(ctx)
		l.sent()
	}
	return true
}

// sent lets those go on who wait for room.
func (l *live) sent() {
	l.Lock()
	defer l.Unlock()
	close(l.pace.flushed)
	l.pace.flushed = make(chan struct{})
}

// tick flushes one boundary.
func (l *live) tick(ctx context.Context) {
	at, due, stepped := l.times.advance(l.clock.Now())
	if !due {
		return
	}
	if stepped {
		l.tel.ReceiverZtunnelClockSteps.Add(ctx, 1)
	}
	l.checkFiles()
	wait, cancel := context.WithTimeout(ctx, time.Duration(quiesce*float64(l.cfg.FlushInterval)))
	l.Lock()
	if l.pace.stuck = cancel; l.out.backlog() > maxBacklog {
		cancel()
	}
	l.Unlock()
	whole := l.quiesce(wait)
	cancel()
	taken := l.boundary(at, whole)
	l.pace.pressing = false
	l.Unlock()
	l.deliver(ctx, taken, l.save)
	l.record.Flush()
	l.sent()
}

// quiesce returns with the lock held, and with true if of all logs positions and entries say the same.
func (l *live) quiesce(ctx context.Context) bool {
	if len(l.followers) == 0 {
		l.Lock()
		return true
	}
	for at := 0; ; {
		if !l.followers[at].Quiesce(ctx) {
			return false
		}
		if at = slices.IndexFunc(l.followers, func(f source.Follower) bool { return !f.Settled() }); at < 0 {
			return true
		}
		l.Unlock()
	}
}

// boundary takes what leaves at a boundary; the lock is held.
func (l *live) boundary(at time.Time, whole bool) boundary {
	for _, s := range l.sources {
		if teller, ok := s.(source.Teller); ok {
			teller.Boundary(at, l.lostEvents)
		}
	}
	l.lostEvents = false
	l.flow.Counted.All = l.flow.Counted.All && !whole
	// Only of a boundary that was left out is anything held that belongs before this one.
	l.flow.Advance(at)
	taken := l.take(at, whole)
	l.flow.Advance(at.Add(l.cfg.FlushInterval))
	return taken
}

// checkFiles states of which nodes the log can be read. It does not need the lock.
func (l *live) checkFiles() {
	for _, follower := range l.followers {
		readable := follower.Readable()
		l.Lock()
		for node, ok := range readable {
			if !l.kube.Gone(node) {
				l.Up(follower.Of(), node, ok, time.Time{})
			}
		}
		l.Unlock()
	}
}

// close ends reading and hands on and stores what was read last. It comes after run, or after open failed.
func (l *live) close(ctx context.Context) error {
	var errs []error
	for _, follower := range l.followers {
		errs = append(errs, follower.Stop())
	}
	if l.opened {
		at, _, _ := l.times.advance(l.times.next())
		l.Lock()
		taken := l.boundary(at, true)
		l.Unlock()
		l.deliver(ctx, taken, l.save)
	}
	errs = append(errs, l.closeStorage(ctx))
	for _, s := range l.sources {
		if closer, ok := s.(source.Closer); ok {
			closer.Close()
		}
	}
	return errors.Join(errs...)
}
