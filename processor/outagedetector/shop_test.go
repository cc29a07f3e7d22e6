package outagedetector

import (
	"testing"
	"time"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/semconv"
)

// shop is a small mesh with healthy traffic, in which single things can be made to go wrong.
type shop struct {
	*world
	frontend, checkout, shipping, redis, cart []*worldPod
	payment                                   []*worldPod
	// break, by the edge, replaces an edge's healthy traffic of one interval.
	broken map[string]func(e *worldEdge)
}

func newShop(t testing.TB, configure func(*Config)) *shop {
	s := &shop{world: newWorld(t, configure), broken: map[string]func(*worldEdge){}}
	s.node("node-a", "node-b", "node-c")
	s.pod("load/loadgen", "loadgen-1", "node-a")
	s.frontend = []*worldPod{s.pod("shop/frontend", "frontend-1", "node-a"), s.pod("shop/frontend", "frontend-2", "node-b")}
	s.checkout = []*worldPod{s.pod("shop/checkout", "checkout-1", "node-b")}
	s.payment = []*worldPod{s.pod("billing/payment", "payment-1", "node-a"), s.pod("billing/payment", "payment-2", "node-c")}
	s.shipping = []*worldPod{s.pod("shop/shipping", "shipping-1", "node-c")}
	s.cart = []*worldPod{s.pod("shop/cart", "cart-1", "node-a")}
	s.redis = []*worldPod{s.pod("data/redis", "redis-1", "node-b")}
	return s
}

const (
	toFrontend = "load/loadgen>shop/frontend"
	toCheckout = "shop/frontend>shop/checkout"
	toPayment  = "shop/checkout>billing/payment"
	toShipping = "shop/checkout>shop/shipping"
	toCart     = "shop/frontend>shop/cart"
	toRedis    = "shop/cart>data/redis"
)

// link is an edge of the shop with what happens on it in an interval.
type link struct {
	edge                string
	source, destination string
	calls               uint64
	took                time.Duration
	http                bool
	pods                []*worldPod
}

func (s *shop) links() []link {
	return []link{
		{toFrontend, "load/loadgen", "shop/frontend", 20, 20 * time.Millisecond, true, s.frontend},
		{toCheckout, "shop/frontend", "shop/checkout", 6, 60 * time.Millisecond, true, s.checkout},
		{toPayment, "shop/checkout", "billing/payment", 6, 25 * time.Millisecond, true, s.payment},
		{toShipping, "shop/checkout", "shop/shipping", 5, 8 * time.Millisecond, true, s.shipping},
		{toCart, "shop/frontend", "shop/cart", 8, 7 * time.Millisecond, true, s.cart},
		{toRedis, "shop/cart", "data/redis", 8, 0, false, s.redis},
	}
}

// live is one interval of the shop's life.
func (s *shop) live() {
	for _, l := range s.links() {
		e := s.edge(l.source, l.destination)
		if broken, ok := s.broken[l.edge]; ok {
			if broken != nil {
				broken(e)
			}
			continue
		}
		e.ok(l.calls, l.pods...)
		if l.http {
			e.answer(l.calls, 0, l.took, l.pods...)
		}
	}
}

// refuse makes connections to payment fail for a reason; what the callers make of it fails with them.
func (s *shop) refuse(errorType, policy string) {
	s.broken[toPayment] = func(e *worldEdge) { e.fail(6, errorType, policy, s.payment...) }
	s.failUpstream()
}

func (s *shop) failUpstream() {
	s.broken[toCheckout] = func(e *worldEdge) { e.ok(6, s.checkout...).answer(6, 6, 60*time.Millisecond, s.checkout...) }
	s.broken[toFrontend] = func(e *worldEdge) { e.ok(20, s.frontend...).answer(20, 6, 20*time.Millisecond, s.frontend...) }
}

func (s *shop) heal() { clear(s.broken) }

// health, fault and recovery are the three parts of most tests.
func (s *shop) health()   { s.run(2*time.Minute, s.live) }
func (s *shop) fault()    { s.run(time.Minute, s.live) }
func (s *shop) recovery() { s.heal(); s.run(time.Minute, s.live) }

// deny adds a policy that denies checkout.
func (s *shop) deny() *mesh.Policy {
	p := &mesh.Policy{Name: "no-checkout", Namespace: "billing", Scope: "WORKLOAD_SELECTOR", Action: "DENY", Rules: "[{}]"}
	s.entity(p, false)
	s.refuse(semconv.ErrorTypePolicyDenied, p.Key())
	return p
}
