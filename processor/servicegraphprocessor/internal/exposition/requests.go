package exposition

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/appspan"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/responses"
)

// Response is what answered the requests of a waypoint's series.
func (l *Labels) Response() responses.Response {
	r := responses.Response{Source: semconv.RequestSourceWaypointMetrics}
	if code, err := strconv.ParseUint(l.Code, 10, 16); err == nil && code < 1000 {
		r.Code = uint16(code)
	}
	if Told(l.Flags) && l.Flags != "-" {
		r.Flags = naming.Intern(l.Flags)
	}
	return r
}

// Failed tells whether the requests failed by the server's doing, or the mesh's: not if their clients left.
func (l *Labels) Failed() bool {
	code, err := strconv.Atoi(l.Code)
	switch {
	case code == 101, hasFlag(l.Flags, "DC"), hasFlag(l.Flags, "DR"):
		return false
	case err == nil && code == 0:
		return Told(l.Flags) && l.Flags != "-"
	case code >= 400:
		return code >= 500
	}
	status, err := strconv.ParseInt(l.GRPCStatus, 10, 64)
	return err == nil && appspan.ServerFault(status)
}

func hasFlag(flags, flag string) bool {
	return slices.Contains(strings.Split(flags, ","), flag)
}

// Middle is the value that stands for an explicit bucket.
func Middle(bounds pcommon.Float64Slice, i int) float64 {
	switch {
	case bounds.Len() == 0:
		return 0
	case i == 0:
		return bounds.At(0) / 2
	case i == bounds.Len():
		return bounds.At(i - 1)
	}
	low, high := bounds.At(i-1), bounds.At(i)
	if low <= 0 {
		return high / 2
	}
	return math.Sqrt(low * high)
}
