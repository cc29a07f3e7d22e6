// Package peers tests the built binary with parts of other projects that take long to build: make e2e-peers.
package peers

import (
	"encoding/json"
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

// jaeger is the version whose client reads; 2.x releases have it as 1.x.
const jaeger = "github.com/jaegertracing/jaeger@v1.76.0"

// TestJaegerReadsTheMesh has the client with which a Jaeger reads its remote storage read the traces and links of a recording.
func TestJaegerReadsTheMesh(t *testing.T) {
	client := buildClient(t)
	api, storage := loopback.FreeAddress(t), loopback.FreeAddress(t)
	overlay := filepath.Join(t.TempDir(), "grpc.yaml")
	if err := os.WriteFile(overlay, []byte("extensions: {topology_query: {grpc: {endpoint: \""+storage+"\"}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := os.Getenv("NEPHILIA_BINARY")
	collector := exec.Command(binary, "--config", filepath.Join("..", "..", "config", "replay.yaml"), "--config", overlay)
	collector.Env = append(os.Environ(), "NEPHILIA_API="+api, "NEPHILIA_REPLAY_SPEED=max", "NEPHILIA_DATA="+t.TempDir(),
		"NEPHILIA_RECORDING="+filepath.Join("..", "..", "recordings", "policy-deny"))
	collector.Stderr = os.Stderr
	if err := collector.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = collector.Process.Signal(syscall.SIGTERM)
		_ = collector.Wait()
	})
	waitForReplay(t, api)

	said, err := exec.Command(client, storage, "2026-11-23T21:20:00Z").Output()
	if err != nil {
		t.Fatalf("Jaeger's client failed: %v", err)
	}
	var got struct {
		Services, Operations, Found []string
		Failed, IDs, Got            int
		Links                       map[string]int
	}
	if err := json.Unmarshal(said, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Services) != 11 || len(got.Operations) == 0 || len(got.Found) != 3 || got.Failed != 3 || got.IDs != 3 || got.Got == 0 {
		t.Errorf("Jaeger's client got %s", said)
	}
	if len(got.Links) != 11 || got.Links["checkout payment"] != 179 {
		t.Errorf("the links are %v", got.Links)
	}
}

// buildClient builds the client within a copy of Jaeger's source: its packages are internal.
func buildClient(t *testing.T) string {
	t.Helper()
	run := func(dir, name string, args ...string) string {
		cmd := exec.Command(name, args...)
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
		}
		return string(out)
	}
	folder := t.TempDir()
	var module struct{ Dir string }
	if err := json.Unmarshal([]byte(run(folder, "go", "mod", "download", "-json", jaeger)), &module); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(folder, "jaeger")
	if err := os.CopyFS(source, os.DirFS(module.Dir)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("jaeger", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	command := filepath.Join(source, "cmd", "nephilia-peer")
	if err := os.MkdirAll(command, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(command, "main.go"), []byte(strings.TrimPrefix(string(text), "//go:build ignore\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	client := filepath.Join(folder, "client")
	run(source, "go", "build", "-trimpath", "-buildvcs=false", "-o", client, "./cmd/nephilia-peer")
	return client
}

func waitForReplay(t *testing.T, api string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		response, err := http.Get("http://" + api + "/api/v1/status")
		if err != nil {
			continue
		}
		var status struct{ Replay struct{ State string } }
		err = json.NewDecoder(response.Body).Decode(&status)
		response.Body.Close()
		if err == nil && status.Replay.State == "done" {
			return
		}
	}
	t.Fatal("the recording was not replayed in time")
}
