// Command records measures engines that could keep records, on the same generated spans: docs/adr/0010 has the figures.
//
//	go run . -engine parquet -dir /tmp/parquet -write && go run . -engine parquet -dir /tmp/parquet
package main

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// span is one generated span: 15 fields.
type span struct {
	Time, Duration                                               int64
	Trace                                                        [16]byte
	ID, Parent                                                   [8]byte
	Service, Namespace, Pod, Node, Kind, Name, Status, Route, IP string
	outcome
}

type outcome struct {
	Code    int64
	Message string
}

var base = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC).UnixNano()

// generate makes n spans of a day, eight to a trace.
func generate(n int, yield func([]span)) {
	r := rand.New(rand.NewPCG(1, 2))
	batch := make([]span, 0, 8192)
	step := int64(24*time.Hour) / int64(n)
	var trace [16]byte
	var parent [8]byte
	for i := range n {
		if i%8 == 0 {
			binary.LittleEndian.PutUint64(trace[:], r.Uint64())
			binary.LittleEndian.PutUint64(trace[8:], r.Uint64())
			parent = [8]byte{}
		}
		var s span
		s.Trace, s.Parent = trace, parent
		binary.LittleEndian.PutUint64(s.ID[:], r.Uint64())
		parent = s.ID
		svc := r.IntN(40)
		s.Time = base + int64(i)*step + r.Int64N(1e9)
		s.Duration = int64(r.ExpFloat64() * 2e7)
		s.Service = fmt.Sprintf("service-%d", svc)
		s.Namespace = fmt.Sprintf("ns-%d", svc%6)
		s.Pod = fmt.Sprintf("service-%d-7c9f8d-%04x", svc, r.IntN(3))
		s.Node = fmt.Sprintf("node-%d", r.IntN(12))
		s.Kind = []string{"client", "server"}[i%2]
		op := r.IntN(10)
		s.Route = fmt.Sprintf("/api/v1/things/%d", op)
		s.Name = "GET " + s.Route
		s.Status, s.Code = "unset", 200
		if r.IntN(100) == 0 {
			s.Status, s.Code, s.Message = "error", 503, "upstream connect error"
		}
		s.IP = fmt.Sprintf("10.244.%d.%d", r.IntN(12), r.IntN(250))
		if batch = append(batch, s); len(batch) == cap(batch) {
			yield(batch)
			batch = batch[:0]
		}
	}
	yield(batch)
}

type engine interface {
	open(dir string)
	add(batch []span)
	close()
	byTrace(id [16]byte) int
	errorsOf(service string, from, to int64) int
	slowest(service string, limit int) []int64
	heat() int
	countBy() int
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func rss(what string) string {
	b, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(b)) {
		if strings.HasPrefix(l, what) {
			return strings.TrimSpace(strings.TrimPrefix(l, what+":"))
		}
	}
	return ""
}

func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	})
	return n
}

func main() {
	n := flag.Int("n", 1_000_000, "spans, over a day")
	name := flag.String("engine", "parquet", "parquet, pebble or victorialogs")
	dir := flag.String("dir", "data", "where the engine keeps its files")
	write := flag.Bool("write", false, "write the spans instead of asking for them")
	flag.CommandLine.Parse(os.Args[1:])
	e := map[string]engine{"parquet": &parquetEngine{}, "pebble": &pebbleEngine{}, "victorialogs": &vlEngine{}}[*name]
	if *write {
		os.RemoveAll(*dir)
		c0, t0 := cpu(), time.Now()
		generate(*n, func([]span) {})
		gen := cpu() - c0
		e.open(*dir)
		c0, t0 = cpu(), time.Now()
		generate(*n, e.add)
		e.close()
		used := cpu() - c0 - gen
		fmt.Printf("%s: wrote %d in %v wall, %v cpu (%.0f/cpu s), %.1f B/span, peak RSS %s\n", *name, *n, time.Since(t0).Round(time.Millisecond), used.Round(time.Millisecond),
			float64(*n)/used.Seconds(), float64(size(*dir))/float64(*n), rss("VmHWM"))
		return
	}
	var ids [][16]byte
	k := 0
	generate(*n, func(b []span) {
		for i := range b {
			if k%(*n/20) == 5 {
				ids = append(ids, b[i].Trace)
			}
			k++
		}
	})
	runtime.GC()
	t0 := time.Now()
	e.open(*dir)
	fmt.Printf("open %v\n", time.Since(t0).Round(time.Microsecond))
	timeit := func(what string, times int, f func(i int) any) {
		var took []time.Duration
		var last any
		for i := range times {
			t0 := time.Now()
			last = f(i)
			took = append(took, time.Since(t0))
		}
		slices.SortFunc(took, func(a, b time.Duration) int { return cmp.Compare(a, b) })
		fmt.Printf("%-34s p50 %9v  p95 %9v  (%v)\n", what, took[len(took)/2].Round(10*time.Microsecond), took[len(took)*95/100].Round(10*time.Microsecond), last)
	}
	end := base + int64(24*time.Hour)
	timeit("a trace by id", 20, func(i int) any { return e.byTrace(ids[i%len(ids)]) })
	timeit("errors of a service, last hour", 20, func(i int) any { return e.errorsOf(fmt.Sprintf("service-%d", i), end-int64(time.Hour), end) })
	timeit("slowest 20 of a service, day", 10, func(i int) any { return len(e.slowest(fmt.Sprintf("service-%d", i), 20)) })
	timeit("heat map, day", 5, func(i int) any { return e.heat() })
	timeit("count by service and name, day", 3, func(i int) any { return e.countBy() })
	fmt.Printf("RSS %s, peak %s\n", rss("VmRSS"), rss("VmHWM"))
	e.close()
}
