// Command meshsim writes simulated recordings: one folder a seed.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nephilia/nephilia/internal/meshsim"
)

func main() {
	out := flag.String("out", "", "folder to write the recordings into (required)")
	series := meshsim.Series{Count: 1}
	series.Flags(flag.CommandLine, "seeds")
	flag.Parse()
	if *out == "" {
		fmt.Fprintln(os.Stderr, "meshsim: -out is required")
		os.Exit(2)
	}
	for index := range series.Count {
		started := time.Now()
		folder, err := series.Write(*out, index)
		if err != nil {
			fmt.Fprintln(os.Stderr, "meshsim:", err)
			os.Exit(1)
		}
		fmt.Printf("%s\t%s\n", folder, time.Since(started).Round(time.Millisecond))
	}
}
