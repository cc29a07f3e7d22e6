package attacks

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	addressType = "type.googleapis.com/istio.workload.Address"
)

// field is a field of a protocol buffer with bytes.
func field[T string | []byte](number int, value T) []byte {
	out := binary.AppendUvarint(nil, uint64(number)<<3|2)
	out = binary.AppendUvarint(out, uint64(len(value)))
	return append(out, value...)
}

func join(parts ...[]byte) (all []byte) {
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// workloadOf is a resource of istiod's: a workload with an address.
func workloadOf(uid, name, namespace string, address []byte) []byte {
	workload := join(field(1, name), field(2, namespace), field(3, address), field(20, uid))
	return resourceOf(uid, addressType, field(1, workload))
}

func resourceOf(name, kind string, value []byte) []byte {
	return join(field(3, name), field(1, "1"), field(2, join(field(1, kind), field(2, value))))
}

// delta is a DeltaDiscoveryResponse.
func delta(kind string, nonce int, resources [][]byte, removed []string) []byte {
	out := field(1, "v")
	for _, one := range resources {
		out = append(out, field(2, one)...)
	}
	out = append(out, join(field(4, kind), field(5, fmt.Sprint(nonce)))...)
	for _, name := range removed {
		out = append(out, field(6, name)...)
	}
	return out
}

// someWorkloads are n workloads from a number on.
func someWorkloads(from, n int) (list [][]byte) {
	for k := from; k < from+n; k++ {
		list = append(list, workloadOf(fmt.Sprintf("K//Pod/x/p%d", k), fmt.Sprint("p", k), "x", []byte{10, byte(k >> 16), byte(k >> 8), byte(k)}))
	}
	return list
}

func random(n int) []byte {
	out := make([]byte, n)
	_, _ = rand.Read(out) // it never fails
	return out
}

// hostileIstiods say nothing, too much or nonsense. Each gives its i-th message, nil for none; pause is between them.
var hostileIstiods = []struct {
	name    string
	pause   time.Duration
	message func(i int) []byte
}{
	{"good", time.Second, func(i int) []byte { return delta(addressType, i, someWorkloads(0, 100), nil) }},
	{"garbage", 50 * time.Millisecond, func(int) []byte { return random(3000) }},
	{"garbage in resources", 50 * time.Millisecond, func(i int) []byte {
		return delta(addressType, i, [][]byte{resourceOf("x", addressType, random(500)), resourceOf("", addressType, nil)}, nil)
	}},
	{"a name of 3.9 MiB", 500 * time.Millisecond, func(i int) []byte {
		return delta(addressType, i, [][]byte{workloadOf("K//Pod/x/big", strings.Repeat("n", 3_900_000), "x", []byte{10, 0, 0, 1})}, nil)
	}},
	{"a message of 200 MiB", time.Second, func(i int) []byte {
		return delta(addressType, i, [][]byte{resourceOf("K//Pod/x/big", addressType, make([]byte, 200<<20))}, nil)
	}},
	{"the same name again and again", 100 * time.Millisecond, func(i int) []byte {
		list := someWorkloads(1, 1)
		for len(list) < 5000 {
			list = append(list, list[0])
		}
		return delta(addressType, i, list, nil)
	}},
	{"churn", 100 * time.Millisecond, func(i int) []byte {
		var gone []string
		for k := range 3000 {
			gone = append(gone, fmt.Sprintf("K//Pod/x/p%d", k+(i+1)%2*3000))
		}
		return delta(addressType, i, someWorkloads(i%2*3000, 3000), gone)
	}},
	{"removals of what never was", 200 * time.Millisecond, func(i int) []byte {
		var gone []string
		for k := range 50_000 {
			gone = append(gone, fmt.Sprintf("K//Pod/x/none%d-%d", k, i))
		}
		return delta(addressType, i, nil, gone)
	}},
	{"unknown types", 100 * time.Millisecond, func(i int) []byte {
		return delta("type.googleapis.com/evil.Type", i, [][]byte{resourceOf("a", "type.googleapis.com/evil.Type", random(1000))}, nil)
	}},
	{"addresses of five bytes", 100 * time.Millisecond, func(i int) []byte {
		return delta(addressType, i, [][]byte{workloadOf("K//Pod/x/h", "h", "x", []byte{1, 2, 3, 4, 5})}, nil)
	}},
	{"more workloads than are kept", 100 * time.Millisecond, func(i int) []byte {
		if i > 60 {
			return nil
		}
		return delta(addressType, i, someWorkloads(i*5000, 5000), nil)
	}},
	{"an end at once", 0, nil},
}

// istiod answers delta ADS as gRPC over HTTP/2 without TLS, by the mode at hand.
type istiod struct {
	mode    atomic.Int64
	streams atomic.Int64
}

func (s *istiod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.streams.Add(1)
	at := s.mode.Load()
	mode := hostileIstiods[at]
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	defer w.Header().Set("Grpc-Status", "0")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	_ = out.Flush() // the client may have gone, as below
	if mode.message == nil {
		return
	}
	for i := 1; s.mode.Load() == at && r.Context().Err() == nil; i++ {
		if message := mode.message(i); message != nil {
			head := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
			if _, err := w.Write(append(head, message...)); err != nil || out.Flush() != nil {
				return
			}
		}
		time.Sleep(mode.pause)
	}
}

// TestHostileIstiod has the collector listen to an istiod that says anything: the log beside it goes on, the memory is bounded, and what a good
// one says in the end is taken.
func TestHostileIstiod(t *testing.T) {
	server := &istiod{}
	h2 := httptest.NewUnstartedServer(server)
	h2.Config.Protocols = new(http.Protocols)
	h2.Config.Protocols.SetUnencryptedHTTP2(true)
	h2.Start()
	t.Cleanup(h2.Close)
	c := startCollector(t, "standalone.yaml", map[string]string{"NEPHILIA_XDS": strings.TrimPrefix(h2.URL, "http://")})
	peak := c.watchMemory()
	good := 0
	write := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			c.write("0.log", repeated(20, connection{source: "good", destination: "svc"}))
			good += 20
		}
	}
	workloads := func() int {
		var answer struct{ Total int }
		c.get("/api/v1/workloads?namespace=x&limit=1", &answer)
		return answer.Total
	}
	write(5 * time.Second)
	for i, mode := range hostileIstiods {
		server.mode.Store(int64(i))
		server.streams.Store(0)
		write(8 * time.Second)
		if !c.alive() {
			t.Fatalf("%s: it died: %s", mode.name, c.said("panic", "fatal"))
		}
		lag := c.lag()
		t.Logf("%s: %d streams, %d workloads, lag %s, %d MiB", mode.name, server.streams.Load(), workloads(), lag, c.memory()>>20)
		if lag > time.Duration(20*float64(time.Second)**patience) {
			t.Errorf("%s: the data's clock is %s behind", mode.name, lag)
		}
	}
	server.mode.Store(0)
	write(5 * time.Second)
	c.eventually("good connections", good, func() int { return c.closed("good") })
	if workloads() < 100 {
		t.Error("what a good istiod said in the end is not there")
	}
	if peak() > chartMemory {
		t.Errorf("%d MiB, and the chart gives %d", peak()>>20, chartMemory>>20)
	}
}
