package attacks

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func (c *collector) data(pattern string) []string {
	c.t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.env["NEPHILIA_DATA"], pattern))
	if err != nil || len(paths) == 0 {
		c.t.Fatalf("no file is called %s (%v)", pattern, err)
	}
	var files []string
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			files = append(files, path)
		}
	}
	return files
}

// TestDamagedFiles damages each store of a collector that was killed: it starts, says so, and counts exactly what comes.
func TestDamagedFiles(t *testing.T) {
	cut := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	}
	change := func(do func(content []byte)) func(path string) error {
		return func(path string) error {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			do(content)
			return os.WriteFile(path, content, 0o600)
		}
	}
	const everything = "everything of storage" // if that is gone, nothing tells that it was there
	damages := map[string]func(path string) error{
		"cut":         cut,
		"emptied":     func(path string) error { return os.Truncate(path, 0) },
		"zeroed":      change(func(content []byte) { clear(content) }),
		"overwritten": change(func(content []byte) { _, _ = rand.Read(content) }),
		"flipped": change(func(content []byte) {
			_, _ = rand.Read(content[len(content)/2 : min(len(content), len(content)/2+4096)])
		}),
		"deleted": os.Remove,
	}
	stores := map[string]string{
		"receiver": "storage/receiver_ztunnel_", "graph": "storage/processor_service_graph_", "outages": "storage/processor_outage_detector_",
		"history's log": "tsdb/wal/0*", everything: "storage/*", "mesh's state": "state/journal*", "connections": "records/flows/*.parquet", "spans": "records/spans/*.parquet",
	}
	now := func(int) (time.Time, time.Time) { return time.Now().Add(-5 * time.Millisecond), time.Now() }
	whole := startCollector(t, "standalone.yaml", nil)
	whole.write("0.log", repeated(500, connection{source: "good", destination: "svc"}))
	whole.post("traces", traces("good", 'a', 20, now))
	whole.eventually("before", 500, func() int { return whole.closed("good") })
	pause(5 * time.Second)
	whole.kill()
	for store, pattern := range stores {
		for damage, do := range damages {
			if testing.Short() && damage != "overwritten" {
				continue
			}
			if store == everything && (damage == "cut" || damage == "flipped") {
				continue // which of them survives is chance, and the graph without the receiver counts twice
			}
			t.Run(store+" "+damage, func(t *testing.T) {
				t.Parallel()
				c := newCollector(t, "standalone.yaml", nil)
				for _, folder := range []string{"data", "logs"} {
					if err := os.CopyFS(filepath.Join(c.folder, folder), os.DirFS(filepath.Join(whole.folder, folder))); err != nil {
						t.Fatal(err)
					}
				}
				for _, path := range c.data(pattern) {
					if err := do(path); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.tryStart(); err != nil {
					t.Fatalf("it does not start: %v\n%s", err, c.said("Error", "panic", "fatal"))
				}
				c.write("0.log", repeated(100, connection{source: "good", destination: "svc"}))
				c.eventually("counted", 600, func() int { return c.closed("good") })
				c.post("traces", traces("good", 'b', 20, now))
				for _, route := range []string{"flows?source=shop/good", "traces?service=good"} {
					status, body := c.get("/api/v1/"+route+"&limit=1000", nil)
					if found := strings.Count(string(body), `"time":`) + strings.Count(string(body), `"trace_id":`); status != http.StatusOK || found < 20 {
						t.Errorf("%s: %d, %d records", route, status, found)
					}
				}
				if c.said("\terror\t") == "" && store != "history's log" && (store != everything || damage != "deleted") {
					t.Error("nothing is said")
				}
			})
		}
	}
}

