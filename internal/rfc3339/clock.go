// Package rfc3339 parses times as logs have them, without allocating.
package rfc3339

import "bytes"

const (
	nanosPerSecond = int64(1_000_000_000)
	secondsPerDay  = int64(86_400)

	// earliest and latest bound what is believed of a log's time: no mesh's log is older than 2015, and a clock that says 2100 is wrong.
	earliest = int64(1_420_070_400) * nanosPerSecond
	latest   = int64(4_102_444_800) * nanosPerSecond
)

// Plausible tells whether a time, in nanoseconds since the epoch, can be one of a log.
func Plausible(nanos int64) bool { return nanos >= earliest && nanos < latest }

// Clock parses RFC 3339 times. Neighbouring entries share their minute, so it remembers the last one. The zero value is ready; it belongs
// to one goroutine.
type Clock struct {
	minute   [17]byte
	base     int64 // nanoseconds at the start of minute
	hasCache bool
}

// Parse returns nanoseconds since the epoch and whether s is a time at all.
func (c *Clock) Parse(s []byte) (int64, bool) {
	if len(s) < 20 || len(s) > 40 {
		return 0, false
	}
	if !c.hasCache || !bytes.Equal(c.minute[:], s[:17]) {
		base, ok := parseMinute(s)
		if !ok {
			return 0, false
		}
		copy(c.minute[:], s)
		c.base, c.hasCache = base, true
	}
	seconds, ok := twoDigits(s[17:])
	if !ok || seconds > 60 {
		return 0, false
	}
	nanos := c.base + int64(seconds)*nanosPerSecond
	rest := s[19:]
	if rest[0] == '.' {
		i, fraction, scale := 1, int64(0), nanosPerSecond
		for ; i < len(rest) && isDigit(rest[i]); i++ {
			if scale > 1 {
				scale /= 10
				fraction += int64(rest[i]-'0') * scale
			}
		}
		if i == 1 {
			return 0, false
		}
		nanos += fraction
		rest = rest[i:]
	}
	switch {
	case len(rest) == 1 && (rest[0] == 'Z' || rest[0] == 'z'):
		return nanos, true
	case len(rest) == 6 && (rest[0] == '+' || rest[0] == '-') && rest[3] == ':':
		hours, ok1 := twoDigits(rest[1:])
		minutes, ok2 := twoDigits(rest[4:])
		if !ok1 || !ok2 || hours > 23 || minutes > 59 {
			return 0, false
		}
		offset := (int64(hours)*3600 + int64(minutes)*60) * nanosPerSecond
		if rest[0] == '-' {
			offset = -offset
		}
		return nanos - offset, true
	}
	return 0, false
}

func parseMinute(s []byte) (int64, bool) {
	century, ok1 := twoDigits(s)
	yy, ok2 := twoDigits(s[2:])
	month, ok3 := twoDigits(s[5:])
	day, ok4 := twoDigits(s[8:])
	hour, ok5 := twoDigits(s[11:])
	minute, ok6 := twoDigits(s[14:])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 ||
		s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != 't' && s[10] != ' ') || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	year := century*100 + yy
	// Nanoseconds since the epoch fit into 64 bits from 1678 to 2262.
	if year < 1700 || year > 2200 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) || hour > 23 || minute > 59 {
		return 0, false
	}
	return (daysSinceEpoch(year, month, day)*secondsPerDay + int64(hour)*3600 + int64(minute)*60) * nanosPerSecond, true
}

func daysIn(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// daysSinceEpoch counts days of the proleptic Gregorian calendar, with years that begin in March so that the
// leap day is the last of its year.
func daysSinceEpoch(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	dayOfEra := yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear
	return int64(era)*146_097 + int64(dayOfEra) - 719_468
}

func twoDigits(s []byte) (int, bool) {
	if len(s) < 2 || !isDigit(s[0]) || !isDigit(s[1]) {
		return 0, false
	}
	return int(s[0]-'0')*10 + int(s[1]-'0'), true
}

func isDigit(c byte) bool { return c-'0' < 10 }
