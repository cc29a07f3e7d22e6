package accesslog_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// view is a record in comparable form.
type view struct {
	Kind                                               accesslog.Kind
	Event                                              accesslog.Event
	Direction                                          accesslog.Direction
	Level                                              accesslog.Level
	Time                                               string
	Scope, Message                                     string
	Src, Dst, HBONE                                    addr
	SrcWorkload, SrcNamespace, SrcIdentity, SrcCluster string
	DstWorkload, DstNamespace, DstIdentity, DstCluster string
	DstService                                         string
	Sent, Recv                                         uint64
	Duration                                           time.Duration
	HasDuration                                        bool
	Error, ErrorType, Policy                           string
	Truncated                                          bool
	Invalid                                            int
	Fields                                             string
}

type addr struct {
	Text, Host string
	Port       uint16
	IsIP       bool
}

func viewOf(r *accesslog.Record) view {
	v := view{
		Kind: r.Kind, Event: r.Event, Direction: r.Direction, Level: r.Level,
		Scope: string(r.Scope), Message: string(r.Message),
		Src: addrOf(r.Src.Addr), Dst: addrOf(r.Dst.Addr), HBONE: addrOf(r.HBONE),
		SrcWorkload: string(r.Src.Workload), SrcNamespace: string(r.Src.Namespace),
		SrcIdentity: string(r.Src.Identity), SrcCluster: string(r.Src.Cluster),
		DstWorkload: string(r.Dst.Workload), DstNamespace: string(r.Dst.Namespace),
		DstIdentity: string(r.Dst.Identity), DstCluster: string(r.Dst.Cluster),
		DstService: string(r.DstService),
		Sent:       r.BytesSent, Recv: r.BytesRecv,
		Duration: time.Duration(r.Duration), HasDuration: r.HasDuration,
		Error: string(r.Error), ErrorType: r.Failure.Type, Policy: string(r.Failure.Policy),
		Truncated: r.Truncated, Invalid: r.Invalid,
	}
	if r.HasTime {
		v.Time = time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano)
	}
	var fields []string
	for _, f := range r.Fields {
		fields = append(fields, string(f.Key)+"="+string(f.Value))
	}
	v.Fields = strings.Join(fields, "|")
	return v
}

func addrOf(a accesslog.Addr) addr {
	return addr{Text: string(a.Text), Host: string(a.Host), Port: a.Port, IsIP: a.IsIP}
}

func ip4(text, host string, port uint16) addr { return addr{text, host, port, true} }

var outbound = view{
	Kind: accesslog.KindAccess, Event: accesslog.EventComplete, Direction: accesslog.DirectionOutbound, Level: accesslog.LevelInfo,
	Time: "2026-11-23T21:18:51.657644Z", Scope: "access", Message: "connection complete",
	Src:         ip4("10.244.1.11:55704", "10.244.1.11", 55704),
	SrcWorkload: "loadgen-x1", SrcNamespace: "load", SrcIdentity: "spiffe://cluster.local/ns/load/sa/loadgen", SrcCluster: "Kubernetes",
	Dst:         ip4("10.244.2.11:15008", "10.244.2.11", 15008),
	HBONE:       ip4("10.244.2.11:8080", "10.244.2.11", 8080),
	DstService:  "frontend.shop.svc.cluster.local",
	DstWorkload: "frontend-b2", DstNamespace: "shop", DstIdentity: "spiffe://cluster.local/ns/shop/sa/frontend", DstCluster: "Kubernetes",
	Sent: 195, Recv: 646, Duration: 20 * time.Millisecond, HasDuration: true,
}

