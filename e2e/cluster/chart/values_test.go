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

// TestMetricsExporters wants a gateway to keep series for those alone whom the values name.
func TestMetricsExporters(t *testing.T) {
	const remote = `history.remoteWrite="http://mimir/api/v1/push"`
	for exporters, values := range map[string][]string{
		`["topology","prometheus"]`: nil,
		`["topology"]`:              {"metrics.enabled=false"},
		`["topology","prometheus","prometheus_remote_write"]`: {remote},
		`["topology","prometheus_remote_write"]`:              {remote, "metrics.enabled=false"},
	} {
		for _, mode := range []string{`mode="agents"`, `mode="standalone"`} {
			args := []string{"--set-json", mode}
			for _, value := range values {
				args = append(args, "--set-json", value)
			}
			if n := strings.Count(render(t, args...), "exporters: "+exporters+"\n"); n != 1 {
				t.Errorf("%v, %s: %d pipelines with %s", values, mode, n, exporters)
			}
		}
	}
}
