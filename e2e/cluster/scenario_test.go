package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nephilia/nephilia/e2e/cluster/internal/kubelet"
	"github.com/nephilia/nephilia/e2e/cluster/internal/mesh"
)

// scenario is one life of a cluster: a mesh with a fault, and what happens to us meanwhile.
type scenario struct {
	name  string
	fault string
	seed  int
	// The mesh is played for so many seconds, and broken in between.
	seconds, from, until int
	steps                []step
	connectionAge        time.Duration // of istiod's xDS
	values               []string      // of the chart
	prepare, check       func(*testing.T, *cluster)
}

// step is something that happens to the product or to what it depends on, a number of seconds after the start.
type step struct {
	at float64
	do func(*cluster, context.Context) error
}

// quarter of an hour in all: scenarios run side by side as far as `go test -parallel` lets them.
var scenarios = []scenario{
	{
		// TLS between agents and gateways, an API with users, positions on the nodes, records of every connection.
		name: "steady and closed", fault: "policy_denied", seed: 5, seconds: 70, from: 20, until: 50, prepare: createSecrets, check: requireClosed,
		values: []string{
			`tls.existingSecret="nephilia-tls"`, `api={"exposed":true,"htpasswdSecret":"nephilia-users"}`,
			`agent.positions.hostPath="/var/lib/nephilia"`, `agent.flowRecords=true`,
		},
	},
	{
		name: "agent killed", fault: "connection_refused", seed: 3, seconds: 80, from: 20, until: 55,
		steps: []step{{15, crash(agent(0), 0)}, {30, crash(agent(1), 3)}, {45, crash(agent(2), 0)}},
	},
	{
		name: "gateway killed", fault: "policy_denied", seed: 4, seconds: 80, from: 20, until: 55,
		steps: []step{{15, crash(gateway(0), 0)}, {32, crash(gateway(1), 4)}, {62, crash(gateway(0), 0)}},
	},
	{
		name: "agent and gateway killed", fault: "connection_refused", seed: 6, seconds: 80, from: 20, until: 55,
		steps: []step{{30, crash(gateway(0), 5)}, {30, crash(agent(0), 2)}, {45, crash(gateway(1), 0)}, {45, crash(agent(1), 0)}},
	},
	{
		name: "gateway partitioned", fault: "policy_denied", seed: 7, seconds: 110, from: 30, until: 70,
		steps: []step{{20, plug(gateway(1), false)}, {80, plug(gateway(1), true)}},
	},
	{
		name: "istiod restarted", fault: "policy_denied", seed: 9, seconds: 80, from: 25, until: 55,
		steps: []step{{15, restartIstiod(3 * time.Second)}},
	},
	{
		name: "logs rotated", fault: "connection_refused", seed: 12, seconds: 80, from: 20, until: 55,
		steps: []step{
			{10, rotate(0)},
			{20, rotate(1)},
			{25, rotate(0)},
			{30, rotate(2)},
			{40, rotate(0)},
			// Rotated while the agent does not look.
			{45, kill(agent(1))},
			{46, rotate(1)},
			{48, start(agent(1))},
		},
	},
	{
		name: "one pod", fault: "policy_denied", seed: 5, seconds: 80, from: 20, until: 50, values: []string{`mode="standalone"`},
		steps: []step{{30, crash(gateway(0), 2)}, {60, restartIstiod(time.Second)}},
	},
	{
		// Both write to one store, and having lost what they remembered, read all from it: what one of them wrote.
		name: "shared store", fault: "connection_refused", seed: 8, seconds: 70, from: 20, until: 50, check: requireHistory,
		values: []string{`history={"remoteWrite":"http://10.0.0.20:9090/api/v1/write","query":"http://10.0.0.20:9090"}`},
		steps:  []step{{30, crash(gateway(0), 3)}, {40, crash(gateway(1), 1)}},
	},
	{
		name: "packets lost", fault: "policy_denied", seed: 2, seconds: 90, from: 25, until: 60,
		steps: []step{{10, lose(0.1)}, {75, loseNoMore()}},
	},
}

type member func(*cluster) *kubelet.Pod

func agent(n int) member   { return func(c *cluster) *kubelet.Pod { return c.agents[n] } }
func gateway(n int) member { return func(c *cluster) *kubelet.Pod { return c.gateways[n] } }