const (
	outboundPlain = "2026-11-23T21:18:51.657644Z\tinfo\taccess\tconnection complete\t" +
		`src.addr=10.244.1.11:55704 src.workload="loadgen-x1" src.namespace="load" src.identity="spiffe://cluster.local/ns/load/sa/loadgen" src.cluster="Kubernetes" ` +
		`dst.addr=10.244.2.11:15008 dst.hbone_addr=10.244.2.11:8080 dst.service="frontend.shop.svc.cluster.local" dst.workload="frontend-b2" dst.namespace="shop" ` +
		`dst.identity="spiffe://cluster.local/ns/shop/sa/frontend" dst.cluster="Kubernetes" direction="outbound" bytes_sent=195 bytes_recv=646 duration="20ms"`
	outboundJSON = `{"level":"info","time":"2026-11-23T21:18:51.657644Z","scope":"access","message":"connection complete",` +
		`"src.addr":"10.244.1.11:55704","src.workload":"loadgen-x1","src.namespace":"load","src.identity":"spiffe://cluster.local/ns/load/sa/loadgen","src.cluster":"Kubernetes",` +
		`"dst.addr":"10.244.2.11:15008","dst.hbone_addr":"10.244.2.11:8080","dst.service":"frontend.shop.svc.cluster.local","dst.workload":"frontend-b2","dst.namespace":"shop",` +
		`"dst.identity":"spiffe://cluster.local/ns/shop/sa/frontend","dst.cluster":"Kubernetes","direction":"outbound","bytes_sent":195,"bytes_recv":646,"duration":"20ms"}`
)

func with(v view, change func(*view)) view {
	change(&v)
	return v
}

