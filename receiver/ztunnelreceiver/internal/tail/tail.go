// Package tail follows the log files of ztunnels and passes on whole entries, each exactly once over restarts and crashes,
// provided that the caller stores what Changes returns together with what it made of the entries.
//
// Reading, rotation and file identity are fileconsumer's. This package adds what fileconsumer leaves open: its offsets are held
// back until the caller commits them, and what was read of an entry that is not whole yet is part of the same commit.
package tail

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/fileconsumer"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/fileconsumer/attrs"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/fileconsumer/matcher"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/stanza/operator/helper"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// Format says how entries lie in a file.
type Format string

// The formats.
const (
	FormatAuto Format = "auto"
	FormatCRI  Format = "cri"
	FormatBare Format = "bare"
)

// Config says what to follow.
type Config struct {
	Include, Exclude []string
	// StartAt is "beginning" or "end": where to begin in files that are there at the very first start.
	StartAt      string
	PollInterval time.Duration
	Format       Format
	// WholeAtFirst has the first poll read all that there is before Quiesce returns true.
	WholeAtFirst bool
	// Style is that of the logs.
	Style accesslog.Style
	// MaxEntry is the largest entry in bytes; of a longer one the beginning is passed on.
	MaxEntry int
	// Node is the node that files belong to. With NodeFrom, which has one group, the path says it; files that it does not match are
	// Node's, or are left out if there is none.
	Node     string
	NodeFrom *regexp.Regexp
}

const (
	// lineOverhead is more than what a line has beside the entry.
	lineOverhead = 4 << 10
	// blockSize is how much is read at once, in bytes.
	blockSize = 8 << 10
	// quietPolls is for how many polls that ended early a file has no lines until its last entry is taken as whole: it may not have
	// had its turn.
	quietPolls = 2
	// maxFiles bounds the files of which unfinished entries are kept.
	maxFiles = 4096
	// rememberGone is for how long the offset of a file that went away is remembered, should it come back.
	rememberGone = 5 * time.Minute
	// maxRemembered bounds the polls for which that is done: all of them are looked through for each new file.
	maxRemembered = 1500
	// fileTag is the attribute by which a file is known for as long as fileconsumer knows it, whatever its name.
	fileTag = "nephilia.file"
	// stateKey is where unfinished entries are stored.
	stateKey = "tail/files"
)

// Sink takes entries. Calls come while the tail's lock is held.
type Sink interface {
	// Begin comes before entries that were read at one time.
	Begin()
	Entry(node string, entry []byte)
	// Damaged counts lines that were not what they should be: not wrapped as the file's others are.
	Damaged(what Damage, n int64)
}

// Damage says what is wrong with a line.
type Damage string

// The kinds of damage.
const (
	DamageNotCRI Damage = "not_cri"
	DamageNoNode Damage = "no_node"
)

// Tail follows files. Its lock, which it shares with its owner, orders the reading of lines and the owner's work.
type Tail struct {
	cfg     Config
	set     component.TelemetrySettings
	store   Store
	sink    Sink
	lock    sync.Locker
	ready   func(ctx context.Context)
	matcher *matcher.Matcher
	manager *fileconsumer.Manager
	buffer  *buffer
	// irregular are matched and not read.
	irregular irregular

	// All below is guarded by lock.

	polls  polls
	files  map[string]*file // by fileTag; bounded by maxFiles
	nextID uint64
	// stored is what the storage has under stateKey.
	stored []byte
	nodes  map[string]struct{} // whose files were ever seen; bounded by maxFiles
}

// polls says how far fileconsumer is.
type polls struct {
	// reading is set from the first line of a poll to its end, or from the start: offsets lag behind.
	reading bool
	count   uint64
	// ended is closed and replaced at the end of each poll.
	ended chan struct{}
	// ending ends a poll early. It has a lock of its own.
	ending ending
}

// file is what was read of a file and is not an entry yet.
type file struct {
	unwrapper *accesslog.Unwrapper
	splitter  *accesslog.EntrySplitter
	node      string
	// over is set after the beginning of a line that is too long, until its end.
	over bool
	// poll is the last one in which the file had lines.
	poll uint64

	notCRI int64
}

// New returns a tail that takes lock whenever it calls the sink, and calls ready, without the lock, after it did: ready may
// wait in order to hold up reading. store may be nil.
func New(cfg Config, set component.TelemetrySettings, store Store, sink Sink, lock sync.Locker, ready func(ctx context.Context)) (*Tail, error) {
	m, err := matcher.New(matcher.Criteria{Include: cfg.Include, Exclude: cfg.Exclude})
	if err != nil {
		return nil, err
	}
	t := &Tail{
		cfg: cfg, set: set, store: store, sink: sink, lock: lock, ready: ready, matcher: m,
		files:     map[string]*file{},
		nodes:     map[string]struct{}{},
		polls:     polls{ended: make(chan struct{}), reading: cfg.WholeAtFirst},
		irregular: irregular{log: set.Logger, paths: map[string]struct{}{}},
	}
	t.polls.ending.never = cfg.WholeAtFirst
	t.buffer = newBuffer(store, t.pollEnded)
	return t, nil
}