// crash kills a container without warning; the kubelet starts it again after a while.
func crash(m member, wait float64) func(*cluster, context.Context) error {
	return func(c *cluster, ctx context.Context) error {
		m(c).Kill()
		if err := sleepUntil(ctx, time.Now().Add(seconds(wait))); err != nil {
			return err
		}
		return m(c).Start()
	}
}

func kill(m member) func(*cluster, context.Context) error {
	return func(c *cluster, _ context.Context) error {
		m(c).Kill()
		return nil
	}
}

func start(m member) func(*cluster, context.Context) error {
	return func(c *cluster, _ context.Context) error { return m(c).Start() }
}

func plug(m member, in bool) func(*cluster, context.Context) error {
	return func(c *cluster, _ context.Context) error {
		c.cutOff = m(c)
		return m(c).Namespace.Plug(in)
	}
}

func rotate(node int) func(*cluster, context.Context) error {
	return func(c *cluster, _ context.Context) error { return c.ztunnels[node].Rotate() }
}

func restartIstiod(wait time.Duration) func(*cluster, context.Context) error {
	return func(c *cluster, ctx context.Context) error {
		c.control.KillIstiod()
		if err := sleepUntil(ctx, time.Now().Add(wait)); err != nil {
			return err
		}
		return c.control.StartIstiod()
	}
}

// lose lets every pod of ours miss a share of the packets that are sent to it.
func lose(share float64) func(*cluster, context.Context) error {
	return func(c *cluster, _ context.Context) error {
		var errs []error
		for _, pod := range slices.Concat(c.agents, c.gateways) {
			errs = append(errs, pod.Namespace.Lose(share))
		}
		return errors.Join(errs...)
	}
}

// loseNoMore ends the loss, and wants some to have been.
func loseNoMore() func(*cluster, context.Context) error {
	return func(c *cluster, ctx context.Context) error {
		var errs []error
		for _, pod := range slices.Concat(c.agents, c.gateways) {
			lost, err := pod.Namespace.Lost()
			if err == nil && lost == 0 {
				err = errors.New("lost no packets")
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", pod.Object.Name, err))
			}
		}
		return errors.Join(append(errs, lose(0)(c, ctx))...)
	}
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t)
		})
	}
}

