package attacks

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/internal/loopback"
)

const (
	root = "../.."
	// chartMemory is the memory limit that the chart gives a gateway, goMemory what it tells Go.
	chartMemory = 2560 << 20
	goMemory    = "1638MiB"
)

// patience stretches what is waited for where the machine has little time.
var patience = flag.Float64("patience", 1, "how many times as long as usual to wait")

func pause(d time.Duration) { time.Sleep(time.Duration(float64(d) * *patience)) }

// collector is a process with a shipped configuration.
type collector struct {
	t      testing.TB
	args   []string
	env    map[string]string
	folder string
	log    string
	client *http.Client
	cmd    *exec.Cmd
	ended  chan struct{}
}

// newCollector prepares a collector with a configuration of config/, and overlays as YAML.
func newCollector(t testing.TB, config string, env map[string]string, overlays ...string) *collector {
	t.Helper()
	binary := os.Getenv("NEPHILIA_BINARY")
	if binary == "" {
		binary = filepath.Join(root, "bin", "otelcol-nephilia")
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("no binary: run make build (%v)", err)
	}
	path, err := filepath.Abs(filepath.Join(root, "config", config))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	c := &collector{
		t: t, folder: folder, log: filepath.Join(folder, "log"), args: []string{binary, "--config", path},
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{}},
		env: map[string]string{
			"NEPHILIA_API": loopback.FreeAddress(t), "NEPHILIA_OTLP_GRPC": loopback.FreeAddress(t), "NEPHILIA_OTLP_HTTP": loopback.FreeAddress(t), "NEPHILIA_PROMETHEUS": loopback.FreeAddress(t),
			"NEPHILIA_HEALTH": loopback.FreeAddress(t), "NEPHILIA_DATA": filepath.Join(folder, "data"), "NEPHILIA_XDS": "127.0.0.1:1", "NEPHILIA_XDS_INSECURE": "true",
			"NEPHILIA_ZTUNNEL_METRICS": "http://127.0.0.1:1/metrics", "NEPHILIA_ZTUNNEL_ADMIN": "http://127.0.0.1:1/config_dump", "K8S_NODE_NAME": "node-a",
			"NEPHILIA_LOGS": filepath.Join(folder, "logs", "*.log*"), "NEPHILIA_LOGS_START": "beginning", "GOMEMLIMIT": goMemory,
		},
	}
	_, port, _ := net.SplitHostPort(loopback.FreeAddress(t))
	c.env["NEPHILIA_TELEMETRY_PORT"] = port
	maps.Copy(c.env, env)
	if err := os.MkdirAll(filepath.Join(folder, "logs"), 0o750); err != nil {
		t.Fatal(err)
	}
	for i, overlay := range overlays {
		path := filepath.Join(folder, fmt.Sprintf("overlay-%d.yaml", i))
		if err := os.WriteFile(path, []byte(overlay), 0o600); err != nil {
			t.Fatal(err)
		}
		c.args = append(c.args, "--config", path)
	}
	t.Cleanup(func() {
		c.kill()
		c.client.CloseIdleConnections()
		if t.Failed() {
			t.Logf("the end of the log:\n%s", c.said("\terror\t", "\twarn\tztunnel", "panic"))
		}
	})
	return c
}

// startCollector starts one.
func startCollector(t testing.TB, config string, env map[string]string, overlays ...string) *collector {
	t.Helper()
	c := newCollector(t, config, env, overlays...)
	c.start()
	return c
}

// spawn begins the process.
func (c *collector) spawn() {
	c.t.Helper()
	out, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(c.args[0], c.args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = out, out, c.folder
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is asked of its state
		close(ended)
	}()
	c.cmd, c.ended = cmd, ended
}

// tryStart begins the process and waits until it says that it is well.
func (c *collector) tryStart() error {
	c.spawn()
	for deadline := time.Now().Add(time.Duration(90 * float64(time.Second) * *patience)); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		select {
		case <-c.ended:
			return fmt.Errorf("it ended: %s", c.cmd.ProcessState)
		default:
		}
		if response, err := c.client.Get("http://" + c.env["NEPHILIA_HEALTH"] + "/"); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return errors.New("it is not well after a minute and more")
}

func (c *collector) start() {
	c.t.Helper()
	if err := c.tryStart(); err != nil {
		c.t.Fatalf("starting: %v", err)
	}
}

func (c *collector) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// kill ends the process at once.
func (c *collector) kill() {
	if c.cmd != nil {
		_ = c.cmd.Process.Kill() // it may have ended
		<-c.ended
	}
}

