package jaegergrpc

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
)

func TestQuery(t *testing.T) {
	now := time.Date(2026, 3, 2, 1, 2, 3, 4, time.UTC)
	a := &api{Settings: Settings{Now: func() time.Time { return now }}}
	attribute := message(nil).text(1, "http.route").embedded(2, message(nil).text(1, "/a"))
	number := message(nil).text(1, "code").embedded(2, message(nil).number(3, 500))
	failed := message(nil).text(1, "error").embedded(2, message(nil).number(2, 1))
	parameters := message(nil).text(1, "checkout").text(2, "POST /a").embedded(3, attribute).embedded(3, number).embedded(3, failed).
		embedded(4, timestamp(now.Add(-time.Hour))).embedded(5, timestamp(now)).embedded(6, message(nil).number(2, 5_000_000)).
		embedded(7, message(nil).number(1, 2)).number(8, 9999)
	q, err := a.query(message(nil).embedded(1, parameters), storageQuery)
	require.NoError(t, err)
	assert.Equal(t, traces.Query{
		Service: "checkout", Operation: "POST /a", Attributes: map[string]string{"http.route": "/a", "code": "500"}, Status: "error",
		Start: now.Add(-time.Hour), End: now, MinDuration: 5 * time.Millisecond, MaxDuration: 2 * time.Second, Limit: maxTraces, Order: traces.OrderNewest,
	}, q)
}

func FuzzQuery(f *testing.F) {
	a := &api{Settings: Settings{Now: func() time.Time { return time.Unix(0, 0) }}}
	f.Add([]byte(message(nil).embedded(1, message(nil).text(1, "a").embedded(4, timestamp(time.Unix(1, 1))))))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, request []byte) {
		for _, d := range []dialect{storageQuery, apiQuery} {
			if q, err := a.query(request, d); err == nil {
				assert.LessOrEqual(t, q.Limit, maxTraces)
				assert.False(t, q.End.IsZero())
			}
		}
	})
}
