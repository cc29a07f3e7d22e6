package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

// victoriaLogs is the server that is built, unless NEPHILIA_VICTORIALOGS names one.
const victoriaLogs = "github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.1"

// TestVictoriaLogsKeepsRecords has a VictoriaLogs keep spans and connections, and asks the API for them, also after a restart.
func TestVictoriaLogsKeepsRecords(t *testing.T) {
	folder := t.TempDir()
	binary := os.Getenv("NEPHILIA_VICTORIALOGS")
	if binary == "" {
		build := exec.Command("go", "install", "-trimpath", "-buildvcs=false", victoriaLogs)
		build.Env, build.Dir, build.Stderr = append(os.Environ(), "GOBIN="+folder, "GOFLAGS=", "CGO_ENABLED=0"), folder, os.Stderr
		if err := build.Run(); err != nil {
			t.Fatalf("building VictoriaLogs: %v", err)
		}
		binary = filepath.Join(folder, "victoria-logs")
	}
	run := func(command *exec.Cmd) func() {
		command.Dir = folder
		command.Stderr = os.Stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		stop := func() {
			_ = command.Process.Signal(syscall.SIGTERM)
			_ = command.Wait()
		}
		t.Cleanup(stop)
		return stop
	}
	server, api, otlp := loopback.FreeAddress(t), loopback.FreeAddress(t), loopback.FreeAddress(t)
	run(exec.Command(binary, "-httpListenAddr="+server, "-storageDataPath="+filepath.Join(folder, "victorialogs"), "-loggerLevel=WARN"))
	await(t, "http://"+server+"/health")

	logs, overlay := filepath.Join(folder, "ztunnel.log"), filepath.Join(folder, "overlay.yaml")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(overlay, "extensions: {topology_query: {records: {victorialogs: {endpoint: \"http://"+server+"\"}}}}\n")
	now := time.Now().UTC()
	var lines string
	for n := range 50 {
		level, suffix := "info", ""
		if n%10 == 0 {
			level, suffix = "error", ` error="connection failed: Connection refused (os error 111)"`
		}
		lines += fmt.Sprintf("%s\t%s\taccess\tconnection complete\tsrc.addr=10.0.0.1:%d src.workload=\"a-0\" src.namespace=\"shop\" src.identity=\"spiffe://cluster.local/ns/shop/sa/a\" "+
			"dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:8080 dst.service=\"b.shop.svc.cluster.local\" dst.workload=\"b-0\" dst.namespace=\"shop\" "+
			"dst.identity=\"spiffe://cluster.local/ns/shop/sa/b\" direction=\"outbound\" bytes_sent=10 bytes_recv=20 duration=\"3ms\"%s\n",
			now.Add(time.Duration(n)*time.Microsecond).Format("2006-01-02T15:04:05.000000Z"), level, 40000+n, suffix)
	}
	write(logs, lines)
	collect := func() func() {
		root, err := filepath.Abs(filepath.Join("..", ".."))
		if err != nil {
			t.Fatal(err)
		}
		command := exec.Command(os.Getenv("NEPHILIA_BINARY"), "--config", filepath.Join(root, "config", "standalone.yaml"), "--config", overlay)
		command.Env = append(os.Environ(), "NEPHILIA_API="+api, "NEPHILIA_OTLP_HTTP="+otlp, "NEPHILIA_DATA="+filepath.Join(folder, "data"), "NEPHILIA_LOGS="+logs, "NEPHILIA_LOGS_START=beginning",
			"NEPHILIA_XDS=127.0.0.1:1", "NEPHILIA_XDS_INSECURE=true", "NEPHILIA_ZTUNNEL_METRICS=http://127.0.0.1:1/metrics", "NEPHILIA_ZTUNNEL_ADMIN=http://127.0.0.1:1/config_dump",
			"NEPHILIA_OTLP_GRPC="+loopback.FreeAddress(t), "NEPHILIA_PROMETHEUS="+loopback.FreeAddress(t), "NEPHILIA_HEALTH="+loopback.FreeAddress(t), "NEPHILIA_TELEMETRY_PORT=0")
		stop := run(command)
		await(t, "http://"+api+"/api/v1/status")
		return stop
	}
	stop := collect()
	var spans []any
	for n := range 40 {
		status := 0
		if n%8 == 0 {
			status = 2
		}
		spans = append(spans, map[string]any{
			"traceId": fmt.Sprintf("%032x", n/2+1), "spanId": fmt.Sprintf("%016x", n+1), "name": "GET /things", "kind": 2, "status": map[string]any{"code": status},
			"startTimeUnixNano": fmt.Sprint(now.Add(-time.Second).UnixNano()), "endTimeUnixNano": fmt.Sprint(now.Add(-time.Second + time.Duration(n+1)*time.Millisecond).UnixNano()),
			"attributes": []any{map[string]any{"key": "http.route", "value": map[string]any{"stringValue": fmt.Sprintf("/things/%d", n%4)}}},
		})
	}
	body, err := json.Marshal(map[string]any{"resourceSpans": []any{map[string]any{
		"resource":   map[string]any{"attributes": []any{map[string]any{"key": "service.name", "value": map[string]any{"stringValue": "shop"}}}},
		"scopeSpans": []any{map[string]any{"spans": spans}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post("http://"+otlp+"/v1/traces", "application/json", bytes.NewReader(body))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("sending spans: %v %v", err, response)
	}
	response.Body.Close()

	found := func(path, list string) (all []map[string]any) {
		response, err := http.Get("http://" + api + "/api/v1/" + path)
		if err != nil {
			return nil
		}
		defer response.Body.Close()
		text, _ := io.ReadAll(response.Body)
		var answer map[string]json.RawMessage
		if json.Unmarshal(text, &answer) != nil || json.Unmarshal(answer[list], &all) != nil {
			t.Logf("%s: %s", path, text)
		}
		return all
	}
	check := func(path, list string, want int) []map[string]any {
		t.Helper()
		var all []map[string]any
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
			if all = found(path, list); len(all) == want {
				return all
			}
		}
		t.Errorf("%s: %d %s are found, not %d", path, len(all), list, want)
		return all
	}
	ask := func() {
		check("traces?service=shop&limit=100", "traces", 20)
		check("traces?status=error&limit=100", "traces", 5)
		check("traces?min_duration=30ms&limit=100", "traces", 6)
		check("traces?attributes="+url.QueryEscape(`{"http.route":"/things/3"}`)+"&limit=100", "traces", 10)
		if slow := check("traces?order=slowest&limit=1", "traces", 1); len(slow) == 1 && slow[0]["trace_id"] != fmt.Sprintf("%032x", 20) {
			t.Errorf("the slowest is %v", slow)
		}
		check("traces/"+fmt.Sprintf("%032x", 7), "spans", 2)
		check("operations", "services", 1)
		check("flows?limit=100", "flows", 50)
		check("flows?limit=100&source=shop/a-0&verdict=failed", "flows", 5)
		if groups := check("flows?count=true&group_by=reason", "groups", 2); len(groups) == 2 && groups[0]["count"] != 45.0 {
			t.Errorf("the groups are %v", groups)
		}
	}
	ask()
	stop()
	collect()
	ask()
}

func await(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if response, err := http.Get(address); err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
	}
	t.Fatalf("%s does not answer", address)
}
