// Package record writes what a receiver reads (entries of logs, scrapes, config dumps, istiod's responses) as a recording that internal/replay
// plays: a support bundle. Each recording begins with istiod's whole state, so that it can be played by itself.
package record

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

const (
	// maxFiles bounds the files of a recording, which are open together.
	maxFiles = 1024
	// maxResources bounds what is kept of istiod's state for the next recording.
	maxResources = 500_000
	bufferSize   = 32 << 10
	folderName   = "20060102T150405.000Z"
	xdsFile      = "xds.binpb"
)

// Recorder writes recordings. A nil one writes nothing. It is safe for concurrent use. What it cannot write it says once, and then writes nothing
// more: nothing that is read may wait for it, or be lost by it.
type Recorder struct {
	config Config
	report func(message string, err error)
	scrub  *scrubber // nil if names and addresses stay

	mu    sync.Mutex
	ended bool
	// folder is the recording's, began when it began; empty before the first part.
	folder string
	began  time.Time
	// written is how much it has, in bytes.
	written int64
	files   map[string]*file // bounded by maxFiles
	// resources are istiod's by type and name, bounded by maxResources; kept counts them.
	resources map[string]map[string]*discoveryv3.Resource
	kept      int
}

type file struct {
	*os.File
	*bufio.Writer
}

// New returns a recorder; report is told why recording ends or what is left out of it.
func New(config Config, report func(message string, err error)) (*Recorder, error) {
	if err := os.MkdirAll(config.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for recordings: %w", err)
	}
	r := &Recorder{config: config, report: report, resources: map[string]map[string]*discoveryv3.Resource{}}
	if config.Scrub {
		r.scrub = newScrubber([]byte(config.ScrubKey))
	}
	return r, nil
}

// part writes a part of the recording to a file. make returns what to write; it is called with the lock held, and may return nothing.
func (r *Recorder) part(at time.Time, name func() string, content func() ([]byte, error)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	if err := r.write(at, name, content); err != nil {
		r.ended = true
		r.report("Recording ended", errors.Join(err, r.close()))
	}
}

func (r *Recorder) write(at time.Time, name func() string, content func() ([]byte, error)) error {
	if err := r.rotate(at); err != nil {
		return err
	}
	text, err := content()
	if err != nil || len(text) == 0 {
		return err
	}
	return r.append(name(), text)
}

func (r *Recorder) append(name string, text []byte) error {
	f := r.files[name]
	if f == nil {
		if len(r.files) >= maxFiles {
			r.report("A recording has no room for another file", fmt.Errorf("%s is left out", name))
			return nil
		}
		opened, err := os.OpenFile(filepath.Join(r.folder, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("opening a file of the recording: %w", err)
		}
		f = &file{opened, bufio.NewWriterSize(opened, bufferSize)}
		r.files[name] = f
	}
	n, err := f.Writer.Write(text)
	r.written += int64(n)
	return err
}

// rotate begins a new recording where it is time to, and removes the oldest ones beyond the bound.
func (r *Recorder) rotate(at time.Time) error {
	// A recording has a third of the room at most, so that what went before it is there.
	share := r.config.MaxSizeMiB << 20 / 3
	if r.folder != "" && r.written < share && !at.Before(r.began) && at.Sub(r.began) < r.config.Rotate {
		return nil
	}
	if r.folder != "" && at.Before(r.began) && r.began.Sub(at) < r.config.Rotate {
		return nil // a clock's step, or a part that comes late
	}
	if err := r.close(); err != nil {
		return err
	}
	if err := r.prune(2 * share); err != nil {
		return err
	}
	r.folder, r.began, r.written, r.files = filepath.Join(r.config.Directory, at.UTC().Format(folderName)), at, 0, map[string]*file{}
	if err := os.MkdirAll(r.folder, 0o700); err != nil {
		return fmt.Errorf("making the recording's folder: %w", err)
	}
	for _, typeURL := range slices.Sorted(maps.Keys(r.resources)) {
		held := r.resources[typeURL]
		state := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL}
		for _, name := range slices.Sorted(maps.Keys(held)) {
			state.Resources = append(state.Resources, held[name])
		}
		if err := r.appendResponse(at, state); err != nil {
			return err
		}
	}
	return nil
}

// prune removes the oldest recordings until the rest has so many bytes at most.
func (r *Recorder) prune(most int64) error {
	entries, err := os.ReadDir(r.config.Directory)
	if err != nil {
		return fmt.Errorf("listing recordings: %w", err)
	}
	sum := int64(0)
	for _, entry := range slices.Backward(entries) { // by name, which is by time
		if _, err := time.Parse(folderName, entry.Name()); err != nil || !entry.IsDir() {
			continue // not ours
		}
		path := filepath.Join(r.config.Directory, entry.Name())
		if sum += sizeOf(path); sum > most {
			if err := os.RemoveAll(path); err != nil {
				return fmt.Errorf("removing the oldest recording: %w", err)
			}
		}
	}
	return nil
}

func sizeOf(folder string) (sum int64) {
	_ = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error { // What cannot be read has no size.
		if err == nil && !entry.IsDir() {
			if info, err := entry.Info(); err == nil {
				sum += info.Size()
			}
		}
		return nil
	})
	return sum
}

