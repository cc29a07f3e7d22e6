package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tailing is standalone.yaml reduced to the tailed files: no ztunnel and no istiod answers here.
func tailing(t *testing.T, logs, data string) *process {
	t.Helper()
	return newProcess(t, "../cmd/otelcol-nephilia/testdata/tailing.yaml", nil, map[string]string{
		"NEPHILIA_LOGS":       filepath.Join(logs, "ztunnel-*.log"),
		"NEPHILIA_LOGS_START": "beginning",
		"NEPHILIA_DATA":       data,
	})
}

// growth writes a recording's logs as its ztunnels would now: line by line, each with the time of its writing.
type growth struct {
	folder string
	files  map[string]*os.File
	lines  []grownLine
}

type grownLine struct {
	file string
	text []byte
}

func newGrowth(t *testing.T, name string) *growth {
	t.Helper()
	g := &growth{folder: t.TempDir(), files: map[string]*os.File{}}
	paths, err := filepath.Glob(filepath.Join(root, "recordings", name, "ztunnel-*.log.gz"))
	require.NoError(t, err)
	var byFile [][]grownLine
	for _, path := range paths {
		file := strings.TrimSuffix(filepath.Base(path), ".gz")
		g.files[file], err = os.OpenFile(filepath.Join(g.folder, file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		t.Cleanup(func() { g.files[file].Close() })
		var lines []grownLine
		eachLine(t, path, func(line []byte) {
			if _, ok := readRecord(t, line); ok {
				lines = append(lines, grownLine{file, bytes.Clone(line)})
			}
		})
		byFile = append(byFile, lines)
	}
	// All files grow together, each in proportion to its length.
	for permille := range 1000 {
		for _, lines := range byFile {
			g.lines = append(g.lines, lines[len(lines)*permille/1000:len(lines)*(permille+1)/1000]...)
		}
	}
	return g
}

// write appends lines [from, to).
func (g *growth) write(t *testing.T, from, to int) {
	t.Helper()
	for _, line := range g.lines[from:to] {
		_, rest, ok := bytes.Cut(line.text, []byte("\t"))
		require.True(t, ok, "the recording is a plain one")
		now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		_, err := g.files[line.file].WriteString(now + "\t" + string(rest) + "\n")
		require.NoError(t, err)
	}
}

// requireGrown waits until the history holds exactly what was written.
func requireGrown(t *testing.T, g *growth, p *process, start time.Time) {
	t.Helper()
	tr := readTruth(t, g.folder)
	want := map[flow]count{}
	for key, c := range tr.edges() {
		want[key] = count{closed: c.closed, failed: c.failed, sent: c.sent, received: c.received}
	}
	var got map[flow]count
	read := func() bool {
		var graph apiGraph
		if p.tryGet("/api/v1/graph", between(start, time.Now().Add(time.Minute)), &graph) != nil {
			return false
		}
		got = map[flow]count{}
		parties := graph.parties()
		for _, edge := range graph.Edges {
			key := flow{parties[edge.Source], parties[edge.Destination], edge.Service, edge.Port}
			c := got[key]
			c.closed += int(edge.Connections.Closed)
			c.failed += int(edge.Connections.Failed)
			c.sent += int(edge.Bytes.Sent)
			c.received += int(edge.Bytes.Received)
			got[key] = c
		}
		return assert.ObjectsAreEqual(want, got)
	}
	for deadline := time.Now().Add(time.Minute); !read() && time.Now().Before(deadline); {
		time.Sleep(200 * time.Millisecond)
	}
	require.Equal(t, want, got)
}

// TestKill kills the collector without warning while the files that it tails grow, again and again. In the end, and
// after a restart in good order, its history counts every connection once.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	g := newGrowth(t, "policy-deny")
	start := time.Now().Add(-time.Minute)
	p := tailing(t, g.folder, t.TempDir())
	p.start(t)

	const kills = 5
	written := 0
	for kill := range kills {
		p.ready(t)
		// Write for a while in small steps, and kill at a random one.
		until := len(g.lines) * (kill + 1) / (kills + 1)
		killAt := written + random.IntN(until-written)
		for written < until {
			step := min(1+random.IntN(40), until-written)
			g.write(t, written, written+step)
			if written <= killAt && killAt < written+step {
				p.kill()
				p.start(t)
			}
			written += step
			time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
		}
	}
	g.write(t, written, len(g.lines))
	p.ready(t)
	requireGrown(t, g, p, start)

	p.stop(t)
	p.start(t)
	p.ready(t)
	requireGrown(t, g, p, start)
}

// TestKillAgentOrGateway kills an agent, its gateway or both while the tailed files grow. In the end, the gateway's
// history counts every connection once. istiod does not answer all the while.
func TestKillAgentOrGateway(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	g := newGrowth(t, "policy-deny")
	start := time.Now().Add(-time.Minute)
	nowhere := []string{"receivers::ztunnel::xds: {endpoint: localhost:1, tls: {insecure: true}}"}
	gateway := newProcess(t, "gateway.yaml", nowhere, map[string]string{"NEPHILIA_DATA": t.TempDir()})
	gateway.start(t)
	agent := newProcess(t, "agent.yaml",
		[]string{`receivers::ztunnel::access_logs::node_from: {path_regexp: 'ztunnel-([^./]+)\.log'}`},
		map[string]string{
			"NEPHILIA_LOGS": filepath.Join(g.folder, "ztunnel-*.log"), "NEPHILIA_LOGS_START": "beginning",
			"NEPHILIA_DATA": t.TempDir(), "NEPHILIA_GATEWAY": gateway.setting("NEPHILIA_OTLP_GRPC"),
			"NEPHILIA_ZTUNNEL_METRICS": "http://localhost:1/metrics", "NEPHILIA_ZTUNNEL_ADMIN": "http://localhost:1/config_dump",
		})
	agent.start(t)

	victims := [][]*process{{agent}, {gateway}, {agent, gateway}, {gateway}, {agent}, {gateway, agent}}
	written := 0
	for kill, killed := range victims {
		until := len(g.lines) * (kill + 1) / (len(victims) + 1)
		killAt := written + random.IntN(until-written)
		for written < until {
			step := min(1+random.IntN(40), until-written)
			g.write(t, written, written+step)
			if written <= killAt && killAt < written+step {
				for _, p := range killed {
					p.kill()
				}
				time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				for _, p := range killed {
					p.start(t)
				}
			}
			written += step
			time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond)
		}
	}
	g.write(t, written, len(g.lines))
	gateway.ready(t)
	requireGrown(t, g, gateway, start)

	gateway.stop(t)
	gateway.start(t)
	gateway.ready(t)
	requireGrown(t, g, gateway, start)
}

// TestFullDisk fills the disk under the collector's data: it says so, goes on serving what it has, and does not fall.
func TestFullDisk(t *testing.T) {
	data := t.TempDir()
	if err := mountTmpfs(data, "size=6m"); err != nil {
		t.Skipf("a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { unmount(t, data) })
	g := newGrowth(t, "baseline")
	p := tailing(t, g.folder, data)
	start := time.Now().Add(-time.Minute)
	p.start(t)
	p.ready(t)
	half := len(g.lines) / 2
	g.write(t, 0, half)
	requireGrown(t, g, p, start)

	filler, err := os.Create(filepath.Join(data, "filler"))
	require.NoError(t, err)
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = filler.Write(block)
	}
	require.ErrorContains(t, err, "no space left on device")
	require.NoError(t, filler.Close())
	g.write(t, half, len(g.lines))
	require.Eventually(t, func() bool { return strings.Contains(p.log.String(), "no space left on device") },
		time.Minute, 100*time.Millisecond, "a full disk is reported")
	require.True(t, p.alive(), "a full disk does not end the collector")
	var graph apiGraph
	require.NoError(t, p.tryGet("/api/v1/graph", nil, &graph), "the live graph is still served")
	require.NotEmpty(t, graph.Edges)
}
