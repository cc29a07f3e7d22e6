package meshsim

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"
)

// ErrNoTarget says that the mesh of a seed has nothing on which the fault could be seen.
var ErrNoTarget = errors.New("the mesh has no target for the fault")

// part is one file of a recording; its first error is kept and reported when it is closed.
type part struct {
	file *os.File
	gzip *gzip.Writer // nil of a plain one
	out  *bufio.Writer
	err  error
}

// create begins a part, compressed unless it is to be plain.
func create(path string, plain bool) (*part, error) {
	if plain {
		path = strings.TrimSuffix(path, ".gz")
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("creating a part: %w", err)
	}
	if plain {
		return &part{file: file, out: bufio.NewWriterSize(file, 1<<16)}, nil
	}
	compressed, err := gzip.NewWriterLevel(file, gzip.BestSpeed)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &part{file: file, gzip: compressed, out: bufio.NewWriterSize(compressed, 1<<16)}, nil
}

func (p *part) write(b []byte) {
	if p.err == nil {
		_, p.err = p.out.Write(b)
	}
}

func (p *part) text(s string) {
	if p.err == nil {
		_, p.err = p.out.WriteString(s)
	}
}

func (p *part) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

func (p *part) Close() error {
	err := errors.Join(p.err, p.out.Flush())
	if p.gzip != nil {
		err = errors.Join(err, p.gzip.Close())
	}
	return errors.Join(err, p.file.Close())
}

var _ io.Closer = (*part)(nil)

// Write simulates and writes a recording into dir, which it creates. It returns ErrNoTarget if the seed's mesh
// cannot show the fault.
func Write(dir string, options Options) (err error) {
	random := rand.New(rand.NewPCG(options.Seed, 0x6e657068696c6961))
	if options.Fault.NeedsSpans() || options.And.NeedsSpans() {
		options.Instrumented = 1
	}
	if err := options.decide(random); err != nil {
		return err
	}
	s := &simulation{
		Options: options, random: random, mesh: newMesh(options, random), end: int64(options.Duration),
		pool: map[poolKey]*connection{}, hbone: map[[2]*pod]uint16{}, ztunnels: map[string]*ztunnel{}, hardness: hardness{attempts: map[[2]*pod]int64{}},
	}
	s.incidents = newIncidents(options, s.mesh, random)
	if s.incidents == nil && options.Fault != FaultNone {
		return ErrNoTarget
	}
	harden(s)
	s.highest = s.busiest()
	disturb(s)
	s.proxies = newProxies(s)
	s.proxies.restarts()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("creating the recording: %w", err)
	}
	var parts []*part
	open := func(name string) *part {
		p, openErr := create(filepath.Join(dir, name), options.Plain)
		if openErr != nil {
			err = errors.Join(err, openErr)
			return &part{err: openErr}
		}
		parts = append(parts, p)
		return p
	}
	defer func() {
		for _, p := range parts {
			err = errors.Join(err, p.Close())
		}
	}()
	jsonLog := random.IntN(2) == 0
	for n, node := range s.mesh.nodes {
		z := &ztunnel{node: node, json: jsonLog, quiet: s.has(TraitLogLevel), old: s.has(TraitOldZtunnels) && n%2 == 1, log: open("ztunnel-" + node + ".log.gz")}
		z.reset()
		s.ztunnels[node] = z
		s.watch(z, open("metrics-"+node+".prom.gz"), int64(n)*int64(3*time.Millisecond))
	}
	s.spans = &spanWriter{out: open("otlp-traces.jsonl.gz"), random: random, queue: &s.queue}
	changes := open("xds.binpb.gz")
	if err != nil {
		return err
	}
	if err := writeChanges(changes, stateChanges(s.mesh, s.denied, s.incidents, s.end), s.incidents); err != nil {
		return err
	}
	s.run()
	return writeTruth(filepath.Join(dir, "truth.json"), s)
}

// watch schedules a ztunnel's scrapes and its own messages.
func (s *simulation) watch(z *ztunnel, out *part, offset int64) {
	s.scrapes(z, out, int64(10*time.Millisecond)+offset)
	s.queue.schedule(offset, func() { z.connected(0, 1) })
	s.renew(z, offset)
	s.proxies.livesOf(z)
	for _, i := range s.incidents {
		switch {
		case i.stops(z.node):
			s.queue.schedule(i.from, z.reset)
			s.queue.schedule(i.until, func() { z.connected(i.until, 1) })
		case i.fault == FaultControlPlaneDown:
			s.loseControlPlane(z, i, offset)
		}
	}
}

