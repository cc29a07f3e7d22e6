// Package stats is the statistics that decide whether what was counted can be chance.
package stats

import "math"

// z is the standard normal quantile of a one-sided 97.5 % bound.
const z = 1.959963984540054

// WilsonLower is the lower end of Wilson's 95 % interval of a proportion, k of n observed; 0 for n = 0.
func WilsonLower(k, n uint64) float64 {
	if n == 0 || k == 0 {
		return 0
	}
	k = min(k, n)
	total := float64(n)
	p := float64(k) / total
	centre := p + z*z/(2*total)
	margin := z * math.Sqrt(p*(1-p)/total+z*z/(4*total*total))
	return max(0, (centre-margin)/(1+z*z/total))
}

// BinomialTail is the chance of k or more hits in n trials that each hit with probability p.
func BinomialTail(k, n uint64, p float64) float64 {
	switch {
	case k == 0:
		return 1
	case k > n || p <= 0:
		return 0
	case p >= 1:
		return 1
	}
	mean := float64(n) * p
	if float64(k) <= mean {
		// The caller looks for what is too much; below the mean the exact value does not matter.
		return 1
	}
	// Above the mean the terms fall at least geometrically, so the sum ends early.
	term := math.Exp(logBinomial(k, n, p))
	sum := term
	for i := k; i < n; i++ {
		term *= float64(n-i) / float64(i+1) * p / (1 - p)
		sum += term
		if term < sum*1e-9 {
			break
		}
	}
	return min(sum, 1)
}

// LikelihoodRatio says how much better k hits of n fit probability a than probability b, as a natural logarithm.
func LikelihoodRatio(k, n uint64, a, b float64) float64 {
	k = min(k, n)
	return float64(k)*math.Log(a/b) + float64(n-k)*math.Log((1-a)/(1-b))
}

// Silence is the chance of seeing nothing where a Poisson process should have shown expected events.
func Silence(expected float64) float64 { return math.Exp(-max(0, expected)) }

func logBinomial(k, n uint64, p float64) float64 {
	a, _ := math.Lgamma(float64(n) + 1)
	b, _ := math.Lgamma(float64(k) + 1)
	c, _ := math.Lgamma(float64(n-k) + 1)
	return a - b - c + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p)
}
