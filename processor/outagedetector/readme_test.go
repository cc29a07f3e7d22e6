package outagedetector

import (
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

var update = flag.Bool("update", false, "write golden files and generated documentation")

// TestReadmeCatalogue holds the README to the catalogue of rules.
func TestReadmeCatalogue(t *testing.T) {
	const begin, end = "<!-- catalogue -->\n", "<!-- /catalogue -->"
	raw, err := os.ReadFile("README.md")
	require.NoError(t, err)
	before, rest, found := strings.Cut(string(raw), begin)
	require.True(t, found)
	written, after, found := strings.Cut(rest, end)
	require.True(t, found)
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(before+begin+"\n"+rules.Document()+"\n"+end+after), 0o600))
		return
	}
	assert.Equal(t, "\n"+rules.Document()+"\n", written, "run go test -run TestReadmeCatalogue -update")
}

// TestReadmeOptions holds the README to the configuration's fields.
func TestReadmeOptions(t *testing.T) {
	raw, err := os.ReadFile("README.md")
	require.NoError(t, err)
	text := string(raw)
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			field := typ.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("mapstructure"), ",")
			if name == "" {
				continue
			}
			if field.Type == reflect.TypeFor[Limits]() {
				walk(name+".", field.Type)
				continue
			}
			assert.Contains(t, text, "| `"+prefix+name+"` |", "the README's table lacks an option")
		}
	}
	walk("", reflect.TypeFor[Config]())
	for _, typ := range []reflect.Type{reflect.TypeFor[rules.Change](), reflect.TypeFor[SLO]()} {
		for i := range typ.NumField() {
			if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("mapstructure"), ","); name != "" {
				assert.Contains(t, text, "`"+name+"`")
			}
		}
	}
}
