package kubetest

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Log is the log of a pod's container over its restarts, as a kubelet keeps it.
type Log struct {
	mu sync.Mutex
	// grown is closed and replaced at each change.
	grown     chan struct{}
	instances []*instance
}

// instance is one run of the container.
type instance struct {
	files []*logFile
	ended bool
}

type logFile struct {
	lines []logLine
	next  *logFile
}

type logLine struct {
	at   time.Time
	text string
}

// NewLog returns the log of a container that runs for the first time.
func NewLog() *Log {
	return &Log{grown: make(chan struct{}), instances: []*instance{{files: []*logFile{{}}}}}
}

func (l *Log) change(f func(i *instance)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.instances[len(l.instances)-1])
	close(l.grown)
	l.grown = make(chan struct{})
}

// Write adds a line.
func (l *Log) Write(at time.Time, text string) {
	l.change(func(i *instance) {
		file := i.files[len(i.files)-1]
		file.lines = append(file.lines, logLine{at, text})
	})
}

// Rotate begins a new file: streams that are open go on in it, those to come do not see what was before.
func (l *Log) Rotate() {
	l.change(func(i *instance) {
		fresh := &logFile{}
		i.files[len(i.files)-1].next = fresh
		i.files = append(i.files, fresh)
	})
}

// End ends the container.
func (l *Log) End() { l.change(func(i *instance) { i.ended = true }) }

// Restart ends the container and begins it again.
func (l *Log) Restart() {
	l.change(func(i *instance) {
		i.ended = true
		l.instances = append(l.instances, &instance{files: []*logFile{{}}})
	})
}

// Restarts counts them.
func (l *Log) Restarts() int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int32(len(l.instances) - 1)
}

// pick returns the container whose log is asked for, and the file in which it begins.
func (l *Log) pick(previous bool) (*instance, *logFile, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.instances) - 1
	if previous {
		n--
	}
	if n < 0 {
		return nil, nil, apierrors.NewBadRequest("previous terminated container not found")
	}
	i := l.instances[n]
	return i, i.files[len(i.files)-1], nil
}

// serve answers as a kubelet does: nothing at all before there is a line.
func (l *Log) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	follow, _ := strconv.ParseBool(query.Get("follow"))
	previous, _ := strconv.ParseBool(query.Get("previous"))
	var since time.Time
	if text := query.Get("sinceTime"); text != "" {
		var err error
		// What is finer than a second never gets here.
		if since, err = time.Parse("2006-01-02T15:04:05Z", text); err != nil {
			return apierrors.NewBadRequest("sinceTime: " + err.Error())
		}
	}
	i, file, err := l.pick(previous)
	if err != nil {
		return err
	}
	next := 0
	if tail, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		l.mu.Lock()
		next = max(0, len(file.lines)-tail)
		l.mu.Unlock()
	}
	var out bytes.Buffer
	for {
		l.mu.Lock()
		lines, after, ended, grown := file.lines[next:], file.next, i.ended, l.grown
		l.mu.Unlock()
		next += len(lines)
		out.Reset()
		for _, line := range lines {
			if !line.at.Before(since) {
				out.WriteString(line.at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + line.text + "\n")
			}
		}
		if out.Len() > 0 {
			if _, err := w.Write(out.Bytes()); err != nil {
				return nil //nolint:nilerr // who asked is gone
			}
			w.(http.Flusher).Flush()
		}
		switch {
		case after != nil:
			file, next = after, 0
		case ended && len(lines) == 0, !follow:
			return nil
		case !ended:
			select {
			case <-grown:
			case <-ctx.Done():
				return nil
			}
		}
	}
}