func (s *scenario) run(t *testing.T) {
	c := newCluster(t, simulate(t, s))
	if s.prepare != nil {
		s.prepare(t, c)
	}
	c.install(t, s.values...)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	begin := time.Now().Add(time.Second)
	errs := make(chan error, len(s.steps))
	for _, step := range s.steps {
		go func() {
			err := sleepUntil(ctx, begin.Add(seconds(step.at)))
			if err == nil {
				err = step.do(c, ctx)
			}
			errs <- err
		}()
	}
	if err := c.play(ctx, begin); err != nil {
		t.Fatal(err)
	}
	for range s.steps {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	c.requireCounts(t, begin)
	c.requireScraped(t)
	c.requireOutages(t, begin, c.gateways...)
	if s.check != nil {
		s.check(t, c)
	}
}

// simulate makes a recording of a mesh on three nodes.
func simulate(t *testing.T, s *scenario) *mesh.Recording {
	t.Helper()
	folder := t.TempDir()
	args := []string{
		"-out", folder, "-from", fmt.Sprint(s.seed), "-workloads", "12", "-rate", "8", "-scrape-interval", "1s",
		"-duration", fmt.Sprintf("%ds", s.seconds),
	}
	if s.fault == "" {
		args = append(args, "-healthy")
	} else {
		args = append(args, "-fault", s.fault, "-fault-from", fmt.Sprintf("%ds", s.from), "-fault-for", fmt.Sprintf("%ds", s.until-s.from))
	}
	if out, err := exec.Command(program(t, "NEPHILIA_E2E_MESHSIM", "bin/e2e/meshsim"), args...).CombinedOutput(); err != nil {
		t.Fatalf("simulating a mesh: %v\n%s", err, out)
	}
	found, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("simulating a mesh gave %v (%v)", found, err)
	}
	recording, err := mesh.Read(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(recording.Nodes, nodes) {
		t.Fatalf("the mesh of seed %d has nodes %v", s.seed, recording.Nodes)
	}
	return recording
}

// TestRecording plays a recording of a real mesh while nothing else happens.
func TestRecording(t *testing.T) {
	t.Parallel()
	recording, err := mesh.Read(filepath.Join(repository, "recordings/policy-deny"))
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, recording)
	c.install(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	begin := time.Now().Add(time.Second)
	if err := c.play(ctx, begin); err != nil {
		t.Fatal(err)
	}
	c.requireCounts(t, begin)
	c.requireScraped(t)
	c.requireOutages(t, begin, c.gateways...)
}

// requireCounts waits until every gateway counts exactly what was written.
func (c *cluster) requireCounts(t *testing.T, begin time.Time) {
	t.Helper()
	want := c.ledger.Counts()
	t.Logf("written: %+v on %d edges", mesh.Total(want), len(want))
	for _, gateway := range c.gateways {
		c.settle(t, gateway.Object.Name+" counts every connection once", func() error {
			got, err := graph(gateway, begin.Add(-time.Minute), time.Now().Add(time.Minute))
			if err != nil {
				return err
			}
			if difference := mesh.Difference(want, got); difference != "" {
				return fmt.Errorf("counted %+v:\n%s", mesh.Total(got), difference)
			}
			return nil
		})
	}
}

// requireHistory wants every gateway to have answered from the store: what it remembers does not reach back that far.
func requireHistory(t *testing.T, c *cluster) {
	t.Helper()
	for _, gateway := range c.gateways {
		if got, err := source(gateway, time.Now().Add(-10*time.Minute), time.Now().Add(time.Minute)); err != nil || got != "history" {
			t.Errorf("%s answers from %s (%v)", gateway.Object.Name, got, err)
		}
	}
}

// requireOutages waits until each of the gateways has found each expected outage once and none else, has seen its end, and all call it by
// the same id.
func (c *cluster) requireOutages(t *testing.T, begin time.Time, gateways ...*kubelet.Pod) {
	t.Helper()
	ids := map[string][]string{}
	told := map[string]string{}
	for _, gateway := range gateways {
		c.settle(t, gateway.Object.Name+" has found every outage once", func() error {
			found, err := outages(gateway, begin.Add(-time.Minute), time.Now().Add(time.Minute))
			if err != nil {
				return err
			}
			ids[gateway.Object.Name] = nil
			left := map[string]int{}
			var said []string
			var errs []error
			for _, o := range found {
				if o.StartedAt.After(begin.Add(c.recording.Duration - time.Second)) {
					continue // all traffic ends with the play
				}
				if gateway == c.cutOff && o.Kind == "telemetry_lost" && o.root() == "istio-system/istiod" {
					continue // it was cut off from istiod as well, and may say so
				}
				left[o.Kind+" of "+o.root()]++
				if o.State != "resolved" {
					errs = append(errs, fmt.Errorf("%s of %s is %s", o.Kind, o.root(), o.State))
				}
				said = append(said, fmt.Sprintf("%s of %s (%s) from %s to %s", o.Kind, o.root(), o.State, o.StartedAt.Sub(begin), o.EndedAt.Sub(begin)))
				ids[gateway.Object.Name] = append(ids[gateway.Object.Name], o.ID)
			}
			told[gateway.Object.Name] = strings.Join(said, "; ")
			for _, expected := range c.recording.Expect {
				key := expected.Kind + " of " + expected.Root
				if left[key] != 1 {
					errs = append(errs, fmt.Errorf("%s: found %d times", key, left[key]))
				}
				delete(left, key)
			}
			for key, times := range left {
				errs = append(errs, fmt.Errorf("%s: found %d times, though it never was", key, times))
			}
			if len(errs) > 0 {
				errs = append(errs, fmt.Errorf("found: %s", told[gateway.Object.Name]))
			}
			return errors.Join(errs...)
		})
	}
	var first []string
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		slices.Sort(ids[name])
		if first == nil {
			first = ids[name]
		}
		if !slices.Equal(first, ids[name]) {
			t.Errorf("gateways name the same outages differently: %v: %v", ids, told)
		}
	}
	c.requireOneID(t, gateways)
}

// patience is how long the last connections may take to reach every gateway's history. A gateway repeats to Prometheus what does not
// change once a minute.
const patience = 100 * time.Second

// settle is eventually without ending the test, so that all differences are told.
func (c *cluster) settle(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Errorf("%s: %v", what, err)
}
