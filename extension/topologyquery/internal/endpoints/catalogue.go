// Package endpoints is the catalogue of the mesh's APIs: which endpoints each service has, as its requests show, how often and by whom
// each is called, how it answers and how fast.
package endpoints

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"

	"github.com/nephilia/nephilia/internal/expiry"
	"github.com/nephilia/nephilia/internal/pathtemplate"
)

// Bounds on what clients choose.
const (
	// maxMethods bounds the methods of a path; further ones count as otherMethod.
	maxMethods  = 10
	otherMethod = "OTHER"
	// maxCallers bounds a service's callers; further ones are otherCaller.
	maxCallers = 1000
	maxPath    = 1024
)

// otherCaller stands for callers beyond the bound, and for nobody who is known.
var otherCaller = Name{Name: "other"}

// Name is a namespace and a name in it.
type Name struct{ Namespace, Name string }

// Source is who told of requests.
type Source uint8

// The sources. A request is told by one log, but by a log and spans both.
const (
	WaypointLog Source = iota
	GatewayLog
	Spans
	numSources
)

// Request is one request.
type Request struct {
	// Time is when it ended, in unix milliseconds.
	Time    int64
	Service Name
	Caller  Name
	Source  Source
	Method  string
	// Path is without its query; Route, unless empty, is the application's template.
	Path, Route string
	// Code is the HTTP status, 0 where nobody answered. Failed tells that the server or the mesh is to blame.
	Code   uint16
	Failed bool
	// Seconds is how long it took, below 0 if that says nothing.
	Seconds float64
}

// Settings bound a catalogue.
type Settings struct {
	// MaxServices bounds the services, MaxTemplates the templates of paths of each.
	MaxServices, MaxTemplates int
	// MaxBytes bounds the counts, roughly; the oldest go first.
	MaxBytes int64
	// Retention is how long counts are kept, in milliseconds of data time.
	Retention int64
	// Now is the data's time in unix milliseconds, 0 before any.
	Now func() int64
}

// Catalogue is the endpoints of all services. All methods may be called from several goroutines.
type Catalogue struct {
	Settings

	mu       sync.Mutex
	services *expiry.Table[Name, *service]
	// bytes is roughly what the counts take, oldest since when they are kept.
	bytes, oldest int64
	swept         int64
	dropped       uint64
	keeper        *keeper
}

// service is the endpoints of a service.
type service struct {
	name    Name
	tree    *pathtemplate.Tree[place]
	callers []Name
	index   map[Name]uint32 // bounded by maxCallers
}

// place is the endpoints with a path, by method; node is where the service's tree has them.
type (
	place []*endpoint
	node  = pathtemplate.Node[place]
)

// endpoint is a method and a path of a service.
type endpoint struct {
	method      string
	first, last int64
	counts      [numSources]series
}

// New returns an empty catalogue.
func New(settings Settings) *Catalogue {
	c := &Catalogue{Settings: settings}
	c.services = expiry.New(settings.MaxServices, func(_ Name, s *service) { c.forget(s) })
	return c
}

// Dropped is how many requests were left out: of a service beyond the bound, or of an impossible time.
func (c *Catalogue) Dropped() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// ahead is how far ahead of the data's clock a request may have ended, in milliseconds.
const ahead = 10 * 60_000

// Add counts a request.
func (c *Catalogue) Add(r *Request) {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if now == 0 {
		now = r.Time
	}
	if r.Time > now+ahead || r.Time <= now-c.Retention || r.Service.Name == "" {
		c.dropped++
		return
	}
	s := c.service(r.Service, now)
	if s == nil {
		c.dropped++
		return
	}
	e := s.endpoint(r)
	e.first, e.last = min(e.first, r.Time), max(e.last, r.Time)
	c.bytes += e.counts[r.Source].add(r, s.caller(r.Caller), now)
	if c.bytes > c.MaxBytes || now-c.swept > sweepEvery || now < c.swept {
		c.sweep(now)
	}
}

