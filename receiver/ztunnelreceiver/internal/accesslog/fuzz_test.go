package accesslog_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

func addSeeds(f *testing.F) {
	f.Helper()
	f.Add([]byte(outboundPlain))
	f.Add([]byte(outboundJSON))
	f.Add([]byte("2026-11-23T21:18:47Z\twarn\txds::client:x{id=1}:y\ta\tb\terr=Status { a: \"b c=d\" } retries=3"))
	f.Add([]byte(`{"level":"info","time":"2026-11-23T21:18:47Z","x":[{"a":"\"}"}],"scope":"s","message":"\ud83d\ude00\u0000"}`))
	f.Add([]byte("2026-11-23T21:18:51Z\terror\taccess\tconnection failed\tsrc.addr=[::1]:1 direction=\"outbound\" error=\"\\u{1f600}\\\"\""))
}

// FuzzParse feeds anything: whatever comes back is bounded, valid text, and the same on a second reading.
func FuzzParse(f *testing.F) {
	addSeeds(f)
	parser, again := accesslog.NewParser(2048), accesslog.NewParser(2048)
	f.Fuzz(func(t *testing.T, entry []byte) {
		before := bytes.Clone(entry)
		var rec, second accesslog.Record
		kind, err := parser.Parse(entry, &rec)
		if !bytes.Equal(before, entry) {
			t.Fatal("the entry was changed")
		}
		if (err != nil) != (kind == accesslog.KindUnknown) || kind != rec.Kind {
			t.Fatalf("kind %d with error %v", kind, err)
		}
		v := viewOf(&rec)
		for _, text := range [][]byte{
			rec.Scope, rec.Message, rec.Src.Workload, rec.Src.Namespace, rec.Src.Identity, rec.Src.Cluster, rec.Dst.Workload, rec.Dst.Namespace,
			rec.Dst.Identity, rec.Dst.Cluster, rec.DstService, rec.Error, rec.Src.Text, rec.Dst.Text, rec.HBONE.Text, rec.Failure.Policy,
		} {
			if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 || len(text) > 4096 {
				t.Fatalf("text %q", text)
			}
		}
		for _, field := range rec.Fields {
			if !utf8.Valid(field.Value) || !utf8.Valid(field.Key) || len(field.Value) > 1024 {
				t.Fatalf("field %q=%q", field.Key, field.Value)
			}
		}
		if rec.Duration < 0 || rec.BytesSent > 1<<60 || rec.BytesRecv > 1<<60 {
			t.Fatalf("numbers %d %d %d", rec.Duration, rec.BytesSent, rec.BytesRecv)
		}
		_, err2 := again.Parse(entry, &second)
		if !errors.Is(err2, err) || viewOf(&second) != v {
			t.Fatalf("second reading differs: %v %v", err, err2)
		}
	})
}

// FuzzEncodings writes one record in both formats and expects to read the same twice.
func FuzzEncodings(f *testing.F) {
	f.Add("a", "b", "io error: x", uint64(1), uint64(2), uint32(3), uint16(80), uint8(3))
	f.Add("\t\n\r\"\\'", "é😀\u200b\u0301", "\x00\u0007", uint64(0), uint64(1<<60), uint32(0), uint16(0), uint8(255))
	f.Add(strings.Repeat("V", 250)+"\x00\x00", "", "", uint64(0), uint64(0), uint32(0), uint16(1), uint8(15))
	parser := accesslog.NewParser(1 << 20)
	f.Fuzz(func(t *testing.T, workload, service, text string, sent, recv uint64, ms uint32, port uint16, flags uint8) {
		if !utf8.ValidString(workload) || !utf8.ValidString(service) || !utf8.ValidString(text) {
			t.Skip()
		}
		at := time.Unix(1_790_000_000, int64(ms)*1000).UTC().Format("2006-01-02T15:04:05.000000Z")
		direction := "outbound"
		if flags&1 != 0 {
			direction = "inbound"
		}
		level := "info"
		if flags&2 != 0 {
			level = "error"
		}
		var plain, js strings.Builder
		fmt.Fprintf(&plain, "%s\t%s\taccess\tconnection complete\t", at, level)
		fmt.Fprintf(&js, `{"level":%q,"time":%q,"scope":"access","message":"connection complete"`, level, at)
		separator := ""
		add := func(key, value string, quoted bool) {
			plain.WriteString(separator + key + "=")
			separator = " "
			if quoted {
				plain.WriteString(rustDebug(value))
			} else {
				plain.WriteString(value)
			}
			encoded, err := json.Marshal(value)
			require.NoError(t, err)
			js.WriteString(`,"` + key + `":` + string(encoded))
		}
		addNumber := func(key string, value uint64) {
			fmt.Fprintf(&plain, "%s%s=%d", separator, key, value)
			fmt.Fprintf(&js, `,"%s":%d`, key, value)
		}
		add("src.addr", fmt.Sprintf("10.0.0.1:%d", port), false)
		add("src.workload", workload, true)
		add("dst.addr", fmt.Sprintf("[fd00::1]:%d", port), false)
		if flags&4 != 0 {
			add("dst.hbone_addr", fmt.Sprintf("10.0.0.9:%d", port), false)
		}
		add("dst.service", service, true)
		add("direction", direction, true)
		addNumber("bytes_sent", sent)
		addNumber("bytes_recv", recv)
		add("duration", fmt.Sprintf("%dms", ms), true)
		if flags&8 != 0 {
			add("error", text, true)
		}
		js.WriteByte('}')

		var a, b accesslog.Record
		_, err := parser.Parse([]byte(plain.String()), &a)
		require.NoError(t, err, plain.String())
		v := viewOf(&a)
		_, err = parser.Parse([]byte(js.String()), &b)
		require.NoError(t, err, js.String())
		assert.Equal(t, v, viewOf(&b))
		// Replacing makes text longer, and the bound comes after it.
		if cleaned := strings.ReplaceAll(workload, "\x00", "\uFFFD"); len(cleaned) <= 253 {
			assert.Equal(t, cleaned, v.SrcWorkload)
		} else {
			assert.True(t, strings.HasPrefix(cleaned, v.SrcWorkload))
			assert.Greater(t, len(v.SrcWorkload), 253-utf8.UTFMax)
		}
	})
}

