package accesslog

import (
	"bytes"
	"math"
	"net/netip"
	"unsafe"
)

const (
	// maxDuration is ten years: longer than any process lives.
	maxDuration = int64(3650) * 86_400 * 1_000_000_000
	// maxBytes is an exbibyte: a year at line rate on the fastest link carries less.
	maxBytes = uint64(1) << 60
)

func isDigit(c byte) bool { return c-'0' < 10 }

// parseUint reads a decimal number; it fails on anything else and on more than maxBytes.
func parseUint(s []byte) (uint64, bool) {
	if len(s) == 0 || len(s) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range s {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= maxBytes
}

// parseDuration reads "20ms" as ztunnel writes it, and what Rust's Debug and Go's String make of durations
// ("1.5s", "3µs", "2m3s"). Negative ones and those over maxDuration fail.
func parseDuration(s []byte) (int64, bool) {
	if n := len(s) - 2; n > 0 && n <= 12 && s[n] == 'm' && s[n+1] == 's' {
		var ms int64
		i := 0
		for ; i < n && isDigit(s[i]); i++ {
			ms = ms*10 + int64(s[i]-'0')
		}
		if i == n {
			ns := ms * 1_000_000
			return ns, ns <= maxDuration
		}
	}
	if len(s) == 0 {
		return 0, false
	}
	total := 0.0
	for len(s) > 0 {
		value, n := decimal(s)
		if n == 0 {
			return 0, false
		}
		unit, m := durationUnit(s[n:])
		if m == 0 {
			return 0, false
		}
		total += value * unit
		s = s[n+m:]
	}
	if total > float64(maxDuration) {
		return 0, false
	}
	return int64(math.Round(total)), true
}

// decimal reads digits with at most one point and returns how many bytes it took.
func decimal(s []byte) (float64, int) {
	value, scale, i, digits := 0.0, 1.0, 0, 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		value = value*10 + float64(s[i]-'0')
		digits++
	}
	if i < len(s) && s[i] == '.' {
		for i++; i < len(s) && isDigit(s[i]); i++ {
			scale /= 10
			value += float64(s[i]-'0') * scale
			digits++
		}
	}
	if digits == 0 {
		return 0, 0
	}
	return value, i
}

func durationUnit(s []byte) (nanos float64, length int) {
	switch {
	case hasPrefix(s, "ns"):
		return 1, 2
	case hasPrefix(s, "us"):
		return 1e3, 2
	case hasPrefix(s, "µs"), hasPrefix(s, "μs"): // micro sign and Greek mu
		return 1e3, len("µs")
	case hasPrefix(s, "ms"):
		return 1e6, 2
	case hasPrefix(s, "s"):
		return 1e9, 1
	case hasPrefix(s, "m"):
		return 60e9, 1
	case hasPrefix(s, "h"):
		return 3600e9, 1
	}
	return 0, 0
}

// scanIPv4 reads "1.2.3.4:5" at the beginning of s and returns how many bytes that took, 0 when there is no such
// address. It changes addr only when there is one.
func scanIPv4(s []byte, addr *Addr) int {
	i := 0
	for octet := range 4 {
		value, start := 0, i
		for i < len(s) && isDigit(s[i]) {
			value = value*10 + int(s[i]-'0')
			i++
		}
		if i == start || i-start > 3 || value > 255 || i == len(s) {
			return 0
		}
		if octet < 3 {
			if s[i] != '.' {
				return 0
			}
			i++
		}
	}
	if s[i] != ':' {
		return 0
	}
	colon, port := i, 0
	for i++; i < len(s) && isDigit(s[i]); i++ {
		if port = port*10 + int(s[i]-'0'); port > 65535 {
			return 0
		}
	}
	if i == colon+1 || i-colon > 6 {
		return 0
	}
	*addr = Addr{Text: s[:i:i], Host: s[:colon:colon], Port: uint16(port), IsIP: true}
	return i
}

// parseAddr takes "ip:port", "[ip6]:port" or "host:port"; it fails on anything that has no port.
func parseAddr(s []byte) (Addr, bool) {
	colon := len(s) - 1
	port, factor := 0, 1
	for ; colon >= 0 && isDigit(s[colon]) && factor < 1_000_000; colon-- {
		port += int(s[colon]-'0') * factor
		factor *= 10
	}
	if colon < 1 || s[colon] != ':' || factor == 1 || port > 65535 {
		return Addr{}, false
	}
	addr := Addr{Text: s, Host: s[:colon], Port: uint16(port)}
	if s[0] == '[' {
		if s[colon-1] != ']' {
			return Addr{}, false
		}
		addr.Host = s[1 : colon-1]
		addr.IsIP = isIPv6(addr.Host)
		return addr, addr.IsIP
	}
	addr.IsIP = isIPv4(addr.Host)
	if !addr.IsIP && !isHostName(addr.Host) {
		return Addr{}, false
	}
	return addr, true
}

func isIPv4(s []byte) bool {
	if len(s) < 7 || len(s) > 15 {
		return false
	}
	dots, value, digits := 0, 0, 0
	for _, c := range s {
		switch {
		case isDigit(c):
			value = value*10 + int(c-'0')
			if digits++; digits > 3 || value > 255 {
				return false
			}
		case c == '.' && digits > 0:
			dots++
			value, digits = 0, 0
		default:
			return false
		}
	}
	return dots == 3 && digits > 0
}

func isIPv6(s []byte) bool {
	if len(s) < 2 || len(s) > 64 || bytes.IndexByte(s, ':') < 0 {
		return false
	}
	_, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(s), len(s)))
	return err == nil
}

func isHostName(s []byte) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for _, c := range s {
		letter := (c|0x20)-'a' < 26
		if !letter && !isDigit(c) && c != '.' && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

func hasPrefix(s []byte, prefix string) bool {
	return len(s) >= len(prefix) && string(s[:len(prefix)]) == prefix
}