// TestFullDisk fills the disk, kills the collector, starts it while the disk is full, and makes room.
func TestFullDisk(t *testing.T) {
	c := newCollector(t, "standalone.yaml", nil)
	folder := c.tmpfs("24m")
	c.start()
	want := 0
	write := func(seconds int) { want += c.writeFor(seconds, 100) }
	write(15)
	ballast := filepath.Join(folder, "ballast")
	fill := func() {
		file, err := os.OpenFile(ballast, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		for block := make([]byte, 4096); ; {
			if _, err := file.Write(block); err != nil {
				return
			}
		}
	}
	fill()
	write(15)
	if !c.alive() {
		t.Fatal("it ended as the disk was full")
	}
	c.kill()
	if err := c.tryStart(); err != nil {
		t.Fatalf("it does not start while the disk is full: %v\n%s", err, c.said("Error", "\terror\t"))
	}
	if status, _ := c.get("/api/v1/status", nil); status != 200 {
		t.Errorf("the API answers %d while the disk is full", status)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	write(15)
	c.eventually("counted", want, func() int { return c.closed("good") })
	c.kill()
	c.start()
	write(3)
	c.eventually("counted after another kill", want, func() int { return c.closed("good") })
	c.eventually("in the history", want, func() int { return c.inGraph("shop", "good") })
}

// TestIrregularFiles has a FIFO, a folder and an empty file among the logs.
func TestIrregularFiles(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "standalone.yaml", nil)
	logs := filepath.Join(c.folder, "logs")
	if err := syscall.Mkfifo(filepath.Join(logs, "f.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(logs, "d.log"), 0o750); err != nil {
		t.Fatal(err)
	}
	c.write("a.log", "")
	c.write("0.log", repeated(50, connection{source: "good", destination: "svc"}))
	c.start()
	c.eventually("counted", 50, func() int { return c.closed("good") })
	if err := syscall.Mkfifo(filepath.Join(logs, "later.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	pause(2 * time.Second)
	c.write("0.log", repeated(7, connection{source: "good", destination: "svc"}))
	c.eventually("counted with a FIFO that came later", 57, func() int { return c.closed("good") })
	if took := c.stop(); took > time.Duration(10*float64(time.Second)**patience) {
		t.Errorf("it took %s to stop", took)
	}
	if !strings.Contains(c.said("\twarn\t"), "f.log") {
		t.Error("the FIFO is not said")
	}
}

// tmpfs mounts a file system of a collector's own for its data.
func (c *collector) tmpfs(size string) (folder string) {
	c.t.Helper()
	if os.Geteuid() != 0 {
		c.t.Skip("a file system of its own can be mounted by root only")
	}
	folder = c.env["NEPHILIA_DATA"]
	if err := os.MkdirAll(folder, 0o750); err != nil {
		c.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size="+size); err != nil {
		c.t.Skipf("nothing can be mounted: %v", err)
	}
	c.t.Cleanup(func() {
		c.kill()
		if err := syscall.Unmount(folder, 0); err != nil {
			c.t.Error(err)
		}
	})
	return folder
}

// TestReadOnlyDisk starts a collector on a disk that has become read-only, then on the same disk once it is writable again: the API
// answers, what is wrong is said, and every line counts.
func TestReadOnlyDisk(t *testing.T) {
	c := newCollector(t, "standalone.yaml", nil)
	folder := c.tmpfs("64m")
	c.start()
	want := 0
	write := func(seconds int) { want += c.writeFor(seconds, 100) }
	remount := func(flags uintptr) {
		deadline := time.Now().Add(20 * time.Second)
		err := syscall.Mount("tmpfs", folder, "tmpfs", syscall.MS_REMOUNT|flags, "")
		for ; err != nil && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			err = syscall.Mount("tmpfs", folder, "tmpfs", syscall.MS_REMOUNT|flags, "")
		}
		if err != nil {
			t.Skipf("the disk cannot be remounted: %v", err)
		}
	}
	write(10)
	c.kill()
	remount(syscall.MS_RDONLY)
	if err := c.tryStart(); err == nil {
		write(3)
		if status, _ := c.get("/api/v1/status", nil); status != 200 {
			t.Errorf("the API answers %d", status)
		}
	} else if c.said("read-only") == "" {
		t.Errorf("it does not start and does not say why: %v", err)
	}
	c.kill()
	remount(0)
	c.start()
	write(10)
	c.eventually("counted", want, func() int { return c.closed("good") })
}

// TestSecondInstance starts another collector on the same data: it says so and ends, and the first one counts on.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	c := startCollector(t, "standalone.yaml", nil)
	second := newCollector(t, "standalone.yaml", map[string]string{"NEPHILIA_DATA": c.env["NEPHILIA_DATA"], "NEPHILIA_LOGS": c.env["NEPHILIA_LOGS"]})
	c.write("0.log", repeated(100, connection{source: "good", destination: "svc"}))
	began := time.Now()
	if err := second.tryStart(); err == nil {
		t.Error("a second collector starts on the same data")
	}
	t.Logf("it ends after %s: %s", time.Since(began), second.said("Error:"))
	c.write("0.log", repeated(100, connection{source: "good", destination: "svc"}))
	c.eventually("counted", 200, func() int { return c.closed("good") })
	if !c.alive() {
		t.Error("the first one ended")
	}
}

// TestLinksAndCopies has what a folder of logs may hold beside logs: each line counts once.
func TestLinksAndCopies(t *testing.T) {
	for name, test := range map[string]struct {
		files int // with three lines each, beside the others
		// open is how many files the process may have open, 0 for as many as it likes.
		open int
		fill func(c *collector, logs string) (lines int)
	}{
		"links": {fill: func(c *collector, logs string) int {
			c.write("0.log", repeated(100, connection{source: "good", destination: "svc"}))
			first := filepath.Join(logs, "0.log")
			for _, err := range []error{
				os.Symlink(first, filepath.Join(logs, "1.log")), os.Link(first, filepath.Join(logs, "2.log")), os.Symlink("/proc/self/environ", filepath.Join(logs, "3.log")),
				os.Symlink(logs, filepath.Join(logs, "4.log")), os.Symlink(filepath.Join(logs, "nowhere"), filepath.Join(logs, "5.log")),
			} {
				if err != nil {
					c.t.Fatal(err)
				}
			}
			return 100
		}},
		"a copy": {fill: func(c *collector, _ string) int {
			text := repeated(200, connection{source: "good", destination: "svc"})
			c.write("0.log", text)
			c.write("0.log.bak", text)
			return 200
		}},
		"compressed ones": {fill: func(c *collector, _ string) int {
			c.write("0.log", repeated(50, connection{source: "good", destination: "svc"}))
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			_, _ = w.Write([]byte(repeated(5000, connection{source: "good", destination: "svc"})))
			_ = w.Close() // into memory
			c.write("0.log.20260101.gz", packed.String())
			c.write("0.log.1", packed.String())
			return 50
		}},
		"three thousand files":        {files: 3000},
		"more files than may be open": {files: 300, open: 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t, "standalone.yaml", nil)
			want := 0
			if test.fill != nil {
				want = test.fill(c, filepath.Join(c.folder, "logs"))
			}
			for i := range test.files {
				c.write(fmt.Sprint(i, ".log"), repeated(3, connection{source: "good", destination: "svc"}))
				want += 3
			}
			if test.open > 0 {
				c.args = append([]string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$@"`, test.open), "sh"}, c.args...)
			}
			c.start()
			c.eventually("counted", want, func() int { return c.closed("good") })
			for range 5 {
				c.write("own.log", repeated(10, connection{source: "good", destination: "svc"}))
				want += 10
				c.eventually("counted of a file that is made anew", want, func() int { return c.closed("good") })
				if err := os.Remove(filepath.Join(c.folder, "logs", "own.log")); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
