package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// mesh is a mesh of as many workloads of one pod each, and who calls whom.
type mesh struct {
	workloads int
	edges     [][2]int
}

func newMesh(workloads, edges int) mesh {
	m := mesh{workloads: workloads}
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[[2]int]bool{}
	for len(m.edges) < edges {
		edge := [2]int{random.IntN(workloads), random.IntN(workloads)}
		if edge[0] != edge[1] && !seen[edge] {
			seen[edge] = true
			m.edges = append(m.edges, edge)
		}
	}
	return m
}

func address(pod int) string { return fmt.Sprintf("10.%d.%d.%d", 1+pod>>16, pod>>8&255, pod&255) }

// appendLine writes the n-th line of a ztunnel, in its plain format: the client's and the server's side in turn, one in
// a hundred refused, another edge's each time.
func (m mesh) appendLine(b []byte, n int, at time.Time) []byte {
	edge := m.edges[n/2%len(m.edges)]
	source, destination := edge[0], edge[1]
	level, direction, failure := "info", "outbound", ""
	sent, received := 150+n/2%100, 500+n/2%400
	if (n/2+n/2/len(m.edges))%100 == 99 {
		level, failure = "error", ` error="http status: 503 Service Unavailable"`
	}
	if n%2 == 1 {
		direction = "inbound"
		sent, received = received, sent
		if failure != "" {
			failure = ` error="connection failed: Connection refused (os error 111)"`
		}
	}
	b = at.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	return fmt.Appendf(b, "\t%s\taccess\tconnection complete\tsrc.addr=%s:%d src.workload=\"client-%d-5c9d-x1\" src.namespace=\"shop-%d\" src.identity=\"spiffe://cluster.local/ns/shop-%d/sa/client\" src.cluster=\"Kubernetes\" dst.addr=%s:15008 dst.hbone_addr=%s:8080 dst.service=\"svc-%d.shop-%d.svc.cluster.local\" dst.workload=\"client-%d-5c9d-x1\" dst.namespace=\"shop-%d\" dst.identity=\"spiffe://cluster.local/ns/shop-%d/sa/server\" dst.cluster=\"Kubernetes\" direction=\"%s\" bytes_sent=%d bytes_recv=%d duration=\"%dms\"%s\n",
		level, address(source), 20000+n%40000, source, source%20, source%20, address(destination), address(destination),
		destination, destination%20, destination, destination%20, destination%20, direction, sent, received, 1+n/2%50, failure)
}

// appendRequest writes the n-th line of a waypoint, in Istio's text format: another edge's each time, one in a hundred a 503.
func (m mesh) appendRequest(b []byte, n int, at time.Time) []byte {
	edge := m.edges[n%len(m.edges)]
	code, flags, details := 200, "-", "via_upstream"
	if (n+n/len(m.edges))%100 == 99 {
		code, flags, details = 503, "UF", "upstream_reset_before_response_started{connection_termination}"
	}
	b = at.UTC().AppendFormat(append(b, '['), "2006-01-02T15:04:05.000Z")
	return fmt.Appendf(b, "] \"GET /items/%d HTTP/1.1\" %d %s %s - \"-\" %d %d %d %d \"-\" \"client/1.%d\" \"%08x-4703-94d8-d59f-6510707007eb\" \"svc-%d.shop-%d:8080\" \"envoy://connect_originate/%s:8080\" inbound-vip|8080|http|svc-%d.shop-%d.svc.cluster.local envoy://internal_client_address/ 10.112.%d.%d:8080 %s:%d - default\n",
		n%500, code, flags, details, 150+n%100, 500+n%400, 2+n%50, 1+n%50, n%7, n, edge[1], edge[1]%20, address(edge[1]),
		edge[1], edge[1]%20, edge[1]>>8, edge[1]&255, address(edge[0]), 20000+n%40000)
}

// logSpan is how long before now a written log begins.
const logSpan = 20 * time.Second

// follow appends lines at a rate per second, as they happen, until the context ends.
func (m mesh) follow(ctx context.Context, path string, rate int) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	const step = 20 * time.Millisecond
	ticks := time.NewTicker(step)
	defer ticks.Stop()
	var lines []byte
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticks.C:
			lines = lines[:0]
			for range rate * int(step) / int(time.Second) {
				lines = m.appendLine(lines, n, now)
				n++
			}
			if _, err := file.Write(lines); err != nil {
				return fmt.Errorf("writing %s: %w", path, err)
			}
		}
	}
}

// writeLog writes so many lines into a file of the folder, timed evenly up to now.
func writeLog(folder, name string, lines int, appendLine func(b []byte, n int, at time.Time) []byte) (path string, size int64, err error) {
	path = filepath.Join(folder, name)
	file, err := os.Create(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	start := time.Now().Add(-logSpan)
	step := logSpan / time.Duration(lines)
	var line []byte
	for n := range lines {
		line = appendLine(line[:0], n, start.Add(time.Duration(n)*step))
		size += int64(len(line))
		if _, err := out.Write(line); err != nil {
			return "", 0, fmt.Errorf("writing %s: %w", path, err)
		}
	}
	return path, size, out.Flush()
}
