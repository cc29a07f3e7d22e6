package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	fences  = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```$")
	links   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	strange = regexp.MustCompile(`[^\pL\pN _-]`)
)

// TestDocuments holds each document to one title and to links that lead somewhere.
func TestDocuments(t *testing.T) {
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".md"):
			return nil
		}
		titles, _, text := document(t, path)
		assert.LessOrEqualf(t, titles, 1, "%s has several titles", path)
		for _, match := range links.FindAllStringSubmatch(text, -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(match[1], "#")
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", path, match[1], err)
				continue
			}
			if anchor == "" {
				continue
			}
			_, anchors, _ := document(t, to)
			assert.Containsf(t, anchors, anchor, "%s links to %s", path, match[1])
		}
		return nil
	}))
}

// document reads a document without its code: how many titles it has, and the anchors of its headings.
func document(t *testing.T, path string) (titles int, anchors []string, text string) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	text = fences.ReplaceAllString(string(content), "")
	for line := range strings.Lines(text) {
		level, heading, found := strings.Cut(strings.TrimSpace(line), " ")
		if !found || strings.Trim(level, "#") != "" {
			continue
		}
		if level == "#" {
			titles++
		}
		anchors = append(anchors, strings.ReplaceAll(strange.ReplaceAllString(strings.ToLower(heading), ""), " ", "-"))
	}
	return titles, anchors, text
}

// TestTroubleshooting wants every problem that a source can have to be explained.
func TestTroubleshooting(t *testing.T) {
	names, err := os.ReadFile(filepath.Join(root, "internal/semconv/semconv.go"))
	require.NoError(t, err)
	explained, err := os.ReadFile(filepath.Join(root, "docs/troubleshooting.md"))
	require.NoError(t, err)
	problems := regexp.MustCompile(`(?m)^\tProblem\w+\s*= "(\w+)"$`).FindAllStringSubmatch(string(names), -1)
	require.NotEmpty(t, problems)
	for _, problem := range problems {
		assert.Contains(t, string(explained), "| `"+problem[1]+"` |")
	}
}
