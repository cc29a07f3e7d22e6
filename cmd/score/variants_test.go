package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const realRecordings = "../../recordings"

// variant is what is left of a recording: the parts whose name a pattern matches, changed.
type variant struct {
	without []string
	change  func(t *testing.T, name string, content []byte) []byte
}

// without leaves parts out, by the beginning of their names.
func without(parts ...string) variant { return variant{without: parts} }

const (
	logParts    = "ztunnel-"
	scrapeParts = "metrics-"
	dumpParts   = "config_dump-"
	stateParts  = "xds."
	spanParts   = "otlp-traces."
)

// every keeps one of so many scrapes.
func every(n int) variant {
	return variant{change: func(_ *testing.T, name string, content []byte) []byte {
		if !strings.HasPrefix(name, scrapeParts) {
			return content
		}
		var kept bytes.Buffer
		scrape := -1
		for _, line := range bytes.SplitAfter(content, []byte("\n")) {
			if bytes.HasPrefix(line, []byte("## scrape ")) {
				scrape++
			}
			if scrape%n == 0 {
				kept.Write(line)
			}
		}
		return kept.Bytes()
	}}
}

// apply writes the variant of a recording into a folder of its own.
func (v variant) apply(t *testing.T, recording string) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), recording)
	require.NoError(t, os.MkdirAll(folder, 0o700))
	entries, err := os.ReadDir(filepath.Join(realRecordings, recording))
	require.NoError(t, err)
parts:
	for _, entry := range entries {
		for _, prefix := range v.without {
			if strings.HasPrefix(entry.Name(), prefix) {
				continue parts
			}
		}
		content, err := os.ReadFile(filepath.Join(realRecordings, recording, entry.Name()))
		require.NoError(t, err)
		name := entry.Name()
		if v.change != nil && strings.HasSuffix(name, ".gz") {
			unpacked, err := gzip.NewReader(bytes.NewReader(content))
			require.NoError(t, err)
			plain, err := io.ReadAll(unpacked)
			require.NoError(t, err)
			name, content = strings.TrimSuffix(name, ".gz"), v.change(t, name, plain)
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o600))
	}
	return folder
}

func TestVariantsPrint(t *testing.T) {
	for name, v := range map[string]variant{
		"minute scrapes": every(12), "no scrapes": without(scrapeParts), "no xds": without(stateParts), "no dumps": without(dumpParts, stateParts),
		"no spans": without(spanParts), "spans only": without(logParts, scrapeParts, dumpParts, stateParts), "spans+xds": without(logParts, scrapeParts, dumpParts),
		"logs only": without(scrapeParts, dumpParts, stateParts, spanParts), "scrapes only": without(logParts, dumpParts, stateParts, spanParts),
		"scrapes+xds": without(logParts, dumpParts, spanParts), "all plain": {change: func(_ *testing.T, _ string, c []byte) []byte { return c }},
		"node-a missing log": without("ztunnel-node-a"), "one log": without("ztunnel-node-b", "ztunnel-node-c"),
	} {
		for _, rec := range []string{"baseline", "payment-refused", "policy-deny", "node-loss", "shipping-500"} {
			folder := v.apply(t, rec)
			r, err := scoreFolder(t.Context(), folder, "max")
			require.NoError(t, err)
			var b bytes.Buffer
			for _, m := range r.Expected {
				if m.Outage == nil {
					b.WriteString("MISSED ")
					continue
				}
				b.WriteString(describe(m.Outage) + " " + verdict(m.RootOK, "root") + verdict(m.KindOK, "kind") + verdict(m.EdgesOK, "edges") + " " + verdictTime(m.DelayOK, m.Delay) + " " + closingText(m))
			}
			for _, o := range r.FalseAlarms {
				b.WriteString("\n      FALSE " + describe(o))
			}
			t.Logf("%s %s: %s", name, rec, b.String())
		}
	}
}