// unanswered is one in how many scrapes fails in a healthy mesh.
const unanswered = 5000

func (s *simulation) scrapes(z *ztunnel, out *part, at int64) {
	if at >= s.end {
		return
	}
	s.queue.schedule(at, func() {
		fails := s.random.IntN(unanswered) == 0
		z.scrape(out, at, fails || s.incidents.silent(at, z.node), func() { s.proxies.selfSeries(z, out, at) })
		s.scrapes(z, out, at+int64(s.ScrapeInterval))
	})
}

// renew ends a ztunnel's stream to istiod about every half an hour, as istiod does to spread its clients.
func (s *simulation) renew(z *ztunnel, offset int64) {
	id := 2
	for at := offset + s.random.Int64N(int64(30*time.Minute)); at < s.end; at += int64(27*time.Minute) + s.random.Int64N(int64(6*time.Minute)) {
		if s.incidents.at(at, FaultControlPlaneDown) != nil || s.incidents.silent(at, z.node) {
			continue
		}
		stream := id
		id++
		s.queue.schedule(at, func() {
			z.completed++
			z.write(at, "warn", fmt.Sprintf("xds::client:xds{id=%d}", stream-1), "XDS client complete", nil)
			z.connected(at+int64(20*time.Millisecond), stream)
		})
	}
}

func (s *simulation) loseControlPlane(z *ztunnel, i *incident, offset int64) {
	s.queue.schedule(i.from, func() { z.drops++ })
	backoff := int64(100 * time.Millisecond)
	for at := i.from + offset + 1; at < i.until; at += backoff {
		backoff = min(2*backoff, int64(15*time.Second))
		retry := time.Duration(backoff)
		s.queue.schedule(at, func() {
			z.drops++
			z.write(at, "warn", "xds::client:xds{id="+fmt.Sprint(2+z.drops)+"}", "XDS client connection error: gRPC connection error connecting to "+
				"https://istiod.istio-system.svc:15012: status: Unknown, message: \"client error (Connect): tcp connect error: Connection refused (os error 111)\", "+
				"retrying in "+retry.String(), nil)
		})
	}
	s.queue.schedule(i.until+offset+int64(2*time.Second), func() { z.connected(i.until+offset+int64(2*time.Second), 2+z.drops) })
}

func (z *ztunnel) connected(at int64, id int) {
	z.messages[typeAddress]++
	z.messages[typeAuthorization]++
	z.write(at, "info", fmt.Sprintf("xds::client:xds{id=%d}", id), "Stream established", nil)
}

// disturb adds what a healthy mesh does all the time: rollouts, scaling, a client that is denied what it always was.
func disturb(s *simulation) {
	if s.random.Float64() < 0.3 {
		var all []*call
		for _, w := range s.mesh.workloads {
			for _, c := range w.calls {
				if w.layer > 0 && !c.critical && !c.keepAlive && c.to.mesh && w.mesh && !s.incidents.concern(w) && !s.incidents.below(c.to) && !asksBelow(c.to) {
					all = append(all, c)
				}
			}
		}
		if len(all) > 0 {
			s.denied = all[s.random.IntN(len(all))]
		}
	}
	disturbances := 1 + s.random.IntN(3) + int(s.Duration/(3*time.Hour))
	if s.mesh.reuses {
		disturbances += 12
	}
	for range disturbances {
		w := s.mesh.workloads[s.random.IntN(len(s.mesh.workloads))]
		if w.layer == 0 || s.incidents.concern(w) {
			continue
		}
		at := s.random.Int64N(s.end)
		if s.incidents.unmanaged(at) {
			continue
		}
		index := 0
		for n, other := range s.mesh.workloads {
			if other == w {
				index = n
			}
		}
		switch s.random.IntN(2) {
		case 0: // a rollout: every pod has a successor before it goes
			for n, old := range append([]*pod(nil), w.pods...) {
				from := at + int64(n)*int64(8*time.Second)
				if old.until == always && len(w.pods) < 9 && old.ready(from) {
					w.addPod(s.mesh, s.random, index, len(w.pods), from)
					old.until = from + int64(3*time.Second)
					if s.random.IntN(2) == 0 {
						// It stops before everybody has heard that it will.
						old.deaf = s.random.Int64N(int64(300 * time.Millisecond))
					}
				}
			}
		case 1: // scaled up and down again
			if len(w.pods) < 9 {
				extra := w.addPod(s.mesh, s.random, index, len(w.pods), at)
				extra.until = at + int64(40*time.Second) + s.random.Int64N(int64(10*time.Minute))
			}
		}
	}
}

