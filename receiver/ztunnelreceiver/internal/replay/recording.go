package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/envoylog"
)

// maxFiles bounds the files of one recording.
const maxFiles = 4096

// MaxPart bounds a scrape, a config dump, a response and a request of a recording, in bytes.
const MaxPart = 128 << 20

// ErrFailed is why a scrape or a dump failed of which the recording says no more than that.
var ErrFailed = errors.New("failed when it was recorded")

// Limits bound what is read of a recording.
type Limits struct {
	// Entry is the largest log entry in bytes; the rest of a larger one is cut off.
	Entry int
	// Format is that of Envoys' access logs beside Istio's own; it may be nil.
	Format *envoylog.Format
	// Part is the largest scrape, config dump, response or request in bytes; a larger one is skipped.
	Part int
}

// Recording is an open recording. It is not safe for use by several goroutines.
type Recording struct {
	files   []*os.File
	sources []*ordered
	// entries and cni are the nodes of whose ztunnel and of whose CNI agent there is a log.
	entries, cni []string
	// last is the part handed out by Next, to be recycled.
	last     *Part
	lastFrom *ordered
	scratch  []byte
	report   Report
	// ids are those of this round.
	ids idMask
	// unknown are the names of files that are none of a recording.
	unknown []string
}

// Open opens the recording in a folder. Files that are missing are no error; a folder without any is.
func Open(directory string, limits Limits, report Report) (*Recording, error) {
	names, unknown, err := recordingFiles(directory)
	if err != nil {
		return nil, err
	}
	r := &Recording{report: report, unknown: unknown}
	for _, file := range names {
		if err := r.add(filepath.Join(directory, file.name), file, names, limits); err != nil {
			report.Unreadable(file.kind, file.node, true, err)
		}
	}
	anchors := make([]int64, len(r.sources))
	var known []int64
	for i, source := range r.sources {
		anchors[i] = source.anchor()
		if anchors[i] != 0 {
			known = append(known, anchors[i])
		}
	}
	if len(known) == 0 {
		return nil, errors.Join(fmt.Errorf("recording %s: nothing in its files could be read: %s", absolute(directory), listed(names)), r.Close())
	}
	slices.Sort(known)
	base := known[len(known)/2]
	for i, source := range r.sources {
		anchor := anchors[i]
		if anchor == 0 {
			anchor = base
		}
		source.start(base, anchor)
	}
	return r, nil
}

// companions lie beside a recording's files, for people and checks.
var companions = []string{"truth.json", "README.md"}

// recordingFiles lists what a recording has, each part once, and the files that are none of a recording.
func recordingFiles(directory string) (files []recordingFile, unknown []string, err error) {
	dir, err := os.Open(directory)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("recording %s: there is no such folder", absolute(directory))
	}
	if err != nil {
		return nil, nil, fmt.Errorf("opening recording: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(4 * maxFiles)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("listing recording %s: %w", absolute(directory), err)
	}
	// A plain file comes before its compressed copy, and xds.binpb before xds.jsonl.
	slices.Sort(names)
	seen := map[string]bool{}
	for _, name := range names {
		file, ok := parseName(name)
		if !ok {
			if !slices.Contains(companions, name) {
				unknown = append(unknown, name)
			}
			continue
		}
		id := fmt.Sprint(file.kind, file.node)
		if file.kind == KindRequest {
			id = file.prefix + file.node
		}
		if seen[id] || len(files) == maxFiles {
			continue
		}
		seen[id] = true
		files = append(files, file)
	}
	if len(files) == 0 {
		found := "it is empty"
		if len(unknown) > 0 {
			found = "found " + shortList(unknown)
		}
		return nil, nil, fmt.Errorf("recording %s: none of a recording's files is in it (%s, each also with .gz); %s", absolute(directory), fileNames(), found)
	}
	slices.SortFunc(files, func(a, b recordingFile) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		return strings.Compare(a.node, b.node)
	})
	return files, unknown, nil
}