func TestParse(t *testing.T) {
	denial := view{
		Kind: accesslog.KindAccess, Event: accesslog.EventFailed, Direction: accesslog.DirectionInbound, Level: accesslog.LevelWarn,
		Time: "2026-11-23T21:18:51Z", Scope: "access", Message: "connection failed",
		Src: ip4("10.0.0.1:1", "10.0.0.1", 1), Dst: ip4("10.0.0.2:15008", "10.0.0.2", 15008),
		Error: `tls handshake error: Custom { kind: UnexpectedEof, error: "tls handshake eof" }`, ErrorType: semconv.ErrorTypeTLSFailure,
	}
	plain := "2026-11-23T21:18:51Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 direction=\"outbound\" "
	minimal := view{
		Kind: accesslog.KindAccess, Event: accesslog.EventComplete, Direction: accesslog.DirectionOutbound, Level: accesslog.LevelError,
		Time: "2026-11-23T21:18:51Z", Scope: "access", Message: "connection complete",
		Src: ip4("10.0.0.1:1", "10.0.0.1", 1), Dst: ip4("10.0.0.2:80", "10.0.0.2", 80), ErrorType: semconv.ErrorTypeOther,
	}
	for _, tt := range []struct {
		name, entry string
		want        view
	}{
		{"plain", outboundPlain, outbound},
		{"json", outboundJSON, outbound},
		{"carriage return", outboundPlain + "\r", outbound},
		{
			"spans behind the target", strings.Replace(outboundPlain, "\taccess\t", "\taccess:outbound{id=1 x=\"a:b\"}:inner\t", 1),
			with(outbound, func(v *view) { v.Fields = `outbound=id=1 x="a:b"|inner=` }),
		},
		{
			"debug level", strings.Replace(strings.Replace(outboundPlain, "complete", "opened", 1), "\tinfo\t", "\tdebug\t", 1),
			with(outbound, func(v *view) {
				v.Level, v.Event, v.Message = accesslog.LevelDebug, accesslog.EventOpened, "connection opened"
			}),
		},
		{"other order", "2026-11-23T21:18:51Z\terror\taccess\tconnection complete\tdirection=\"outbound\" dst.addr=10.0.0.2:80 src.addr=10.0.0.1:1", minimal},
		{"unknown fields", plain + `color="blue" weight=7`, minimal},
		{"doubled spaces", strings.Replace(plain, " dst.addr", "   dst.addr", 1), minimal},
		{
			"early denial, plain",
			"2026-11-23T21:18:51Z\twarn\taccess\tconnection failed\tsrc.addr=10.0.0.1:1 dst.addr=10.0.0.2:15008 direction=\"inbound\" " +
				`error="tls handshake error: Custom { kind: UnexpectedEof, error: \"tls handshake eof\" }"`, denial,
		},
		{
			"early denial, json",
			`{"level":"warn","time":"2026-11-23T21:18:51Z","scope":"access","message":"connection failed","src.addr":"10.0.0.1:1","dst.addr":"10.0.0.2:15008",` +
				`"direction":"inbound","error":"tls handshake error: Custom { kind: UnexpectedEof, error: \"tls handshake eof\" }"}`, denial,
		},
		{
			"IPv6", strings.Replace(plain, "10.0.0.2:80", "[fd00::2]:80", 1),
			with(minimal, func(v *view) { v.Dst = ip4("[fd00::2]:80", "fd00::2", 80) }),
		},
		{
			"host name in the tunnel", plain + "dst.hbone_addr=payment.billing.svc.cluster.local:8080",
			with(minimal, func(v *view) {
				v.HBONE = addr{"payment.billing.svc.cluster.local:8080", "payment.billing.svc.cluster.local", 8080, false}
			}),
		},
		{
			"error with escapes", plain + `error="a\tb\n\"c\" \\ \u{1f600} \'d\'"`,
			with(minimal, func(v *view) { v.Error = "a\tb\n\"c\" \\ 😀 'd'" }),
		},
		{
			"backslash before the closing quote", plain + `src.workload="a\\" src.cluster="b"`,
			with(minimal, func(v *view) { v.SrcWorkload, v.SrcCluster = `a\`, "b" }),
		},
		{
			"invalid UTF-8", plain + "src.workload=\"a\xff\xfeb\"",
			with(minimal, func(v *view) { v.SrcWorkload = "a\uFFFD\uFFFDb" }),
		},
		{
			"NUL bytes", plain + "src.workload=\"a\x00b\" src.cluster=\"\\0\"",
			with(minimal, func(v *view) { v.SrcWorkload, v.SrcCluster = "a\uFFFDb", "\uFFFD" }),
		},
		{
			"long label", plain + `src.workload="` + strings.Repeat("é", 200) + `"`,
			with(minimal, func(v *view) { v.SrcWorkload = strings.Repeat("é", 126) }),
		},
		{
			"huge number", plain + "bytes_sent=99999999999999999999999 bytes_recv=18446744073709551615",
			with(minimal, func(v *view) { v.Invalid = 2 }),
		},
		{"negative number", plain + "bytes_sent=-5 bytes_recv=7", with(minimal, func(v *view) { v.Invalid, v.Recv = 1, 7 })},
		{"negative duration", plain + `duration="-20ms"`, with(minimal, func(v *view) { v.Invalid = 1 })},
		{"endless duration", plain + `duration="99999999999999999999999ms"`, with(minimal, func(v *view) { v.Invalid = 1 })},
		{
			"wrong types", plain + `src.workload="a" bytes_sent="x" duration=soon`,
			with(minimal, func(v *view) { v.SrcWorkload, v.Invalid = "a", 2 }),
		},
		{
			"wrong types, json",
			`{"level":"error","time":"2026-11-23T21:18:51Z","scope":"access","message":"connection complete","src.addr":"10.0.0.1:1","src.workload":5,"src.cluster":{"a":["}"]},` +
				`"dst.addr":"10.0.0.2:80","dst.service":null,"direction":"outbound","bytes_sent":1.5,"bytes_recv":true,"duration":20}`,
			with(minimal, func(v *view) { v.Invalid = 5 }),
		},
		{
			"bad address", strings.Replace(plain, "10.0.0.2:80", "300.0.0.2:99999", 1),
			with(minimal, func(v *view) { v.Dst, v.Invalid = addr{}, 1 }),
		},
		{"time from 1970", strings.Replace(plain, "2026", "1970", 1), with(minimal, func(v *view) { v.Time = "" })},
		{"time from 2100", strings.Replace(plain, "2026", "2100", 1), with(minimal, func(v *view) { v.Time = "" })},
		{
			"json fields before scope",
			`{"src.addr":"10.0.0.1:1","dst.addr":"10.0.0.2:80","direction":"outbound","level":"error","time":"2026-11-23T21:18:51Z","scope":"access","message":"connection complete"}`, minimal,
		},
		{"json, spaced", `{ "level" : "error" , "time" : "2026-11-23T21:18:51Z", "scope":"access", "message":"connection complete", "src.addr": "10.0.0.1:1", "dst.addr" : "10.0.0.2:80" , "direction" : "outbound" } `, minimal},
		{"json with spans", `{"level":"error","time":"2026-11-23T21:18:51Z","scope":"access","message":"connection complete","src.addr":"10.0.0.1:1","dst.addr":"10.0.0.2:80","direction":"outbound","outbound":{"id":"}\""}}`, minimal},
		{
			"error without quotes, as 1.22 wrote it", plain + `error=unknown source: 10.0.0.1`,
			with(minimal, func(v *view) { v.ErrorType, v.Error = semconv.ErrorTypeUnknownParty, "unknown source: 10.0.0.1" }),
		},
		{
			"drain is no failure", plain + `error="connection closed due to connection drain"`,
			with(minimal, func(v *view) { v.ErrorType, v.Error = "", "connection closed due to connection drain" }),
		},
		{
			"policy", plain + `error="connection closed due to policy rejection: explicitly denied by: billing/no-checkout"`,
			with(minimal, func(v *view) {
				v.ErrorType, v.Policy = semconv.ErrorTypePolicyDenied, "billing/no-checkout"
				v.Error = "connection closed due to policy rejection: explicitly denied by: billing/no-checkout"
			}),
		},

		{
			"message", "2026-11-23T21:18:47.1Z\tinfo\tproxy::inbound:x{id=1}\tlistener established\taddress=[::]:15008 component=\"inbound\" transparent=true",
			view{
				Kind: accesslog.KindMessage, Level: accesslog.LevelInfo, Time: "2026-11-23T21:18:47.1Z", Scope: "proxy::inbound", Message: "listener established",
				Fields: "x=id=1|address=[::]:15008|component=inbound|transparent=true",
			},
		},
		{
			"message, json", `{"level":"info","time":"2026-11-23T21:18:47.1Z","scope":"ztunnel::proxy::inbound","message":"listener established","address":"[::]:15008","component":"inbound","transparent":true,"x":{"id":"1"}}`,
			view{
				Kind: accesslog.KindMessage, Level: accesslog.LevelInfo, Time: "2026-11-23T21:18:47.1Z", Scope: "proxy::inbound", Message: "listener established",
				Fields: `address=[::]:15008|component=inbound|transparent=true|x={"id":"1"}`,
			},
		},
		{
			"message, json, scope last", `{"direction":"up","level":"info","time":"2026-11-23T21:18:47.1Z","message":"m","scope":"ztunnel::x"}`,
			view{Kind: accesslog.KindMessage, Level: accesslog.LevelInfo, Time: "2026-11-23T21:18:47.1Z", Scope: "x", Message: "m", Fields: "direction=up"},
		},
		{
			"message with debug values", "2026-11-23T21:18:47Z\twarn\txds::client\tXDS client\tconnection error err=Status { code: Unavailable, message: \"a b=c\" } retries=3",
			view{
				Kind: accesslog.KindMessage, Level: accesslog.LevelWarn, Time: "2026-11-23T21:18:47Z", Scope: "xds::client", Message: "XDS client",
				Fields: "",
			},
		},
		{
			"message with tabs", "2026-11-23T21:18:47Z\twarn\txds::client\ta\tb\terr=Status { code: Unavailable, message: \"a b=c\" } retries=3",
			view{
				Kind: accesslog.KindMessage, Level: accesslog.LevelWarn, Time: "2026-11-23T21:18:47Z", Scope: "xds::client", Message: "a\tb",
				Fields: `err=Status { code: Unavailable, message: "a b=c" }|retries=3`,
			},
		},
		{
			"message over lines", "2026-11-23T21:18:47Z\tinfo\tztunnel\trunning with config: proxy: true\ndnsProxy: true\n",
			view{Kind: accesslog.KindMessage, Level: accesslog.LevelInfo, Time: "2026-11-23T21:18:47Z", Scope: "ztunnel", Message: "running with config: proxy: true\ndnsProxy: true"},
		},
		{"target only", "2026-11-23T21:18:47Z\tinfo\tztunnel", view{Kind: accesslog.KindMessage, Level: accesslog.LevelInfo, Time: "2026-11-23T21:18:47Z", Scope: "ztunnel"}},
		{
			"another event of the access log", "2026-11-23T21:18:47Z\tinfo\taccess\tconnection paused\ta=1",
			view{Kind: accesslog.KindMessage, Level: accesslog.LevelInfo, Time: "2026-11-23T21:18:47Z", Scope: "access", Message: "connection paused", Fields: "a=1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec accesslog.Record
			kind, err := accesslog.NewParser(0).Parse([]byte(tt.entry), &rec)
			require.NoError(t, err)
			assert.Equal(t, tt.want.Kind, kind)
			assert.Equal(t, tt.want, viewOf(&rec))
		})
	}
}

func TestParseRejects(t *testing.T) {
	beforeRecv, _, ok := strings.Cut(outboundPlain, "ytes_recv")
	require.True(t, ok)
	for _, tt := range []struct {
		name, entry string
		want        error
	}{
		{"empty", "", accesslog.ErrForeign},
		{"text", "panic: out of cheese", accesslog.ErrForeign},
		{"html", "<html>", accesslog.ErrForeign},
		{"digits", "2026", accesslog.ErrForeign},
		{"no level", "2026-11-23T21:18:47Z\tloud\tx\ty\t", accesslog.ErrForeign},
		{"impossible time", "2026-13-23T21:18:47Z\tinfo\tx\ty\t", accesslog.ErrForeign},
		{"only a time", "2026-11-23T21:18:47Z\t", accesslog.ErrCut},
		{"cut in the level", "2026-11-23T21:18:47Z\tinf", accesslog.ErrCut},
		{"cut in the message", "2026-11-23T21:18:47Z\tinfo\taccess\tconnection comp", accesslog.ErrCut},
		{"no fields", "2026-11-23T21:18:47Z\tinfo\taccess\tconnection complete\t", accesslog.ErrIncomplete},
		{"no direction", "2026-11-23T21:18:47Z\tinfo\taccess\tconnection complete\tsrc.addr=1.2.3.4:5", accesslog.ErrIncomplete},
		{"no address", "2026-11-23T21:18:47Z\tinfo\taccess\tconnection complete\tdirection=\"inbound\"", accesslog.ErrIncomplete},
		{"unknown direction", "2026-11-23T21:18:47Z\tinfo\taccess\tconnection complete\tsrc.addr=1.2.3.4:5 direction=\"up\"", accesslog.ErrIncomplete},
		{"cut in a value", outboundPlain[:len(outboundPlain)-1], accesslog.ErrCut},
		{"cut in a key", beforeRecv, accesslog.ErrCut},
		{"text behind a value", outboundPlain + "x", accesslog.ErrCut},
		{"json, cut", outboundJSON[:len(outboundJSON)-1], accesslog.ErrCut},
		{"json, cut in a value", outboundJSON[:len(outboundJSON)-10], accesslog.ErrCut},
		{"json, two objects", outboundJSON + outboundJSON, accesslog.ErrCut},
		{"json, of someone else", `{"msg":"hello","ts":1}`, accesslog.ErrForeign},
		{"json, empty", `{}`, accesslog.ErrForeign},
		{"json, no json", `{hello}`, accesslog.ErrCut},
		{"json, deep", `{"level":"info","time":"2026-11-23T21:18:47Z","scope":"x","message":"y","z":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, accesslog.ErrCut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var rec accesslog.Record
			kind, err := accesslog.NewParser(0).Parse([]byte(tt.entry), &rec)
			require.ErrorIs(t, err, tt.want)
			assert.Equal(t, accesslog.KindUnknown, kind)
		})
	}
}

// Every way to cut a recorded entry gives an error or a record of what was there, never a changed value.
func TestParseCut(t *testing.T) {
	parser := accesslog.NewParser(0)
	for _, whole := range []string{outboundPlain, outboundJSON} {
		var rec accesslog.Record
		for n := range whole {
			kind, err := parser.Parse([]byte(whole[:n]), &rec)
			if err != nil || kind != accesslog.KindAccess {
				continue
			}
			for _, pair := range [][2]string{
				{string(rec.Src.Workload), outbound.SrcWorkload},
				{string(rec.Dst.Workload), outbound.DstWorkload},
				{string(rec.DstService), outbound.DstService},
				{string(rec.Dst.Text), outbound.Dst.Text},
			} {
				assert.Equal(t, pair[1], pair[0], "cut at %d", n)
			}
		}
	}
}

func TestParseOversized(t *testing.T) {
	const limit = 4096
	parser := accesslog.NewParser(limit)
	long := strings.Repeat("é", 1<<19)
	for name, entry := range map[string]string{
		"plain": outboundPlain + ` error="io error: Connection refused (os error 111) ` + long + `"`,
		"json":  outboundJSON[:len(outboundJSON)-1] + `,"error":"io error: Connection refused (os error 111) ` + long + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			var rec accesslog.Record
			kind, err := parser.Parse([]byte(entry), &rec)
			require.NoError(t, err)
			assert.Equal(t, accesslog.KindAccess, kind)
			assert.True(t, rec.Truncated)
			assert.Equal(t, outbound.DstWorkload, string(rec.Dst.Workload))
			assert.Equal(t, semconv.ErrorTypeHBONEBlocked, rec.Failure.Type)
			assert.LessOrEqual(t, len(rec.Error), 1024)
			assert.True(t, utf8.Valid(rec.Error))
		})
	}
	t.Run("nothing of use within the bound", func(t *testing.T) {
		var rec accesslog.Record
		_, err := parser.Parse([]byte(strings.Replace(outboundPlain, "loadgen-x1", long, 1)), &rec)
		require.ErrorIs(t, err, accesslog.ErrIncomplete)
		assert.True(t, rec.Truncated)
	})
}

