package podlogs

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano()

func TestPositionKeepsAWindow(t *testing.T) {
	var p position
	assert.True(t, p.since().IsZero())
	p.add(noon+second/2, 1)
	assert.Equal(t, noon-second, p.from)
	p.add(noon+second-1, 2)
	p.add(noon+second, 3)
	assert.Equal(t, noon, p.from)
	assert.Len(t, p.taken, 3)
	// The clock of the other stream lags.
	p.add(noon+second/4, 4)
	assert.Len(t, p.taken, 4)
	p.add(noon+3*second, 5)
	assert.Equal(t, noon+2*second, p.from)
	assert.Equal(t, []taken{{noon + 3*second, 5}}, p.taken)
	assert.Equal(t, time.Unix(0, noon+2*second).UTC(), p.since())
}

func TestPositionIsBounded(t *testing.T) {
	var p position
	for i := range 3 * maxTaken {
		p.add(noon+int64(i/7), uint64(i))
	}
	assert.LessOrEqual(t, len(p.taken), maxTaken)
	assert.GreaterOrEqual(t, len(p.taken), maxTaken/2-7)
	for _, one := range p.taken {
		require.GreaterOrEqual(t, one.at, p.from)
	}
	o := p.overlap()
	for i := range 3 * maxTaken {
		require.True(t, o.repeats(noon+int64(i/7), uint64(i)), i)
	}
}

func TestOverlap(t *testing.T) {
	var p position
	for _, line := range []taken{{noon, 1}, {noon, 1}, {noon, 2}, {noon + 5, 3}} {
		p.add(line.at, line.hash)
	}
	o := p.overlap()
	assert.True(t, o.repeats(noon-2*second, 9), "before the window")
	assert.True(t, o.repeats(noon, 1))
	assert.True(t, o.repeats(noon, 1))
	assert.False(t, o.repeats(noon, 1), "the same a third time is new")
	assert.False(t, o.repeats(noon, 7), "new, though as old as others")
	assert.True(t, o.repeats(noon, 2))
	assert.Equal(t, 3, o.repeated)
	assert.False(t, o.over)
	assert.False(t, o.repeats(noon+6, 3))
	assert.True(t, o.over)
	assert.False(t, o.repeats(noon-2*second, 9), "a clock that is set back")
}

func TestStateOfAPosition(t *testing.T) {
	for _, p := range []position{
		{},
		startAt(noon + 17),
		{from: noon, newest: noon + second, taken: []taken{{noon + 3, 1 << 63}, {noon + second, 2}, {noon + 1, 0}}},
	} {
		for _, held := range []string{"", "an entry\nof two lines"} {
			state := p.appendState([]byte(held))
			got, gotHeld, err := readState(state)
			require.NoError(t, err)
			assert.Equal(t, p, got)
			assert.Equal(t, held, string(gotHeld))
			for i := range state {
				damaged := slices.Clone(state)
				damaged[i] ^= 0x10
				_, _, err := readState(damaged)
				require.Error(t, err)
				_, _, err = readState(state[:i])
				require.Error(t, err)
			}
		}
	}
}

func FuzzReadState(f *testing.F) {
	p := position{from: noon, newest: noon + second, taken: []taken{{noon + 3, 1}, {noon + second, 2}}}
	f.Add(p.appendState([]byte("held")))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, state []byte) {
		p, held, err := readState(state)
		if err != nil {
			return
		}
		again, heldAgain, err := readState(p.appendState(held))
		if err != nil || !slices.Equal(again.taken, p.taken) || again.from != p.from || string(held) != string(heldAgain) {
			t.Fatal("not the same", p, again, err)
		}
	})
}

// Whatever the times are, a log that is read in pieces from the position on gives each line once.
func TestPositionGivesEachLineOnce(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		type line struct {
			at   int64
			text string
		}
		var log []line
		at := noon
		resolution := []int64{1, 1000, second / 10, second}[random.IntN(4)]
		for n := range 400 {
			at += random.Int64N(1 + 10*resolution)
			// Lines of two streams are out of order by a little.
			disorder := random.Int64N(1 + second/3)
			log = append(log, line{(at - disorder) / resolution * resolution, fmt.Sprint(n % 50)})
		}
		var p position
		var got []line
		for written := 0; written < len(log) || len(got) < len(log); {
			written = min(written+random.IntN(60), len(log))
			o := p.overlap()
			since := p.from - p.from%second
			stop := random.IntN(written + 1)
			for i, l := range log[:written] {
				if l.at < since {
					continue
				}
				if written < len(log) && i > stop {
					break
				}
				hash := hashOf(l.at, []byte(l.text))
				if o.repeats(l.at, hash) {
					continue
				}
				p.add(l.at, hash)
				got = append(got, l)
			}
		}
		require.Equal(t, log, got, "seed %d", seed)
	}
}

func BenchmarkTake(b *testing.B) {
	var p position
	text := []byte("2026-11-23T21:25:00.250079Z\tinfo\taccess\tconnection complete\tsrc.addr=10.244.1.11:1024 src.workload=\"frontend-1\"")
	at := noon
	b.ReportAllocs()
	for b.Loop() {
		at += 100_000
		p.add(at, hashOf(at, text))
	}
}

// countingSink takes entries without keeping them.
type countingSink struct{ Sink }

func (countingSink) Entry(string, []byte) {}

func BenchmarkReader(b *testing.B) {
	const lines = 1000
	var text strings.Builder
	for n := range lines {
		fmt.Fprintf(&text, "2026-11-23T21:25:00.%09dZ 2026-11-23T21:25:00.250079Z\tinfo\taccess\tconnection complete\tsrc.addr=10.244.1.11:%d\n", n*1_000_000, n)
	}
	tail := New(Config{MaxEntry: 65536}, nil, countingSink{}, &sync.Mutex{}, func(context.Context) {})
	b.Cleanup(func() { _ = tail.Stop() })
	f := &follower{tail: tail, splitter: accesslog.NewEntrySplitter(accesslog.Style{}, 65536, 0)}
	b.ReportAllocs()
	for b.Loop() {
		f.position.from, f.position.newest, f.position.taken = 0, 0, f.position.taken[:0]
		r := reader{follower: f}
		r.begin()
		if err := r.read(b.Context(), strings.NewReader(text.String())); err != nil || !r.fresh {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*lines), "ns/line")
}
