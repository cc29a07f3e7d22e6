package meshsim

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Series is a number of recordings, each of its own seed.
type Series struct {
	// From is the first seed, Count the number of recordings.
	From  uint64
	Count int
	// Healthy leaves faults out. Otherwise every recording has Options.Fault or, where that is empty, the kinds of faults take turns.
	Healthy bool
	Options Options
}

// Flags lets a command's flags fill the series; count and from are the names of the two that say which seeds.
func (s *Series) Flags(flags *flag.FlagSet, count string) {
	flags.IntVar(&s.Count, count, s.Count, "number of simulated recordings")
	flags.Uint64Var(&s.From, "from", 1, "first seed")
	flags.BoolVar(&s.Healthy, "healthy", false, "simulate no faults")
	flags.StringVar((*string)(&s.Options.Fault), "fault", "", "this fault in every simulated recording; without it the kinds take turns")
	flags.StringVar((*string)(&s.Options.And), "and", "", "another fault beside -fault")
	flags.IntVar(&s.Options.Workloads, "workloads", 0, "workloads of each mesh, 5 to 500; 0: by the seed")
	flags.DurationVar(&s.Options.Duration, "duration", 0, "length of each simulated recording; 0: 4m")
	flags.DurationVar(&s.Options.FaultFrom, "fault-from", 0, "when the fault begins; 0: after 90 to 110 s")
	flags.DurationVar(&s.Options.FaultFor, "fault-for", 0, "how long it lasts; 0: 60 to 80 s")
	flags.Float64Var(&s.Options.RootRate, "rate", 0, "requests per second that enter the mesh; 0: by its size")
	flags.DurationVar(&s.Options.ScrapeInterval, "scrape-interval", 0, "time between scrapes; 0: 5s")
	flags.BoolVar(&s.Options.DayCurve, "day-curve", false, "let the load follow the hour")
	flags.Func("traits", fmt.Sprintf("what the meshes have besides, with commas between: %v", Traits), func(text string) error {
		for name := range strings.SplitSeq(text, ",") {
			s.Options.Traits = append(s.Options.Traits, Trait(name))
		}
		return nil
	})
	flags.BoolVar(&s.Options.Hard, "hard", false, "hard meshes: clients that give up and retry, pools, jumps of load, what always fails, upgrades, and faults that are hard to blame")
	flags.Float64Var(&s.Options.Instrumented, "instrumented", -1, "share of workloads that send spans; negative: by the seed")
}

// beside are the faults of single workloads, of which two may come together.
var beside = []Fault{
	FaultConnectionRefused, FaultHTTPErrors, FaultLatency, FaultConnectionReset, FaultPolicyDenied, FaultPartialRefused, FaultTLSFailure, FaultConnectionTimeout,
}

// anotherSeed is how far apart the seeds lie that are tried until a mesh can show the fault.
const anotherSeed = 1_000_003

// Write writes the series' recording of an index (from 0) into a folder below dir and returns the folder.
// The same seed gives the same recording, whatever series it is of.
func (s *Series) Write(dir string, index int) (string, error) {
	o := s.Options
	o.Seed = s.From + uint64(index)
	turn := o.Seed / uint64(len(Faults))
	switch {
	case s.Healthy:
		o.Fault = FaultNone
	case o.Fault == FaultNone && o.has(TraitProxies):
		o.Fault = ProxyFaults[o.Seed%uint64(len(ProxyFaults))]
	case o.Fault == FaultNone:
		faults := Faults
		if o.Hard {
			faults = HardFaults
		}
		o.Fault = faults[o.Seed%uint64(len(faults))]
		// Now and then two things go wrong at once.
		if slices.Contains(beside, o.Fault) && turn%3 == 2 {
			o.And = beside[(turn+o.Seed)%uint64(len(beside))]
		}
	}
	const attempts = 100
	for range attempts {
		folder := filepath.Join(dir, fmt.Sprintf("%06d-%s", o.Seed, o.name()))
		err := Write(folder, o)
		if err == nil {
			return folder, nil
		}
		if !errors.Is(err, ErrNoTarget) {
			return "", errors.Join(fmt.Errorf("seed %d: %w", o.Seed, err), os.RemoveAll(folder))
		}
		o.Seed += anotherSeed
	}
	return "", fmt.Errorf("seeds from %d on, %s: %w", s.From+uint64(index), o.name(), ErrNoTarget)
}

func (o *Options) name() string {
	switch {
	case o.Fault == FaultNone:
		return "healthy"
	case o.And != FaultNone:
		return string(o.Fault) + "-and-" + string(o.And)
	}
	return string(o.Fault)
}
