package exphist

import (
	"errors"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/journal"
)

var errRange = errors.New("histogram out of range")

// maxStored bounds the buckets that are read from a journal.
const maxStored = 1 << 14

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
	codeBuckets(c, &h.Scale, &h.Offset, &h.Counts)
}

// Code writes the last point or reads it.
func (c *Cumulative) Code(to *journal.Coder) {
	to.Bool(&c.Known)
	if !c.Known {
		return
	}
	start, time := uint64(c.Start), uint64(c.Time)
	to.Uint(&start)
	to.Uint(&time)
	c.Start, c.Time = pcommon.Timestamp(start), pcommon.Timestamp(time)
	to.Uint(&c.Value)
	to.Uint(&c.zero)
	to.Float(&c.sum)
	codeBuckets(to, &c.scale, &c.offset, &c.counts)
}

func codeBuckets(c *journal.Coder, scale, offset *int32, counts *[]uint64) {
	c.Int32(scale)
	c.Int32(offset)
	journal.Slice(c, counts, maxStored, c.Uint)
	first, last := int64(*offset), int64(*offset)+int64(len(*counts))
	if *scale < MinScale || *scale > MaxScale || first < -indexLimit(*scale) || last > indexLimit(*scale) {
		c.Fail(errRange)
		*scale, *offset, *counts = 0, 0, nil
	}
}
