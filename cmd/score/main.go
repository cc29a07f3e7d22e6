// Command score replays recordings with known faults through receiver, service graph and outage detector, and compares the
// outages found with each recording's truth.json.
//
//	go run ./cmd/score [-v] [-json] [path]
//	go run ./cmd/score -simulate 200 [-from 1] [-healthy -duration 24h]
//
// The first form replays the recordings below a path, the second simulates them one by one and keeps none. It exits with 1 if an
// expected outage was missed, found twice, rooted or named wrongly, found or closed late, or if there was a false alarm, and
// with 2 if a recording could not be replayed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"

	"github.com/nephilia/nephilia/internal/meshsim"
	"github.com/nephilia/nephilia/internal/outage"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("score", flag.ContinueOnError)
	flags.SetOutput(errs)
	verbose := flags.Bool("v", false, "print every outage that was found")
	asJSON := flags.Bool("json", false, "print the results as JSON")
	parallel := flags.Int("parallel", 2, "how many recordings to replay at once")
	speed := flags.String("speed", "max", "replay speed")
	events := flags.Bool("events", false, "print every outage event")
	var series meshsim.Series
	series.Flags(flags, "simulate")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	jobs, err := jobsOf(&series, flags.Args())
	if err != nil {
		fmt.Fprintln(errs, err)
		return 2
	}
	results := make([]Result, len(jobs))
	failures := make([]error, len(jobs))
	slots := make(chan struct{}, max(*parallel, 1))
	var wg sync.WaitGroup
	for i, job := range jobs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i], failures[i] = job(ctx, *speed)
		})
	}
	wg.Wait()
	if *asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(results); err != nil {
			fmt.Fprintln(errs, err)
			return 2
		}
	} else {
		printResults(out, results, failures, *verbose, *events)
	}
	code := 0
	for i := range results {
		if failures[i] != nil {
			fmt.Fprintln(errs, failures[i])
			code = 2
		} else if !results[i].Perfect() && code == 0 {
			code = 1
		}
	}
	return code
}

// job scores one recording.
type job func(ctx context.Context, speed string) (Result, error)

// jobsOf are the recordings to score: those below a path or, if any are to be simulated, those.
func jobsOf(series *meshsim.Series, paths []string) ([]job, error) {
	if series.Count > 0 {
		jobs := make([]job, series.Count)
		for index := range jobs {
			jobs[index] = func(ctx context.Context, speed string) (Result, error) {
				return scoreSimulated(ctx, series, index, speed)
			}
		}
		return jobs, nil
	}
	root := "recordings"
	if len(paths) > 0 {
		root = paths[0]
	}
	folders, err := recordings(root)
	if err != nil {
		return nil, err
	}
	jobs := make([]job, len(folders))
	for i, folder := range folders {
		jobs[i] = func(ctx context.Context, speed string) (Result, error) { return scoreFolder(ctx, folder, speed) }
	}
	return jobs, nil
}

// recordings are the folders below a path that hold a truth.json.
func recordings(root string) ([]string, error) {
	var folders []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() == truthFile {
			folders = append(folders, filepath.Dir(path))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for recordings: %w", err)
	}
	if len(folders) == 0 {
		return nil, errors.New("no recording with a " + truthFile + " below " + root)
	}
	slices.Sort(folders)
	return folders, nil
}

func scoreFolder(ctx context.Context, folder, speed string) (Result, error) {
	truth, err := readTruth(folder)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", folder, err)
	}
	found, err := play(ctx, folder, speed)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %w", folder, err)
	}
	result := compare(truth, found.outages)
	result.Name = filepath.Base(folder)
	result.transitions = found.transitions
	return result, nil
}

// scoreSimulated simulates a recording, scores it and removes it.
func scoreSimulated(ctx context.Context, series *meshsim.Series, index int, speed string) (result Result, err error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	dir, err := os.MkdirTemp("", "meshsim-")
	if err != nil {
		return Result{}, fmt.Errorf("simulating: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plain := *series
	plain.Options.Plain = true
	folder, err := plain.Write(dir, index)
	if err != nil {
		return Result{}, fmt.Errorf("simulating: %w", err)
	}
	return scoreFolder(ctx, folder, speed)
}

// transition is one outage event as it was sent.
type transition struct {
	name   string
	outage *outage.Outage
}
