package podlogs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptrace"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/kube"
)

const (
	// goneGrace is how long the stream of a pod that went away may go on: the end of its log may still be under way.
	goneGrace = 10 * time.Second
	// assumedWorking is after how long without an error a request that was sent counts as a stream: the kubelet of a container
	// that writes nothing does not even begin to answer.
	assumedWorking = 2 * time.Second
	// maxVain is how often the log before is read in vain until it is believed to be at its end, maxBefore how often at all.
	maxVain   = 10
	maxBefore = 100
	lineRoom  = 64
)

// follower follows one pod's log. Its goroutine reads; everything else is guarded by the tail's lock.
type follower struct {
	tail *Tail
	wake chan struct{}

	// ctx is that of the present run, nil before the first.
	ctx    context.Context
	cancel context.CancelFunc

	pod      kube.Pod
	position position
	splitter *accesslog.EntrySplitter
	// dirty is set when the state changed since it was last stored, fed when lines came since the last boundary.
	dirty, fed bool
	// working tells whether the log can be read.
	working bool
	// attempt counts the streams.
	attempt uint64
	// expiry ends the follower of a pod that is gone; nil while it is there.
	expiry *time.Timer
}

// end ends the run of a follower whose pod is still gone.
func (f *follower) end() {
	f.tail.lock.Lock()
	defer f.tail.lock.Unlock()
	if f.expiry != nil && f.cancel != nil {
		f.cancel()
	}
}

// run follows the log until the context ends, or the pod is gone and its log with it.
func (f *follower) run(ctx context.Context) {
	backoff := f.tail.cfg.MinBackoff
	for {
		begun := time.Now()
		fresh, err := f.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		f.tail.lock.Lock()
		gone := f.expiry != nil
		f.tail.lock.Unlock()
		if gone && (err == nil || apierrors.IsNotFound(err)) {
			return
		}
		if fresh || time.Since(begun) > f.tail.cfg.MaxBackoff {
			backoff = f.tail.cfg.MinBackoff
		}
		wait := time.NewTimer(backoff - rand.N(backoff/2+1))
		backoff = min(2*backoff, f.tail.cfg.MaxBackoff)
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-f.wake:
			wait.Stop()
			backoff = f.tail.cfg.MinBackoff
		case <-wait.C:
		}
	}
}

// stream opens one stream and follows it to its end. It tells whether it brought anything new. A log that ends is no error: the
// container has, or something on the way gave up.
func (f *follower) stream(ctx context.Context) (fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.tail.maxAge())
	defer cancel()
	f.tail.lock.Lock()
	f.attempt++
	attempt, pod, since := f.attempt, f.pod, f.position.since()
	// What is repeated is told by what was taken when the stream began, and by what the log before adds.
	known := len(f.position.taken) > 0
	f.tail.lock.Unlock()

	assumed := make(chan *time.Timer, 1)
	defer func() {
		select {
		case timer := <-assumed:
			timer.Stop()
		default:
		}
	}()
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err != nil {
			return
		}
		select {
		case assumed <- time.AfterFunc(assumedWorking, func() { f.works(attempt) }):
		default:
		}
	}})
	body, err := f.tail.source.Open(traced, pod, kube.LogOptions{Since: since})
	if err != nil {
		return false, f.failed(ctx, attempt, err)
	}
	defer body.Close()
	f.works(attempt)

	fresh, repeated, err := f.before(ctx, pod)
	if err != nil {
		return fresh, f.failed(ctx, attempt, fmt.Errorf("reading the log before the container's restart: %w", err))
	}
	r := reader{follower: f, expecting: known && repeated == 0}
	r.begin()
	err = r.read(ctx, body)
	return fresh || r.fresh, f.ended(ctx, attempt, err)
}

// before takes what is left of the log of the container before the present one. A server that gives up on the way ends an answer as
// if it were whole, so what counts is that the log's last line was taken. Of a line that the runtime cut in parts, or that the
// container did not end, this can never be told: what brings nothing new many times over is at its end.
func (f *follower) before(ctx context.Context, pod kube.Pod) (fresh bool, repeated int, err error) {
	vain := 0
	for range maxBefore {
		done, again, err := f.beforeTaken(ctx, pod)
		repeated += again
		if apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) {
			return fresh, repeated, nil
		}
		if err != nil || done {
			return fresh, repeated, err
		}
		f.tail.lock.Lock()
		since := f.position.since()
		f.tail.lock.Unlock()
		body, err := f.tail.source.Open(ctx, pod, kube.LogOptions{Since: since, Previous: true})
		if err != nil {
			return fresh, repeated, err
		}
		r := reader{follower: f}
		r.begin()
		err = r.read(ctx, body)
		body.Close()
		repeated += r.overlap.repeated
		if err != nil {
			return fresh || r.fresh, repeated, err
		}
		switch vain++; {
		case r.fresh:
			fresh, vain = true, 0
		case vain == maxVain:
			return fresh, repeated, nil
		}
	}
	return fresh, repeated, nil
}

