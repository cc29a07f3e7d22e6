// Command meshscale measures what agents and a gateway take at a size that no test cluster has. The gateway is the built binary with
// config/gateway.yaml; istiod is a small delta-ADS server, and what agents send is made here exactly as they would send it
// (docs/data-model.md), over one connection for each, compressed as they do. The agent is the built binary with
// config/agent.yaml that tails a log which grows at a rate.
//
//	go run ./cmd/meshscale [-size 0.25,0.5,1] [-vary edges] [-seconds 60] gateway
//	go run ./cmd/meshscale [-rate 250,5000] [-seconds 60] agent
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

// size is how large a mesh is.
type size struct {
	nodes, workloads, edges int
	rate                    int // connections a second
}

// options are what is asked for.
type options struct {
	size
	binary      string
	skew        float64
	seconds     int
	pace        float64 // seconds of data per second; 0 is as fast as they are taken
	scrape      int     // seconds
	sizes       string
	rates       string
	keep        string
	profile     string
	memoryLimit string
	with        string
	vary        string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("meshscale", flag.ContinueOnError)
	flags.StringVar(&o.binary, "binary", "bin/otelcol-nephilia", "the collector")
	flags.IntVar(&o.nodes, "nodes", 200, "nodes, each with an agent")
	flags.IntVar(&o.workloads, "workloads", 10_000, "workloads, of one pod each")
	flags.IntVar(&o.edges, "edges", 100_000, "edges between workloads")
	flags.IntVar(&o.rate, "connections", 50_000, "connections a second in the whole mesh")
	flags.Float64Var(&o.skew, "skew", 1, "exponent of the Zipf distribution of connections over edges; 0 is the same for all")
	flags.IntVar(&o.seconds, "seconds", 60, "how long to measure, in the data's time; 0 is the cold start only")
	flags.Float64Var(&o.pace, "pace", 1, "seconds of data per second; 0 is as fast as the gateway takes them")
	flags.IntVar(&o.scrape, "scrape", 5, "seconds between scrapes of ztunnels' own metrics; 0 is never")
	flags.StringVar(&o.sizes, "size", "0.25,0.5,1", "shares of all that to measure, one after the other")
	flags.StringVar(&o.vary, "vary", "all", "what those are shares of: all, nodes, workloads, edges or connections")
	flags.StringVar(&o.rates, "rate", "250,5000", "connections a second at the agent, one after the other")
	flags.StringVar(&o.keep, "keep", "", "a folder for the collectors' data and logs, otherwise removed")
	flags.StringVar(&o.profile, "profile", "", "write profiles of the gateway to this path, with .cpu and .heap added")
	flags.StringVar(&o.memoryLimit, "memory-limit", "8192", "memory_limiter's limit in MiB")
	flags.StringVar(&o.with, "with", "", "a further configuration for the collector, such as yaml:…, to see what something costs")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch flags.Arg(0) {
	case "gateway":
		shares, err := numbers(o.sizes)
		if err != nil {
			return err
		}
		return measureGateways(ctx, &o, shares, out)
	case "agent":
		rates, err := numbers(o.rates)
		if err != nil {
			return err
		}
		return measureAgents(ctx, &o, rates, out)
	}
	return errors.New("say what to measure: gateway or agent")
}

func numbers(text string) ([]float64, error) {
	var all []float64
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
		if err != nil || n <= 0 {
			return nil, fmt.Errorf("%q is no list of numbers", text)
		}
		all = append(all, n)
	}
	return all, nil
}

// workspace is a folder of a measurement's own and how to leave it.
func (o *options) workspace(name string) (folder string, leave func(), err error) {
	if o.keep != "" {
		folder = o.keep + "/" + name
		if err := errors.Join(os.RemoveAll(folder), os.MkdirAll(folder, 0o755)); err != nil {
			return "", nil, fmt.Errorf("making a folder: %w", err)
		}
		return folder, func() {}, nil
	}
	if folder, err = os.MkdirTemp("", "meshscale-"); err != nil {
		return "", nil, fmt.Errorf("making a folder: %w", err)
	}
	return folder, func() { _ = os.RemoveAll(folder) }, nil
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func perSecond(n int64, over time.Duration) float64 { return float64(n) / over.Seconds() }
