package reasons_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/reasons"
)

var update = flag.Bool("update", false, "write what is generated from the registry")

// TestRegistry holds every row to be complete.
func TestRegistry(t *testing.T) {
	kinds := map[string]bool{}
	for _, kind := range reasons.Kinds {
		assert.False(t, kinds[kind.Name], kind.Name)
		kinds[kind.Name] = true
		assert.NotEmpty(t, kind.Label, kind.Name)
		assert.True(t, strings.HasSuffix(kind.Advice, "."), kind.Name)
		if kind.Sentence != "" {
			assert.True(t, strings.HasSuffix(kind.Sentence, "({failed} of {total})."), kind.Name)
			assert.True(t, slices.ContainsFunc(reasons.All, func(r reasons.Reason) bool { return r.Kind == kind.Name }), "%s is of no reason", kind.Name)
		}
	}
	names, texts := map[string]bool{}, map[string]string{}
	for _, reason := range reasons.All {
		assert.False(t, names[reason.Name], reason.Name)
		names[reason.Name] = true
		assert.Equal(t, reason.Name, reasons.Of(reason.Name).Name)
		assert.NotEmpty(t, reason.Fault, reason.Name)
		assert.True(t, reason.Kind == "" || kinds[reason.Kind], "%s makes outages of no kind", reason.Name)
		assert.NotEqual(t, kinds[reason.Name], reason.Label != "", "%s needs one label", reason.Name)
		assert.True(t, strings.HasSuffix(reason.Meaning, "."), reason.Name)
		for _, text := range reason.Texts {
			assert.Empty(t, texts[text.Text], "%q is %s's too", text.Text, reason.Name)
			texts[text.Text] = reason.Name
		}
	}
	assert.Equal(t, "other", reasons.Of("what a later version may say").Name)
	assert.Equal(t, reasons.Client, reasons.FaultOf("client_exhausted"))
	assert.Equal(t, reasons.Unknown, reasons.FaultOf("latency"))
}

// TestWritten holds what is generated from the registry to be what it says: make generate writes it anew.
func TestWritten(t *testing.T) {
	var enum, union, labels, names, table []string
	for _, kind := range reasons.Kinds {
		enum = append(enum, kind.Name)
		union = append(union, fmt.Sprintf("%q", kind.Name))
		labels = append(labels, fmt.Sprintf("  %s: '%s',", kind.Name, kind.Label))
	}
	for _, reason := range reasons.All {
		if reason.Label != "" {
			labels = append(labels, fmt.Sprintf("  %s: '%s',", reason.Name, reason.Label))
		}
		names = append(names, fmt.Sprintf("  '%s',", reason.Name))
		kind := "none"
		if reason.Kind != "" {
			kind = "`" + reason.Kind + "`"
		}
		table = append(table, fmt.Sprintf("| `%s` | %s | %s | %s |", reason.Name, reason.Meaning, reason.Fault, kind))
	}
	lines := func(lines ...[]string) string { return strings.Join(slices.Concat(lines...), "\n") + "\n" }

	written(t, "docs/data-model.md", "<!-- reasons -->\n", "<!-- /reasons -->",
		lines([]string{"", "| `error_type` | What happened | Whose doing | Kind of outage |", "|---|---|---|---|"}, table, []string{""}))
	written(t, "extension/topologyquery/api/openapi.yaml", "          # written from internal/reasons: make generate\n          enum: [", "]", strings.Join(enum, ", "))
	written(t, "ui/src/api/schema.d.ts", "\"stale\";\n            /** @enum {string} */\n            kind: ", ";", strings.Join(union, " | "))
	written(t, "ui/src/domain/reasons.ts", "/** Written from internal/reasons: make generate. */\n", "", lines(
		[]string{"", "/** Kinds of outages and reasons of failed connections in words. */", "export const LABELS: Record<string, string> = {"}, labels, []string{"};"},
		[]string{"", "/** Why connections fail, as error_type has it. */", "export const REASONS = ["}, names, []string{"];"},
	))
}

// written holds what stands between two marks of a file of the repository; without an end, all that follows.
func written(t *testing.T, name, begin, end, want string) {
	t.Helper()
	path := filepath.Join("..", "..", filepath.FromSlash(name))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(content), begin)
	require.True(t, found, "%s has no %q", name, begin)
	got, after := rest, ""
	if end != "" {
		got, after, found = strings.Cut(rest, end)
		require.True(t, found, "%s has no %q", name, end)
	}
	if !*update {
		assert.Equal(t, want, got, "%s: run make generate", name)
		return
	}
	require.NoError(t, os.WriteFile(path, []byte(before+begin+want+end+after), 0o600))
}