// beforeTaken tells whether the last line of the log before was taken; repeated is 1 if that was not long ago.
func (f *follower) beforeTaken(ctx context.Context, pod kube.Pod) (done bool, repeated int, err error) {
	body, err := f.tail.source.Open(ctx, pod, kube.LogOptions{Previous: true, Last: true})
	if err != nil {
		return false, 0, err
	}
	defer body.Close()
	last, err := bufio.NewReaderSize(body, maxHashed+lineRoom).ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF):
		return false, 0, nil
	case err != nil && !errors.Is(err, bufio.ErrBufferFull):
		return false, 0, err
	}
	var stamps accesslog.StampSplitter
	at, text, ok := stamps.Split(bytes.TrimSuffix(last, []byte{'\n'}))
	if !ok {
		return false, 0, nil
	}
	f.tail.lock.Lock()
	defer f.tail.lock.Unlock()
	if f.position.has(at, hashOf(at, text)) {
		return true, 1, nil
	}
	return at < f.position.from, 0, nil
}

func (f *follower) works(attempt uint64) {
	f.tail.lock.Lock()
	defer f.tail.lock.Unlock()
	if f.attempt == attempt {
		f.working = true
	}
}

// failed notes that no stream could be had and returns why.
func (f *follower) failed(ctx context.Context, attempt uint64, err error) error {
	f.tail.lock.Lock()
	defer f.tail.lock.Unlock()
	// Whatever waited to say that this attempt works is too late.
	f.attempt = attempt + 1
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		// The container wrote nothing for as long as a stream may last.
		f.tail.sink.Reconnect(f.pod, "renewed", nil)
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	f.working = false
	f.tail.sink.Reconnect(f.pod, kube.Reason(err), err)
	return err
}

// ended notes that a stream came to its end and returns why, if that was not as it should be.
func (f *follower) ended(ctx context.Context, attempt uint64, err error) error {
	f.tail.lock.Lock()
	defer f.tail.lock.Unlock()
	f.attempt = attempt + 1
	reason := "ended"
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		reason, err = "renewed", nil
	case ctx.Err() != nil:
		return err
	case err != nil:
		reason = "broken"
	}
	f.tail.sink.Reconnect(f.pod, reason, nil)
	return err
}

// reader takes the lines of one stream.
type reader struct {
	*follower
	stamps  accesslog.StampSplitter
	overlap overlap
	// lines counts lines with a time; fresh is set once one of them was not taken before.
	lines int
	fresh bool
	// expecting is set until something is repeated that was taken before, if anything was.
	expecting bool
	// skipping is set while the rest of a line that is too long is thrown away.
	skipping bool
}

func (r *reader) begin() {
	r.tail.lock.Lock()
	defer r.tail.lock.Unlock()
	r.overlap = r.position.overlap()
}

// read takes all lines of a stream; a line without its end is none. The error is that of reading, if it is not the end.
func (r *reader) read(ctx context.Context, body io.Reader) error {
	buffer := make([]byte, r.tail.cfg.MaxEntry+lineRoom)
	filled := 0
	for {
		n, err := body.Read(buffer[filled:])
		filled += n
		if n > 0 {
			filled = r.take(buffer, filled)
			r.tail.ready(ctx)
		}
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// take takes the whole lines at the beginning of the buffer, moves the rest there and returns how much that is.
func (r *reader) take(buffer []byte, filled int) int {
	r.tail.lock.Lock()
	defer r.tail.lock.Unlock()
	skipped := int64(0)
	rest := buffer[:filled]
	for {
		line, after, whole := cutLine(rest)
		if !whole {
			break
		}
		rest = after
		if r.skipping {
			r.skipping = false
			continue
		}
		skipped += r.line(line)
	}
	if len(rest) == len(buffer) {
		if !r.skipping {
			skipped += r.line(rest)
		}
		r.skipping, rest = true, nil
	}
	if skipped > 0 {
		r.tail.sink.Skipped(skipped)
	}
	return copy(buffer, rest)
}

// line takes one line; it returns 1 if that was taken before.
func (r *reader) line(line []byte) (skipped int64) {
	at, text, ok := r.stamps.Split(line)
	if !ok {
		// At the beginning it is the rest of a line that lies before: a long one is written in parts, of which only the first has a time.
		if r.lines > 0 || r.overlap.from == 0 {
			r.tail.sink.Damaged(DamageNoTime, 1)
		}
		return 0
	}
	r.lines++
	hash := hashOf(at, text)
	if r.overlap.repeats(at, hash) {
		r.expecting = r.expecting && r.overlap.repeated == 0
		return 1
	}
	if r.expecting && r.overlap.over {
		r.expecting = false
		r.tail.sink.Gap(r.pod)
	}
	r.fresh = true
	r.position.add(at, hash)
	r.dirty, r.fed = true, true
	r.splitter.Line(text, r.emit)
	return 0
}

func (f *follower) emit(entry []byte) { f.tail.sink.Entry(f.tail.cfg.Of(f.pod), entry) }

// flush passes on the entry that waits for lines that continue it.
func (f *follower) flush() {
	if f.splitter.Holding() {
		f.splitter.Flush(f.emit)
		f.dirty = true
	}
}

func cutLine(data []byte) (line, after []byte, whole bool) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return data[:i:i], data[i+1:], true
	}
	return nil, data, false
}
