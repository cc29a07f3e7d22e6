package chart

import (
	"strings"
	"testing"
)

// TestRefusedValues wants mistakes in values to be told instead of rendered.
func TestRefusedValues(t *testing.T) {
	for name, test := range map[string]struct{ value, names string }{
		"unknown key":             {`agents={}`, "agents"},
		"unknown key further in":  {`gateway.replica=3`, "replica"},
		"unknown mode":            {`mode="sidecar"`, "mode"},
		"no gateways":             {`gateway.replicas=0`, "replicas"},
		"text for a number":       {`gateway.replicas="two"`, "replicas"},
		"unknown state":           {`kubernetes.state=["secrets"]`, "state"},
		"no label":                {`history.replicaLabel="no label"`, "replicaLabel"},
		"nobody in particular":    {`metrics.from="everybody"`, "from"},
		"root where none need be": {`agent.runAsUser=-1`, "runAsUser"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := helm(t, "template", "nephilia", chart, "--set-json", test.value)
			if err == nil {
				t.Fatal("it renders")
			}
			if !strings.Contains(out, test.names) {
				t.Errorf("the reason does not name %s: %s", test.names, out)
			}
		})
	}
}
