package requestlog

import (
	"bytes"
	"net/netip"
	"unicode/utf8"
)

// texts gives the same texts the same strings: most of what a log says comes again and again. Each map is bounded by maxCachedTexts.
type texts struct {
	known     map[string]string
	addresses map[string]bool
	policy    []byte
}

func (t *texts) get(text []byte) string {
	if s, ok := t.known[string(text)]; ok {
		return s
	}
	if t.known == nil || len(t.known) >= maxCachedTexts {
		t.known = make(map[string]string)
	}
	s := validText(text)
	if len(s) == len(text) {
		t.known[s] = s
	} else {
		t.known[string(text)] = s
	}
	return s
}

func validText(text []byte) string {
	if !utf8.Valid(text) {
		return string(bytes.ToValidUTF8(text, []byte("\uFFFD")))
	}
	return string(text)
}

// isAddress tells whether a text is an IP address.
func (t *texts) isAddress(text string) bool {
	is, known := t.addresses[text]
	if known {
		return is
	}
	if t.addresses == nil || len(t.addresses) >= maxCachedTexts {
		t.addresses = make(map[string]bool)
	}
	_, err := netip.ParseAddr(text)
	t.addresses[text] = err == nil
	return err == nil
}
