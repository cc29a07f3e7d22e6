package httpapi

import (
	"sync"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/budget"
)

// Bounds of the graph cache.
const (
	cachedGraphs = 32
	cachedBytes  = 64 << 20
)

// graphCache keeps the last answers, so that many viewers of one graph cost as much as one.
type graphCache struct {
	memory *budget.Budget

	mu      sync.Mutex
	answers map[string]*answer // bounded by cachedGraphs and cachedBytes
	order   []string
	bytes   int
}

func newGraphCache(memory *budget.Budget) *graphCache {
	return &graphCache{memory: memory, answers: map[string]*answer{}}
}

func (c *graphCache) get(key string) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[key]
}

func (c *graphCache) put(key string, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.answers[key]; ok || len(a.body) > cachedBytes {
		return
	}
	a.hold(c.memory)
	c.answers[key] = a
	c.order = append(c.order, key)
	c.bytes += len(a.body)
	for len(c.order) > cachedGraphs || c.bytes > cachedBytes {
		oldest := c.order[0]
		c.order = append(c.order[:0], c.order[1:]...)
		c.bytes -= len(c.answers[oldest].body)
		c.answers[oldest].drop(c.memory)
		delete(c.answers, oldest)
	}
}
