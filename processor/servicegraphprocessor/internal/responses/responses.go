// Package responses counts requests by what answered them.
package responses

import (
	"strconv"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/naming"
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/records"
)

const (
	// most bounds the responses that are told apart on one edge. Further ones are told apart without their flags up to
	// mostCodes, and beyond that by their source only, up to all.
	most      = 64
	mostCodes = 96
	all       = mostCodes + 8
	otherCode = 1<<16 - 1
	// maxFlags bounds a response's flags, in bytes.
	maxFlags = 64
)

// Response is what answered a request, and who tells.
type Response struct {
	// Code is 0 where nobody answered.
	Code uint16
	// Flags are Envoy's, Source one of semconv's RequestSource constants.
	Flags, Source string
}

// CodeText is the code in digits.
func (r *Response) CodeText() string {
	if r.Code == otherCode {
		return "other"
	}
	return strconv.Itoa(int(r.Code))
}

// Count is how many requests a response answered.
type Count struct {
	Response
	N uint64
	// Changed tells that N is not what left last.
	Changed bool
}

// Counts are those of one edge, or what is added to them.
type Counts []Count

// Add counts n more requests.
func (c *Counts) Add(r Response, n uint64) {
	if n == 0 {
		return
	}
	if len(r.Flags) > maxFlags {
		r.Flags = r.Flags[:maxFlags]
	}
	of := c.find(r, most)
	if of == nil {
		r.Flags = ""
		of = c.find(r, mostCodes)
	}
	if of == nil {
		r.Code = otherCode
		of = c.find(r, all)
	}
	if of != nil {
		of.N += n
		of.Changed = true
	}
}

// find finds or creates a response's count; nil if there are as many as a bound.
func (c *Counts) find(r Response, bound int) *Count {
	for i := range *c {
		if (*c)[i].Response == r {
			return &(*c)[i]
		}
	}
	if len(*c) >= bound {
		return nil
	}
	r.Flags, r.Source = naming.Intern(r.Flags), naming.Intern(r.Source)
	*c = append(*c, Count{Response: r})
	return &(*c)[len(*c)-1]
}

// Code writes the counts or reads them. What is read leaves anew.
func (c *Counts) Code(to *journal.Coder) {
	journal.Slice(to, (*[]Count)(c), all, func(r *Count) {
		to.Port(&r.Code)
		records.Texts(to, &r.Flags, &r.Source)
		records.Count(to, &r.N)
		r.Changed = r.Changed || to.Reading()
	})
}
