package attacks

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const goodScrape = `# TYPE istio_tcp_connections_opened counter
istio_tcp_connections_opened_total{reporter="source",source_workload="a",source_workload_namespace="x",destination_workload="b",destination_workload_namespace="x",destination_service="b.x.svc.cluster.local",connection_security_policy="mutual_tls"} %d
`

// endless writes a text again and again until nobody reads it.
func endless(w io.Writer, text string) {
	for {
		if _, err := io.WriteString(w, text); err != nil {
			return
		}
	}
}

// hostileTargets answer scrapes of metrics and config dumps.
var hostileTargets = []struct {
	name   string
	answer func(w http.ResponseWriter, elsewhere string, n int64)
}{
	{"good", func(w http.ResponseWriter, _ string, n int64) { fmt.Fprintf(w, goodScrape, n) }},
	{"endless", func(w http.ResponseWriter, _ string, _ int64) {
		endless(w, "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"w\"} 1\n")
	}},
	{"one endless line", func(w http.ResponseWriter, _ string, _ int64) { endless(w, strings.Repeat("x", 64<<10)) }},
	{"a hundred MiB of series", func(w http.ResponseWriter, _ string, _ int64) {
		for i := range 500_000 {
			if _, err := fmt.Fprintf(w, "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"w%d\",destination_workload=\"%0100d\"} 1\n", i, 0); err != nil {
				return
			}
		}
	}},
	{"slow", func(w http.ResponseWriter, _ string, _ int64) {
		for range 100 {
			if _, err := io.WriteString(w, "#"); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}},
	{"a page", func(w http.ResponseWriter, _ string, _ int64) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>"+strings.Repeat("<p>hi", 1000))
	}},
	{"a gzip bomb", func(w http.ResponseWriter, _ string, _ int64) {
		w.Header().Set("Content-Encoding", "gzip")
		packed := gzip.NewWriter(w)
		endless(packed, "# "+strings.Repeat("a", 1<<20)+"\n")
	}},
	{"a gzip bomb of one line", func(w http.ResponseWriter, _ string, _ int64) {
		w.Header().Set("Content-Encoding", "gzip")
		endless(gzip.NewWriter(w), strings.Repeat("a", 1<<20))
	}},
	{"a redirect", func(w http.ResponseWriter, elsewhere string, _ int64) {
		w.Header().Set("Location", elsewhere)
		w.WriteHeader(http.StatusFound)
	}},
	{"a redirect that keeps the method", func(w http.ResponseWriter, elsewhere string, _ int64) {
		w.Header().Set("Location", elsewhere)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}},
	{"an error", func(w http.ResponseWriter, _ string, _ int64) { w.WriteHeader(http.StatusInternalServerError) }},
	{"an end at once", func(http.ResponseWriter, string, int64) { panic(http.ErrAbortHandler) }},
	{"values that are none", func(w http.ResponseWriter, _ string, _ int64) {
		for i, value := range []string{"NaN", "+Inf", "-Inf", "-5", "1e308", "9223372036854775808", "0x10", "", "1 2 3"} {
			fmt.Fprintf(w, "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"a%d\"} %s\n", i, value)
		}
	}},
	{"a reset each time", func(w http.ResponseWriter, _ string, n int64) { fmt.Fprintf(w, goodScrape, n%2*1_000_000) }},
	{"ten thousand labels", func(w http.ResponseWriter, _ string, _ int64) {
		_, _ = io.WriteString(w, "istio_tcp_connections_opened_total{")
		for i := range 10_000 {
			fmt.Fprintf(w, "l%d=\"%050d\",", i, i)
		}
		_, _ = io.WriteString(w, "} 1\n")
	}},
	{"times of its own", func(w http.ResponseWriter, _ string, _ int64) {
		_, _ = io.WriteString(w, "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"t\"} 1 4102444800000\nup 1 4102444800000\nprocess_start_time_seconds 4102444800\n")
	}},
	{"names of ours", func(w http.ResponseWriter, _ string, _ int64) {
		_, _ = io.WriteString(w, "{\"ztunnel.source.up\",source=\"access_log\"} 1 4102444800000\n{\"mesh.edge.connections.closed\",source_workload=\"forged\"} 100\n"+
			"ztunnel_source_up 1\nmesh_edge_connections_closed_total{source_workload=\"forged\"} 1\n")
	}},
	{"nested JSON", func(w http.ResponseWriter, _ string, _ int64) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"workloads":`+strings.Repeat("[", 2_000_000))
	}},
	{"JSON without end", func(w http.ResponseWriter, _ string, _ int64) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"workloads":[`)
		endless(w, `{"uid":"u","name":"`+strings.Repeat("n", 200)+`","namespace":"x","workloadIps":["10.0.0.1"]},`)
	}},
}

