package exphist

import "math"

const (
	mantissaBits = 52
	mantissaMask = 1<<mantissaBits - 1
	exponentBias = 1023
	// maxTable is the finest scale whose bounds are looked up.
	maxTable = 8
)

// bounds are, of each scale up to maxTable, the upper bounds within one power of two as the mantissas of float64s.
var bounds = func() (all [maxTable + 1][]uint64) {
	for scale := range all {
		all[scale] = make([]uint64, 1<<scale)
		for k := range all[scale] {
			all[scale][k] = math.Float64bits(math.Exp2(math.Ldexp(float64(k), -scale))) & mantissaMask
		}
	}
	return all
}()

// Index is the number of the bucket that holds a value, which must be positive, finite and normal.
func Index(value float64, scale int32) int32 {
	bits := math.Float64bits(value)
	exponent := int32(bits>>mantissaBits) - exponentBias
	mantissa := bits & mantissaMask
	if scale <= 0 {
		// Bounds belong to the bucket below.
		if mantissa == 0 {
			exponent--
		}
		return exponent >> -scale
	}
	if scale > maxTable {
		if mantissa == 0 {
			return exponent<<scale - 1
		}
		return int32(math.Ceil(math.Ldexp(math.Log2(value), int(scale)))) - 1
	}
	low, high := 0, 1<<scale
	table := bounds[scale]
	for low < high {
		middle := int(uint(low+high) >> 1)
		if table[middle] < mantissa {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return exponent<<scale + int32(low) - 1
}

// Upper is a bucket's upper bound, the lower one of the next.
func Upper(scale, index int32) float64 {
	return math.Exp2(math.Ldexp(float64(index)+1, -int(scale)))
}

// Bucket is the scale and the number of the bucket with these bounds; ok is false where they are none of an exponential
// histogram's that Prometheus could have.
func Bucket(lower, upper float64) (scale, index int32, ok bool) {
	if lower <= 0 || upper <= lower || math.IsInf(upper, 0) {
		return 0, 0, false
	}
	exact := -math.Log2(math.Log2(upper) - math.Log2(lower))
	scale = int32(math.Round(exact))
	if scale < NativeMinScale || scale > NativeMaxScale || math.Abs(exact-float64(scale)) > 0.01 {
		return 0, 0, false
	}
	return scale, int32(math.Round(math.Log2(upper)*math.Exp2(float64(scale)))) - 1, true
}

// indexLimit is what no number of a float64's bucket exceeds.
func indexLimit(scale int32) int64 {
	const exponents = 1100
	if scale < 0 {
		return exponents>>-scale + 2
	}
	return exponents << scale
}