// Flush writes to the disk what is buffered.
func (r *Recorder) Flush() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.files {
		if err := f.Flush(); err != nil && !r.ended {
			r.ended = true
			r.report("Recording ended", errors.Join(err, r.close()))
			return
		}
	}
}

// Close ends recording.
func (r *Recorder) Close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	return r.close()
}

func (r *Recorder) close() error {
	var errs []error
	for _, f := range r.files {
		errs = append(errs, f.Flush(), f.Close())
	}
	r.files = nil
	return errors.Join(errs...)
}

// named is the name of a file about something, as it may be told.
func (r *Recorder) named(prefix, what, suffix string) string {
	if r.scrub != nil {
		what = r.scrub.name(what)
	}
	return prefix + strings.Map(func(c rune) rune {
		if c == '/' || c == '\\' || c == ':' || c < ' ' {
			return '-'
		}
		return c
	}, what) + suffix
}

// Entry records an entry of a ztunnel's log.
func (r *Recorder) Entry(node string, at time.Time, entry []byte) {
	r.part(at, func() string { return r.named("ztunnel-", node, ".log") }, func() ([]byte, error) {
		if r.scrub != nil {
			return line(r.scrub.entry(entry))
		}
		return line(entry, nil)
	})
}

// Request records a line of a waypoint's or a gateway's access log.
func (r *Recorder) Request(proxy string, gateway bool, at time.Time, text []byte) {
	prefix := "waypoint-"
	if gateway {
		prefix = "gateway-"
	}
	r.part(at, func() string { return r.named(prefix, proxy, ".log") }, func() ([]byte, error) {
		if r.scrub != nil {
			return line(r.scrub.request(text))
		}
		return line(text, nil)
	})
}

func line(text []byte, err error) ([]byte, error) {
	if err != nil || len(text) == 0 {
		return nil, err
	}
	return append(slices.Clip(text), '\n'), nil
}

// Scrape records a scrape of a ztunnel, by its node, or of a waypoint; one that failed has no body.
func (r *Recorder) Scrape(name string, at time.Time, body []byte, failed bool) {
	r.part(at, func() string { return r.named("metrics-", name, ".prom") }, func() ([]byte, error) {
		state := "ok"
		if failed {
			body, state = nil, "failed"
		}
		head := fmt.Appendf(nil, "## scrape %s %s\n", at.UTC().Format(time.RFC3339Nano), state)
		if r.scrub != nil {
			var err error
			if body, err = r.scrub.exposition(body); err != nil {
				return nil, err
			}
		}
		if n := len(body); n > 0 && body[n-1] != '\n' {
			body = append(slices.Clip(body), '\n')
		}
		return append(head, body...), nil
	})
}

// ConfigDump records a ztunnel's config dump; nil for one that failed.
func (r *Recorder) ConfigDump(node string, at time.Time, dump []byte) {
	r.part(at, func() string { return r.named("config_dump-", node, ".jsonl") }, func() ([]byte, error) {
		if !json.Valid(dump) {
			dump = nil
		}
		if r.scrub != nil && dump != nil {
			var err error
			if dump, err = r.scrub.dump(dump); err != nil {
				return nil, err
			}
		}
		name := node
		if r.scrub != nil {
			name = r.scrub.name(node)
		}
		encoded, err := json.Marshal(struct {
			Time time.Time       `json:"time"`
			Node string          `json:"node"`
			Dump json.RawMessage `json:"config_dump"`
		}{at.UTC(), name, dump})
		return line(encoded, err)
	})
}

// Response records what istiod sent.
func (r *Recorder) Response(at time.Time, response *discoveryv3.DeltaDiscoveryResponse) {
	r.part(at, func() string { return xdsFile }, func() ([]byte, error) {
		if r.scrub != nil {
			var err error
			if response, err = r.scrub.response(response); err != nil {
				return nil, err
			}
		}
		if err := r.keep(response); err != nil {
			return nil, err
		}
		return nil, r.appendResponse(at, response)
	})
}

// keep keeps istiod's state for the next recording.
func (r *Recorder) keep(response *discoveryv3.DeltaDiscoveryResponse) error {
	held := r.resources[response.GetTypeUrl()]
	if held == nil {
		held = map[string]*discoveryv3.Resource{}
		r.resources[response.GetTypeUrl()] = held
	}
	for _, name := range response.GetRemovedResources() {
		if held[name] != nil {
			delete(held, name)
			r.kept--
		}
	}
	for _, one := range response.GetResources() {
		if held[one.GetName()] == nil {
			r.kept++
		}
		held[one.GetName()] = one
	}
	if r.kept > maxResources {
		return fmt.Errorf("istiod has more than %d resources", maxResources)
	}
	return nil
}

func (r *Recorder) appendResponse(at time.Time, response *discoveryv3.DeltaDiscoveryResponse) error {
	encoded, err := proto.Marshal(response)
	if err != nil {
		return fmt.Errorf("recording istiod's response: %w", err)
	}
	head := binary.BigEndian.AppendUint64(nil, uint64(at.UnixNano()))
	head = binary.BigEndian.AppendUint32(head, uint32(len(encoded)))
	return r.append(xdsFile, append(head, encoded...))
}