// Start restores what is stored and begins to follow the files.
func (t *Tail) Start(ctx context.Context) error {
	known, err := t.restore(ctx)
	if err != nil {
		return err
	}
	cfg := fileconsumer.NewConfig()
	cfg.Criteria = matcher.Criteria{Include: t.cfg.Include, Exclude: append(t.irregular.exclude(t.matcher), t.cfg.Exclude...)}
	cfg.Resolver = attrs.Resolver{IncludeFilePath: true}
	cfg.PollInterval = t.cfg.PollInterval
	cfg.StartAt = t.cfg.StartAt
	if known {
		// What appeared since the last start is new, even if there was no file at all then.
		cfg.StartAt = StartAtBeginning
	}
	longest := t.cfg.MaxEntry + lineOverhead
	cfg.MaxLogSize = helper.ByteSize(longest)
	cfg.Encoding = "nop"
	// A line is a line when its end is there, however long that takes.
	cfg.FlushPeriod = 0
	// A file that is shorter than what was read of it, with the same beginning, was truncated after its beginning was looked at: that of its copy
	// goes on where it was, and its own new lines begin another file.
	cfg.OnTruncate = fileconsumer.OnTruncateIgnore
	cfg.MaxConcurrentFiles = openAtOnce(cfg.MaxConcurrentFiles)
	cfg.PollsToArchive = min(int(rememberGone/t.cfg.PollInterval)+1, maxRemembered)
	t.manager, err = cfg.Build(t.set, t.lines, fileconsumer.WithSplitFunc(t.polls.ending.split(splitLines(longest), t.matcher)))
	if err != nil {
		return fmt.Errorf("following files: %w", err)
	}
	if err := t.manager.Start(t.buffer); err != nil {
		return fmt.Errorf("following files: %w", err)
	}
	return nil
}

// Stop ends reading. Afterwards Changes returns the last offsets. The lock must not be held.
func (t *Tail) Stop() error {
	if t.manager == nil {
		return nil
	}
	stopped := make(chan struct{})
	released := make(chan struct{})
	go func() {
		defer close(released)
		t.irregular.release(stopped)
	}()
	err := t.manager.Stop()
	close(stopped)
	<-released
	return err
}

// splitLines splits a file into pieces of several lines, because each piece has a price in fileconsumer: whole lines with their ends,
// as many as fit into blockSize or else one, and of a line that is longer than longest first its beginning, without an end.
func splitLines(longest int) bufio.SplitFunc {
	return func(data []byte, _ bool) (advance int, token []byte, err error) {
		end := bytes.LastIndexByte(data[:min(len(data), blockSize, longest)], '\n') + 1
		if end == 0 {
			end = bytes.IndexByte(data[:min(len(data), longest)], '\n') + 1
		}
		if end == 0 {
			if len(data) < longest {
				return 0, nil, nil
			}
			end = longest
		}
		return end, data[:end:end], nil
	}
}

// lines is called by fileconsumer, for one file at a time by one goroutine each, with what splitLines gave. It always takes the lines:
// they count as read even if it fails.
func (t *Tail) lines(ctx context.Context, pieces [][]byte, attributes map[string]any, _ int64, _ []int64) error {
	t.lock.Lock()
	t.polls.reading = true
	t.sink.Begin()
	f := t.file(attributes)
	if f.node == "" {
		n := int64(0)
		for _, piece := range pieces {
			n += int64(bytes.Count(piece, newline))
		}
		t.sink.Damaged(DamageNoNode, n)
	} else {
		emit := func(entry []byte) { t.sink.Entry(f.node, entry) }
		for _, piece := range pieces {
			f.piece(t.cfg.Format, piece, emit)
		}
		t.countDamage(f)
	}
	t.lock.Unlock()
	t.ready(ctx)
	return nil
}

var newline = []byte{'\n'}

// piece takes lines. Of one without its end the beginning is taken, and what comes up to its end is left out.
func (f *file) piece(format Format, text []byte, emit func(entry []byte)) {
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		line, rest := text, []byte(nil)
		if end >= 0 {
			line, rest = text[:end:end], text[end+1:]
		}
		if !f.over {
			f.line(format, line, emit)
		}
		f.over = end < 0
		text = rest
	}
}

func (f *file) line(format Format, line []byte, emit func(entry []byte)) {
	split := func(line []byte) { f.splitter.Line(line, emit) }
	switch format {
	case FormatCRI:
		f.unwrapper.CRILine(line, split)
	case FormatAuto:
		f.unwrapper.Line(line, split)
	case FormatBare:
		split(line)
	}
}

func (t *Tail) countDamage(f *file) {
	if n := f.unwrapper.Malformed() - f.notCRI; n > 0 {
		t.sink.Damaged(DamageNotCRI, n)
		f.notCRI += n
	}
}

