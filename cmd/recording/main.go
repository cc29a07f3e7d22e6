// Command recording runs one recording through the built collector and prints the graph's edges and the outages that come out of it,
// or what of them differs from what another build makes of it.
//
//	go run ./cmd/recording [-against BINARY-OR-COMMIT] FOLDER
//
// A commit is built in a worktree of its own, and runs with the configuration that it had.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("recording", flag.ContinueOnError)
	binary := flags.String("binary", "bin/otelcol-nephilia", "the collector")
	against := flags.String("against", "", "another binary or a commit to compare with")
	config := flags.String("against-config", "config/replay.yaml", "the configuration of that binary; a commit has its own")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("say which recording: a folder")
	}
	folder, err := filepath.Abs(flags.Arg(0))
	if err != nil {
		return err
	}
	now, err := replay(ctx, *binary, "config/replay.yaml", folder)
	if err != nil {
		return err
	}
	if *against == "" {
		now.print(out)
		return nil
	}
	base, leave, err := baseline(ctx, *against, config)
	if err != nil {
		return err
	}
	defer leave()
	before, err := replay(ctx, base, *config, folder)
	if err != nil {
		return fmt.Errorf("%s: %w", *against, err)
	}
	compare(out, before, now)
	return nil
}

// baseline is the binary to compare with: a file that is there, or a commit's build, which sets config to the commit's own.
func baseline(ctx context.Context, against string, config *string) (binary string, leave func(), err error) {
	if info, err := os.Stat(against); err == nil && info.Mode().IsRegular() {
		return against, func() {}, nil
	}
	tree, err := os.MkdirTemp("", "recording-")
	if err != nil {
		return "", nil, fmt.Errorf("making a worktree: %w", err)
	}
	leave = func() { _ = command(context.WithoutCancel(ctx), "git", "worktree", "remove", "--force", tree) }
	if err := command(ctx, "git", "worktree", "add", "--quiet", "--detach", tree, against); err != nil {
		return "", nil, errors.Join(fmt.Errorf("%s is no binary and no commit: %w", against, err), os.RemoveAll(tree))
	}
	if err := command(ctx, "make", "--no-print-directory", "-C", tree, "build"); err != nil {
		leave()
		return "", nil, err
	}
	*config = filepath.Join(tree, "config/replay.yaml")
	return filepath.Join(tree, "bin/otelcol-nephilia"), leave, nil
}

func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %v: %w", name, args, err)
	}
	return nil
}

// outcome is what came of a recording: for each edge and outage, by what it is called, what is said of it.
type outcome struct {
	edges, outages map[string]string
}

func (o *outcome) print(out io.Writer) {
	fmt.Fprintf(out, "edges: %d\n", len(o.edges))
	printAll(out, "  ", o.edges)
	fmt.Fprintf(out, "outages: %d\n", len(o.outages))
	printAll(out, "  ", o.outages)
}

func printAll(out io.Writer, before string, all map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(out, "%s%s: %s\n", before, name, all[name])
	}
}

// compare prints what two builds say differently.
func compare(out io.Writer, before, now *outcome) {
	for _, part := range []struct {
		name        string
		before, now map[string]string
	}{{"edges", before.edges, now.edges}, {"outages", before.outages, now.outages}} {
		same := 0
		all := maps.Clone(part.before)
		maps.Copy(all, part.now)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			was, wasThere := part.before[name]
			is, isThere := part.now[name]
			if wasThere && isThere && was == is {
				same++
				continue
			}
			if wasThere {
				fmt.Fprintf(out, "- %s: %s\n", name, was)
			}
			if isThere {
				fmt.Fprintf(out, "+ %s: %s\n", name, is)
			}
		}
		fmt.Fprintf(out, "%s: %d are the same, %d differ\n", part.name, same, len(all)-same)
	}
}
