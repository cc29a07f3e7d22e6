package ui_test

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/extension/topologyquery/ui"
)

func TestIndexRefersOnlyToFilesOfTheBuild(t *testing.T) {
	index, err := fs.ReadFile(ui.FS(), "index.html")
	require.NoError(t, err)
	references := regexp.MustCompile(`(?:src|href)="\./([^"]+)"`).FindAllStringSubmatch(string(index), -1)
	require.NotEmpty(t, references)
	for _, reference := range references {
		_, err := fs.Stat(ui.FS(), reference[1])
		assert.NoError(t, err, reference[1])
	}
}

func TestIndexHasNothingInline(t *testing.T) {
	index, err := fs.ReadFile(ui.FS(), "index.html")
	require.NoError(t, err)
	for _, script := range regexp.MustCompile(`(?s)<script[^>]*>(.*?)</script>`).FindAllStringSubmatch(string(index), -1) {
		assert.Empty(t, strings.TrimSpace(script[1]))
	}
	assert.NotContains(t, string(index), "<style")
	assert.NotRegexp(t, `\sstyle=`, string(index))
	assert.NotRegexp(t, `\son[a-z]+=`, string(index))
}
