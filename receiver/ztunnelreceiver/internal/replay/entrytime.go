package replay

import (
	"bytes"
	"time"
)

// entryTime finds the time that a log entry states of itself, plain or JSON, and where in the entry it stands.
// Without one, nanos is 0.
func entryTime(entry []byte) (nanos int64, at textRange) {
	if len(entry) == 0 {
		return 0, textRange{}
	}
	if entry[0] == '{' {
		at = jsonTime(entry)
	} else {
		at = textRange{0, timeLength(entry)}
	}
	if at.empty() {
		return 0, textRange{}
	}
	stamp, err := time.Parse(time.RFC3339Nano, string(entry[at.from:at.to]))
	if err != nil {
		return 0, textRange{}
	}
	return nanosOf(stamp), at
}

// nanosOf is the time in unix nanoseconds; 0, as if there were no time, for one that does not fit.
func nanosOf(stamp time.Time) int64 {
	if stamp.Year() < 1700 || stamp.Year() > 2250 {
		return 0
	}
	return stamp.UnixNano()
}

// timeLength is the length of the RFC 3339 time that the text starts with, 0 if it does not look like one.
func timeLength(text []byte) int {
	const shortest = len("2006-01-02T15:04:05Z")
	if len(text) < shortest || text[4] != '-' || text[7] != '-' || text[10] != 'T' {
		return 0
	}
	for i := shortest - 1; i < len(text) && i < 40; i++ {
		switch c := text[i]; {
		case c == 'Z':
			return i + 1
		case c == '+' || c == '-':
			if end := i + len("+00:00"); end <= len(text) {
				return end
			}
			return 0
		case c != '.' && (c < '0' || c > '9'):
			return 0
		}
	}
	return 0
}

var timeKey = []byte(`"time"`)

// jsonTime finds the value of the top-level key "time". A quote inside a JSON string is escaped, so the key's text
// cannot stand in one, except as a whole string that is a value and has no colon behind it.
func jsonTime(entry []byte) textRange {
	from := 0
	for {
		i := bytes.Index(entry[from:], timeKey)
		if i < 0 {
			return textRange{}
		}
		i += from + len(timeKey)
		from = i
		i = skipSpace(entry, i)
		if i >= len(entry) || entry[i] != ':' {
			continue
		}
		i = skipSpace(entry, i+1)
		if i >= len(entry) || entry[i] != '"' {
			continue
		}
		i++
		length := timeLength(entry[i:])
		if length == 0 || i+length >= len(entry) || entry[i+length] != '"' {
			continue
		}
		return textRange{i, i + length}
	}
}

func skipSpace(text []byte, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
		i++
	}
	return i
}

// ztunnelTime is how a ztunnel writes times.
const ztunnelTime = "2006-01-02T15:04:05.000000Z"

// setEntryTime returns the entry with another time of its own, written into buf if it fits.
func setEntryTime(buf, entry []byte, at textRange, nanos int64) []byte {
	buf = append(buf[:0], entry[:at.from]...)
	buf = time.Unix(0, nanos).UTC().AppendFormat(buf, ztunnelTime)
	return append(buf, entry[at.to:]...)
}
