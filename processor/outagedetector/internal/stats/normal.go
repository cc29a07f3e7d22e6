package stats

import (
	"math"
	"slices"
)

// Interval is what was counted of an edge's calls in one interval: all of them and those that failed; those of known duration and the
// seconds that they took together.
type Interval struct{ Calls, Failed, Timed, Seconds float64 }

// Add adds what another interval counted.
func (i *Interval) Add(o Interval) {
	i.Calls, i.Failed, i.Timed, i.Seconds = i.Calls+o.Calls, i.Failed+o.Failed, i.Timed+o.Timed, i.Seconds+o.Seconds
}

const (
	// pastIntervals is how many intervals a normal is taken over: twelve hours of five minutes.
	pastIntervals = 144
	// leastIntervals is over how many with calls it must be.
	leastIntervals = 8
	// settledIntervals is after how many it no longer changes much, so that it is worked out anew for every eighth only.
	settledIntervals = 32
	leastSpread      = 0.08
	mostDispersion   = 10
)

// Past is the newest intervals of an edge in which nothing was wrong, and the normal that they show.
type Past struct {
	intervals [pastIntervals][4]float32
	learnt    int
	normal    Normal
	worked    int // how many intervals had been learnt when the normal was worked out
}

// Normal is how calls of an edge usually go.
type Normal struct {
	// Failing is the share that fails, as far as failures are known; Dispersion by how much more the share varies than chance would have it.
	Failing, Dispersion float64
	// Seconds is the mean duration (the median of intervals), Spread how far a mean strays from it, as a logarithm, in intervals with
	// Timed calls.
	Seconds, Spread, Timed float64
	// Counted and Clocked tell that enough is known of failures and of durations.
	Counted, Clocked bool
}

// Learn takes an interval over into what is normal.
func (p *Past) Learn(i Interval) {
	if i.Calls <= 0 && i.Timed <= 0 {
		return
	}
	p.intervals[p.learnt%pastIntervals] = [4]float32{float32(i.Calls), float32(i.Failed), float32(i.Timed), float32(i.Seconds)}
	p.learnt++
}

// Normal is what the past shows.
func (p *Past) Normal() *Normal {
	if p.worked != p.learnt && (p.learnt < settledIntervals || p.learnt-p.worked >= leastIntervals) {
		p.normal, p.worked = p.work(), p.learnt
	}
	return &p.normal
}

func (p *Past) work() (n Normal) {
	list := p.intervals[:min(p.learnt, pastIntervals)]
	var calls, failed float64
	var buffer [2][pastIntervals]float64
	logs, timed := buffer[0][:0], buffer[1][:0]
	rows := 0
	for _, i := range list {
		if i[0] > 0 {
			rows++
			calls, failed = calls+float64(i[0]), failed+float64(i[1])
		}
		if i[2] > 0 && i[3] > 0 {
			logs, timed = append(logs, math.Log(float64(i[3]/i[2]))), append(timed, float64(i[2]))
		}
	}
	n.Failing, n.Dispersion, n.Counted = (failed+0.5)/(calls+1), 1, rows >= leastIntervals
	if n.Counted {
		sum := 0.0
		for _, i := range list {
			if i[0] > 0 {
				expected := float64(i[0]) * n.Failing
				sum += (float64(i[1]) - expected) * (float64(i[1]) - expected) / (expected * (1 - n.Failing))
			}
		}
		n.Dispersion = min(max(sum/float64(rows-1), 1), mostDispersion)
	}
	if n.Clocked = len(logs) >= leastIntervals; !n.Clocked {
		return n
	}
	middle := median(logs)
	highest := slices.Max(logs)
	for i := range logs {
		logs[i] = math.Abs(logs[i] - middle)
	}
	// The tail counts too: what starts cold now and then is slow at times.
	n.Seconds, n.Spread, n.Timed = math.Exp(middle), max(1.4826*median(logs), (highest-middle)/2.5, leastSpread), median(timed)
	return n
}

// median of a list, which it sorts.
func median(list []float64) float64 {
	slices.Sort(list)
	return (list[len(list)/2] + list[(len(list)-1)/2]) / 2
}

// Evidence adds up what intervals of edges say against their normals.
type Evidence struct {
	// Failed and Expected are failures; Seconds and Usual what calls took and usually do.
	Failed, Expected, Seconds, Usual float64

	dispersion, variance float64
}

// Add adds an interval of an edge.
func (e *Evidence) Add(i Interval, n *Normal) {
	if n.Counted {
		expected := i.Calls * n.Failing
		e.Failed, e.Expected, e.dispersion = e.Failed+i.Failed, e.Expected+expected, e.dispersion+n.Dispersion*expected
	}
	if n.Clocked && i.Timed > 0 {
		usual := i.Timed * n.Seconds
		deviation := usual * n.Spread * math.Sqrt(max(1, n.Timed/i.Timed))
		e.Seconds, e.Usual, e.variance = e.Seconds+i.Seconds, e.Usual+usual, e.variance+deviation*deviation
	}
}

// Join adds other evidence.
func (e *Evidence) Join(o Evidence) {
	e.Failed, e.Expected, e.dispersion = e.Failed+o.Failed, e.Expected+o.Expected, e.dispersion+o.dispersion
	e.Seconds, e.Usual, e.variance = e.Seconds+o.Seconds, e.Usual+o.Usual, e.variance+o.variance
}

// Failing is by how many standard deviations more fails than usual: the signed root of a Poisson count's deviance.
func (e *Evidence) Failing() float64 {
	if e.Failed <= e.Expected || e.Expected <= 0 {
		return 0
	}
	deviance := 2 * (e.Failed*math.Log(e.Failed/e.Expected) - (e.Failed - e.Expected))
	return math.Sqrt(max(deviance, 0) / (e.dispersion / e.Expected))
}

// Slow is by how many standard deviations calls take longer than usual.
func (e *Evidence) Slow() float64 {
	if e.variance <= 0 {
		return 0
	}
	return max(e.Seconds-e.Usual, 0) / math.Sqrt(e.variance)
}

// leastChance is the least likelihood that can be told from none.
const leastChance = 1e-15

// Deviations is how many standard deviations above the mean chance reaches with that likelihood.
func Deviations(chance float64) float64 {
	return math.Sqrt2 * math.Erfcinv(2*min(max(chance, leastChance), 0.5))
}
