package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// collector is a running collector process.
type collector struct {
	cmd       *exec.Cmd
	telemetry string // host:port of its own metrics
	log       *os.File
}

// usage is what the kernel accounted to a process over its life.
type usage struct {
	cpu     time.Duration
	peakRSS int64 // bytes
}

func freePort(ctx context.Context) (int, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// startCollector runs the binary with a configuration, which must not say anything of service::telemetry.
func startCollector(ctx context.Context, binary, folder, config string) (*collector, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(folder, "config.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		return nil, err
	}
	telemetry := fmt.Sprintf("yaml:service: {telemetry: {logs: {level: error}, metrics: {readers: [{pull: {exporter: {prometheus: {host: localhost, port: %d}}}}]}}}", port)
	log, err := os.Create(filepath.Join(folder, "collector.log"))
	if err != nil {
		return nil, err
	}
	c := &collector{
		cmd:       exec.CommandContext(ctx, binary, "--config", path, "--config", telemetry),
		telemetry: net.JoinHostPort("localhost", strconv.Itoa(port)),
		log:       log,
	}
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return c, nil
}

// await waits until a counter of the collector's own metrics has reached the value.
func (c *collector) await(ctx context.Context, counter string, value float64) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to reach %.0f: %w", counter, value, ctx.Err())
		case <-time.After(250 * time.Millisecond):
		}
		if sum, err := c.counter(ctx, counter); err == nil && sum >= value {
			return nil
		}
	}
}

// counter sums the samples whose lines begin so.
func (c *collector) counter(ctx context.Context, series string) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.telemetry+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var sum float64
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, series) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("reading %q: %w", line, err)
		}
		sum += value
	}
	return sum, lines.Err()
}

// stop ends the collector and says what it used.
func (c *collector) stop() (usage, error) {
	defer c.log.Close()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return usage{}, err
	}
	if err := c.cmd.Wait(); err != nil {
		content, _ := os.ReadFile(c.log.Name())
		return usage{}, fmt.Errorf("%w: %s", err, content)
	}
	state := c.cmd.ProcessState
	u := usage{cpu: state.UserTime() + state.SystemTime()}
	if resources, ok := state.SysUsage().(*syscall.Rusage); ok {
		u.peakRSS = resources.Maxrss << 10
	}
	return u, nil
}

// during does something with the collector and stops it, whether or not that went well.
func (c *collector) during(do func() error) (usage, error) {
	done := do()
	u, err := c.stop()
	return u, errors.Join(done, err)
}

func machine() string {
	model := runtime.GOARCH
	if content, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(content)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s", runtime.NumCPU(), model)
}
