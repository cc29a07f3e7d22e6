// Command score replays recordings with known faults through receiver, service graph and outage detector, and compares the
// outages found with each recording's truth.json.
//
//	go run ./cmd/score [-v] [-json] [path]
//
// It exits with 1 if an expected outage was missed, found twice, rooted or named wrongly, found or closed late, or if there
// was a false alarm, and with 2 if a recording could not be replayed.
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
	if err := flags.Parse(args); err != nil {
		return 2
	}
	root := "recordings"
	if flags.NArg() > 0 {
		root = flags.Arg(0)
	}
	folders, err := recordings(root)
	if err != nil {
		fmt.Fprintln(errs, err)
		return 2
	}
	results := make([]Result, len(folders))
	failures := make([]error, len(folders))
	slots := make(chan struct{}, max(*parallel, 1))
	var wg sync.WaitGroup
	for i, folder := range folders {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i], failures[i] = scoreFolder(ctx, folder, *speed)
		})
	}
	wg.Wait()
	code := 0
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
	for i := range results {
		if failures[i] != nil {
			fmt.Fprintf(errs, "%s: %v\n", folders[i], failures[i])
			code = 2
		} else if !results[i].Perfect() && code == 0 {
			code = 1
		}
	}
	return code
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
		return Result{}, err
	}
	found, err := play(ctx, folder, speed)
	if err != nil {
		return Result{}, err
	}
	result := compare(truth, found.outages)
	result.Name = filepath.Base(folder)
	result.transitions = found.transitions
	return result, nil
}

// transition is one outage event as it was sent.
type transition struct {
	name   string
	outage *outage.Outage
}
