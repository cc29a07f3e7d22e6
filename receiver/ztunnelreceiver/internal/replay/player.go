package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Target takes what a player plays. All calls come from the goroutine that runs Play.
type Target interface {
	// Begin says what the recording has, before the first part of each round. What istiod and the ztunnels said in an earlier round was
	// said by ones that are gone.
	Begin(contents Contents)
	// Part takes a part, which must not be kept.
	Part(ctx context.Context, part *Part) error
	// Boundary says that every part before that time was played.
	Boundary(ctx context.Context, at time.Time) error
	// Done says that the recording is played; at is the last boundary.
	Done(ctx context.Context, at time.Time) error
	// Failed says that the rest of the recording cannot be played.
	Failed(ctx context.Context, reason error) error
}

// Clock is the wall clock.
type Clock interface {
	Now() time.Time
	// Sleep waits until that time; it returns early with the context's error.
	Sleep(ctx context.Context, until time.Time) error
}

// Player plays a recording.
type Player struct {
	Directory string
	Limits    Limits
	// Speed is how many seconds of data pass in one of the wall clock; 0 is as fast as possible.
	Speed float64
	// RebaseNow shifts all times so that the recording starts now, else it keeps its times.
	RebaseNow bool
	// Loop starts over at the end.
	Loop bool
	// Interval is the distance between boundaries, which are its multiples.
	Interval time.Duration
	Clock    Clock
	Report   Report

	// first is the first round's recording, once Open has opened it.
	first *Recording
}

// Open opens the recording, so that one that is not there is known before it is played. Play closes it.
func (p *Player) Open() error {
	recording, err := Open(p.Directory, p.Limits, p.Report)
	if err != nil {
		return err
	}
	if len(recording.unknown) > 0 {
		p.Report.UnknownFiles(p.Directory, recording.unknown)
	}
	p.first = recording
	return nil
}

// round opens the recording for a round.
func (p *Player) round(round int) (*Recording, error) {
	if recording := p.first; recording != nil {
		p.first = nil
		return recording, nil
	}
	recording, err := Open(p.Directory, p.Limits, p.Report)
	if err != nil {
		return nil, err
	}
	recording.ids = maskOf(round)
	return recording, nil
}

// Play plays the recording until its end, or until the context ends.
func (p *Player) Play(ctx context.Context, target Target) error {
	var shift time.Duration
	pace := pace{clock: p.Clock, speed: p.Speed}
	for round := 0; ; round++ {
		end, err := p.playOnce(ctx, target, round, &shift, &pace)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			return errors.Join(err, target.Failed(ctx, err))
		}
		if !p.Loop {
			return target.Done(ctx, end)
		}
	}
}

// playOnce plays the recording once and returns its last boundary. It leaves the next round's shift in shift.
func (p *Player) playOnce(ctx context.Context, target Target, round int, shift *time.Duration, pace *pace) (time.Time, error) {
	recording, err := p.round(round)
	if err != nil {
		return time.Time{}, err
	}
	defer func() { _ = recording.Close() }() // only read from
	start, ok := recording.Start()
	if !ok {
		return time.Time{}, fmt.Errorf("recording %s: no part in it", absolute(p.Directory))
	}
	if round == 0 && p.RebaseNow {
		// A multiple of the interval, so that each part stays in the interval that it was recorded in.
		*shift = p.Clock.Now().Sub(start).Truncate(p.Interval)
	}
	target.Begin(recording.Contents())
	start = start.Add(*shift)
	boundary := start.Truncate(p.Interval).Add(p.Interval)
	if round == 0 {
		pace.start(start)
	}
	for {
		part, err := recording.Next(*shift)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return time.Time{}, err
		}
		for !part.Time.Before(boundary) {
			if err := p.boundary(ctx, target, pace, boundary); err != nil {
				return time.Time{}, err
			}
			boundary = boundary.Add(p.Interval)
		}
		if err := target.Part(ctx, part); err != nil {
			return time.Time{}, err
		}
	}
	if err := p.boundary(ctx, target, pace, boundary); err != nil {
		return time.Time{}, err
	}
	// The next round's first boundary is the one after this round's last.
	*shift += boundary.Sub(start.Truncate(p.Interval))
	return boundary, nil
}

func (p *Player) boundary(ctx context.Context, target Target, pace *pace, at time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := pace.wait(ctx, at); err != nil {
		return err
	}
	return target.Boundary(ctx, at)
}

// pace maps data time to wall time.
type pace struct {
	clock     Clock
	speed     float64
	wall      time.Time
	dataStart time.Time
}

func (p *pace) start(data time.Time) { p.wall, p.dataStart = p.clock.Now(), data }

func (p *pace) wait(ctx context.Context, data time.Time) error {
	if p.speed <= 0 {
		return nil
	}
	passed := time.Duration(float64(data.Sub(p.dataStart)) / p.speed)
	return p.clock.Sleep(ctx, p.wall.Add(passed))
}

// WallClock is the machine's clock.
type WallClock struct{}

// Now implements Clock.
func (WallClock) Now() time.Time { return time.Now() }

// Sleep implements Clock.
func (WallClock) Sleep(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
