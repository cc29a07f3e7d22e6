package accesslog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/nephilia/nephilia/internal/rfc3339"
)

func TestStampSplitter(t *testing.T) {
	at := time.Date(2026, 11, 23, 21, 25, 0, 250079123, time.UTC)
	for name, test := range map[string]struct {
		line, text string
		at         time.Time
		ok         bool
	}{
		"a line":          {line: "2026-11-23T21:25:00.250079123Z hello world", text: "hello world", at: at, ok: true},
		"another zone":    {line: "2026-11-23T23:25:00.250079123+02:00 hello", text: "hello", at: at, ok: true},
		"whole seconds":   {line: "2026-11-23T21:25:00Z hello", text: "hello", at: at.Truncate(time.Second), ok: true},
		"a carriage":      {line: "2026-11-23T21:25:00.250079123Z hello\r", text: "hello", at: at, ok: true},
		"spaces stay":     {line: "2026-11-23T21:25:00.250079123Z   hello", text: "  hello", at: at, ok: true},
		"empty":           {line: "2026-11-23T21:25:00.250079123Z ", at: at, ok: true},
		"no space":        {line: "2026-11-23T21:25:00.250079123Z", at: at, ok: true},
		"nothing":         {},
		"no time":         {line: "unable to retrieve container logs for containerd://0123"},
		"a ztunnel's own": {line: "2026-11-23T21:25:00.250079Z\tinfo\taccess\tconnection complete"},
		"an absurd time":  {line: "1971-11-23T21:25:00.250079123Z hello"},
		"no such day":     {line: "2026-11-31T21:25:00.250079123Z hello"},
	} {
		t.Run(name, func(t *testing.T) {
			var s StampSplitter
			nanos, text, ok := s.Split([]byte(test.line))
			assert.Equal(t, test.ok, ok)
			assert.Equal(t, test.text, string(text))
			if ok {
				assert.Equal(t, test.at, time.Unix(0, nanos).UTC())
			}
		})
	}
}

func FuzzStampSplitter(f *testing.F) {
	for _, line := range []string{
		"2026-11-23T21:25:00.250079123Z hello", "2026-11-23T23:25:00+02:00 ", "2026-11-23T21:25:00Z", "", " ", "\r",
		"unable to retrieve container logs", "2026-11-23T21:25:60.9999999999999999Z x",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var s, fresh StampSplitter
		// The clock remembers the minute of the line before.
		_, _, _ = s.Split([]byte("2026-11-23T21:25:00Z before"))
		nanos, text, ok := s.Split(line)
		again, sameText, sameOK := fresh.Split(line)
		if nanos != again || string(text) != string(sameText) || ok != sameOK {
			t.Fatalf("%q depends on the line before", line)
		}
		if !ok {
			if nanos != 0 || text != nil {
				t.Fatalf("%q is no line, and yet %d %q", line, nanos, text)
			}
			return
		}
		if !rfc3339.Plausible(nanos) {
			t.Fatalf("%q has the time %d", line, nanos)
		}
		if len(text) >= len(line) {
			t.Fatalf("%q has the text %q", line, text)
		}
	})
}

func BenchmarkStampSplitter(b *testing.B) {
	line := []byte("2026-11-23T21:25:00.250079123Z 2026-11-23T21:25:00.250079Z\tinfo\taccess\tconnection complete")
	var s StampSplitter
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := s.Split(line); !ok {
			b.Fatal("not split")
		}
	}
}
