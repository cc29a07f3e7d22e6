package accesslog_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

func unwrap(u *accesslog.Unwrapper, lines ...string) []string {
	var out []string
	for _, line := range lines {
		u.Line([]byte(line), func(line []byte) { out = append(out, string(line)) })
	}
	return out
}

const (
	messagePlain = "2026-11-23T21:18:47.072581Z\tinfo\txds::client:xds{id=1}\trunning with\tconfig=proxy: true"
	continuation = "dnsProxy: true"
)

// object wraps a line in JSON; members are the ones before and behind it.
func object(key, line, before, behind string) string {
	encoded, _ := json.Marshal(line)
	return "{" + before + `"` + key + `":` + string(encoded) + behind + "}"
}

func docker(line string) string {
	return object("log", line, "", `,"stream":"stdout","time":"2026-11-23T21:18:48.1Z"`)
}

// entries are what a ztunnel writes: each format, and a line that continues the one before.
var entries = []string{outboundPlain, messagePlain, continuation, outboundJSON, outboundPlain}

func TestUnwrapper(t *testing.T) {
	for name, wrap := range map[string]func(line string) string{
		"bare":       func(line string) string { return line },
		"containerd": func(line string) string { return criTime + "stdout F " + line },
		"CRI-O":      func(line string) string { return "2026-11-23T21:25:00.250079123+00:00 stdout F " + line },
		"Docker":     func(line string) string { return docker(line + "\n") },
		"Docker, with attributes": func(line string) string {
			return object("log", line+"\n", "", `,"stream":"stderr","attrs":{"a":"b"},"time":"x"`)
		},
		"kubectl logs --prefix":     func(line string) string { return "[pod/ztunnel-8vjbb/istio-proxy] " + line },
		"kubectl logs --timestamps": func(line string) string { return criTime + line },
		"both":                      func(line string) string { return "[pod/ztunnel-8vjbb/istio-proxy] " + criTime + line },
		"stern":                     func(line string) string { return "ztunnel-8vjbb istio-proxy " + line },
		"stern in colour":           func(line string) string { return "\x1b[38;5;2mztunnel-8vjbb\x1b[0m \x1b[31mistio-proxy\x1b[0m " + line },
		"stern -o json": func(line string) string {
			return object("message", line, "", `,"nodeName":"n1","podName":"ztunnel-8vjbb"`)
		},
		"docker compose": func(line string) string { return "ztunnel-1  | " + line },
		"journald":       func(line string) string { return "Nov 23 21:18:48 node-a ztunnel[812]: " + line },
		"logcli":         func(line string) string { return `2026-11-23T21:18:48Z {app="ztunnel", pod="ztunnel-8vjbb"} ` + line },
		"logcli -o jsonl": func(line string) string {
			return object("line", line, `"labels":{"app":"ztunnel"},`, `,"timestamp":"2026-11-23T21:18:48Z"`)
		},
		"VictoriaLogs": func(line string) string {
			return object("_msg", line, `"_time":"2026-11-23T21:18:48Z","_stream":"{}",`, "")
		},
		"fluent-bit": func(line string) string {
			return object("log", line, `"time":"x","stream":"stdout","logtag":"F",`, `,"kubernetes":{"labels":{"app":"ztunnel"}}`)
		},
		"fluent-bit without a parser": func(line string) string { return object("log", criTime+"stdout F "+line, `"date":1.5,`, "") },
		"a level of its own": func(line string) string {
			return object("body", line, `"level":"info","time":"2026-11-23T21:18:48Z",`, "")
		},
		"grep":                       func(line string) string { return "/var/log/pods/x/0.log:" + line },
		"NULs and a byte-order mark": func(line string) string { return "\uFEFF\x00\x00" + line },
	} {
		t.Run(name, func(t *testing.T) {
			var lines []string
			for _, entry := range entries {
				lines = append(lines, wrap(entry))
			}
			u := accesslog.NewUnwrapper(accesslog.Style{}, 0)
			assert.Equal(t, entries, unwrap(u, lines...))
			assert.Zero(t, u.Malformed())
			if name == "bare" {
				return
			}
			// A foreign line changes nothing, whatever it looks like.
			foreign := []string{"x", `{"a":1}`, "2026-11-23T21:18:48Z foo", docker("y"), criTime + "stdout F x"}
			got := unwrap(u, append(foreign, lines...)...)
			require.GreaterOrEqual(t, len(got), len(entries))
			assert.Equal(t, entries, got[len(got)-len(entries):])
		})
	}
}

func TestUnwrapperReadsSpacesForTabs(t *testing.T) {
	const access = "2026-11-23T21:18:47Z\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:1 direction=\"outbound\" error=\"a  b\""
	for _, gap := range []string{" ", "    ", "        "} {
		lines := []string{
			strings.ReplaceAll(access, "\t", gap),
			strings.ReplaceAll(messagePlain, "\t", gap),
			strings.ReplaceAll("2026-11-23T21:18:47Z\tinfo\tinbound{id=1 peer_ip=10.0.0.1}\thello, world", "\t", gap),
			strings.ReplaceAll("2026-11-23T21:18:47Z\tinfo\thttp access\trequest complete\tmethod=GET", "\t", gap),
			"2026-11-23T21:18:47Z" + gap + "info" + gap + "x",
		}
		assert.Equal(t, []string{
			access, messagePlain, "2026-11-23T21:18:47Z\tinfo\tinbound{id=1 peer_ip=10.0.0.1}\thello, world",
			"2026-11-23T21:18:47Z\tinfo\thttp access\trequest complete\tmethod=GET", "2026-11-23T21:18:47Z\tinfo\tx",
		}, unwrap(accesslog.NewUnwrapper(accesslog.Style{}, 0), lines...), "%q", gap)
	}
	assert.Equal(t, []string{access}, unwrap(accesslog.NewUnwrapper(accesslog.Style{}, 0), "\x1b[2m2026-11-23T21:18:47Z\x1b[0m \x1b[31merror\x1b[0m access connection complete "+access[strings.LastIndexByte(access, '\t')+1:]))
	const old = "2026-11-23T10:00:05.000000Z  INFO outbound{id=1}: ztunnel::proxy::outbound: complete dur=489.707µs"
	assert.Equal(t, []string{old}, unwrap(accesslog.NewUnwrapper(accesslog.Style{}, 0), old), "ztunnel 1.21 is not understood")
}

