package rfc3339

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClockAgreesWithTimeParse(t *testing.T) {
	var c Clock
	for _, s := range []string{
		"2026-11-23T21:18:51.657644Z", "2026-11-23T21:18:59Z", "2026-11-23T21:18:51.1Z", "2026-11-23T21:18:51.123456789Z",
		"2024-02-29T00:00:00Z", "2000-02-29T23:59:59.999999999Z", "1970-01-01T00:00:00Z", "2100-12-31T23:59:59Z",
		"2026-11-23T21:18:51.657644+01:00", "2026-11-23T21:18:51-11:30", "1999-12-31T23:59:00Z", "2026-03-01T00:00:00Z",
	} {
		want, err := time.Parse(time.RFC3339Nano, s)
		require.NoError(t, err)
		got, ok := c.Parse([]byte(s))
		assert.True(t, ok, s)
		assert.Equal(t, want.UnixNano(), got, s)
	}
	for day := time.Date(1800, 1, 1, 12, 30, 15, 0, time.UTC); day.Year() < 2200; day = day.AddDate(0, 0, 13) {
		got, ok := c.Parse([]byte(day.Format(time.RFC3339)))
		assert.True(t, ok)
		assert.Equal(t, day.UnixNano(), got, day)
	}
	for _, s := range []string{
		"", "2026-11-23", "2026-11-23T21:18:51", "2026-11-23T21:18:51.Z", "2026-11-31T21:18:51Z", "2026-02-29T21:18:51Z", "2026-00-10T21:18:51Z",
		"2026-11-23T24:18:51Z", "2026-11-23T21:60:51Z", "2026-11-23T21:18:61Z", "2026-11-23T21:18:51+1:00", "2026-11-23T21:18:51+25:00",
		"9999-11-23T21:18:51Z", "0001-11-23T21:18:51Z", "2026-11-23T21:18:5xZ", "2026/11/23T21:18:51Z", "2026-11-23T21:18:51.5ZZ",
	} {
		_, ok := c.Parse([]byte(s))
		assert.False(t, ok, s)
	}
}
