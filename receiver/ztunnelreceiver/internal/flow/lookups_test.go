package flow

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/nephilia/nephilia/internal/semconv"
)

// TestLookups counts the lines of the DNS proxy, plain and JSON, which have no message, and makes a record of each.
func TestLookups(t *testing.T) {
	p := New(Config{RecordLogs: true, RecordMetrics: true}, nil)
	for _, line := range []string{
		`2026-11-27T09:33:12.231807Z	debug	dns	src.workload="payment-1" src.namespace="billing" query="A" domain="catalog.shop.svc.cluster.local." result="success" endpoints=1`,
		`2026-11-27T09:33:13.231807Z	debug	dns	src.workload="payment-1" src.namespace="billing" query="A" domain="api.stripe.test." result="forwarded" endpoints=1`,
		`2026-11-27T09:33:14.231807Z	debug	dns	src.workload="payment-1" src.namespace="billing" query="A" domain="api.stripe.test.cluster.local." result="forwarding failed (net error: DNS error: no records found for Query { name: Name(\"api.stripe.test.cluster.local.\"), query_type: A, query_class: IN })" endpoints=0`,
		`{"level":"debug","time":"2026-11-27T09:33:15.197292Z","scope":"dns","src.workload":"payment-1","src.namespace":"billing","query":"A","domain":"api.stripe.test.","result":"forwarded","endpoints":1}`,
		`{"level":"debug","time":"2026-11-27T09:33:16.197292Z","scope":"dns","src.workload":"payment-1","src.namespace":"billing","query":"A","domain":"api.stripe.test.","result":"forwarding failed (net error: DNS error: error response: Server Failure)","endpoints":0}`,
		`{"level":"debug","time":"2026-11-27T09:33:17.197292Z","scope":"dns","src.workload":"payment-1","src.namespace":"billing","query":"A","domain":"api.stripe.test.","result":"forwarding failed (net error: request timed out)","endpoints":0}`,
	} {
		p.Entry("node-a", []byte(line), time.Time{})
	}
	records := p.FlushLogs().ResourceLogs().At(0).ScopeLogs().At(0).LogRecords()
	assert.Equal(t, 6, records.Len())
	for i, failure := range []string{"", "", "", "", semconv.ErrorTypeDNSFailure, semconv.ErrorTypeDNSFailure} {
		value, _ := records.At(i).Attributes().Get(semconv.AttrErrorType)
		assert.Equal(t, failure, value.Str())
		assert.Equal(t, semconv.EventLookup, records.At(i).EventName())
	}
	at := time.Date(2026, 11, 27, 9, 33, 20, 0, time.UTC)
	assert.Equal(t, map[string]int64{
		"catalog.shop.svc.cluster.local answered": 1, "api.stripe.test forwarded": 2, "api.stripe.test.cluster.local no_records": 1,
		"api.stripe.test server_failure": 1, "api.stripe.test timeout": 1,
	}, lookedUp(p.FlushMetrics(at, false)))
	assert.Empty(t, lookedUp(p.FlushMetrics(at.Add(time.Second), false)), "only what changed is told")
	assert.Len(t, lookedUp(p.FlushMetrics(at.Add(2*time.Second), true)), 5)
}

func lookedUp(md pmetric.Metrics) map[string]int64 {
	out := map[string]int64{}
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				if m.Name() != semconv.MetricLookups {
					continue
				}
				for _, point := range m.Sum().DataPoints().All() {
					name, _ := point.Attributes().Get(semconv.LabelQuestionName)
					result, _ := point.Attributes().Get(semconv.LabelResult)
					out[name.Str()+" "+result.Str()] = point.IntValue()
				}
			}
		}
	}
	return out
}
