package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.yaml.in/yaml/v3"
)

type manifest struct {
	Dist struct {
		Module    string `yaml:"module"`
		BuildTags string `yaml:"build_tags"`
	} `yaml:"dist"`
	Receivers  []manifestModule `yaml:"receivers"`
	Processors []manifestModule `yaml:"processors"`
	Exporters  []manifestModule `yaml:"exporters"`
	Connectors []manifestModule `yaml:"connectors"`
	Extensions []manifestModule `yaml:"extensions"`
}

type manifestModule struct {
	GoMod  string `yaml:"gomod"`
	Import string `yaml:"import"`
}

// readManifest reads the manifest of what is built here; builder-config.yaml is that of the distribution.
func readManifest(t *testing.T) manifest { return readManifestOf(t, "builder-lean.yaml") }

func readManifestOf(t *testing.T, name string) manifest {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	var m manifest
	require.NoError(t, yaml.Unmarshal(content, &m))
	return m
}

// The binary holds what the manifest says, in the versions that it says.
func TestManifestIsWhatIsBuilt(t *testing.T) {
	m := readManifest(t)
	factories, err := components()
	require.NoError(t, err)
	for name, kind := range map[string]struct {
		manifest []manifestModule
		built    map[component.Type]string
	}{
		"receivers":  {m.Receivers, factories.ReceiverModules},
		"processors": {m.Processors, factories.ProcessorModules},
		"exporters":  {m.Exporters, factories.ExporterModules},
		"connectors": {m.Connectors, factories.ConnectorModules},
		"extensions": {m.Extensions, factories.ExtensionModules},
	} {
		t.Run(name, func(t *testing.T) {
			// One module may hold several components, and one component answer to an alias, so both are counted by module.
			want := map[string]bool{}
			for _, module := range kind.manifest {
				want[module.GoMod] = true
			}
			got := map[string]bool{}
			for _, module := range kind.built {
				got[module] = true
			}
			assert.Equal(t, want, got)
		})
	}
	for _, own := range []struct {
		types map[component.Type]string
		name  string
	}{
		{factories.ReceiverModules, "ztunnel"},
		{factories.ProcessorModules, "service_graph"},
		{factories.ProcessorModules, "outage_detector"},
		{factories.ExporterModules, "topology"},
		{factories.ExporterModules, "outage_alert"},
		{factories.ExtensionModules, "topology_query"},
	} {
		assert.Contains(t, own.types, component.MustNewType(own.name))
	}
}

// Every other module of the manifest is in go.mod in that version, since ocb is told not to fetch.
func TestManifestIsWhatGoModHolds(t *testing.T) {
	m := readManifest(t)
	content, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	lines := strings.Split(string(content), "\n")
	for i := range lines {
		lines[i] = strings.TrimSuffix(strings.TrimSpace(lines[i]), " // indirect")
	}
	for _, module := range slices.Concat(m.Receivers, m.Processors, m.Exporters, m.Connectors, m.Extensions) {
		if strings.HasPrefix(module.GoMod, m.Dist.Module+" ") {
			assert.True(t, strings.HasPrefix(module.Import, m.Dist.Module+"/"), "%v", module)
			continue
		}
		assert.Contains(t, lines, module.GoMod)
	}
}

// The distribution holds all of this, in the same versions, and is built with the same tags.
func TestDistributionHoldsTheLeanOne(t *testing.T) {
	lean, full := readManifest(t), readManifestOf(t, "builder-config.yaml")
	assert.Equal(t, lean.Dist.BuildTags, full.Dist.BuildTags)
	assert.Subset(t, full.Receivers, lean.Receivers)
	assert.Subset(t, full.Processors, lean.Processors)
	assert.Subset(t, full.Exporters, lean.Exporters)
	assert.Subset(t, full.Connectors, lean.Connectors)
	assert.Subset(t, full.Extensions, lean.Extensions)
}

// The Makefile builds with the manifest's tags.
func TestMakefileHasTheManifestsTags(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)
	assert.Contains(t, string(content), fmt.Sprintf("TAGS     := %s\n", readManifest(t).Dist.BuildTags))
}