type truthPod struct {
	Name      string
	Namespace string
	SA        string
	IP        string
	Node      string
	App       string
	Version   string
	Ready     bool
	Mesh      bool
	Zone      string `json:"zone"`
	// From and Until are when a pod came and went, in seconds after the start; 0: it was there from the beginning, to the end.
	From  float64 `json:"from_s,omitempty"`
	Until float64 `json:"until_s,omitempty"`
}

// truthAction is what a fault changes in the mesh's configuration.
type truthAction struct {
	At   float64  `json:"at"`
	Do   string   `json:"do"`
	Name string   `json:"name"`
	NS   string   `json:"ns,omitempty"`
	App  string   `json:"app,omitempty"`
	From []string `json:"from,omitempty"`
}

// actions are what an administrator would have done to bring about what happens.
func actions(denied *call, all incidents) []truthAction {
	actions := []truthAction{}
	if denied != nil {
		actions = append(actions, truthAction{Do: "deny", Name: "always-denied", NS: denied.to.namespace, App: denied.to.app, From: []string{"nobody"}})
	}
	for _, i := range all {
		if i.fault != FaultPolicyDenied {
			continue
		}
		actions = append(actions,
			truthAction{
				At: seconds(i.from), Do: "deny", Name: policyNamespace, NS: i.target.namespace, App: i.target.app,
				From: []string{strings.TrimPrefix(i.caller.identity(), "spiffe://")},
			},
			truthAction{At: seconds(i.until), Do: "undeny", Name: policyNamespace})
	}
	return actions
}

type truthService struct {
	Name      string
	Namespace string
	VIP       string
	App       string
	PortName  string
	Port      int
}

type truthEvent struct {
	Time string `json:"time"`
	Do   string `json:"do"`
	Node string `json:"node,omitempty"`
}

type truth struct {
	Scenario struct {
		Name    string         `json:"name"`
		Seconds float64        `json:"seconds"`
		RPS     float64        `json:"rps"`
		About   string         `json:"about"`
		Actions []truthAction  `json:"actions"`
		Expect  []*Expectation `json:"expect"`
	} `json:"scenario"`
	Events   []truthEvent   `json:"events"`
	Pods     []truthPod     `json:"pods"`
	Services []truthService `json:"services"`
}

func writeTruth(path string, s *simulation) error {
	var t truth
	fault := s.name()
	t.Scenario.Name = fmt.Sprintf("sim-%d-%s", s.Seed, fault)
	t.Scenario.Seconds = s.Duration.Seconds()
	t.Scenario.RPS = s.RootRate
	t.Scenario.About = fmt.Sprintf("simulated mesh of %d workloads on %d nodes: %s", s.Workloads, len(s.mesh.nodes), fault)
	t.Scenario.Actions = actions(s.denied, s.incidents)
	t.Scenario.Expect = []*Expectation{}
	mark := func(at int64, do, node string) {
		t.Events = append(t.Events, truthEvent{Time: stamp(at), Do: do, Node: node})
	}
	mark(0, "start", "")
	for _, i := range s.incidents {
		t.Scenario.Expect = append(t.Scenario.Expect, i.expectation(s.mesh))
		mark(i.from, string(i.fault), i.node)
		mark(i.until, "un"+string(i.fault), i.node)
	}
	t.Scenario.Expect = append(t.Scenario.Expect, s.optional(s.end)...)
	mark(s.end, "end", "")
	all := s.mesh.workloads
	if s.mesh.waypoint != nil {
		all = append(slices.Clone(all), s.mesh.waypoint)
	}
	for _, w := range all {
		for _, p := range w.pods {
			pod := truthPod{
				Name: p.name, Namespace: w.namespace, SA: w.app, IP: p.ip, Node: p.node, App: w.app, Version: w.version,
				Ready: p.ready(0), Mesh: w.mesh, Zone: p.zone, From: seconds(p.from),
			}
			if p.until < s.end {
				pod.Until = seconds(p.until)
			}
			t.Pods = append(t.Pods, pod)
		}
		if w.layer > 0 {
			name := "tcp"
			if w.http {
				name = "http"
			}
			t.Services = append(t.Services, truthService{w.app, w.namespace, w.vip.String(), w.app, name, w.port})
		}
	}
	sort.SliceStable(t.Events, func(a, b int) bool { return t.Events[a].Time < t.Events[b].Time })
	encoded, err := json.MarshalIndent(&t, "", " ")
	if err != nil {
		return fmt.Errorf("encoding the truth: %w", err)
	}
	if err := os.WriteFile(path, append(encoded, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the truth: %w", err)
	}
	return nil
}
