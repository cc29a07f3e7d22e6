// Package process runs the programs of a test in their namespaces.
package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/nephilia/nephilia/e2e/cluster/internal/network"
)

// Program is what to run and where.
type Program struct {
	Name      string
	Namespace *network.Namespace
	Path      string // within Root
	Args      []string
	Env       []string // all of its environment
	Dir       string   // within Root
	Log       string   // file for what it prints, appended to

	// Root makes a folder its whole file system, and then the identity holds too.
	Root     string
	UID, GID uint32
	Groups   []uint32
}

// Process is a running program.
type Process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}

	mu     sync.Mutex
	err    error
	killed bool
}

// Start starts the program.
func Start(p Program) (*Process, error) {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the log of %s: %w", p.Name, err)
	}
	defer log.Close()
	cmd := &exec.Cmd{Path: p.Path, Args: append([]string{p.Path}, p.Args...), Env: p.Env, Dir: p.Dir, Stdout: log, Stderr: log}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if p.Root != "" {
		cmd.SysProcAttr.Chroot = p.Root
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: p.UID, Gid: p.GID, Groups: p.Groups}
		if cmd.Dir == "" {
			cmd.Dir = "/"
		}
	}
	if err := p.Namespace.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.Name, err)
	}
	process := &Process{name: p.Name, cmd: cmd, done: make(chan struct{})}
	go func() {
		err := cmd.Wait()
		process.mu.Lock()
		process.err = err
		process.mu.Unlock()
		close(process.done)
	}()
	return process, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive tells whether the process runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the process without warning (SIGKILL) and waits for its end.
func (p *Process) Kill() {
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ErrEnded says that a process ended before it was asked to.
var ErrEnded = errors.New("ended by itself")

// Stop asks the process to end and waits for it; after the grace it is killed, which is an error.
func (p *Process) Stop(grace time.Duration) error {
	if !p.Alive() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.killed {
			return nil
		}
		return fmt.Errorf("%s: %w: %w", p.name, ErrEnded, p.err)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", p.name, err)
	}
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		// Some programs end by the signal itself once they have cleaned up.
		if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGTERM {
			return nil
		}
		if p.err != nil {
			return fmt.Errorf("%s does not end well: %w", p.name, p.err)
		}
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s does not end within %v", p.name, grace)
	}
}

// Tail returns the last bytes of a log.
func Tail(path string, size int64) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > size {
		_, _ = file.Seek(-size, io.SeekEnd)
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	return string(content)
}