// TestHostileScrapes has the collector scrape a ztunnel that answers anything, with a secret: the log beside it goes on, the memory is
// bounded, the secret goes nowhere else, and what a good one says in the end is taken.
func TestHostileScrapes(t *testing.T) {
	var mode, asked, redirected atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected.Add(1) }))
	defer other.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		hostileTargets[mode.Load()].answer(w, other.URL+"/secret", asked.Add(1))
	}))
	defer server.Close()
	c := startCollector(t, "standalone.yaml", map[string]string{"NEPHILIA_ZTUNNEL_METRICS": server.URL + "/metrics", "NEPHILIA_ZTUNNEL_ADMIN": server.URL + "/config_dump"},
		`extensions: {bearertokenauth: {token: sesam}}
receivers: {ztunnel: {metrics: {collection_interval: 1s, timeout: 1s, auth: {authenticator: bearertokenauth}}, config_dump: {collection_interval: 2s, timeout: 2s}}}
service: {extensions: [bearertokenauth, file_storage, topology_query, health_check]}
`)
	peak := c.watchMemory()
	good := 0
	write := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			c.write("0.log", repeated(20, connection{source: "good", destination: "svc"}))
			good += 20
		}
	}
	// What is known before there is too much stays known.
	c.eventually("edges that are scraped", 1, func() int { return min(1, c.sum("mesh_edge_connections_opened_total", `source_workload="a"`)) })
	for i, target := range hostileTargets {
		mode.Store(int64(i))
		before := asked.Load()
		write(6 * time.Second)
		if !c.alive() {
			t.Fatalf("%s: it died: %s", target.name, c.said("panic", "fatal"))
		}
		lag := c.lag()
		t.Logf("%s: asked %d times, lag %s, %d MiB", target.name, asked.Load()-before, lag, c.memory()>>20)
		if asked.Load() == before {
			t.Errorf("%s: nobody asked", target.name)
		}
		if lag > time.Duration(15*float64(time.Second)**patience) {
			t.Errorf("%s: the data's clock is %s behind", target.name, lag)
		}
	}
	mode.Store(0)
	write(6 * time.Second)
	c.eventually("good connections", good, func() int { return c.closed("good") })
	said := func() int { return c.sum("mesh_edge_connections_opened_total", `source_workload="a"`) }
	before := said()
	c.eventually("what a good target says in the end is told", 1, func() int { return min(1, max(0, said()-before)) })
	if forged := c.closed("forged"); forged != 0 {
		t.Errorf("%d connections are forged", forged)
	}
	if redirected.Load() != 0 {
		t.Error("a redirect was followed")
	}
	if said := c.said("sesam"); said != "" {
		t.Errorf("the secret is logged: %s", said)
	}
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
	t.Logf("at most %d MiB", peak()>>20)
}

// TestScrapeOfManyEdges has Prometheus scrape as many edges as are told apart.
func TestScrapeOfManyEdges(t *testing.T) {
	const edges = 20_000
	c := startCollector(t, "standalone.yaml", nil)
	for from := 0; from < edges; from += 1000 {
		var text strings.Builder
		for i := from; i < from+1000; i++ {
			text.WriteString(connection{source: fmt.Sprint("w", i), destination: fmt.Sprint("v", i), address: fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)}.String())
		}
		c.write("0.log", text.String())
		time.Sleep(time.Second)
	}
	c.eventually("connections", edges, func() int { return c.sum(closedMetric) })
	pause(5 * time.Second)
	used, began := c.cpu(), time.Now()
	time.Sleep(10 * time.Second)
	// anyway is what all else takes of a second.
	anyway := (c.cpu() - used).Seconds() / time.Since(began).Seconds()
	for _, packed := range []bool{true, false} {
		request, err := http.NewRequest(http.MethodGet, "http://"+c.env["NEPHILIA_PROMETHEUS"]+"/metrics", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if packed {
			request.Header.Set("Accept-Encoding", "gzip")
		} else {
			request.Header.Set("Accept-Encoding", "identity")
		}
		used, began := c.cpu(), time.Now()
		response, err := c.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		if err := response.Body.Close(); err != nil {
			t.Error(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		took := time.Since(began)
		cpu := c.cpu() - used - time.Duration(anyway*float64(took))
		t.Logf("packed %t: %d bytes in %s with %s of CPU time", packed, n, took, cpu)
		if cpu > 2*time.Second {
			t.Errorf("a scrape takes %s of CPU time", cpu)
		}
	}
}
