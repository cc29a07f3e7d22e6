package cumulative

import "go.opentelemetry.io/collector/pdata/pmetric"

// Number is a point's value, whichever type it has.
func Number(point pmetric.NumberDataPoint) float64 {
	if point.ValueType() == pmetric.NumberDataPointValueTypeInt {
		return float64(point.IntValue())
	}
	return point.DoubleValue()
}
