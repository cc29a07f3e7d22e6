package findings

import (
	"fmt"
	"strings"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
)

// namedNodes is how many nodes a sentence names.
const namedNodes = 5

// skew finds ztunnels that differ from others in version or settings.
func (f *finder) skew(skew inventory.Skew) {
	ztunnels := Subject{Type: "ztunnels"}
	if n := len(skew.Versions); n > 1 {
		f.add(Finding{
			Kind: VersionSkew, Severity: severityWarning, Subject: ztunnels, Evidence: variants("version", skew.Versions),
			Summary: fmt.Sprintf("The ztunnels are of %d versions.", n),
		})
	}
	if len(skew.Settings) == 0 {
		return
	}
	one := Finding{
		Kind: SettingsDiffer, Severity: severityWarning, Subject: ztunnels, Evidence: []Evidence{},
		Summary: fmt.Sprintf("The ztunnels differ in %s.", plural(uint64(len(skew.Settings)), "setting")),
	}
	for _, setting := range skew.Settings {
		one.Evidence = append(one.Evidence, variants(setting.Name, setting.Values)...)
	}
	one.Evidence = one.Evidence[:min(len(one.Evidence), maxEvidence)]
	f.add(one)
}

func variants(of string, values []inventory.Variant) (evidence []Evidence) {
	for _, v := range values[:min(len(values), maxEvidence)] {
		text := fmt.Sprintf("%s %q on %s", of, v.Value, strings.Join(v.Nodes[:min(len(v.Nodes), namedNodes)], ", "))
		if more := v.Count - namedNodes; more > 0 {
			text += fmt.Sprintf(" and %d more", more)
		}
		evidence = append(evidence, Evidence{Text: text})
	}
	return evidence
}
