package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/outage"
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
		if v.change != nil && name == truthFile {
			content = v.change(t, name, content)
		}
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

// renamed gives every workload and namespace another name of the same length, so that no rule can know the mesh.
func renamed() variant {
	names := strings.NewReplacer("frontend", "storeweb", "checkout", "purchase", "payment", "ledgers", "shipping", "dispatch", "catalog", "library",
		"mailer", "poster", "billing", "finance", "loadgen", "visitor", "redis", "cache", "postgres", "archives", "shop", "mall")
	return variant{change: func(_ *testing.T, _ string, content []byte) []byte { return []byte(names.Replace(string(content))) }}
}

// unchanged only unpacks the parts.
func unchanged() variant {
	return variant{change: func(_ *testing.T, _ string, content []byte) []byte { return content }}
}

// TestVariants plays the real recordings with parts left out or changed. What a variant does not list must be found as the whole
// recording's truth wants it; what it lists is all that can be seen then: an outage's root and kind each.
func TestVariants(t *testing.T) {
	if testing.Short() {
		t.Skip("plays each recording a dozen times")
	}
	onlyRequests := map[string][]string{
		"payment-refused": {"shop/checkout http_errors"}, "policy-deny": {"shop/checkout http_errors"}, "node-loss": {"shop/cart http_errors"},
	}
	for name, test := range map[string]struct {
		variant
		sees map[string][]string
	}{
		"unpacked":           {variant: unchanged()},
		"other names":        {variant: renamed()},
		"a scrape a minute":  {variant: every(12)},
		"no scrapes":         {variant: without(scrapeParts)},
		"no xds":             {variant: without(stateParts)},
		"a node's log lacks": {variant: without("ztunnel-node-a")},
		"one node's log":     {variant: without("ztunnel-node-b", "ztunnel-node-c")},
		"no spans":           {variant: without(spanParts), sees: map[string][]string{"shipping-500": nil}},
		"scrapes and xds":    {variant: without(logParts, dumpParts, spanParts), sees: map[string][]string{"shipping-500": nil}},
		"spans":              {variant: without(logParts, scrapeParts, dumpParts, stateParts), sees: onlyRequests},
		"spans and xds":      {variant: without(logParts, scrapeParts, dumpParts), sees: onlyRequests},
		"no mesh state":      {variant: without(dumpParts, stateParts)},
		"logs":               {variant: without(scrapeParts, dumpParts, stateParts, spanParts), sees: map[string][]string{"shipping-500": nil}},
		// Nobody says which pods run on which node.
		"scrapes": {variant: without(logParts, dumpParts, stateParts, spanParts), sees: map[string][]string{
			"shipping-500": nil,
			"node-loss":    {"data/redis connection_refused", "node/node-b telemetry_lost", "shop/checkout connection_refused", "shop/frontend connection_refused"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, recording := range []string{"baseline", "payment-refused", "policy-deny", "node-loss", "shipping-500"} {
				result, err := scoreFolder(t.Context(), test.apply(t, recording), "max")
				require.NoError(t, err)
				if sees, listed := test.sees[recording]; listed {
					assert.ElementsMatch(t, sees, rootsAndKinds(result.found), recording)
					continue
				}
				assert.True(t, result.Perfect(), "%s: %+v\nfound %s", recording, result.Expected, describeAll(result.found))
			}
		})
	}
}

func rootsAndKinds(outages []*outage.Outage) []string {
	var all []string
	for _, o := range outages {
		all = append(all, rootText(o.Root)+" "+o.Kind)
	}
	return all
}

func describeAll(outages []*outage.Outage) string {
	var all []string
	for _, o := range outages {
		all = append(all, describe(o))
	}
	return strings.Join(all, "\n")
}
