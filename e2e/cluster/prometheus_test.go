package cluster

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/cluster/internal/kubelet"
	"github.com/nephilia/nephilia/e2e/cluster/internal/mesh"
	"github.com/nephilia/nephilia/e2e/cluster/internal/network"
	"github.com/nephilia/nephilia/e2e/cluster/internal/process"
)

// startPrometheus runs Debian's Prometheus, which scrapes what serves the edges and takes what is written to it. It is there before
// the gateways, and outlives them.
func (c *cluster) startPrometheus(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatalf("prometheus is not installed: apt-get install prometheus: %v", err)
	}
	if c.watch, err = c.network.Join("prometheus", watchAddress); err != nil {
		t.Fatal(err)
	}
	var targets []string
	for ordinal := range maxGateways {
		targets = append(targets, netip.AddrPortFrom(gatewayAddress(ordinal), 9464).String())
	}
	encoded, err := json.Marshal(targets)
	if err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(c.folder, "prometheus")
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: nephilia\n    honor_labels: true\n    static_configs: [{targets: %s}]\n", encoded)
	if err := os.WriteFile(filepath.Join(home, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := process.Start(process.Program{
		Name: "prometheus", Namespace: c.watch, Path: path, Dir: home, Log: filepath.Join(home, "prometheus.log"),
		Args: []string{
			"--config.file=prometheus.yml", "--storage.tsdb.path=data", "--web.listen-address=0.0.0.0:9090", "--log.level=warn",
			"--web.enable-remote-write-receiver", "--enable-feature=native-histograms",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(30 * time.Second); err != nil {
			t.Error(err)
		}
	})
}

// scraped is what Prometheus holds of the connections that a gateway told of.
func scraped(from *network.Namespace, gateway netip.Addr) (mesh.Count, error) {
	var count mesh.Count
	for metric, into := range map[string]*int{"mesh_edge_connections_closed_total": &count.Closed, "mesh_edge_connections_failed_total": &count.Failed} {
		var answer struct {
			Data struct{ Result []struct{ Value [2]any } }
		}
		query := fmt.Sprintf(`sum(%s{instance="%s:9464"})`, metric, gateway)
		if err := get(from, "http://127.0.0.1:9090/api/v1/query", url.Values{"query": {query}}, &answer); err != nil {
			return count, err
		}
		if len(answer.Data.Result) != 1 {
			return count, fmt.Errorf("%s has no result", query)
		}
		value, err := strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
		if err != nil {
			return count, fmt.Errorf("reading %s: %w", query, err)
		}
		*into = int(value)
	}
	return count, nil
}

// requireOneID wants Prometheus to hold each expected outage under one id, told by each of the gateways.
func (c *cluster) requireOneID(t *testing.T, gateways []*kubelet.Pod) {
	t.Helper()
	for _, expected := range c.recording.Expect {
		c.settle(t, "Prometheus has "+expected.Kind+" of "+expected.Root+" under one id", func() error {
			var answer struct {
				Data struct {
					Result []struct{ Metric map[string]string }
				}
			}
			namespace, name, _ := strings.Cut(expected.Root, "/")
			query := fmt.Sprintf(`group by (outage_id, instance) (last_over_time(mesh_outage{kind=%q, root_namespace=%q, root_name=%q}[20m]))`, expected.Kind, namespace, name)
			if err := get(c.watch, "http://127.0.0.1:9090/api/v1/query", url.Values{"query": {query}}, &answer); err != nil {
				return err
			}
			ids, tellers := map[string]bool{}, map[string]bool{}
			for _, r := range answer.Data.Result {
				ids[r.Metric["outage_id"]], tellers[r.Metric["instance"]] = true, true
			}
			for _, gateway := range gateways {
				if address := netip.AddrPortFrom(gateway.Namespace.Address, 9464).String(); !tellers[address] {
					return fmt.Errorf("%s did not tell of it", gateway.Object.Name)
				}
			}
			if len(ids) != 1 {
				return fmt.Errorf("it has %d: %v", len(ids), ids)
			}
			return nil
		})
	}
}

// requireScraped waits until Prometheus has from every gateway what was written.
func (c *cluster) requireScraped(t *testing.T) {
	t.Helper()
	want := mesh.Total(c.ledger.Counts())
	for _, gateway := range c.gateways {
		c.settle(t, "Prometheus has every connection from "+gateway.Object.Name, func() error {
			got, err := scraped(c.watch, gateway.Namespace.Address)
			if err == nil && got != want {
				err = fmt.Errorf("want %+v, got %+v", want, got)
			}
			return err
		})
	}
}
