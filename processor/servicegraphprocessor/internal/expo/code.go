package expo

import (
	"errors"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/journal"
)

var errHistogram = errors.New("histogram out of range")

// Code writes the histogram or reads it.
func (h *Histogram) Code(c *journal.Coder) {
	c.Uint(&h.Count)
	if h.Count == 0 {
		if c.Reading() {
			h.Reset()
		}
		return
	}
	c.Uint(&h.Zero)
	c.Float(&h.Sum)
	c.Float(&h.Min)
	c.Float(&h.Max)
	codeBuckets(c, &h.scale, &h.offset, &h.counts, MaxSize)
}

// Code writes the last point or reads it.
func (c *Cumulative) Code(to *journal.Coder) {
	to.Bool(&c.known)
	if !c.known {
		return
	}
	start, time := uint64(c.start), uint64(c.time)
	to.Uint(&start)
	to.Uint(&time)
	c.start, c.time = pcommon.Timestamp(start), pcommon.Timestamp(time)
	to.Uint(&c.count)
	to.Uint(&c.zero)
	to.Float(&c.sum)
	codeBuckets(to, &c.scale, &c.offset, &c.counts, 4*MaxSize)
}

func codeBuckets(c *journal.Coder, scale, offset *int32, counts *[]uint64, limit int) {
	c.Int32(scale)
	c.Int32(offset)
	journal.Slice(c, counts, limit, c.Uint)
	if *scale < minScale || *scale > maxScale || abs64(int64(*offset)) > indexLimit(*scale) {
		c.Fail(errHistogram)
		*scale, *offset, *counts = 0, 0, nil
	}
}

func abs64(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
