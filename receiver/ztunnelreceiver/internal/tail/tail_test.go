package tail

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// entries takes a tail's entries.
type entries struct {
	sync.Mutex
	all     []string
	damaged map[Damage]int64
}

func (*entries) Begin()                         {}
func (e *entries) Entry(_ string, entry []byte) { e.all = append(e.all, string(entry)) }
func (e *entries) Damaged(what Damage, n int64) { e.damaged[what] += n }
func newEntries() *entries                      { return &entries{damaged: map[Damage]int64{}} }
func ready(context.Context)                     {}
func newTail(t *testing.T, cfg Config) (*Tail, *entries) {
	sink := newEntries()
	cfg.StartAt, cfg.PollInterval, cfg.MaxEntry, cfg.Node = "beginning", 10*time.Millisecond, 1024, "n"
	tail, err := New(cfg, componenttest.NewNopTelemetrySettings(), nil, sink, sink, ready)
	require.NoError(t, err)
	return tail, sink
}

// Beyond maxFiles the quietest file is forgotten, not the one that is being read.
func TestEvictForgetsTheQuietestFile(t *testing.T) {
	tail, sink := newTail(t, Config{Include: []string{"/nowhere/*.log"}, Format: FormatAuto})
	sink.Lock()
	defer sink.Unlock()
	tail.polls.count = 7
	for i := range maxFiles {
		f := tail.newFile("n")
		f.poll = uint64(5 + i%2)
		tail.files[strconv.Itoa(i)] = f
	}
	tail.nextID = maxFiles
	attributes := map[string]any{}
	f := tail.file(attributes)
	assert.Len(t, tail.files, maxFiles)
	assert.Same(t, f, tail.files[attributes[fileTag].(string)])
}

// A line in the CRI format among others is that line's matter only.
func TestAForeignLineDoesNotChangeTheFormatOfAFile(t *testing.T) {
	const (
		plain  = "2026-11-23T21:24:37.454227Z\tinfo\taccess\tconnection complete\tx=1"
		json   = `{"level":"info","time":"2026-11-23T21:24:37.454227Z","scope":"access","message":"connection complete"}`
		stdout = "2026-11-23T21:24:37.454227Z stdout F x"
		cri    = "2026-11-23T21:24:37.454227123Z stdout F "
	)
	for name, test := range map[string]struct {
		lines []string
		want  []string
		// notCRI counts those that a Kubernetes file does not have.
		notCRI int64
	}{
		"plain":         {[]string{plain, stdout, plain, plain}, []string{plain, plain, plain}, 0},
		"JSON":          {[]string{json, stdout, json}, []string{json, json}, 0},
		"at its start":  {[]string{stdout, plain, plain}, []string{plain, plain}, 0},
		"Kubernetes'":   {[]string{cri + plain, cri + plain}, []string{plain, plain}, 0},
		"a damaged one": {[]string{cri + plain, "garbage", cri + plain}, []string{plain, plain}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			tail, sink := newTail(t, Config{Include: []string{"/nowhere/*.log"}, Format: FormatAuto})
			f := tail.newFile("n")
			var got []string
			emit := func(entry []byte) {
				if len(entry) > 0 && (entry[0] == '{' || entry[0] == '2') {
					text, _, _ := cutLine(string(entry))
					got = append(got, text)
				}
			}
			for _, line := range test.lines {
				f.line(FormatAuto, []byte(line), emit)
			}
			f.splitter.Flush(emit)
			tail.countDamage(f)
			assert.Equal(t, test.want, got)
			assert.Equal(t, test.notCRI, sink.damaged[DamageNotCRI])
		})
	}
}

func cutLine(text string) (first, rest string, more bool) {
	for i := range text {
		if text[i] == '\n' {
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// What is no regular file is not read, whether it is there at the start or comes later, and does not keep anything from ending.
func TestFIFOsAreNotRead(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "before[1].log"), 0o600))
	require.NoError(t, os.Symlink("/dev/zero", filepath.Join(dir, "device.log")))
	const entry = "2026-11-23T21:24:37.454227Z\tinfo\taccess\tx"
	write := func(name string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(entry+"\n"+entry+"\n"), 0o600))
	}
	write("a.log")
	tail, sink := newTail(t, Config{Include: []string{filepath.Join(dir, "*.log")}, Format: FormatAuto})
	require.NoError(t, tail.Start(t.Context()))
	read := func(n int) func() bool {
		return func() bool {
			assert.Equal(t, map[string]bool{"n": true}, tail.Readable())
			sink.Lock()
			defer sink.Unlock()
			return len(sink.all) >= n
		}
	}
	require.Eventually(t, read(2), 20*time.Second, 10*time.Millisecond)
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "after.log"), 0o600))
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "b.log"), []byte("2026-11-23T21:24:38.454227Z\tinfo\taccess\ty\n2026-11-23T21:24:38.454227Z\tinfo\taccess\tz\n"), 0o600))
	require.Eventually(t, read(4), 20*time.Second, 10*time.Millisecond)
	require.NoError(t, tail.Stop())
}

// asking is a sink that asks for the end of the poll whenever there is an entry.
type asking struct {
	*entries
	ask   func()
	count int
}

func (a *asking) Entry(string, []byte) { a.count++; a.ask() }

