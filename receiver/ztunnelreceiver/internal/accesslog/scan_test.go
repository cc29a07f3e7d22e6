package accesslog

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClockAgreesWithTimeParse(t *testing.T) {
	var c clock
	for _, s := range []string{
		"2026-11-23T21:18:51.657644Z", "2026-11-23T21:18:59Z", "2026-11-23T21:18:51.1Z", "2026-11-23T21:18:51.123456789Z",
		"2024-02-29T00:00:00Z", "2000-02-29T23:59:59.999999999Z", "1970-01-01T00:00:00Z", "2100-12-31T23:59:59Z",
		"2026-11-23T21:18:51.657644+01:00", "2026-11-23T21:18:51-11:30", "1999-12-31T23:59:00Z", "2026-03-01T00:00:00Z",
	} {
		want, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		got, ok := c.parse([]byte(s))
		assert.True(t, ok, s)
		assert.Equal(t, want.UnixNano(), got, s)
	}
	for day := time.Date(1800, 1, 1, 12, 30, 15, 0, time.UTC); day.Year() < 2200; day = day.AddDate(0, 0, 13) {
		got, ok := c.parse([]byte(day.Format(time.RFC3339)))
		assert.True(t, ok)
		assert.Equal(t, day.UnixNano(), got, day)
	}
	for _, s := range []string{
		"", "2026-11-23", "2026-11-23T21:18:51", "2026-11-23T21:18:51.Z", "2026-11-31T21:18:51Z", "2026-02-29T21:18:51Z", "2026-00-10T21:18:51Z",
		"2026-11-23T24:18:51Z", "2026-11-23T21:60:51Z", "2026-11-23T21:18:61Z", "2026-11-23T21:18:51+1:00", "2026-11-23T21:18:51+25:00",
		"9999-11-23T21:18:51Z", "0001-11-23T21:18:51Z", "2026-11-23T21:18:5xZ", "2026/11/23T21:18:51Z", "2026-11-23T21:18:51.5ZZ",
	} {
		_, ok := c.parse([]byte(s))
		assert.False(t, ok, s)
	}
}

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
