// Command records measures engines that could keep records, on the same generated spans: docs/adr/0010 has the figures.
//
//	go run . -engine records -dir /tmp/records -write && go run . -engine records -dir /tmp/records
package main

import (
	"cmp"
	"encoding/binary"
	"flag"
	"fmt"
	"io/fs"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
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

// generate makes n spans of so many days, eight to a trace.
func generate(n, days int, yield func([]span)) {
	r := rand.New(rand.NewPCG(1, 2))
	batch := make([]span, 0, 8192)
	step := int64(days) * int64(24*time.Hour) / int64(n)
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
		s.Service, s.Namespace = services[svc], namespaces[svc%len(namespaces)]
		s.Pod, s.Node = pods[svc*3+r.IntN(3)], nodes[r.IntN(len(nodes))]
		s.Kind = []string{"client", "server"}[i%2]
		op := r.IntN(10)
		s.Route, s.Name = routes[op], names[op]
		s.Status, s.Code = "unset", 200
		if r.IntN(100) == 0 {
			s.Status, s.Code, s.Message = "error", 503, "upstream connect error"
		}
		s.IP = ips[r.IntN(len(ips))]
		if batch = append(batch, s); len(batch) == cap(batch) {
			yield(batch)
			batch = batch[:0]
		}
	}
	yield(batch)
}

// Texts of the spans.
var (
	services   = numbered(40, "service-%d")
	namespaces = numbered(6, "ns-%d")
	pods       = numbered(120, "service-%[2]d-7c9f8d-%04[1]x", 3)
	nodes      = numbered(12, "node-%d")
	routes     = numbered(10, "/api/v1/things/%d")
	names      = numbered(10, "GET /api/v1/things/%d")
	ips        = numbered(3000, "10.244.%[2]d.%[1]d", 250)
)

// numbered formats the numbers up to n. With a group's size, the second number is the group's, and the first within it.
func numbered(n int, format string, group ...int) (list []string) {
	for i := range n {
		if len(group) > 0 {
			list = append(list, fmt.Sprintf(format, i%group[0], i/group[0]))
			continue
		}
		list = append(list, fmt.Sprintf(format, i))
	}
	return list
}

// engines are by name; each file adds its own, so that one can be built without the others.
var engines = map[string]engine{}

type engine interface {
	open(dir string)
	add(batch []span)
	close()
	byTrace(id [16]byte) int
	errorsOf(service string, from, to int64) int
	slowest(service string, from, to int64, limit int) []int64
	heat(from, to int64) int
	countBy(from, to int64) int
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
	n := flag.Int("n", 1_000_000, "spans")
	days := flag.Int("days", 1, "days over which they are spread")
	name := flag.String("engine", "records", "records, badger, pebble or victorialogs")
	dir := flag.String("dir", "data", "where the engine keeps its files")
	write := flag.Bool("write", false, "write the spans instead of asking for them")
	_ = flag.CommandLine.Parse(os.Args[1:])
	e := engines[*name]
	known := filepath.Join(*dir, "traces")
	if *write {
		_ = os.RemoveAll(*dir)
		c0 := cpu()
		generate(min(*n, 1_000_000), *days, func([]span) {})
		gen := (cpu() - c0) * time.Duration(*n) / time.Duration(min(*n, 1_000_000))
		if err := os.MkdirAll(*dir, 0o750); err != nil {
			log.Fatal(err)
		}
		e.open(*dir)
		c0, t0 := cpu(), time.Now()
		var ids []byte
		k := 0
		generate(*n, *days, func(batch []span) {
			e.add(batch)
			for i := range batch {
				if k%(*n/asked) == 5 {
					ids = append(ids, batch[i].Trace[:]...)
				}
				k++
			}
		})
		e.close()
		used := cpu() - c0 - gen
		fmt.Printf("%s: wrote %d in %v wall, %v cpu (%.0f/cpu s), %.1f B/span, peak RSS %s\n", *name, *n, time.Since(t0).Round(time.Millisecond), used.Round(time.Millisecond),
			float64(*n)/used.Seconds(), float64(size(*dir))/float64(*n), rss("VmHWM"))
		if err := os.WriteFile(known, ids, 0o600); err != nil {
			log.Fatal(err)
		}
		return
	}
	ids, err := os.ReadFile(known)
	if err != nil {
		log.Fatal(err)
	}
	t0 := time.Now()
	e.open(*dir)
	fmt.Printf("open %v, RSS %s\n", time.Since(t0).Round(time.Microsecond), rss("VmRSS"))
	end := base + int64(*days)*int64(24*time.Hour)
	ask(e, ids, end, base)
	fmt.Printf("RSS %s, peak %s\n", rss("VmRSS"), rss("VmHWM"))
	e.close()
}

// asked is how many traces are asked for by id.
const asked = 20

// ask asks an engine and prints how long its answers take.
func ask(e engine, ids []byte, end, begin int64) {
	timeit := func(what string, times int, f func(i int) any) {
		var took []time.Duration
		var last any
		c0 := cpu()
		for i := range times {
			t0 := time.Now()
			last = f(i)
			took = append(took, time.Since(t0))
		}
		used := (cpu() - c0) / time.Duration(times)
		slices.SortFunc(took, func(a, b time.Duration) int { return cmp.Compare(a, b) })
		fmt.Printf("%-36s p50 %9v  p95 %9v  cpu %9v  (%v)\n", what, took[len(took)/2].Round(10*time.Microsecond), took[len(took)*95/100].Round(10*time.Microsecond),
			used.Round(10*time.Microsecond), last)
	}
	day := end - int64(24*time.Hour)
	timeit("a trace by id", asked, func(i int) any { return e.byTrace([16]byte(ids[i%(len(ids)/16)*16:])) })
	timeit("errors of a service, last hour", 20, func(i int) any { return e.errorsOf(services[i], end-int64(time.Hour), end) })
	timeit("slowest 20 of a service, last hour", 10, func(i int) any { return len(e.slowest(services[i], end-int64(time.Hour), end, 20)) })
	timeit("slowest 20 of a service, last day", 10, func(i int) any { return len(e.slowest(services[i], day, end, 20)) })
	timeit("heat map, last day", 5, func(int) any { return e.heat(day, end) })
	timeit("heat map, all", 3, func(int) any { return e.heat(begin, end) })
	timeit("count by service and name, last day", 3, func(int) any { return e.countBy(day, end) })
}
