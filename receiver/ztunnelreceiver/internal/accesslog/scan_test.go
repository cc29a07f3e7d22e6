package accesslog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0ms": 0, "12ms": 12 * time.Millisecond, "86400000ms": 24 * time.Hour, "1.5s": 1500 * time.Millisecond, "3µs": 3 * time.Microsecond,
		"3μs": 3 * time.Microsecond, "7us": 7 * time.Microsecond, "9ns": 9, "1.234567s": 1234567 * time.Microsecond, "2m3s": 123 * time.Second,
		"1h2m3.5s": time.Hour + 2*time.Minute + 3500*time.Millisecond, "1.5ms": 1500 * time.Microsecond, ".5s": 500 * time.Millisecond,
	} {
		got, ok := parseDuration([]byte(s))
		assert.True(t, ok, s)
		assert.Equal(t, want, time.Duration(got), s)
	}
	for _, s := range []string{"", "ms", "5", "-5ms", "5 ms", "5msx", "1e3ms", "x", "999999999999ms", "99999999999999999999ms", "20000d", "1000000h", "."} {
		_, ok := parseDuration([]byte(s))
		assert.False(t, ok, s)
	}
}

func TestParseAddr(t *testing.T) {
	for s, want := range map[string]Addr{
		"10.244.1.11:55704": {Host: []byte("10.244.1.11"), Port: 55704, IsIP: true},
		"0.0.0.0:0":         {Host: []byte("0.0.0.0"), Port: 0, IsIP: true},
		"[::1]:80":          {Host: []byte("::1"), Port: 80, IsIP: true},
		"[fd00::a:1]:65535": {Host: []byte("fd00::a:1"), Port: 65535, IsIP: true},
		"host:80":           {Host: []byte("host"), Port: 80},
		"a-b.c_d.local:443": {Host: []byte("a-b.c_d.local"), Port: 443},
		"256.1.1.1:1":       {Host: []byte("256.1.1.1"), Port: 1},
		"1.2.3:1":           {Host: []byte("1.2.3"), Port: 1},
	} {
		want.Text = []byte(s)
		got, ok := parseAddr([]byte(s))
		assert.True(t, ok, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"", ":80", "80", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:9999999", "::1:80", "[::1]80", "[::1:80", "[zz]:80", "a b:1", "ä:1", "1.2.3.4:-1"} {
		_, ok := parseAddr([]byte(s))
		assert.False(t, ok, s)
	}
}
