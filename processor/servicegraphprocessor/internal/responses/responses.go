// Package responses counts requests by what answered them.
package responses

import (
	"strconv"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/journal"
	"github.com/nephilia/nephilia/internal/semconv"
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
	// Denied tells that a policy did not let the request pass, Policy which one ("namespace/name") if that is known.
	Denied bool
	Policy string
}

// PutAttributes puts what tells a response apart among a point's attributes.
func (r *Response) PutAttributes(attrs pcommon.Map) {
	code := "other"
	if r.Code != otherCode {
		code = strconv.Itoa(int(r.Code))
	}
	attrs.PutStr(semconv.LabelResponseCode, code)
	if r.Flags != "" {
		attrs.PutStr(semconv.LabelResponseFlags, r.Flags)
	}
	attrs.PutStr(semconv.LabelRequestSource, r.Source)
	if r.Denied {
		attrs.PutStr(semconv.LabelErrorType, semconv.ErrorTypePolicyDenied)
	}
	if r.Policy != "" {
		attrs.PutStr(semconv.LabelPolicy, r.Policy)
	}
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
		r.Flags, r.Policy = "", ""
		of = c.find(r, mostCodes)
	}
	if of == nil {
		r.Code, r.Denied = otherCode, false
		of = c.find(r, all)
	}
	if of != nil {
		of.N += n
		of.Changed = true
	}
}

// By is how many a source told, and how many of those failed.
func (c Counts) By(source string) (total, failed uint64) {
	for i := range c {
		if c[i].Source == source {
			total += c[i].N
			if c[i].Code >= 500 && c[i].Code != otherCode {
				failed += c[i].N
			}
		}
	}
	return total, failed
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
	r.Flags, r.Source, r.Policy = naming.Intern(r.Flags), naming.Intern(r.Source), naming.Intern(r.Policy)
	*c = append(*c, Count{Response: r})
	return &(*c)[len(*c)-1]
}

// Code writes the counts or reads them. What is read leaves anew.
func (c *Counts) Code(to *journal.Coder) {
	journal.Slice(to, (*[]Count)(c), all, func(r *Count) {
		to.Port(&r.Code)
		records.Texts(to, &r.Flags, &r.Source, &r.Policy)
		to.Bool(&r.Denied)
		records.Count(to, &r.N)
		r.Changed = r.Changed || to.Reading()
	})
}
