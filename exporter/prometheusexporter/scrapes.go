package prometheusexporter

import (
	"net/http"
	"sync"
	"time"
)

// stalled is after how long without progress a scrape may have to make room for another.
const stalled = time.Second

// scrapes are those that go on.
type scrapes struct {
	mu   sync.Mutex
	open map[*scrape]struct{} // bounded by maxScrapes
}

// scrape is an answer that takes note of its progress.
type scrape struct {
	http.ResponseWriter
	mu         sync.Mutex
	progressed time.Time
}

// Write implements http.ResponseWriter.
func (s *scrape) Write(data []byte) (int, error) {
	n, err := s.ResponseWriter.Write(data)
	s.mu.Lock()
	s.progressed = time.Now()
	s.mu.Unlock()
	return n, err
}

func (s *scrape) waited(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Sub(s.progressed)
}

// enter begins a scrape. If too many go on, the one whose client has not read for longest is broken off; without such a one it
// returns nil.
func (s *scrapes) enter(w http.ResponseWriter) *scrape {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if len(s.open) >= maxScrapes {
		var slowest *scrape
		waited := stalled
		for one := range s.open {
			if since := one.waited(now); since >= waited {
				slowest, waited = one, since
			}
		}
		if slowest == nil {
			return nil
		}
		// What it is writing fails at once.
		_ = http.NewResponseController(slowest.ResponseWriter).SetWriteDeadline(now)
		delete(s.open, slowest)
	}
	one := &scrape{ResponseWriter: w, progressed: now}
	s.open[one] = struct{}{}
	return one
}

func (s *scrapes) leave(one *scrape) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, one)
}
