package accesslog

import (
	"bytes"
	"unicode/utf8"
)

// Bounds of what is kept of a value, in bytes.
const (
	maxLabel    = 253 // a DNS name, and so the name of anything in Kubernetes
	maxIdentity = 512
	maxScope    = 253
	maxError    = 1024
	maxMessage  = 4096
	maxValue    = 1024 // of a message's field
)

const replacement = "\uFFFD"

// isClean says that text can be used as it is: valid UTF-8 without NUL.
func isClean(s []byte) bool {
	return bytes.IndexByte(s, 0) < 0 && utf8.Valid(s)
}

// appendClean appends s with invalid UTF-8 and NUL replaced.
func appendClean(dst, s []byte) []byte {
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		if r == 0 || (r == utf8.RuneError && size == 1) {
			dst = append(dst, replacement...)
		} else {
			dst = append(dst, s[:size]...)
		}
		s = s[size:]
	}
	return dst
}

// appendRune appends r, or the replacement character for what may not be in a label.
func appendRune(dst []byte, r rune) []byte {
	if r == 0 || !utf8.ValidRune(r) {
		return append(dst, replacement...)
	}
	return utf8.AppendRune(dst, r)
}

// bound shortens clean text to at most limit bytes without cutting a character.
func bound(s []byte, limit int) []byte {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// appendRustUnescaped undoes Rust's Debug escaping. What is not an escape stays as it is.
func appendRustUnescaped(dst, s []byte) []byte {
	for len(s) > 0 {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		s = s[i+1:]
		switch s[0] {
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 'r':
			dst = append(dst, '\r')
		case '0':
			dst = append(dst, replacement...)
		case 'u':
			if r, n := rustRune(s); n > 0 {
				dst = appendRune(dst, r)
				s = s[n:]
				continue
			}
			dst = append(dst, '\\', 'u')
		case '"', '\'', '\\':
			dst = append(dst, s[0])
		default:
			dst = append(dst, '\\', s[0])
		}
		s = s[1:]
	}
	return dst
}

// rustRune reads "u{1f600}" and returns how many bytes it took.
func rustRune(s []byte) (rune, int) {
	if len(s) < 4 || s[1] != '{' {
		return 0, 0
	}
	var r rune
	for i := 2; i < len(s) && i <= 8; i++ {
		if s[i] == '}' {
			if i == 2 {
				return 0, 0
			}
			return r, i + 1
		}
		d, ok := hexDigit(s[i])
		if !ok {
			return 0, 0
		}
		r = r<<4 | rune(d)
	}
	return 0, 0
}

// appendJSONUnescaped undoes JSON's string escaping; a lone surrogate becomes the replacement character.
func appendJSONUnescaped(dst, s []byte) []byte {
	for len(s) > 0 {
		i := bytes.IndexByte(s, '\\')
		if i < 0 || i+1 == len(s) {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		s = s[i+1:]
		switch s[0] {
		case 'n':
			dst = append(dst, '\n')
		case 't':
			dst = append(dst, '\t')
		case 'r':
			dst = append(dst, '\r')
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'u':
			r, n := jsonRune(s)
			if n > 0 {
				dst = appendRune(dst, r)
				s = s[n:]
				continue
			}
			dst = append(dst, '\\', 'u')
		case '"', '/', '\\':
			dst = append(dst, s[0])
		default:
			dst = append(dst, '\\', s[0])
		}
		s = s[1:]
	}
	return dst
}

// jsonRune reads "u00e9" or a surrogate pair "ud83d\ude00" and returns how many bytes it took.
func jsonRune(s []byte) (rune, int) {
	high, ok := hex4(s[1:])
	if !ok {
		return 0, 0
	}
	if high < 0xD800 || high > 0xDFFF {
		return high, 5
	}
	if high < 0xDC00 && len(s) >= 11 && s[5] == '\\' && s[6] == 'u' {
		if low, ok := hex4(s[7:]); ok && low >= 0xDC00 && low <= 0xDFFF {
			return (high-0xD800)<<10 | (low - 0xDC00) + 0x10000, 11
		}
	}
	return utf8.RuneError, 5
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range s[:4] {
		d, ok := hexDigit(c)
		if !ok {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return (c | 0x20) - 'a' + 10, true
	}
	return 0, false
}
