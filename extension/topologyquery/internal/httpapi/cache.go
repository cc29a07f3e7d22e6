package httpapi

import "sync"

// Bounds of the graph cache.
const (
	cachedGraphs = 32
	cachedBytes  = 64 << 20
)

// graphKey is a question and the state of the stores that the answer depends on.
type graphKey struct {
	start, end               int64
	groupBy, namespace       string
	idle                     bool
	live, inventory, outages uint64
	clock                    int64
}

// graphCache keeps the last answers, so that many viewers of one graph cost as much as one.
type graphCache struct {
	mu      sync.Mutex
	answers map[graphKey]*answer
	order   []graphKey
	bytes   int
}

func newGraphCache() *graphCache { return &graphCache{answers: map[graphKey]*answer{}} }

func (c *graphCache) get(key graphKey) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answers[key]
}

func (c *graphCache) put(key graphKey, a *answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.answers[key]; ok || len(a.body) > cachedBytes {
		return
	}
	c.answers[key] = a
	c.order = append(c.order, key)
	c.bytes += len(a.body)
	for len(c.order) > cachedGraphs || c.bytes > cachedBytes {
		oldest := c.order[0]
		c.order = append(c.order[:0], c.order[1:]...)
		c.bytes -= len(c.answers[oldest].body)
		delete(c.answers, oldest)
	}
}
