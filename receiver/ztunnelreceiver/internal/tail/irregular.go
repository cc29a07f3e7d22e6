package tail

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/fileconsumer/matcher"
	"go.uber.org/zap"
)

// irregular are the FIFOs, devices and sockets that a pattern matches. They are left out: opening or reading one may never end.
type irregular struct {
	log *zap.Logger

	mu    sync.Mutex
	paths map[string]struct{} // bounded by maxFiles
}

// exclude returns patterns of those that are there now.
func (i *irregular) exclude(m *matcher.Matcher) (patterns []string) {
	paths, _ := m.MatchFiles() // an error is a pattern without a file
	escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `{`, `\{`, `}`, `\}`)
	for _, path := range paths {
		if !i.regular(path) {
			patterns = append(patterns, escape.Replace(path))
		}
	}
	return patterns
}

// regular tells whether a path is a file. Of one that is not, and that came after the start, fileconsumer does not know it: what
// waits for a FIFO's writer is let go on.
func (i *irregular) regular(path string) bool {
	info, err := os.Stat(path)
	if err != nil || info.Mode().IsRegular() {
		return true // what cannot be looked at cannot be opened either
	}
	i.mu.Lock()
	_, known := i.paths[path]
	if !known && len(i.paths) < maxFiles {
		i.paths[path] = struct{}{}
		i.log.Warn("What a pattern of access_logs matches is no regular file and is not read", zap.String("path", path))
	}
	i.mu.Unlock()
	if known {
		letGo(path)
	}
	return false
}

// release lets go of everything that waits for a writer until stopped is closed.
func (i *irregular) release(stopped <-chan struct{}) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		i.mu.Lock()
		for path := range i.paths {
			letGo(path)
		}
		i.mu.Unlock()
		select {
		case <-stopped:
			return
		case <-ticker.C:
		}
	}
}

// letGo lets whoever waits for a FIFO's writer see its end. Without a reader, and of anything else, the attempt fails at once.
func letGo(path string) {
	if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return
	}
	if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
		_ = f.Close() // nothing was written
	}
}
