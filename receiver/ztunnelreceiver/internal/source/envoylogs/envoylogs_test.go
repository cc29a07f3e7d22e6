package envoylogs

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/replay"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/source"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/telemetry"
)

// sink takes records and what is wrong.
type sink struct {
	source.Sink
	proxies []source.Proxy
	records []plog.LogRecord
	up      bool
	problem string
}

func (s *sink) NewRequest(of source.Proxy) (plog.LogRecord, bool) {
	s.proxies, s.records = append(s.proxies, of), append(s.records, plog.NewLogRecord())
	return s.records[len(s.records)-1], true
}
func (s *sink) Up(_, _ string, up bool, _ time.Time) { s.up = up }
func (s *sink) Ails(_, _ string, problem, detail string) {
	s.problem = strings.TrimSpace(problem + " " + detail)
}

func newEnv(t *testing.T) (*source.Env, *sink) {
	t.Helper()
	tel, err := telemetry.New(componenttest.NewNopTelemetrySettings())
	require.NoError(t, err)
	t.Cleanup(tel.Shutdown)
	out := &sink{}
	return &source.Env{Sink: out, Telemetry: tel}, out
}

const logLine = `[2026-11-25T09:00:10.000Z] "DELETE /order/caf%%C3%%A9?id=1 HTTP/1.1" 403 - rbac_access_denied_matched_policy[ns[shop]-policy[no-delete]-rule[0]] - "-" 3 512 24 - ` +
	`"203.0.113.7" "%s" "eb1e0178-4703-94d8-d59f-6510707007eb" "oven:8080" "-" inbound-vip|8080|http/v2|oven.bakery.svc; - [fd00::3]:8080 [fd00::1]:40112 - default`

func TestRecord(t *testing.T) {
	env, out := newEnv(t)
	p := NewPlayer(env, nil)
	p.Begin(replay.Contents{Requests: true})
	assert.True(t, out.up)
	at := time.Date(2026, 11, 25, 10, 0, 10, 24_000_000, time.UTC)
	p.Part(&replay.Part{Kind: replay.KindRequest, Name: "bakery-waypoint", Time: at, Shift: time.Hour, Raw: fmt.Appendf(nil, logLine, strings.Repeat("é", 200))})
	require.Len(t, out.records, 1)
	assert.Equal(t, source.Proxy{Name: "bakery-waypoint"}, out.proxies[0])
	record := out.records[0]
	assert.Equal(t, at, record.Timestamp().AsTime(), "the end, shifted")
	assert.Equal(t, semconv.EventRequest, record.EventName())
	assert.Equal(t, plog.SeverityNumberInfo, record.SeverityNumber(), "a denial is no error of the server")
	uid, _ := record.Attributes().Get(semconv.AttrRecordUID)
	assert.Len(t, uid.Str(), 32)
	record.Attributes().Remove(semconv.AttrRecordUID)
	assert.Equal(t, map[string]any{
		semconv.AttrRequestMethod: "DELETE", semconv.AttrURLPath: "/order/caf%C3%A9", semconv.AttrProtocolVersion: "1.1",
		semconv.AttrResponseStatusCode: int64(403), semconv.AttrResponseDetails: "rbac_access_denied_matched_policy[ns[shop]-policy[no-delete]-rule[0]]",
		semconv.AttrRequestBodySize: int64(3), semconv.AttrResponseBodySize: int64(512), semconv.AttrRequestDuration: int64(24e6),
		semconv.AttrForwardedFor: "203.0.113.7", semconv.AttrUserAgent: strings.Repeat("é", 128), semconv.AttrRequestID: "eb1e0178-4703-94d8-d59f-6510707007eb",
		semconv.AttrServerAddress: "oven:8080", semconv.AttrUpstreamCluster: "inbound-vip|8080|http/v2|oven.bakery.svc;", semconv.AttrDownstreamLocal: "[fd00::3]:8080",
		semconv.AttrSourceAddress: "fd00::1", semconv.AttrSourcePort: int64(40112), semconv.AttrDestinationService: "oven.bakery.svc",
		semconv.AttrServicePort: int64(8080), semconv.AttrRouteName: "default",
		semconv.AttrErrorType: semconv.ErrorTypePolicyDenied, semconv.AttrPolicy: "shop/no-delete",
	}, record.Attributes().AsRaw())

	p.Part(&replay.Part{Kind: replay.KindRequest, Name: "bakery-waypoint", Time: at.Add(time.Second), Outlier: true, Raw: fmt.Appendf(nil, logLine, "curl")})
	assert.Equal(t, at.Add(time.Second), out.records[1].Timestamp().AsTime(), "a time that is not to be believed")

	hours := strings.Replace(fmt.Sprintf(logLine, "curl"), " 512 24 ", " 512 1800000 ", 1)
	p.Part(&replay.Part{Kind: replay.KindRequest, Name: "bakery-waypoint", Time: at.Add(2 * time.Second), Shift: time.Hour, Raw: []byte(hours)})
	assert.Equal(t, at.Add(2*time.Second), out.records[2].Timestamp().AsTime(), "the lines around it are not half an hour later")
}

func TestProblems(t *testing.T) {
	env, out := newEnv(t)
	p := NewPlayer(env, nil)
	part := func(name, line string) {
		p.Part(&replay.Part{Kind: replay.KindRequest, Name: name, Time: time.Date(2026, 11, 25, 9, 0, 10, 0, time.UTC), Raw: []byte(line)})
	}
	good := fmt.Sprintf(logLine, "curl")
	part("a", good)
	for range 20 {
		part("b", "2026-11-25T09:00:02.118301Z\tinfo\tFLAG: --concurrency=\"0\"")
	}
	for _, line := range []string{"info\tEffective config: binaryPath: /usr/local/bin/envoy", "configPath: ./etc/istio/proxy", "proxyMetadata:", "  DNS_AGENT: \"\"", "statusPort: 15020"} {
		part("b", strings.Replace(line, "info", "2026-11-25T09:00:02.118301Z\tinfo", 1))
	}
	part("b", `{"res_code":"200"}`)
	assert.Empty(t, out.problem)
	part("b", `{"res_code":"200"}`)
	assert.Equal(t, "not_understood Of the log of b: lines come, and none of them is one of an access log whose format is known; envoy_logs::format tells another one.", out.problem)
	part("b", good)
	part("b", good)
	assert.Empty(t, out.problem, "some are foreign")
	for range 5 {
		part("a", good[:200])
	}
	assert.Contains(t, out.problem, "Of the log of a: lines come, and most of them are none")
	for range 5 {
		part("a", good)
	}
	assert.Empty(t, out.problem)
}

func TestProxyNamed(t *testing.T) {
	for of, want := range map[string]source.Proxy{
		"shop_waypoint-6b9d7c5f4-x7k2p": {Gateway: true, Name: "shop/waypoint", Namespace: "shop", Pod: "waypoint-6b9d7c5f4-x7k2p"},
		"shop_way-point-x7k2p":          {Gateway: true, Name: "shop/way", Namespace: "shop", Pod: "way-point-x7k2p"},
		"shop_waypoint":                 {Gateway: true, Name: "shop/waypoint", Namespace: "shop", Pod: "waypoint"},
		"shop/waypoint":                 {Gateway: true, Name: "shop/waypoint"},
	} {
		p := proxyNamed(of)
		assert.Equal(t, want, p.Proxy, of)
		p.learn([]byte("outbound|80||oven"))
		assert.True(t, p.Gateway)
		p.learn([]byte("inbound-vip|80|http|oven"))
		assert.False(t, p.Gateway)
	}
}
