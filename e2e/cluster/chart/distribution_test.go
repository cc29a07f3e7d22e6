package chart

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// listed are components as the binary lists them, manifested as ocb's manifest does.
type (
	listed struct {
		Receivers, Processors, Exporters, Connectors, Extensions []struct{ Name, Module string }
	}
	manifested struct {
		Receivers, Processors, Exporters, Connectors, Extensions []struct{ Gomod string }
	}
)

// TestDistribution holds the binary to its manifest.
func TestDistribution(t *testing.T) {
	out, err := exec.Command(program(t, "bin/otelcol-nephilia", "build"), "components").Output()
	if err != nil {
		t.Fatal(err)
	}
	var has listed
	if err := yaml.Unmarshal(out, &has); err != nil {
		t.Fatal(err)
	}
	var wants manifested
	if err := yaml.Unmarshal([]byte(read(t, "builder-config.yaml")), &wants); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct {
		name  string
		has   []struct{ Name, Module string }
		wants []struct{ Gomod string }
	}{
		{"receivers", has.Receivers, wants.Receivers},
		{"processors", has.Processors, wants.Processors},
		{"exporters", has.Exporters, wants.Exporters},
		{"connectors", has.Connectors, wants.Connectors},
		{"extensions", has.Extensions, wants.Extensions},
	} {
		var modules, wanted []string
		for _, component := range kind.has {
			modules = append(modules, component.Module)
		}
		for _, module := range kind.wants {
			wanted = append(wanted, module.Gomod)
		}
		slices.Sort(modules)
		slices.Sort(wanted)
		if modules, wanted = slices.Compact(modules), slices.Compact(wanted); !slices.Equal(modules, wanted) {
			t.Errorf("%s are of %v, and the manifest says %v: run make build", kind.name, modules, wanted)
		}
	}
}

// TestExpectedConfigurations wants configurations that are not ours to be accepted: the default one of the OpenTelemetry Helm chart, and one
// that uses what users of other distributions expect.
func TestExpectedConfigurations(t *testing.T) {
	for _, config := range []string{"testdata/opentelemetry-collector.yaml", "testdata/expected.yaml"} {
		cmd := exec.Command(program(t, "bin/otelcol-nephilia", "build"), "validate", "--config", config)
		cmd.Env = append(os.Environ(), "MY_POD_IP=127.0.0.1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", config, err, strings.TrimSpace(string(out)))
		}
	}
}