// absolute is the whole path of a folder, because a relative one says little in an error.
func absolute(directory string) string {
	if path, err := filepath.Abs(directory); err == nil {
		return path
	}
	return directory
}

// listed are the names of files, for an error.
func listed(files []recordingFile) string {
	names := make([]string, len(files))
	for i := range files {
		names[i] = files[i].name
	}
	return shortList(names)
}

// shortList joins names, the first of many.
func shortList(names []string) string {
	const most = 20
	if more := len(names) - most; more > 0 {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(names, ", ")
}

func (r *Recording) add(path string, file recordingFile, all []recordingFile, limits Limits) error {
	opened, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	in, err := decompressed(opened)
	if err != nil {
		return errors.Join(fmt.Errorf("decompressing: %w", err), opened.Close())
	}
	r.files = append(r.files, opened)
	switch file.kind {
	case KindEntry:
		r.entries = append(r.entries, file.node)
	case KindCNI:
		r.cni = append(r.cni, file.node)
	}
	r.sources = append(r.sources, &ordered{
		src:  file.open(in, limits, all, file.node),
		kind: file.kind, name: file.node, jitter: int64(file.jitter), report: r.report,
	})
	return nil
}

// decompressed looks at the content, not at the name.
func decompressed(file io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(file, 64<<10)
	head, err := in.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return in, nil
	}
	return gzip.NewReader(in)
}

// Contents says what a recording has.
type Contents struct {
	// EntryNodes are the nodes whose ztunnel's log it has.
	EntryNodes []string
	// CNINodes are the nodes whose CNI agent's log it has.
	CNINodes []string
	// XDS tells whether it has what istiod said, Requests whether it has logs of waypoints or gateways.
	XDS, Requests bool
}

// Contents says what the recording has.
func (r *Recording) Contents() Contents {
	contents := Contents{EntryNodes: r.entries, CNINodes: r.cni}
	for _, source := range r.sources {
		contents.XDS = contents.XDS || source.kind == KindXDS
		contents.Requests = contents.Requests || source.kind == KindRequest
	}
	return contents
}

// Start is the time of the first part; ok is false for a recording without parts.
func (r *Recording) Start() (start time.Time, ok bool) {
	if first := r.first(); first != nil {
		return time.Unix(0, first.peek().own).UTC(), true
	}
	return time.Time{}, false
}

func (r *Recording) first() *ordered {
	var first *ordered
	var head *Part
	for _, source := range r.sources {
		part := source.peek()
		if part == nil {
			continue
		}
		// Sources are sorted by kind and name, so that the first of several with one time wins.
		if head == nil || part.own < head.own {
			first, head = source, part
		}
	}
	return first
}

// Next returns the next part, shifted, valid until the next call, or io.EOF.
func (r *Recording) Next(shift time.Duration) (*Part, error) {
	if r.last != nil {
		r.lastFrom.recycle(r.last)
		r.last = nil
	}
	source := r.first()
	if source == nil {
		return nil, io.EOF
	}
	part := source.pop()
	r.last, r.lastFrom = part, source
	part.Time = time.Unix(0, part.own).UTC().Add(shift)
	part.Shift = shift
	switch part.Kind {
	case KindEntry, KindCNI:
		if part.clamped && !part.timeAt.empty() {
			r.scratch = setEntryTime(r.scratch, part.Raw, part.timeAt, part.own)
			part.Raw, r.scratch = r.scratch, part.Raw
		}
	case KindRequest:
		part.Outlier = part.clamped
	case KindSpans:
		if n := moveSpans(part.Spans, part.own, shift); n > 0 {
			r.report.ClockOutlier(part.Kind, part.Name, n)
		}
		r.ids.renew(part.Spans)
	}
	return part, nil
}

// Close closes all files.
func (r *Recording) Close() error {
	var errs error
	for _, file := range r.files {
		errs = errors.Join(errs, file.Close())
	}
	r.files = nil
	return errs
}
