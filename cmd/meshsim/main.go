// Command meshsim writes simulated recordings: one folder a seed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/nephilia/nephilia/internal/meshsim"
)

func main() {
	var (
		out       = flag.String("out", "", "folder to write the recordings into (required)")
		from      = flag.Uint64("from", 1, "first seed")
		seeds     = flag.Int("seeds", 1, "number of recordings")
		healthy   = flag.Bool("healthy", false, "no faults")
		fault     = flag.String("fault", "", "this fault in every recording; without it each seed has its own")
		workloads = flag.Int("workloads", 0, "workloads of each mesh, 5 to 500; 0: each seed has its own number")
		duration  = flag.Duration("duration", 0, "length of each recording; 0: 4m")
		rate      = flag.Float64("rate", 0, "requests per second that enter the mesh; 0: by its size")
		scrape    = flag.Duration("scrape-interval", 0, "time between scrapes; 0: 5s")
		day       = flag.Bool("day-curve", false, "let the load follow the hour")
		spans     = flag.Float64("instrumented", -1, "share of workloads that send spans; negative: by the seed")
	)
	flag.Parse()
	if *out == "" {
		fmt.Fprintln(os.Stderr, "meshsim: -out is required")
		os.Exit(2)
	}
	options := meshsim.Options{
		Workloads: *workloads, Duration: *duration, RootRate: *rate, ScrapeInterval: *scrape, DayCurve: *day, Instrumented: *spans,
	}
	if err := write(*out, *from, *seeds, *healthy, meshsim.Fault(*fault), options); err != nil {
		fmt.Fprintln(os.Stderr, "meshsim:", err)
		os.Exit(1)
	}
}

func write(out string, seed uint64, count int, healthy bool, fault meshsim.Fault, options meshsim.Options) error {
	for written := 0; written < count; seed++ {
		options.Seed = seed
		switch {
		case healthy:
			options.Fault = meshsim.FaultNone
		case fault != "":
			options.Fault = fault
		default:
			options.Fault = meshsim.Faults[written%len(meshsim.Faults)]
		}
		name := string(options.Fault)
		if name == "" {
			name = "healthy"
		}
		folder := filepath.Join(out, fmt.Sprintf("%06d-%s", seed, name))
		started := time.Now()
		err := meshsim.Write(folder, options)
		if errors.Is(err, meshsim.ErrNoTarget) {
			continue
		}
		if err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		written++
		fmt.Printf("%s\t%s\n", folder, time.Since(started).Round(time.Millisecond))
	}
	return nil
}
