package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rates at which records arrive, per second.
const (
	spanRate       = 10_000
	connectionRate = 1000
	// spansPerTrace follow each other from workload to workload.
	spansPerTrace = 10
	// asked is how often each question is asked.
	asked = 20
	// settled is how long after the last record memory is looked at again.
	settled = time.Minute
)

// recordsSettings are how much benchRecords sends, and to what.
type recordsSettings struct {
	standalone         string // path of config/standalone.yaml
	spans, connections int
}

// benchRecords sends spans and connections to config/standalone.yaml, stops it, starts it again, and asks both for what was stored.
func benchRecords(ctx context.Context, binary, folder, profiles string, s recordsSettings) error {
	config, err := os.ReadFile(s.standalone)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	ports := map[string]int{}
	for _, name := range []string{"NEPHILIA_API", "NEPHILIA_OTLP_GRPC", "NEPHILIA_OTLP_HTTP", "NEPHILIA_PROMETHEUS", "NEPHILIA_HEALTH", "PPROF"} {
		if ports[name], err = freePort(ctx); err != nil {
			return err
		}
		if err := os.Setenv(name, fmt.Sprintf("localhost:%d", ports[name])); err != nil {
			return err
		}
	}
	logs := filepath.Join(folder, "ztunnel.log")
	data := filepath.Join(folder, "data")
	// Nothing listens where istiod and a ztunnel would be.
	for name, value := range map[string]string{
		"NEPHILIA_LOGS": logs, "NEPHILIA_DATA": data, "NEPHILIA_XDS": "localhost:1", "NEPHILIA_XDS_INSECURE": "true",
		"NEPHILIA_ZTUNNEL_METRICS": "http://localhost:1/metrics", "NEPHILIA_ZTUNNEL_ADMIN": "http://localhost:1/config_dump", "K8S_NODE_NAME": "node-a",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	with := strings.Replace(string(config), "extensions: [file_storage", "extensions: [pprof, file_storage", 1)
	with = strings.Replace(with, "\nextensions:\n", "\nextensions:\n  pprof: {endpoint: \"${env:PPROF}\"}\n", 1)
	if err := os.WriteFile(logs, nil, 0o600); err != nil {
		return err
	}
	m := newMesh(200, 1000)
	api := fmt.Sprintf("http://localhost:%d/api/v1/", ports["NEPHILIA_API"])
	otlp := fmt.Sprintf("http://localhost:%d/v1/traces", ports["NEPHILIA_OTLP_HTTP"])
	fmt.Printf("\n%d spans at %d a second and %d connections, two lines each, at %d a second, into config/standalone.yaml\n\n", s.spans, spanRate, s.connections, connectionRate)

	first, err := startCollector(ctx, binary, folder, with)
	if err != nil {
		return err
	}
	var ids []string
	before, err := first.during(func() error {
		if err := awaitAnswer(ctx, api+"status"); err != nil {
			return err
		}
		traffic, quiet := context.WithTimeout(ctx, time.Duration(s.connections)*time.Second/connectionRate)
		followed := make(chan error, 1)
		go func() { followed <- m.follow(traffic, logs, 2*connectionRate) }()
		var err error
		ids, err = m.sendSpans(ctx, otlp, s.spans)
		if err != nil {
			quiet()
			return errors.Join(err, <-followed)
		}
		err = <-followed
		quiet()
		loaded := first.rss()
		if err := errors.Join(err, saveProfiles(ctx, profiles, ports["PPROF"]), pauseFor(ctx, settled)); err != nil {
			return err
		}
		fmt.Printf("RSS %d MiB after the last record, %d MiB after a minute.\n\n", loaded>>20, first.rss()>>20)
		return askRecords(ctx, api, m, ids)
	})
	if err != nil {
		return err
	}
	started := time.Now()
	second, err := startCollector(ctx, binary, folder, with)
	if err != nil {
		return err
	}
	after, err := second.during(func() error {
		if err := awaitAnswer(ctx, api+"status"); err != nil {
			return err
		}
		fmt.Printf("\nRestarted: the API answers after %v.\n\n", time.Since(started).Round(time.Millisecond))
		if err := askRecords(ctx, api, m, ids); err != nil {
			return err
		}
		fmt.Printf("\nRSS %d MiB after the questions, ", second.rss()>>20)
		again := ""
		if profiles != "" {
			again = filepath.Join(profiles, "restarted")
		}
		if err := errors.Join(saveProfiles(ctx, again, ports["PPROF"]), pauseFor(ctx, settled)); err != nil {
			return err
		}
		fmt.Printf("%d MiB after a minute.\n", second.rss()>>20)
		return nil
	})
	if err != nil {
		return err
	}
	fmt.Printf("Peak RSS %d MiB before, %d MiB after the restart. CPU %v and %v. On disk: records %d MiB, all %d MiB.\n", before.peakRSS>>20, after.peakRSS>>20,
		before.cpu.Round(time.Second), after.cpu.Round(time.Second), sizeOf(filepath.Join(data, "records"))>>20, sizeOf(data)>>20)
	return nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func awaitAnswer(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if _, _, err := get(ctx, address); err == nil {
			return nil
		} else if pauseFor(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("waiting for %s: %w", address, err)
		}
	}
}

// rss is the memory that the process has now, in bytes.
func (c *collector) rss() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

func sizeOf(directory string) (n int64) {
	// What is removed while it is looked for counts nothing.
	_ = filepath.WalkDir(directory, func(_ string, entry fs.DirEntry, gone error) error {
		if gone != nil || entry.IsDir() {
			return nil //nolint:nilerr
		}
		if info, err := entry.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// askRecords asks for what was stored and prints how long that takes. Each question is a new one.
func askRecords(ctx context.Context, api string, m mesh, ids []string) error {
	fmt.Println("| question | p50 | p95 | first |")
	fmt.Println("|---|---:|---:|---:|")
	hour := func(i int) string {
		now := time.Now()
		return fmt.Sprintf("&start=%s&end=%s", url.QueryEscape(now.Add(-time.Hour-time.Duration(i)*time.Millisecond).UTC().Format(time.RFC3339Nano)),
			url.QueryEscape(now.UTC().Format(time.RFC3339Nano)))
	}
	for _, q := range []struct {
		name, list string
		want       int
		of         func(i int) string
	}{
		{"a trace by id", "spans", spansPerTrace, func(i int) string { return "traces/" + ids[i*(len(ids)-1)/asked] }},
		{"the slowest traces of the hour", "traces", 20, func(i int) string { return "traces?order=slowest" + hour(i) }},
		{"the slowest traces of a service in the hour", "traces", 20, func(i int) string {
			return fmt.Sprintf("traces?order=slowest&service=svc-%d", i) + hour(i)
		}},
		{"traces with errors in the hour", "traces", 20, func(i int) string { return "traces?status=error" + hour(i) }},
		{"a pair's connections", "flows", 20, func(i int) string {
			e := m.edges[i]
			return fmt.Sprintf("flows?limit=20&source=client-%d-5c9d-x1&destination=client-%d-5c9d-x1", e[0], e[1])
		}},
		{"connections that failed, by destination", "groups", 1, func(i int) string {
			return fmt.Sprintf("flows?count=true&group_by=destination&verdict=failed&limit=%d", 20+i)
		}},
		{"a heat map of the hour", "spans", 60, func(i int) string { return "traces/counts?steps=60" + hour(i) }},
	} {
		var took []time.Duration
		for i := range asked {
			body, elapsed, err := get(ctx, api+q.of(i))
			if err != nil {
				return fmt.Errorf("%s: %w", q.name, err)
			}
			var answer map[string]json.RawMessage
			var list []json.RawMessage
			if err := errors.Join(json.Unmarshal(body, &answer), json.Unmarshal(answer[q.list], &list)); err != nil || len(list) < q.want {
				return fmt.Errorf("%s: %d %s are found, not %d (%w)", q.name, len(list), q.list, q.want, err)
			}
			took = append(took, elapsed)
		}
		one := took[0]
		slices.Sort(took)
		fmt.Printf("| %s | %.1f ms | %.1f ms | %.1f ms |\n", q.name, ms(took[asked/2]), ms(took[asked*95/100]), ms(one))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// sendSpans sends so many spans, at spanRate, and returns the traces' ids.
func (m mesh) sendSpans(ctx context.Context, endpoint string, spans int) (ids []string, err error) {
	const perRequest = 1000
	ticks := time.NewTicker(time.Second * perRequest / spanRate)
	defer ticks.Stop()
	for n := 0; n < spans; n += perRequest {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticks.C:
		}
		byPod := map[int][]byte{}
		for trace := n / spansPerTrace; trace < (n+perRequest)/spansPerTrace; trace++ {
			m.addTrace(byPod, trace, time.Now())
			ids = append(ids, hex.EncodeToString(traceID(trace)))
		}
		var body []byte
		for _, pod := range slices.Sorted(maps.Keys(byPod)) {
			body = field(body, 1, append(resourceOf(pod), field(nil, 2, byPod[pod])...))
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		request.Header.Set("Content-Type", "application/x-protobuf")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, fmt.Errorf("sending spans: %w", err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("sending spans: %s", response.Status)
		}
	}
	return ids, nil
}

// traceID are 16 bytes that are different for each trace.
func traceID(trace int) []byte {
	id := binary.BigEndian.AppendUint64(nil, (uint64(trace)+1)*0x9e3779b97f4a7c15)
	return binary.BigEndian.AppendUint64(id, (uint64(trace)+1)*0xbf58476d1ce4e5b9)
}

// addTrace adds the spans of a trace to those of OTLP requests by pod: the client's and the server's of each of five requests in a row.
func (m mesh) addTrace(byPod map[int][]byte, trace int, end time.Time) {
	id := traceID(trace)
	start := end.Add(-200 * time.Millisecond)
	var parent []byte
	for n := range spansPerTrace {
		edge := m.edges[(trace+n/2)%len(m.edges)]
		pod, kind := edge[n%2], uint64(3-n%2) // a client calls a server
		route := fmt.Sprintf("/api/v1/things/%d", trace%10)
		span := binary.BigEndian.AppendUint64(nil, (uint64(trace)*spansPerTrace+uint64(n)+1)*0x94d049bb133111eb)
		length := time.Duration(1+trace*7919%997*(spansPerTrace-n)/spansPerTrace) * 200 * time.Microsecond
		var s []byte
		s = field(s, 1, id)
		s = field(s, 2, span)
		s = field(s, 4, parent)
		s = field(s, 5, []byte("GET "+route))
		s = number(s, 6, kind)
		s = fixed(s, 7, start.Add(time.Duration(n)*time.Millisecond))
		s = fixed(s, 8, start.Add(time.Duration(n)*time.Millisecond+length))
		code := "200"
		if trace%100 == 0 && n == spansPerTrace-1 {
			code = "503"
			s = field(s, 15, number(nil, 3, 2))
		}
		for name, value := range map[string]string{
			"http.request.method": "GET", "http.route": route, "http.response.status_code": code, "url.path": route,
			"server.address": fmt.Sprintf("svc-%d.shop-%d", pod, pod%20), "network.peer.address": address(pod),
		} {
			s = attribute(s, 9, name, value)
		}
		byPod[pod] = field(byPod[pod], 2, s)
		parent = span
	}
}

func resourceOf(pod int) []byte {
	var resource []byte
	for name, value := range map[string]string{
		"service.name": fmt.Sprintf("svc-%d", pod), "service.namespace": fmt.Sprintf("shop-%d", pod%20), "k8s.namespace.name": fmt.Sprintf("shop-%d", pod%20),
		"k8s.pod.name": fmt.Sprintf("client-%d-5c9d-x1", pod), "k8s.node.name": "node-a",
	} {
		resource = attribute(resource, 1, name, value)
	}
	return field(nil, 1, resource)
}

// field, number and fixed append a field of a Protocol Buffers message.
func field(b []byte, number uint64, value []byte) []byte {
	b = binary.AppendUvarint(b, number<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

func number(b []byte, field, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, field<<3), value)
}

func fixed(b []byte, field uint64, at time.Time) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(b, field<<3|1), uint64(at.UnixNano()))
}

func attribute(b []byte, in uint64, name, value string) []byte {
	return field(b, in, append(field(nil, 1, []byte(name)), field(nil, 2, field(nil, 1, []byte(value)))...))
}
