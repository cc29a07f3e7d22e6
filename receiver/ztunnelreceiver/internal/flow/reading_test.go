package flow_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/flow"
)

func TestProblem(t *testing.T) {
	const (
		foreign = "2026-11-23T10:00:05.000000Z  INFO outbound{id=1}: ztunnel::proxy::outbound: complete dur=489.707µs"
		info    = "2026-11-23T10:00:05.000000Z\tinfo\tstate\tok\t"
		warning = "2026-11-23T10:00:05.000000Z\twarn\tstate\tno\t"
		failed  = "2026-11-23T10:00:05.000000Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 direction=\"inbound\" error=\"x\""
	)
	p := flow.New(flow.Config{RecordMetrics: true}, nil)
	take := func(entry string, n int) string {
		for range n {
			p.Entry("n1", []byte(entry), time.Time{})
		}
		log := p.Log("n1")
		assert.Equal(t, log.Problem == "", log.Detail == "")
		return log.Problem
	}
	assert.Empty(t, take(foreign, 4), "too few to tell")
	assert.Equal(t, semconv.ProblemNotUnderstood, take(foreign, 1))
	assert.Equal(t, semconv.ProblemNotUnderstood, take(foreign, 10_000))
	for i := range 3 {
		p.FlushMetrics(time.Unix(1_800_000_000+int64(i), 0), false)
		assert.Equal(t, semconv.ProblemNotUnderstood, take(foreign, 1), "the node is not forgotten")
	}
	assert.Equal(t, semconv.ProblemNotUnderstood, take(info, 1), "most are not")
	assert.Empty(t, take(info, 20), "a log that is read again")
	assert.Empty(t, take(foreign, 20), "some are not")
	assert.Empty(t, take(warning, 2))
	assert.Empty(t, take(failed, 2))
	assert.Equal(t, semconv.ProblemLevelTooLow, take(failed, 1))
	assert.Empty(t, take(info, 1))
	assert.Zero(t, p.Log("unknown"))

	p = flow.New(flow.Config{RecordMetrics: true}, nil)
	assert.Empty(t, take(warning, 2))
	assert.Equal(t, semconv.ProblemLevelTooLow, take(failed, 1), "nothing else was ever told")
	assert.Empty(t, take(info, 1))
	assert.Empty(t, take(failed, 4))
}

func TestRequestsWithoutConnections(t *testing.T) {
	const (
		request    = "2026-11-23T10:00:05.000000Z\tinfo\thttp access\trequest complete\tsrc.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 direction=\"outbound\" method=GET response_code=200"
		connection = "2026-11-23T10:00:05.000000Z\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 direction=\"outbound\""
	)
	p := flow.New(flow.Config{}, nil)
	for range 5 {
		assert.False(t, p.Log("n1").RequestsOnly)
		p.Entry("n1", []byte(request), time.Time{})
	}
	assert.True(t, p.Log("n1").RequestsOnly)
	p.Entry("n1", []byte(connection), time.Time{})
	assert.False(t, p.Log("n1").RequestsOnly)
}

func TestLogThatIsLeftOut(t *testing.T) {
	p := flow.New(flow.Config{RecordMetrics: true, MaxSeries: 1}, nil)
	for _, client := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.2"} {
		p.Entry("n1", []byte("2026-11-23T10:00:05.000000Z\tinfo\taccess\tconnection complete\tsrc.addr="+client+":1 dst.addr=10.0.0.9:80 direction=\"outbound\""), time.Time{})
	}
	assert.EqualValues(t, 2, p.Log("n1").Dropped)
}
