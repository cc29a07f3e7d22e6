package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"sort"
)

// mesh is a mesh of workloads of one pod each, which call one another.
type mesh struct {
	nodes []string
	pods  []pod
	edges []edge
	// policies are authorization policies, as namespace/name, one for every tenth workload.
	policies []string
	// sum is the distribution of connections over edges.
	sum []float64
}

type pod struct {
	name, app, namespace, node, service string
	address                             netip.Addr
	nodeIndex                           int
}

type edge struct{ from, to int }

const (
	port       = 8080
	namespaces = 100
)

func newMesh(nodes, workloads, edges int, skew float64) *mesh {
	m := &mesh{}
	for i := range nodes {
		m.nodes = append(m.nodes, fmt.Sprintf("node-%03d", i))
	}
	for i := range workloads {
		app := fmt.Sprintf("service-%05d", i)
		namespace := fmt.Sprintf("team-%02d", i%namespaces)
		m.pods = append(m.pods, pod{
			name: app + "-7d9f5c6b4-x2x9q", app: app, namespace: namespace,
			node: m.nodes[i%nodes], nodeIndex: i % nodes, service: app + "." + namespace + ".svc.cluster.local",
			address: netip.AddrFrom4([4]byte{10, byte(10 + i>>16), byte(i >> 8), byte(i)}),
		})
	}
	for i := 0; i < workloads; i += 10 {
		m.policies = append(m.policies, m.pods[i].namespace+"/allow-"+m.pods[i].app)
	}
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[edge]bool{}
	for len(m.edges) < edges {
		e := edge{len(m.edges) % workloads, random.IntN(workloads)}
		if e.from == e.to || seen[e] {
			continue
		}
		seen[e] = true
		m.edges = append(m.edges, e)
	}
	total := 0.0
	order := random.Perm(edges)
	weights := make([]float64, edges)
	for rank, i := range order {
		weights[i] = math.Pow(float64(rank+1), -skew)
	}
	for _, w := range weights {
		total += w
		m.sum = append(m.sum, total)
	}
	return m
}

// pick is the edge of one connection.
func (m *mesh) pick(random *rand.Rand) int { return pick(random, m.sum) }

func pick(random *rand.Rand, sum []float64) int {
	return sort.SearchFloat64s(sum, random.Float64()*sum[len(sum)-1])
}