func TestUnwrapperJoinsPartsOfDocker(t *testing.T) {
	u := accesslog.NewUnwrapper(accesslog.Style{}, 0)
	first, second := outboundPlain[:90], outboundPlain[90:]
	assert.Equal(t, []string{outboundPlain, outboundPlain, continuation}, unwrap(u,
		docker(first), docker(second+"\n"), docker(first), docker(second[:20]), docker(second[20:]+"\n"), docker(continuation+"\n")))
	assert.Equal(t, []string{outboundPlain, outboundPlain}, unwrap(u,
		object("log", first, "", `,"logtag":"P","stream":"stdout","time":"x"`), object("log", second, "", `,"logtag":"F","stream":"stdout","time":"x"`), docker(outboundPlain+"\n")))
	// A producer that takes the line ends away: only the first waits for the next.
	u = accesslog.NewUnwrapper(accesslog.Style{}, 0)
	assert.Empty(t, unwrap(u, docker(outboundPlain)))
	assert.Equal(t, []string{outboundPlain, messagePlain, outboundJSON}, unwrap(u, docker(messagePlain), docker(outboundJSON)))
}

func TestUnwrapperDoesNotBelieveWhatStandsInAText(t *testing.T) {
	u := accesslog.NewUnwrapper(accesslog.Style{}, 0)
	bare := slices.Repeat([]string{outboundPlain}, 10)
	assert.Equal(t, bare, unwrap(u, bare...))
	forged := []string{"a: " + outboundPlain, strings.ReplaceAll(messagePlain, "\t", " ")}
	assert.Equal(t, forged, unwrap(u, forged...), "continues the entry before")
	assert.Equal(t, []string{messagePlain}, unwrap(u, messagePlain))

	prefixed := slices.Repeat([]string{"pod istio-proxy " + messagePlain}, 10)
	u = accesslog.NewUnwrapper(accesslog.Style{}, 0)
	assert.Equal(t, slices.Repeat([]string{messagePlain}, 10), unwrap(u, prefixed...))
	assert.Equal(t, []string{"a " + outboundPlain}, unwrap(u, "pod istio-proxy a "+outboundPlain), "what continues an entry")
}

func TestUnwrapperDoesNotAllocate(t *testing.T) {
	for name, lines := range map[string][]string{
		"bare":   entries,
		"Docker": {docker(outboundPlain + "\n"), docker(outboundPlain[:40]), docker(outboundPlain[40:] + "\n")},
		"stern":  {"ztunnel-8vjbb istio-proxy " + outboundPlain, "ztunnel-8vjbb istio-proxy " + continuation},
		"spaces": {strings.ReplaceAll(outboundPlain, "\t", "    ")},
	} {
		u, n := accesslog.NewUnwrapper(accesslog.Style{}, 0), 0
		raw := make([][]byte, len(lines))
		for i, line := range lines {
			raw[i] = []byte(line)
		}
		assert.Zero(t, testing.AllocsPerRun(10, func() {
			for _, line := range raw {
				u.Line(line, func([]byte) { n++ })
			}
		}), name)
		assert.Positive(t, n)
	}
}

// FuzzUnwrapper feeds lines of any kind: what is an entry by itself comes out as it is, and nothing grows over its bound.
func FuzzUnwrapper(f *testing.F) {
	for _, line := range entries {
		f.Add([]byte(line+"\n"+docker(line)+"\npod istio-proxy "+line+"\n"+criTime+"stdout P "+line), []byte(strings.ReplaceAll(line, "\t", " ")))
	}
	f.Add([]byte("{\"log\":\"\\u001b[1m\"}\n\x1b[\n{\"log\":\"a\\nb\",\"stream\":\"stderr\",\"time\":\"x\"}"), []byte("{\"a\":{\"b\":[{}]}}"))
	f.Fuzz(func(t *testing.T, text, more []byte) {
		const limit = 256
		u := accesslog.NewUnwrapper(accesslog.Style{}, limit)
		parser := accesslog.NewParser(limit)
		for _, line := range slices.Concat(strings.Split(string(text), "\n"), strings.Split(string(more), "\n")) {
			in, n := []byte(line), 0
			u.Line(in, func(out []byte) {
				n++
				require.NotContains(t, string(out), "\n")
				require.LessOrEqual(t, len(out), max(len(line), limit)+16)
			})
			require.Equal(t, line, string(in), "the line is not changed")
			if parser.StartsEntry(in) && in[0] != '{' && !strings.Contains(line, "\x1b") {
				require.Equal(t, 1, n)
			}
		}
		require.NoError(t, u.SetState(u.AppendState(nil)))
	})
}
