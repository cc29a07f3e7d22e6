// Package process runs the built collector as a process, for the commands that measure or compare it.
package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Collector is a running collector.
type Collector struct {
	cmd    *exec.Cmd
	log    string
	health string
	// ended is closed when the collector has ended, with what its process returned in err.
	ended chan struct{}
	err   error
}

// Start runs the binary with variables and configurations; it logs into the folder.
func Start(ctx context.Context, binary, folder string, env []string, configs ...string) (*Collector, error) {
	ports, err := FreePorts(ctx, 2)
	if err != nil {
		return nil, err
	}
	c := &Collector{log: filepath.Join(folder, "collector.log"), health: fmt.Sprintf("localhost:%d", ports[0]), ended: make(chan struct{})}
	log, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("creating a log: %w", err)
	}
	defer log.Close()
	var args []string
	for _, config := range configs {
		args = append(args, "--config", config)
	}
	c.cmd = exec.CommandContext(ctx, binary, args...)
	c.cmd.Env = append(os.Environ(), append(env, "NEPHILIA_HEALTH="+c.health, fmt.Sprintf("NEPHILIA_TELEMETRY_PORT=%d", ports[1]))...)
	c.cmd.Stdout, c.cmd.Stderr = log, log
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", binary, err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// Await tries until it works or the collector ends.
func (c *Collector) Await(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-c.ended:
			return fmt.Errorf("%s: the collector ended (%w): %s", what, c.err, c.Said())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Said is the end of what the collector logged.
func (c *Collector) Said() []byte {
	said, _ := os.ReadFile(c.log)
	return said[max(0, len(said)-4000):]
}

// Ready waits until the collector says that it is up.
func (c *Collector) Ready(ctx context.Context) error {
	return c.Await(ctx, "the collector is ready", func() error { return Get(ctx, "http://"+c.health+"/", nil) })
}

// Stop ends the collector, and fails if it does not end by itself or not well.
func (c *Collector) Stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the collector: %w", err)
	}
	select {
	case <-c.ended:
		return c.err
	case <-time.After(time.Minute):
		return errors.Join(errors.New("the collector does not end"), c.cmd.Process.Kill())
	}
}

// CPU is the time that the collector has used so far.
func (c *Collector) CPU() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading the collector's times: %w", err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var ticks int64
	for _, i := range []int{11, 12} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the collector's times: %w", err)
		}
		ticks += n
	}
	const perSecond = 100 // Linux' USER_HZ
	return time.Duration(ticks) * time.Second / perSecond, nil
}

// Memory is what the collector occupies now and what it occupied at most.
func (c *Collector) Memory() (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, 0, fmt.Errorf("reading the collector's memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			now = kib << 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			peak = kib << 10
		}
	}
	return now, peak, nil
}

// FreePorts are loopback ports that were free a moment ago.
func FreePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "localhost:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a port: %w", err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Get reads a resource as JSON; out may be nil.
func Get(ctx context.Context, address string, out any) error {
	return Fetch(ctx, address, func(body io.Reader) error {
		if out == nil {
			return nil
		}
		return json.NewDecoder(body).Decode(out)
	})
}

// Fetch hands what an address answers to read.
func Fetch(ctx context.Context, address string, read func(body io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", address, response.Status)
	}
	return read(response.Body)
}