// What a poll that ended early left of a file is read though the file is gone. With WholeAtFirst the first poll is never cut short.
func TestWhatIsLeftOfAFileThatIsGoneIsRead(t *testing.T) {
	const lines = 3000
	for name, first := range map[string]bool{"cut short": false, "whole at first": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "0.log")
			require.NoError(t, os.WriteFile(path, []byte(strings.Repeat(fmt.Sprintf(grownLine, 0), lines)), 0o600))
			tail, _ := newTail(t, Config{Include: []string{filepath.Join(dir, "*.log")}, Format: FormatAuto, WholeAtFirst: first})
			sink := &asking{entries: newEntries(), ask: tail.polls.ending.ask}
			tail.sink, tail.lock = sink, sink
			read := func() int {
				for !tail.Quiesce(t.Context()) {
					sink.Unlock()
				}
				defer sink.Unlock()
				return sink.count
			}
			require.NoError(t, tail.Start(t.Context()))
			require.Eventually(t, func() bool { return read() > 0 }, 20*time.Second, time.Millisecond)
			if first {
				assert.Equal(t, lines, read())
			} else {
				assert.Less(t, read(), lines)
			}
			require.NoError(t, os.Remove(path))
			require.Eventually(t, func() bool { return read() == lines }, 20*time.Second, time.Millisecond)
			require.NoError(t, tail.Stop())
		})
	}
}

// growing is a sink that makes one node's file grow by as much as is read of it, so that its end is never reached.
type growing struct {
	*entries
	t      *testing.T
	file   *os.File
	others int
}

const grownLine = "2026-11-23T21:24:37.454227Z\tinfo\taccess\t%0900d\n"

func (g *growing) Entry(node string, _ []byte) {
	if node != "fast" {
		g.others++
	} else if _, err := fmt.Fprintf(g.file, grownLine, 0); err != nil {
		g.t.Error(err)
	}
}

// A file that grows as fast as it is read keeps no others from being read, and no offsets from being stored.
func TestAFileThatGrowsForEverStarvesNoOthers(t *testing.T) {
	dir := t.TempDir()
	open := func(node string) *os.File {
		file, err := os.OpenFile(filepath.Join(dir, node+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		return file
	}
	tail, _ := newTail(t, Config{Include: []string{filepath.Join(dir, "*.log")}, Format: FormatAuto, NodeFrom: regexp.MustCompile(`/([a-z0-9]+)\.log$`)})
	sink := &growing{entries: newEntries(), t: t, file: open("fast")}
	tail.sink, tail.lock = sink, sink
	// fileconsumer passes lines on by a hundred blocks at most.
	_, err := sink.file.WriteString(strings.Repeat(fmt.Sprintf(grownLine, 0), 200*blockSize/900))
	require.NoError(t, err)
	require.NoError(t, tail.Start(t.Context()))
	settled := func() {
		for !tail.Quiesce(t.Context()) {
			sink.Unlock()
		}
		sink.Unlock()
	}
	for i := range 3 {
		settled()
		for _, node := range []string{"slow1", "slow2"} {
			file := open(node)
			_, err := fmt.Fprintf(file, "2026-11-23T21:24:%02d.454227Z\tinfo\taccess\t%s\n", 38+i, node)
			require.NoError(t, err)
			require.NoError(t, file.Close())
		}
		require.Eventually(t, func() bool {
			settled()
			sink.Lock()
			defer sink.Unlock()
			return sink.others == 2*(i+1)
		}, 20*time.Second, time.Millisecond)
	}
	require.NoError(t, tail.Stop())
	require.NoError(t, sink.file.Close())
}

// Whatever a file holds, and wherever reading it stops, its lines are passed on once, and of one that is too long the beginning.
func TestLinesOfAnyLength(t *testing.T) {
	const longest = 20_000
	split := splitLines(longest)
	for name, lengths := range map[string][]int{
		"none":        {},
		"short":       {0, 1, 0, 500, 600, 700},
		"blocks":      {4000, 4000, 189, 1, blockSize, blockSize - 1, blockSize + 1, 3, 12_000, 4},
		"too long":    {5, longest - 1, longest, longest + 1, 6, 3 * longest, 0, 7, 2 * longest},
		"only longer": {longest + 1, longest + 2},
	} {
		t.Run(name, func(t *testing.T) {
			var content []byte
			var want []int
			for i, n := range lengths {
				content = append(append(content, bytes.Repeat([]byte{byte('a' + i)}, n)...), '\n')
				want = append(want, min(n, longest))
			}
			content = append(content, "unfinished"...)
			for _, buffered := range []int{16 << 10, longest, len(content)} {
				tail, _ := newTail(t, Config{Include: []string{"/nowhere/*.log"}, Format: FormatBare, Style: accesslog.Style{Begins: func([]byte) bool { return true }}})
				tail.cfg.MaxEntry = longest
				f := tail.newFile("n")
				var got []int
				for rest := content; ; {
					advance, piece, err := split(rest[:min(len(rest), buffered)], false)
					if advance == 0 && buffered < longest {
						advance, piece, err = split(rest[:min(len(rest), longest)], false) // the scanner's buffer has grown
					}
					require.NoError(t, err)
					if advance == 0 {
						assert.Equal(t, "unfinished", string(rest))
						break
					}
					f.piece(FormatBare, piece, func(line []byte) { got = append(got, len(line)) })
					rest = rest[advance:]
					tail.files["1"] = f
					encoded, err := tail.state()
					require.NoError(t, err)
					tail.store = stored{stateKey: encoded}
					_, err = tail.restore(t.Context())
					require.NoError(t, err)
					if restored := tail.files["1"]; f.over {
						require.True(t, restored.over)
						f = restored
					}
				}
				assert.Equal(t, want, got)
			}
		})
	}
}

// stored is a storage that is only read.
type stored map[string][]byte

func (s stored) Get(_ context.Context, key string) ([]byte, error) { return s[key], nil }
func (stored) Batch(context.Context, ...*storage.Operation) error  { return nil }
