package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/cluster/internal/kubelet"
	"github.com/nephilia/nephilia/e2e/cluster/internal/mesh"
	"github.com/nephilia/nephilia/e2e/cluster/internal/network"
	"github.com/nephilia/nephilia/e2e/cluster/internal/process"
)

// tail is the end of what a pod said, without the chatter.
func tail(pod *kubelet.Pod) string {
	var kept []string
	for line := range strings.Lines(process.Tail(pod.Log(), 256<<10)) {
		if !strings.Contains(line, "\tinfo\t") && !strings.Contains(line, "grpc@") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept[max(0, len(kept)-15):], "")
}

// get reads a JSON resource from within a namespace; out may be nil.
func get(from *network.Namespace, address string, query url.Values, out any) error {
	body, err := read(from, address+"?"+query.Encode())
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(body, out)
}

// read reads a resource from within a namespace.
func read(from *network.Namespace, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DialContext: from.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s: %.500s", address, response.Status, body)
	}
	return body, nil
}

// awaitReady waits for the pod's readiness probe to succeed.
func (c *cluster) awaitReady(t *testing.T, pod *kubelet.Pod) {
	t.Helper()
	eventually(t, pod.Object.Name+" is ready", func() error {
		if !pod.Alive() {
			t.Fatalf("%s ended:\n%s", pod.Object.Name, tail(pod))
		}
		return get(pod.Namespace, fmt.Sprintf("http://%s:13133/", pod.Namespace.Address), nil, nil)
	})
}

// api is where a gateway serves the API in its own namespace, asked by a user whom those know that want one.
const api = "http://viewer:" + password + "@127.0.0.1:16680/api/v1"

// graph reads the connections of each edge that a gateway knows.
func graph(gateway *kubelet.Pod, start, end time.Time) (map[mesh.Flow]mesh.Count, error) {
	var answer struct {
		Nodes []struct{ ID, Namespace, Name string }
		Edges []struct {
			Source, Destination string
			Port                int
			Connections         struct{ Closed, Failed float64 }
		}
	}
	query := url.Values{"start": {start.UTC().Format(time.RFC3339)}, "end": {end.UTC().Format(time.RFC3339)}}
	if err := get(gateway.Namespace, api+"/graph", query, &answer); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, node := range answer.Nodes {
		names[node.ID] = node.Namespace + "/" + node.Name
	}
	counts := map[mesh.Flow]mesh.Count{}
	for _, edge := range answer.Edges {
		if edge.Connections.Closed == 0 {
			continue // open ones only, of which the access log says nothing
		}
		flow := mesh.Flow{Source: names[edge.Source], Destination: names[edge.Destination], Port: edge.Port}
		count := counts[flow]
		count.Closed += int(edge.Connections.Closed)
		count.Failed += int(edge.Connections.Failed)
		counts[flow] = count
	}
	return counts, nil
}

// metric is the sum of a pod's own metric over the series that mention a text; 0 if there are none.
func metric(pod *kubelet.Pod, name, mentions string) (sum float64, err error) {
	body, err := read(pod.Namespace, "http://"+netip.AddrPortFrom(pod.Namespace.Address, 8888).String()+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, name+"{") || !strings.Contains(line, mentions) {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' '):]), 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", name, err)
		}
		sum += value
	}
	return sum, nil
}

// source is from where a gateway answers for a window: live or history.
func source(gateway *kubelet.Pod, start, end time.Time) (string, error) {
	var answer struct{ From string }
	query := url.Values{"start": {start.UTC().Format(time.RFC3339)}, "end": {end.UTC().Format(time.RFC3339)}}
	err := get(gateway.Namespace, api+"/graph", query, &answer)
	return answer.From, err
}

// outage is one that a gateway found.
type outage struct {
	ID, State, Kind string
	Root            struct{ Type, Namespace, Name string }
	StartedAt       time.Time `json:"started_at"`
	EndedAt         time.Time `json:"ended_at"`
}

func (o *outage) root() string {
	if o.Root.Type == "node" {
		return "node/" + o.Root.Name
	}
	return o.Root.Namespace + "/" + o.Root.Name
}

func outages(gateway *kubelet.Pod, start, end time.Time) ([]outage, error) {
	var answer struct{ Outages []outage }
	query := url.Values{"start": {start.UTC().Format(time.RFC3339)}, "end": {end.UTC().Format(time.RFC3339)}}
	err := get(gateway.Namespace, api+"/outages", query, &answer)
	return answer.Outages, err
}