// stop ends the process as Kubernetes does, and tells how long that took.
func (c *collector) stop() time.Duration {
	c.t.Helper()
	began := time.Now()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-c.ended:
	case <-time.After(time.Duration(30 * float64(time.Second) * *patience)):
		c.t.Error("it does not stop")
		c.kill()
	}
	return time.Since(began)
}

// said are the lines of the log with one of the texts, the last fifty.
func (c *collector) said(texts ...string) string {
	content, err := os.ReadFile(c.log)
	if err != nil {
		return err.Error()
	}
	var found []string
	for line := range strings.Lines(string(content)) {
		for _, text := range texts {
			if strings.Contains(line, text) && !strings.Contains(line, "grpc@") {
				found = append(found, line)
				break
			}
		}
	}
	return strings.Join(found[max(0, len(found)-50):], "")
}

// memory is the process's resident memory in bytes.
func (c *collector) memory() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// watchMemory returns the highest that memory was, once the test asks.
func (c *collector) watchMemory() (peak func() int64) {
	var mu sync.Mutex
	var highest int64
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				mu.Lock()
				highest = max(highest, c.memory())
				mu.Unlock()
			}
		}
	}()
	c.t.Cleanup(func() { close(done) })
	return func() int64 {
		mu.Lock()
		defer mu.Unlock()
		return highest
	}
}

// get reads a resource of the API; out may be nil.
func (c *collector) get(path string, out any) (status int, body []byte) {
	response, err := c.client.Get("http://" + c.env["NEPHILIA_API"] + path)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	if out != nil && response.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, out); err != nil {
			c.t.Errorf("%s: %v", path, err)
		}
	}
	return response.StatusCode, body
}

// dataTime is how far the data's clock is behind the wall clock.
func (c *collector) lag() time.Duration {
	var status struct {
		DataTime time.Time `json:"data_time"`
	}
	c.get("/api/v1/status", &status)
	return time.Since(status.DataTime)
}