// rustDebug quotes as Rust's Debug does.
func rustDebug(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == 0:
			b.WriteString(`\0`)
		case !unicode.IsPrint(r) || unicode.Is(unicode.Mn, r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// FuzzCRI cuts a text into parts of any length and of both streams, with rubbish in between.
func FuzzCRI(f *testing.F) {
	f.Add([]byte("hello world"), uint8(3), []byte("x"))
	f.Add([]byte{}, uint8(0), []byte(criTime+"stdout"))
	f.Add([]byte(outboundPlain), uint8(100), []byte(criTime+"stdout F"))
	f.Fuzz(func(t *testing.T, text []byte, size uint8, rubbish []byte) {
		text = bytes.Map(func(r rune) rune {
			if r == '\n' || r == '\r' {
				return ' '
			}
			return r
		}, text)
		const limit = 512
		j := accesslog.NewCRIJoiner(limit)
		if !accesslog.IsCRI(rubbish) {
			j.Line(rubbish)
			assert.Equal(t, int64(1), j.Malformed())
		}
		step := int(size) + 1
		for rest := text; ; rest = rest[step:] {
			_, ok := j.Line([]byte(criTime + "stderr P noise"))
			assert.False(t, ok)
			if !accesslog.IsCRI(rubbish) {
				j.Line(rubbish)
			}
			if len(rest) <= step {
				content, ok := j.Line(append([]byte(criTime+"stdout F "), rest...))
				require.True(t, ok)
				assert.Equal(t, string(text[:min(len(text), limit+1)]), string(content))
				return
			}
			_, ok = j.Line(append([]byte(criTime+"stdout P "), rest[:step]...))
			assert.False(t, ok)
			state := j.AppendState(nil)
			require.NoError(t, j.SetState(state))
		}
	})
}

// FuzzSplitter checks that what comes out is what went in, in order and bounded, however the lines begin.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("lost\n" + outboundPlain + "\n" + outboundJSON + "\n2026-11-23T21:18:47Z\tinfo\tx\ty\t\nmore\n\nmore"))
	f.Add([]byte("2026-11-23T21:18:47Z\tinfo\tx\n{\n{}\n\r\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		const limit = 256
		s := accesslog.NewEntrySplitter(accesslog.Style{}, limit, 8)
		parser := accesslog.NewParser(limit)
		var out, want []string
		emit := func(entry []byte) {
			require.NotEmpty(t, entry)
			require.LessOrEqual(t, len(entry), limit+1)
			first := strings.SplitN(string(entry), "\n", 2)[0]
			if !parser.StartsEntry(entry) && !slices.Contains(want, first) {
				return // it continued nothing; what begins one may not look like it once it is cut
			}
			out = append(out, first)
		}
		for _, line := range bytes.Split(text, []byte{'\n'}) {
			trimmed := bytes.TrimSuffix(line, []byte{'\r'})
			if parser.StartsEntry(trimmed) {
				want = append(want, string(trimmed[:min(len(trimmed), limit+1)]))
			}
			s.Line(line, emit)
		}
		s.Flush(emit)
		assert.Equal(t, want, out)
	})
}
