package mesh

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// entryFormat is how ztunnel writes a time.
const entryFormat = "2006-01-02T15:04:05.000000Z"

const (
	// partSize is where a line is split over several of the runtime's. Runtimes do so at 16 KiB, which ztunnels' access
	// log never reaches; here it is low, so that split entries are met.
	partSize = 450
	// keptFiles is how many files of a container's log the kubelet keeps.
	keptFiles = 5
)

// Ztunnel plays the part of one node. It is safe for concurrent use.
type Ztunnel struct {
	Node string

	recording *Recording
	folder    string // of the container's log
	ledger    *Ledger

	mu        sync.Mutex
	started   time.Time
	file      *os.File
	rotations int
	polled    int
	server    *http.Server
}

// NewZtunnel prepares the ztunnel of a node, whose log lies in a folder as the kubelet lays it.
func NewZtunnel(recording *Recording, node, folder string, ledger *Ledger) (*Ztunnel, error) {
	z := &Ztunnel{Node: node, recording: recording, folder: folder, ledger: ledger}
	// The runtime's own modes: whoever is not of root's group cannot read.
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("making the log of %s's ztunnel: %w", node, err)
	}
	return z, z.create()
}

// LogPath is the file that is written to.
func (z *Ztunnel) LogPath() string { return filepath.Join(z.folder, "0.log") }

func (z *Ztunnel) create() error {
	file, err := os.OpenFile(z.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("creating the log of %s's ztunnel: %w", z.Node, err)
	}
	z.file = file
	return nil
}

// Serve answers /metrics until Close.
func (z *Ztunnel) Serve(listener net.Listener) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", z.metrics)
	z.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = z.server.Serve(listener) }()
}

// Close ends the ztunnel.
func (z *Ztunnel) Close() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.server != nil {
		_ = z.server.Close()
	}
	return z.file.Close()
}

func (z *Ztunnel) metrics(w http.ResponseWriter, _ *http.Request) {
	z.mu.Lock()
	polls := z.recording.polls[z.Node]
	for z.polled+1 < len(polls) && !z.started.IsZero() && polls[z.polled+1].at <= time.Since(z.started) {
		z.polled++
	}
	body := polls[z.polled].body
	z.mu.Unlock()
	if body == nil {
		// Nobody is there: the connection ends without an answer.
		if hijacker, ok := w.(http.Hijacker); ok {
			if connection, _, err := hijacker.Hijack(); err == nil {
				_ = connection.Close()
			}
		}
		return
	}
	w.Header().Set("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
	_, _ = w.Write(body)
}

// Play writes the log from a start on, until its end or the context's.
func (z *Ztunnel) Play(ctx context.Context, start time.Time) error {
	z.mu.Lock()
	z.started = start
	z.mu.Unlock()
	for _, l := range z.recording.lines[z.Node] {
		// What was printed before the start comes at once.
		if wait := time.Until(start.Add(l.at)); wait > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(wait):
			}
		}
		if err := z.write(l.text); err != nil {
			return err
		}
	}
	return nil
}

// write appends one line with the time of now: what is written late was late in the mesh.
func (z *Ztunnel) write(text []byte) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	now := time.Now().UTC()
	if _, from, to, ok := entryTime(text); ok {
		rebased := append([]byte(nil), text[:from]...)
		rebased = now.AppendFormat(rebased, entryFormat)
		text = append(rebased, text[to:]...)
	}
	z.ledger.add(text)
	var out []byte
	for {
		part, tag := text, "F"
		if len(part) > partSize {
			part, tag = part[:partSize], "P"
		}
		out = append(now.AppendFormat(out, time.RFC3339Nano), " stdout "...)
		out = append(append(append(append(out, tag...), ' '), part...), '\n')
		text = text[len(part):]
		if tag == "F" {
			break
		}
	}
	if _, err := z.file.Write(out); err != nil {
		return fmt.Errorf("writing the log of %s's ztunnel: %w", z.Node, err)
	}
	return nil
}

// Rotate does what the kubelet does to a log that is too large: it renames the file, lets the runtime open a new one,
// compresses the one that was rotated before and removes the oldest.
func (z *Ztunnel) Rotate() error {
	z.mu.Lock()
	defer z.mu.Unlock()
	earlier, err := filepath.Glob(filepath.Join(z.folder, "0.log.*"))
	if err != nil {
		return err
	}
	for len(earlier) > keptFiles-2 {
		if err := os.Remove(earlier[0]); err != nil {
			return fmt.Errorf("removing the oldest log: %w", err)
		}
		earlier = earlier[1:]
	}
	for _, path := range earlier {
		if filepath.Ext(path) != ".gz" {
			if err := compress(path); err != nil {
				return fmt.Errorf("compressing a rotated log: %w", err)
			}
		}
	}
	z.rotations++
	rotated := fmt.Sprintf("%s.%s", z.LogPath(), time.Now().Add(time.Duration(z.rotations)*time.Second).Format("20060102-150405"))
	if err := os.Rename(z.LogPath(), rotated); err != nil {
		return fmt.Errorf("rotating the log of %s's ztunnel: %w", z.Node, err)
	}
	if err := z.file.Close(); err != nil {
		return fmt.Errorf("closing a rotated log: %w", err)
	}
	return z.create()
}

func compress(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	temporary := path + ".tmp"
	file, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	packed := gzip.NewWriter(file)
	if _, err := packed.Write(content); err != nil {
		return err
	}
	if err := packed.Close(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	if err := os.Rename(temporary, path+".gz"); err != nil {
		return err
	}
	return os.Remove(path)
}

var _ io.Closer = (*Ztunnel)(nil)
