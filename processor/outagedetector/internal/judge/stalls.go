package judge

import (
	"time"

	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/stats"
)

// stalls judges edges whose connections are opened and never end, although they used to be short.
type stalls struct{ store *observe.Store }

func (j *stalls) judge(p *observe.Pair, now int64) {
	f, w := &p.Faults[observe.Stalled], &p.Win
	if f.On {
		if w.Sum(observe.Closed, 2) > 0 {
			f.On, f.Recovered, f.Ended = false, now, now
			return
		}
		if w.At(observe.Opened, 0) > 0 {
			f.LastBad = now
		}
		f.Failed = w.Ever(observe.Opened) - f.Base[0]
		f.Total = f.Failed
		f.Quiet = now-f.LastBad > int64(12*time.Second)
		w.MarkBad(f.Since)
		return
	}
	rule := p.Rules.Get(rules.StalledConnections)
	if rule == nil || w.At(observe.Closed, 0) > 0 || w.At(observe.Opened, 0) == 0 {
		return
	}
	slots, opened := 0, uint64(0)
	for age := range w.SlotsFor(rule.Window) {
		if w.At(observe.Closed, age) > 0 || w.At(observe.Requests, age) > w.At(observe.RequestsFailed, age) {
			break
		}
		slots, opened = age+1, opened+w.At(observe.Opened, age)
	}
	known := w.NormalSlots(slots)
	closed, before := w.Normal(observe.Closed, slots), w.Normal(observe.Opened, slots)
	if slots < rule.MinIntervals || opened < rule.MinCount || known < usualSlots || closed < 0.9*before || closed < 20 ||
		p.Connections < int64(opened) || stats.Silence(closed/known*float64(slots)) > rule.Chance || !j.told(p.Source, slots, w) {
		return
	}
	*f = observe.Fault{
		On: true, Rule: rule, Since: w.Start(slots - 1), Fired: now, LastBad: now, Kind: rule.Kind,
		Tally: observe.Tally{Failed: opened, Total: opened, Ratio: 1, Base: [2]uint64{w.Ever(observe.Opened) - opened}},
	}
}

// told tells whether it would be known that connections of an app end: the access logs of its nodes still grow or, where there are none, scrapes of
// its ztunnels succeed.
func (j *stalls) told(app *observe.App, slots int, w *observe.Window) bool {
	pods := j.store.Mesh.Pods(app.Name)
	for _, pod := range pods {
		n, ok := j.store.Nodes.ByName[pod.Node]
		if !ok {
			return false
		}
		last := n.LastRecord
		log, logs := n.Sources[semconv.SourceAccessLog]
		metrics, scraped := n.Sources[semconv.SourceMetrics]
		switch {
		case logs && !log.Up:
			return false
		case !logs && scraped && metrics.Up:
			last = metrics.Sampled
		}
		if j.store.Now-last > int64(slots)*int64(w.Length()) {
			return false
		}
	}
	return len(pods) > 0
}
