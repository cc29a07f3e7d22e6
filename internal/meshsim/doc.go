// Package meshsim writes recordings of ambient meshes that never were: seeded random meshes under random load, with or
// without one fault, in the formats that real ztunnels and istiod use, together with the truth about what happened.
//
// A recording has the shape of those in recordings/ (its README gives the files); a test holds the simulated lines
// and series to that shape. The same Options give the same recording, byte for byte.
package meshsim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Options say what to simulate. The zero value of a field means: decided by the seed.
type Options struct {
	Seed      uint64
	Workloads int           // 5 to 500
	Duration  time.Duration // 4 minutes by default
	RootRate  float64       // requests per second that enter the mesh
	Fault     Fault
	// And is another fault at about the same time, of a workload that has nothing to do with the first.
	And Fault
	// FaultFrom and FaultFor place the fault in time; by default it begins after 90 to 110 s and lasts 60 to 80 s.
	FaultFrom, FaultFor time.Duration
	// ScrapeInterval is the distance of two scrapes; 5 s by default.
	ScrapeInterval time.Duration
	// DayCurve lets the load follow the hour and quietens it at night.
	DayCurve bool
	// Instrumented is the share of workloads that send spans, 0 to 1; negative: decided by the seed.
	Instrumented float64
	// Traits are what the mesh has besides.
	Traits []Trait
	// Hard gives the mesh what makes real ones hard: clients that give up, pools, loads that jump, what always fails for some, upgrades.
	Hard bool
	// Plain leaves the files uncompressed.
	Plain bool
}

// Epoch is the time at which every simulated recording starts.
var Epoch = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func (o *Options) decide(random *rand.Rand) error {
	if o.Hard {
		o.decideHard(random)
	}
	if o.Workloads == 0 {
		// Log-uniform between 5 and 500: small meshes are as common as large ones.
		sizes := [...]int{5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 500}
		o.Workloads = sizes[random.IntN(len(sizes))]
	}
	if slices.Contains(ProxyFaults, o.Fault) && !o.has(TraitProxies) {
		o.Traits = append(slices.Clip(o.Traits), TraitProxies)
	}
	if o.Workloads < 5 || o.Workloads > 500 {
		return fmt.Errorf("workloads: %d is not between 5 and 500", o.Workloads)
	}
	if o.Duration == 0 {
		o.Duration = 4 * time.Minute
	}
	for _, t := range o.Traits {
		if !slices.Contains(Traits, t) {
			return fmt.Errorf("traits: %q is none of %v", t, Traits)
		}
	}
	if (o.FaultFrom == 0) != (o.FaultFor == 0) {
		return errors.New("a fault is placed by both its beginning and its length")
	}
	if o.Fault != FaultNone && o.FaultFor == 0 && o.Duration < 4*time.Minute {
		return errors.New("duration: a recording with a fault that is not placed takes at least 4 minutes")
	}
	if o.FaultFrom+o.FaultFor > o.Duration {
		return errors.New("the fault ends after the recording")
	}
	if o.RootRate == 0 {
		o.RootRate = min(60, max(6, float64(o.Workloads)*0.3))
	}
	if o.ScrapeInterval == 0 {
		o.ScrapeInterval = 5 * time.Second
	}
	if o.Instrumented < 0 {
		o.Instrumented = 0
		if random.Float64() < 0.75 {
			o.Instrumented = 1
		}
	}
	return nil
}
