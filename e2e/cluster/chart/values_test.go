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
		"exposing what is not":    {`ingress={"enabled":true,"hosts":["a"]}`, "api.exposed"},
		"an ingress for nobody":   {`ingress.enabled=true`, "hosts"},
		"a relative link":         {`agent.logLinks=["docker"]`, "logLinks"},
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

// TestPlatforms wants each platform to get what it lacks, and nobody else.
func TestPlatforms(t *testing.T) {
	for platform, wanted := range map[string]map[string]int{
		"":          {"kind: ResourceQuota": 0, "kind: SecurityContextConstraints": 0, "runAsUser: 0\n": 0, "fsGroup: 65532": 1, "type: spc_t": 0},
		"gke":       {"kind: ResourceQuota": 1, "kind: SecurityContextConstraints": 0, "runAsUser: 0\n": 0, "fsGroup: 65532": 1, "type: spc_t": 0},
		"openshift": {"kind: ResourceQuota": 0, "kind: SecurityContextConstraints": 1, "runAsUser: 0\n": 0, "fsGroup: 65532": 0, "type: spc_t": 1},
		"talos":     {"kind: ResourceQuota": 0, "kind: SecurityContextConstraints": 0, "runAsUser: 0\n": 1, "fsGroup: 65532": 1, "type: spc_t": 0},
	} {
		rendered := render(t, "--set", "global.platform="+platform)
		for text, n := range wanted {
			if found := strings.Count(rendered, text); found != n {
				t.Errorf("%q: %q is there %d times instead of %d", platform, text, found, n)
			}
		}
	}
}

// TestOverrides wants a part's value to win over the release's, and lists to add up.
func TestOverrides(t *testing.T) {
	rendered := render(t, "--set-json", `podSecurityContext={"fsGroup":1}`, "--set-json", `gateway.podSecurityContext={"fsGroup":2}`,
		"--set-json", `extraEnv=[{"name":"A","value":"1"}]`, "--set-json", `agent.extraEnv=[{"name":"B","value":"2"}]`)
	for text, n := range map[string]int{"fsGroup: 1\n": 1, "fsGroup: 2\n": 1, "- name: A\n": 2, "- name: B\n": 1} {
		if found := strings.Count(rendered, text); found != n {
			t.Errorf("%q is there %d times instead of %d", text, found, n)
		}
	}
}
