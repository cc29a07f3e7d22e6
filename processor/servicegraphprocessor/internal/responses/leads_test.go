package responses

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/reconcile"
)

func TestLeads(t *testing.T) {
	limits := reconcile.Limits{Window: time.Minute, Skew: time.Second}
	var l Leads
	l.Spans(1, 200, 7, limits)
	l.Spans(1, 500, 2, limits)
	told := Counts{{Response: Response{Code: 500}, N: 2}, {Response: Response{Code: 200}, N: 10}}
	assert.Equal(t, Counts{{Response: Response{Code: 500}}, {Response: Response{Code: 200}, N: 3}}, l.Waypoint(2, told, 3, limits))
	l.Spans(3, 200, 1, limits)
	assert.Equal(t, Counts{{Response: Response{Code: 0}}}, l.Waypoint(4, Counts{{Response: Response{Code: 0}, N: 1}}, 0, limits), "the client did not wait")
	assert.Equal(t, Counts{{Response: Response{Code: 503}, N: 2}}, l.Waypoint(5, Counts{{Response: Response{Code: 503}, N: 2}}, 2, limits))
	assert.EqualValues(t, 404, l.Span(6, 404, false, limits), "it came after another one that the waypoint told before")
	assert.EqualValues(t, 404, l.Span(6, 503, true, limits), "which was this one")
	assert.EqualValues(t, 503, l.Span(6, 503, true, limits))
	assert.EqualValues(t, 503, l.Span(6, 503, true, limits))
	l.Rewind(1)
	for code := range uint16(200) {
		l.Spans(6, code, 1, limits)
	}
	assert.Len(t, l, mostCodes)
}

func TestBy(t *testing.T) {
	var c Counts
	c.Add(Response{Code: 200, Source: "spans"}, 3)
	c.Add(Response{Code: 503, Source: "spans"}, 2)
	c.Add(Response{Code: 500, Source: "waypoint_log"}, 1)
	total, failed := c.By("spans")
	assert.EqualValues(t, 5, total)
	assert.EqualValues(t, 2, failed)
}