func (c *Catalogue) service(name Name, now int64) *service {
	at := pcommon.Timestamp(now) * 1e6
	if s, ok := c.services.Use(name, at); ok {
		return s
	}
	s := &service{
		name: Name{strings.Clone(name.Namespace), strings.Clone(name.Name)}, callers: []Name{otherCaller}, index: map[Name]uint32{},
	}
	s.tree = pathtemplate.New(pathtemplate.Settings[place]{MaxTemplates: c.MaxTemplates, Merge: func(into, from place) place {
		if c.keeper != nil {
			c.keeper.rewrite = true // what is on disk has other templates
		}
		for _, e := range from {
			into = into.merge(e)
		}
		return into
	}})
	if !c.services.Add(s.name, s, at) {
		return nil
	}
	return s
}

// learns tells whether a code shows that the path exists: what is not there is answered 404 or 405.
func learns(code uint16) bool { return code != 404 && code != 405 }

func (s *service) endpoint(r *Request) *endpoint {
	var n *node
	if r.Route != "" {
		n = s.tree.Declare(r.Route)
	}
	if n == nil {
		n = s.tree.Find(r.Path[:min(len(r.Path), maxPath)], !learns(r.Code))
	}
	var e *endpoint
	n.Value, e = n.Value.of(r.Method, r.Time)
	return e
}

// of finds or makes the endpoint of a method.
func (p place) of(method string, at int64) (place, *endpoint) {
	if len(method) > 16 {
		method = otherMethod
	}
	for _, e := range p {
		if e.method == method {
			return p, e
		}
	}
	if len(p) >= maxMethods && method != otherMethod {
		return p.of(otherMethod, at)
	}
	e := &endpoint{method: strings.Clone(method), first: at, last: at}
	return append(p, e), e
}

func (p place) merge(from *endpoint) place {
	p, into := p.of(from.method, from.first)
	into.first, into.last = min(into.first, from.first), max(into.last, from.last)
	for source := range into.counts {
		into.counts[source].merge(&from.counts[source])
	}
	return p
}

func (s *service) caller(name Name) uint32 {
	if name.Name == "" {
		return 0
	}
	if at, ok := s.index[name]; ok {
		return at
	}
	if len(s.callers) > maxCallers {
		return 0
	}
	name = Name{strings.Clone(name.Namespace), strings.Clone(name.Name)}
	at := uint32(len(s.callers))
	s.callers = append(s.callers, name)
	s.index[name] = at
	return at
}

// all goes through the endpoints of a service.
func (s *service) all(yield func(path *node, e *endpoint)) {
	s.tree.All(func(n *node) bool {
		for _, e := range n.Value {
			yield(n, e)
		}
		return true
	})
}

func (c *Catalogue) forget(s *service) {
	s.all(func(_ *node, e *endpoint) {
		for source := range e.counts {
			c.bytes -= e.counts[source].bytes()
		}
	})
}

// sweepEvery is how often old counts are put together and forgotten, in milliseconds of data time.
const sweepEvery = 60_000

// sweep puts old counts together and forgets those that are too old. Where there are too many, it puts together younger ones, down to those of
// the last minute, and then forgets the oldest.
func (c *Catalogue) sweep(now int64) {
	c.swept = now
	c.services.Sweep(pcommon.Timestamp(max(now-c.Retention, 0)) * 1e6)
	age, fineFor := c.Retention, int64(fineAge)
	for c.foldAll(now, now-age, fineFor); c.bytes > c.MaxBytes*9/10 && age > sweepEvery; c.foldAll(now, now-age, fineFor) {
		if fineFor > sweepEvery {
			fineFor /= 2
			continue
		}
		age /= 2
		c.oldest = max(c.oldest, now-age)
	}
}

func (c *Catalogue) foldAll(now, before, fineFor int64) {
	c.bytes = 0
	for _, s := range c.services.All() {
		s.tree.All(func(n *node) bool {
			n.Value = slices.DeleteFunc(n.Value, func(e *endpoint) bool {
				for source := range e.counts {
					e.counts[source].fold(now, before, fineFor)
					c.bytes += e.counts[source].bytes()
				}
				return e.last <= now-c.Retention
			})
			return true
		})
	}
}

func compareNames(a, b Name) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}
