package ztunnellog

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMessages takes lines of real ztunnels for what they are, and unknown ones as they come.
func TestMessages(t *testing.T) {
	for text, template := range map[string]string{
		`XDS client connection error: gRPC connection error connecting to https://10.246.0.1:15010: tcp connect error, retrying in 20ms`: "XDS client connection error",
		`failed to start proxy: Bind(127.0.0.1:15053, Os { code: 98, kind: AddrInUse, message: "Address already in use" })`:              "failed to start proxy",
		`retrying workload failed: failed to bind to address 127.0.0.1:15053: Address already in use (os error 98)`:                      "retrying workload failed",
		`retrying workload`:                            "retrying workload",
		`something new at 10.0.0.1:80`:                 "something new at *",
		`it took 5ms and 7ms then`:                     "it took * and * then",
		`odd Query { name: Name("x") } and "a b" here`: "odd Query * and * here",
	} {
		assert.Equal(t, template, Template(text))
		assert.Equal(t, strings.HasPrefix(template, "XDS") || strings.Contains(template, "proxy") || strings.HasPrefix(template, "retrying"), Meaning(text) != "")
	}
	for i, m := range Messages {
		assert.True(t, strings.HasSuffix(m.Meaning, "."), m.Begins)
		for _, before := range Messages[:i] {
			assert.False(t, strings.HasPrefix(m.Begins, before.Begins), "%q hides %q", before.Begins, m.Begins)
		}
	}
	assert.Empty(t, slices.DeleteFunc(slices.Clone(Messages), func(m Message) bool { return inSource(t, m.Begins) }), "no ztunnel writes these")
	assert.LessOrEqual(t, len(Template(strings.Repeat("word ", 1000))), maxTemplate+10)
}

// inSource tells whether ztunnel's source has a message that begins so.
func inSource(t *testing.T, begins string) bool {
	raw, err := os.ReadFile("testdata/messages.tsv")
	require.NoError(t, err)
	for line := range strings.Lines(string(raw)) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(columns) == 3 && strings.HasPrefix(columns[2], begins) {
			return true
		}
	}
	return false
}
