package httpapi

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits on lists.
const (
	defaultLimit = 100
	maxLimit     = 1000
	// maxText bounds a parameter's length.
	maxText = 512
)

// params reads query parameters and keeps the first error.
type params struct {
	values url.Values
	err    error
}

func (p *params) fail(name, detail string) {
	if p.err == nil {
		p.err = badParameter(name, detail)
	}
}

// single refuses parameters that are given more than once, where only one of them could count.
func (p *params) single() {
	for name, values := range p.values {
		if len(values) > 1 && name != "attributes" && name != "namespace" {
			p.fail(name, repeated)
		}
	}
}

// repeated is said of parameters of which only one value could count.
const repeated = "is given more than once"

func (p *params) text(name string) string {
	value := p.values.Get(name)
	if len(p.values[name]) > 1 {
		p.fail(name, repeated)
	}
	if len(value) > maxText {
		p.fail(name, "is too long")
		return ""
	}
	return value
}

// maxNamespaces bounds a list of namespaces.
const maxNamespaces = 100

// namespaces reads namespaces as Grafana writes a variable of several values: one after the other, with commas or bars between them, in braces
// or not, or the parameter more than once. None is all.
func (p *params) namespaces() (names []string) {
	for _, value := range p.values["namespace"] {
		for name := range strings.FieldsFuncSeq(strings.Trim(value, "{}()"), func(r rune) bool { return r == ',' || r == '|' }) {
			names = append(names, strings.TrimSpace(name))
		}
	}
	if len(names) > maxNamespaces || slices.ContainsFunc(names, func(name string) bool { return len(name) > maxText }) {
		p.fail("namespace", "is too long")
	}
	return names
}

func (p *params) oneOf(name, fallback string, allowed ...string) string {
	value := p.text(name)
	if value == "" {
		return fallback
	}
	if !slices.Contains(allowed, value) {
		p.fail(name, "must be one of "+strings.Join(allowed, ", "))
	}
	return value
}

func (p *params) boolean(name string) bool {
	value := p.text(name)
	if value == "" {
		return false
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		p.fail(name, "must be true or false")
	}
	return b
}

func (p *params) limit(fallback, most int) int {
	value := p.text("limit")
	if value == "" {
		return fallback
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > most {
		p.fail("limit", "must be a number from 1 to "+strconv.Itoa(most))
		return fallback
	}
	return n
}

// millisFrom is the number from which on a time is in milliseconds: as seconds it would be the year 5138.
const millisFrom = 1e11

// time reads an RFC 3339 time, unix seconds or unix milliseconds; the zero time where it is absent.
func (p *params) time(name string) time.Time {
	value := p.text(name)
	if value == "" {
		return time.Time{}
	}
	if number, err := strconv.ParseFloat(value, 64); err == nil {
		if number < millisFrom {
			number *= 1000
		}
		if !(number >= 0 && number <= lastMilli) {
			p.fail(name, "is out of range")
			return time.Time{}
		}
		return time.UnixMilli(int64(math.Round(number))).UTC()
	}
	// A plus sign that was not escaped arrives as a space.
	t, err := time.Parse(time.RFC3339Nano, strings.ReplaceAll(value, " ", "+"))
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		p.fail(name, "must be a time as of RFC 3339, unix seconds or unix milliseconds")
		return time.Time{}
	}
	return t.UTC()
}

// number reads a whole number; what says what it should have been.
func (p *params) number(name, what string) uint64 {
	value := p.text(name)
	if value == "" {
		return 0
	}
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		p.fail(name, what)
	}
	return n
}

// notACursor is said of cursors that this API did not make.
const notACursor = "is no cursor of this API"

// duration reads a duration such as 250ms or 1.5s.
func (p *params) duration(name string) time.Duration {
	value := p.text(name)
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		p.fail(name, "must be a duration such as 250ms or 5s")
	}
	return d
}