func TestEntryTime(t *testing.T) {
	parser := accesslog.NewParser(0)
	for _, entry := range []string{outboundPlain, outboundJSON} {
		nanos, ok := parser.EntryTime([]byte(entry))
		require.True(t, ok)
		assert.Equal(t, outbound.Time, time.Unix(0, nanos).UTC().Format(time.RFC3339Nano))
	}
	for _, entry := range []string{"", "x", "{}", `{"time":"`, "1970-01-01T00:00:00Z\tinfo"} {
		_, ok := parser.EntryTime([]byte(entry))
		assert.False(t, ok, entry)
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	parser := accesslog.NewParser(0)
	var rec accesslog.Record
	escaped := []byte("2026-11-23T21:18:51.657644Z\terror\taccess\tconnection complete\t" +
		`src.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 direction="outbound" error="a \"b\" \u{1f600}"`)
	for name, entries := range map[string][][]byte{
		"plain":   accessEntries(t, false)[:500],
		"json":    accessEntries(t, true)[:500],
		"escaped": {escaped},
	} {
		t.Run(name, func(t *testing.T) {
			require.Zero(t, testing.AllocsPerRun(5, func() {
				for _, entry := range entries {
					if _, err := parser.Parse(entry, &rec); err != nil {
						t.Fatal(err)
					}
				}
			}))
		})
	}
}
