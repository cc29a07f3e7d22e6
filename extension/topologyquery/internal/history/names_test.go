package history

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/internal/semconv"
)

// TestFailingNames keeps what search domains and other types fail for apart from names that are not resolved.
func TestFailingNames(t *testing.T) {
	var l lookedUp
	l.add("api.stripe.test.billing.svc.cluster.local", semconv.LookupNoRecords, 10)
	l.add("api.stripe.test.cluster.local", semconv.LookupNoRecords, 10)
	l.add("api.stripe.test", semconv.LookupForwarded, 5)
	l.add("api.stripe.test", semconv.LookupNoRecords, 5) // AAAA
	l.add("api.stripe.test", semconv.LookupServerFailure, 3)
	l.add("rates.shiping.svc", semconv.LookupNoRecords, 4)
	l.add("postgres-0.postgres.data.svc.cluster.local", semconv.LookupNoRecords, 2)
	l.add("postgres-0.postgres.data.svc.cluster.local.shop.svc.cluster.local", semconv.LookupNoRecords, 2)
	l.add("catalog.shop.svc.cluster.local", semconv.LookupAnswered, 9)
	l.add("", semconv.LookupTimeout, 9)
	list, searched := l.failing()
	assert.Equal(t, []FailingName{
		{"rates.shiping.svc", semconv.LookupNoRecords, 4},
		{"api.stripe.test", semconv.LookupServerFailure, 3},
		{"postgres-0.postgres.data.svc.cluster.local", semconv.LookupNoRecords, 2},
	}, list)
	assert.EqualValues(t, 22, searched)
}