// post sends OTLP as JSON and returns the status of the answer, 0 if there is none.
func (c *collector) post(signal string, body any) int {
	encoded, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := c.client.Post("http://"+c.env["NEPHILIA_OTLP_HTTP"]+"/v1/"+signal, "application/json", bytes.NewReader(encoded))
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// sample is one series of the Prometheus endpoint or of the collector's own metrics.
type sample struct {
	name   string
	labels string
	value  float64
}

func scrape(client *http.Client, address string) (samples []sample, err error) {
	response, err := client.Get("http://" + address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		end := strings.LastIndexByte(line, '}')
		name, labels, _ := strings.Cut(line[:end+1], "{")
		if end < 0 {
			name, _, _ = strings.Cut(line, " ")
		}
		fields := strings.Fields(line[max(end+1, len(name)):])
		if len(fields) == 0 {
			continue
		}
		if value, err := strconv.ParseFloat(fields[0], 64); err == nil {
			samples = append(samples, sample{name, labels, value})
		}
	}
	return samples, lines.Err()
}

// sum adds up a metric's series on the Prometheus endpoint whose labels contain all of the texts.
func (c *collector) sum(name string, texts ...string) int {
	samples, err := scrape(c.client, c.env["NEPHILIA_PROMETHEUS"])
	if err != nil {
		return -1
	}
	return int(total(samples, name, texts...))
}

// own adds up one of the collector's own metrics.
func (c *collector) own(name string, texts ...string) int {
	samples, err := scrape(c.client, "localhost:"+c.env["NEPHILIA_TELEMETRY_PORT"])
	if err != nil {
		return -1
	}
	return int(total(samples, name, texts...))
}

func total(samples []sample, name string, texts ...string) (n float64) {
next:
	for _, s := range samples {
		if strings.TrimSuffix(s.name, "_total") != strings.TrimSuffix(name, "_total") {
			continue
		}
		for _, text := range texts {
			if !strings.Contains(s.labels, text) {
				continue next
			}
		}
		n += s.value
	}
	return n
}

const closedMetric = "mesh_edge_connections_closed_total"

// closed are the connections that the Prometheus endpoint tells of a client, of all without a name.
func (c *collector) closed(source string) int {
	if source == "" {
		return c.sum(closedMetric)
	}
	return c.sum(closedMetric, `source_workload="`+source+`"`)
}

// inGraph are the connections that the API tells of a client's workload in the last minutes, which is cheap whatever else there is.
func (c *collector) inGraph(namespace, source string) (n int) {
	var graph struct {
		Edges []struct {
			Source      string
			Connections struct{ Closed int }
		}
	}
	c.get(fmt.Sprintf("/api/v1/graph?namespace=%s&start=%d", namespace, time.Now().Add(-14*time.Minute).Unix()), &graph)
	for _, e := range graph.Edges {
		if strings.HasSuffix(e.Source, "/"+source) {
			n += e.Connections.Closed
		}
	}
	return n
}

// outages are the kinds of the outages with a root of a name, of all without one.
func (c *collector) outages(root string) (kinds []string) {
	var answer struct {
		Outages []struct {
			Kind string
			Root struct{ Name string }
		}
	}
	c.get("/api/v1/outages", &answer)
	for _, o := range answer.Outages {
		if root == "" || o.Root.Name == root {
			kinds = append(kinds, o.Kind)
		}
	}
	return kinds
}

// stalled is for how long a number stays the same until it is said to be the last one. What did not change is told again once a minute.
const stalled = 90 * time.Second

// eventually waits for a number for as long as it changes: how fast that is, is the machine's matter.
func (c *collector) eventually(what string, want int, get func() int) {
	c.t.Helper()
	got, began := -1, time.Now()
	for changed := began; time.Since(changed) < time.Duration(float64(stalled)**patience); time.Sleep(300 * time.Millisecond) {
		now := get()
		if now == want {
			if took := time.Since(began); took > 10*time.Second {
				c.t.Logf("%s: %d after %s", what, want, took.Round(time.Second))
			}
			return
		}
		if now != got && now >= 0 { // less than nothing is no answer
			got, changed = now, time.Now()
		}
	}
	c.t.Errorf("%s: %d, want %d", what, got, want)
}

// connection is one access-log line.
type connection struct {
	source, destination string
	port                int
	at                  time.Time
	err                 string
	inbound             bool
	address             string
	namespace           string
	// service and identity are the destination's host name and the client's service account, unless those that go with the names.
	service, identity string
	// outside is an address of nobody's that is connected to without a tunnel.
	outside string
}

const refusedError = "connection failed: Connection refused (os error 111)"

func (l connection) String() string {
	if l.at.IsZero() {
		l.at = time.Now()
	}
	if l.port == 0 {
		l.port = 8080
	}
	if l.address == "" {
		l.address = "10.0.0.1"
	}
	if l.namespace == "" {
		l.namespace = "shop"
	}
	if l.service == "" {
		l.service = l.destination + ".shop.svc.cluster.local"
	}
	if l.identity == "" {
		l.identity = l.source
	}
	level, direction, suffix := "info", "outbound", ""
	if l.err != "" {
		level, suffix = "error", fmt.Sprintf(" error=%q", l.err)
	}
	if l.inbound {
		direction = "inbound"
	}
	to := fmt.Sprintf(`dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:%d dst.service=%q dst.workload=%q dst.namespace="shop" dst.identity="spiffe://cluster.local/ns/shop/sa/%s" dst.cluster="Kubernetes"`,
		l.port, l.service, l.destination, l.destination)
	if l.outside != "" {
		to = fmt.Sprintf("dst.addr=%s:%d", l.outside, l.port)
	}
	return fmt.Sprintf("%s\t%s\taccess\tconnection complete\tsrc.addr=%s:40000 src.workload=%q src.namespace=%q src.identity=\"spiffe://cluster.local/ns/%s/sa/%s\" "+
		"src.cluster=\"Kubernetes\" %s direction=%q bytes_sent=10 bytes_recv=20 duration=\"3ms\"%s\n",
		l.at.UTC().Format("2006-01-02T15:04:05.000000Z"), level, l.address, l.source, l.namespace, l.namespace, l.identity, to, direction, suffix)
}

// write appends to one of the collector's log files.
func (c *collector) write(file, text string) {
	c.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.folder, "logs", file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		c.t.Error(err)
	}
	if err := f.Close(); err != nil {
		c.t.Error(err)
	}
}

// writeFor writes so many good connections a second for some seconds, and returns how many.
func (c *collector) writeFor(seconds, each int) (written int) {
	c.t.Helper()
	for range seconds {
		c.write("0.log", repeated(each, connection{source: "good", destination: "svc"}))
		written += each
		time.Sleep(time.Second)
	}
	return written
}

// repeated are n connections alike.
func repeated(n int, l connection) string {
	var text strings.Builder
	for range n {
		text.WriteString(l.String())
	}
	return text.String()
}

// cpu is the CPU time that the process has used.
func (c *collector) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	ticks := 0
	for _, field := range fields[11:13] {
		n, _ := strconv.Atoi(field)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // a hundred a second, on every Linux
}
