package tail

import (
	"bufio"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/fileconsumer/matcher"
)

// ending ends a poll of fileconsumer's before its files do. What is left of them comes with the next poll, but for files that are gone:
// these fileconsumer reads once more and never again, so that a poll in which some may be read goes on to their ends.
type ending struct {
	// asked is set from when an end is waited for until it is there.
	asked atomic.Bool

	mu sync.Mutex
	// decided is set once a poll that was asked to end does so or does not, early if it does.
	decided, early bool
	// never is set until the first end of a poll if that poll is to be whole.
	never bool
	// left are the inodes of the files that were there when the last poll ended early; bounded by the files.
	left map[uint64]struct{}
}

func (e *ending) ask() { e.asked.Store(true) }

// split ends what it splits when the poll does.
func (e *ending) split(next bufio.SplitFunc, m *matcher.Matcher) bufio.SplitFunc {
	return func(data []byte, atEOF bool) (advance int, token []byte, err error) {
		if e.asked.Load() && e.decide(m) {
			return 0, nil, bufio.ErrFinalToken
		}
		return next(data, atEOF)
	}
}

// decide tells whether the poll under way ends now. It is the same for all of its files.
func (e *ending) decide(m *matcher.Matcher) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.decided {
		return e.early
	}
	e.decided, e.early = true, !e.never
	if e.never {
		return false
	}
	there := inodes(m)
	for inode := range e.left {
		if _, still := there[inode]; !still {
			e.early = false
		}
	}
	e.left = there
	return e.early
}

// ended is called at the end of a poll, and tells whether it came early.
func (e *ending) ended() (early bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	early = e.early
	if !early {
		e.left = nil // nothing is
	}
	e.asked.Store(false)
	e.decided, e.early, e.never = false, false, false
	return early
}

func inodes(m *matcher.Matcher) map[uint64]struct{} {
	paths, _ := m.MatchFiles() // an error is a pattern without a file
	found := make(map[uint64]struct{}, len(paths))
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				found[stat.Ino] = struct{}{}
			}
		}
	}
	return found
}
