package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

// notification is what an Alertmanager tells a webhook.
type notification struct {
	Status       string
	Labels       map[string]string
	Annotations  map[string]string
	StartsAt     time.Time
	EndsAt       time.Time
	GeneratorURL string
}

// pager is a webhook that remembers what it was told.
type pager struct {
	*httptest.Server
	mu   sync.Mutex
	told []notification
}

func newPager(t *testing.T) *pager {
	t.Helper()
	p := &pager{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Alerts []notification }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.told = append(p.told, body.Alerts...)
	}))
	t.Cleanup(p.Close)
	return p
}

// find returns the first notification of a status for which the labels hold.
func (p *pager) find(status string, labels map[string]string) (notification, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.told {
		if n.Status != status {
			continue
		}
		same := true
		for name, value := range labels {
			same = same && n.Labels[name] == value
		}
		if same {
			return n, nil
		}
	}
	return notification{}, fmt.Errorf("no alert %s %v among %d", status, labels, len(p.told))
}

// startAlertmanager runs Debian's Alertmanager, which notifies the webhook at once, and returns its URL.
func startAlertmanager(t *testing.T, webhook string) string {
	t.Helper()
	if _, err := exec.LookPath("prometheus-alertmanager"); err != nil {
		t.Fatal("no Alertmanager is installed: apt-get install prometheus-alertmanager")
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "alertmanager.yml")
	config := "route: {receiver: pager, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}\n" +
		"receivers:\n  - name: pager\n    webhook_configs: [{url: '" + webhook + "', send_resolved: true}]\n"
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := loopback.FreeAddress(t)
	start(t, nil, "prometheus-alertmanager", "--config.file="+path, "--storage.path="+filepath.Join(folder, "data"),
		"--web.listen-address="+address, "--cluster.listen-address=", "--log.level=warn")
	server := "http://" + address
	eventually(t, "Alertmanager is ready", func() error { return get(server+"/-/ready", nil, nil) })
	return server
}

// rebased replays the recording as if it happened now, fast enough for a test and slow enough for an outage to be seen open.
func rebased(env map[string]string) map[string]string {
	env["NEPHILIA_RECORDING"], env["NEPHILIA_REPLAY_SPEED"], env["NEPHILIA_REPLAY_REBASE"] = recording, "10", "now"
	return env
}

var denial = map[string]string{
	"alertname": "MeshOutage", "kind": "policy_denied", "severity": "critical",
	"root_type": "workload", "root_namespace": "billing", "root_name": "payment",
}

// An outage pages through an Alertmanager when it opens, says where to look, and is resolved when it ends.
func TestAlertmanager(t *testing.T) {
	p := newPager(t)
	server := startAlertmanager(t, p.URL)
	startNephilia(t, rebased(map[string]string{"NEPHILIA_ALERTMANAGER": server, "NEPHILIA_URL": "https://mesh.example"}),
		"replay.yaml", "examples/alertmanager.yaml")
	var firing, resolved notification
	eventually(t, "the outage pages", func() (err error) {
		firing, err = p.find("firing", denial)
		return err
	})
	if want := "https://mesh.example/outages/" + firing.Labels["outage_id"]; firing.GeneratorURL != want {
		t.Errorf("the alert leads to %q, not %q", firing.GeneratorURL, want)
	}
	if summary := firing.Annotations["summary"]; !strings.Contains(summary, "AuthorizationPolicy billing/no-checkout denies it") {
		t.Errorf("summary: %q", summary)
	}
	eventually(t, "the outage is resolved", func() (err error) {
		resolved, err = p.find("resolved", denial)
		return err
	})
	if resolved.Labels["outage_id"] != firing.Labels["outage_id"] || resolved.EndsAt.Before(firing.StartsAt) {
		t.Errorf("resolved: %+v, after %+v", resolved, firing)
	}
}

// The rules that ship fire in a real Prometheus while the outage is open, and not any more when it has ended.
func TestAlertRules(t *testing.T) {
	rules, err := filepath.Abs(filepath.Join(root, "deploy", "alerts", "nephilia.rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	p := newPager(t)
	alertmanager := startAlertmanager(t, p.URL)
	exporter := loopback.FreeAddress(t)
	server := startPrometheusWith(t, fmt.Sprintf("rule_files: [%q]\nalerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}\n",
		rules, strings.TrimPrefix(alertmanager, "http://")), exporter)
	startNephilia(t, rebased(map[string]string{"NEPHILIA_PROMETHEUS": exporter}), "replay.yaml", "examples/prometheus.yaml")
	eventually(t, "Prometheus pages", func() error {
		_, err := p.find("firing", denial)
		return err
	})
	eventually(t, "the alert is resolved", func() error {
		_, err := p.find("resolved", denial)
		return err
	})
	opened, err := query(server, "mesh_outages_total", time.Now(), "kind", "severity")
	if err != nil {
		t.Fatal(err)
	}
	if opened["policy_denied critical"] != 1 {
		t.Errorf("outages that opened: %v", opened)
	}
}

// promtool accepts the rules and their tests.
func TestAlertRulesByPromtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is not installed: apt-get install prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "nephilia.rules.yaml"}, {"test", "rules", "nephilia.rules.test.yaml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = filepath.Join(root, "deploy", "alerts")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
