package main

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// process is the distribution as a process of its own.
type process struct {
	*collector
	args []string
	env  []string
	cmd  *exec.Cmd
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// newProcess prepares the collector with a shipped configuration, further settings as in options.set, and environment.
func newProcess(t *testing.T, config string, set []string, env map[string]string) *process {
	t.Helper()
	p := &process{
		collector: &collector{api: freeAddress(t), client: &http.Client{Timeout: 10 * time.Second}},
		args:      []string{"--config", filepath.Join(root, "config", config)},
		env:       append(os.Environ(), asCollector+"=1"),
		log:       &lockedBuffer{},
	}
	for _, setting := range set {
		p.args = append(p.args, "--config", "yaml:"+setting)
	}
	p.env = append(p.env, "NEPHILIA_API="+p.api, "NEPHILIA_TELEMETRY_PORT=0",
		"NEPHILIA_OTLP_GRPC="+freeAddress(t), "NEPHILIA_OTLP_HTTP="+freeAddress(t),
		"NEPHILIA_PROMETHEUS="+freeAddress(t), "NEPHILIA_HEALTH="+freeAddress(t))
	for name, value := range env {
		p.env = append(p.env, name+"="+value)
	}
	t.Cleanup(func() {
		p.kill()
		p.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("the collector's log:\n%s", p.log)
		}
	})
	return p
}

// setting is an environment variable of the process.
func (p *process) setting(name string) string {
	for i := len(p.env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(p.env[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// start runs the process and returns at once.
func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(os.Args[0], p.args...)
	p.cmd.Env = p.env
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	require.NoError(t, p.cmd.Start())
}

// ready returns once the API answers.
func (p *process) ready(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return p.tryGet("/api/v1/status", nil, &struct{}{}) == nil },
		time.Minute, 50*time.Millisecond, "the collector serves its API")
}

// kill ends the process without a warning.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
		_ = p.cmd.Wait()
		p.cmd = nil
	}
}

// stop ends the process in good order.
func (p *process) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait())
	p.cmd = nil
}

// alive tells whether the process still runs.
func (p *process) alive() bool {
	return p.cmd != nil && p.cmd.Process.Signal(syscall.Signal(0)) == nil && !strings.Contains(p.log.String(), "panic:")
}