// file returns what is known of the file with those attributes, which are the same map for as long as fileconsumer knows
// the file, and are stored with its offset.
func (t *Tail) file(attributes map[string]any) *file {
	id, _ := attributes[fileTag].(string)
	path, _ := attributes[attrs.LogFilePath].(string)
	f := t.files[id]
	if f == nil {
		if id == "" {
			t.nextID++
			id = strconv.FormatUint(t.nextID, 10)
			attributes[fileTag] = id
		}
		f = t.newFile(t.nodeOf(path))
		t.files[id] = f
	}
	f.poll = t.polls.count
	t.evict()
	return f
}

func (t *Tail) newFile(node string) *file {
	return &file{
		unwrapper: accesslog.NewUnwrapper(t.cfg.Style, t.cfg.MaxEntry),
		splitter:  accesslog.NewEntrySplitter(t.cfg.Style, t.cfg.MaxEntry, 0),
		node:      node,
	}
}

// evict forgets the files that were quiet for the longest time once there are too many.
func (t *Tail) evict() {
	for len(t.files) > maxFiles {
		oldest, id := t.polls.count+1, ""
		for other, f := range t.files {
			if f.poll < oldest {
				oldest, id = f.poll, other
			}
		}
		if id == "" {
			return
		}
		f := t.files[id]
		f.splitter.Flush(func(entry []byte) { t.sink.Entry(f.node, entry) })
		delete(t.files, id)
	}
}

func (t *Tail) nodeOf(path string) string {
	if t.cfg.NodeFrom != nil {
		if match := t.cfg.NodeFrom.FindStringSubmatch(path); match != nil && match[1] != "" {
			return match[1]
		}
	}
	return t.cfg.Node
}

// pollEnded is called at the end of a poll: the offsets in the buffer are those of the lines that were passed on.
func (t *Tail) pollEnded() {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.sink.Begin()
	quiet := uint64(0)
	if t.polls.ending.ended() {
		quiet = quietPolls
	}
	for id, f := range t.files {
		if f.poll+quiet >= t.polls.count {
			continue
		}
		// The file was quiet for a whole poll, so that nothing will continue its last entry.
		f.splitter.Flush(func(entry []byte) { t.sink.Entry(f.node, entry) })
		if !f.open() {
			delete(t.files, id)
		}
	}
	t.polls.count++
	t.polls.reading = false
	close(t.polls.ended)
	t.polls.ended = make(chan struct{})
}

func (f *file) open() bool { return len(f.state().Parts) > 0 || f.splitter.Holding() || f.over }

// Quiesce ends the poll under way where it is, so that no backlog holds up what is stored, and no file that grows as fast as it is read
// the others. It waits until the offsets and the entries passed on say the same, at most until the context ends, and returns with
// the lock held. It returns false, with the lock held too, if that was not to be had.
func (t *Tail) Quiesce(ctx context.Context) bool {
	t.lock.Lock()
	for t.polls.reading {
		t.polls.ending.ask()
		polled := t.polls.ended
		t.lock.Unlock()
		select {
		case <-polled:
			t.lock.Lock()
		case <-ctx.Done():
			t.lock.Lock()
			return !t.polls.reading
		}
	}
	return true
}

// Settled tells whether the offsets and the entries passed on say the same. The lock is held.
func (t *Tail) Settled() bool { return !t.polls.reading }

// Polled returns a channel that is closed at the end of the poll under way, or of the next one.
func (t *Tail) Polled() <-chan struct{} {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.polls.ended
}

// Changes returns what changed since it was last written: offsets and unfinished entries. It is to be called with the
// lock held, after Quiesce returned true or Stop. written is to be called with the lock held before Changes is called again.
func (t *Tail) Changes() (ops []*storage.Operation, written func(ok bool), err error) {
	state, err := t.state()
	if err != nil {
		return nil, nil, err
	}
	offsets := t.buffer.changes()
	ops = slices.Clone(offsets)
	if !bytes.Equal(state, t.stored) {
		ops = append(ops, storage.SetOperation(stateKey, state))
	}
	return ops, func(ok bool) {
		if ok {
			t.buffer.wrote(offsets)
			t.stored = state
		}
	}, nil
}

// Readable says for each node whose files were ever seen whether one of them can be read now.
func (t *Tail) Readable() map[string]bool {
	// Errors of the matcher are patterns without a file.
	paths, _ := t.matcher.MatchFiles()
	found := map[string]bool{}
	for _, path := range paths {
		node := t.nodeOf(path)
		if !t.irregular.regular(path) || node == "" || found[node] {
			continue
		}
		found[node] = canRead(path)
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	for node := range t.nodes {
		if _, ok := found[node]; !ok {
			found[node] = false
		}
	}
	if t.cfg.Node != "" && t.cfg.NodeFrom == nil {
		if _, ok := found[t.cfg.Node]; !ok {
			found[t.cfg.Node] = false
		}
	}
	for node := range found {
		if len(t.nodes) < maxFiles {
			t.nodes[node] = struct{}{}
		}
	}
	return found
}

func canRead(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	return f.Close() == nil
}
