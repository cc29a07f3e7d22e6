package scraped

import (
	"github.com/nephilia/nephilia/processor/servicegraphprocessor/internal/edges"
)

// openBytes follows the bytes of connections that are open, which no access log has told yet: what the counters of the
// processes that live have seen, less what the log told of those processes' connections. A ztunnel that dies takes its
// open connections along: no log will ever tell them, and the edge then stands still until the log has caught up, so
// that an edge's bytes are in the end those of the log.
type openBytes struct {
	// carried are the counters of the processes that live, lost those of processes that died since removeProcess.
	carried, lost [2]levels
	// fresh are the counters of the processes that came in their place.
	fresh [2]levels
	// beforeSent and beforeReceived are the bytes that the log told of connections of dead processes.
	beforeSent, beforeReceived int64
}

func (o *openBytes) reporter() side {
	if o.carried[bySource][counterOpened] == 0 && o.lost[bySource][counterOpened] == 0 {
		return byDestination
	}
	return bySource
}

// of is the number of bytes that open connections of edges have carried.
func (o *openBytes) of(all []*edges.Edge) (sent, received uint64) {
	living := o.carried[o.reporter()]
	loggedSent, loggedReceived := loggedBytes(all)
	return uint64(max(0, living[counterSent]-(loggedSent-o.beforeSent))), uint64(max(0, living[counterReceived]-(loggedReceived-o.beforeReceived)))
}

// removeProcess takes the connections of dead processes out of the account. Which of the bytes that no log told were theirs
// is not known where other processes hold connections of the same edge: the share of open connections decides.
func (o *openBytes) removeProcess(all []*edges.Edge) {
	if o.lost == [2]levels{} && o.fresh == [2]levels{} {
		return
	}
	by := o.reporter()
	lost, living := o.lost[by], o.carried[by]
	o.lost = [2]levels{}
	defer o.addProcess()
	loggedSent, loggedReceived := loggedBytes(all)
	share := 1.0
	if open := lost.active() + living.active(); open > 0 {
		share = float64(lost.active()) / float64(open)
	}
	gone := func(lost, living, logged, before int64) int64 {
		unreported := max(0, living+lost-(logged-before))
		return lost - int64(share*float64(unreported))
	}
	o.beforeSent += gone(lost[counterSent], living[counterSent], loggedSent, o.beforeSent)
	o.beforeReceived += gone(lost[counterReceived], living[counterReceived], loggedReceived, o.beforeReceived)
}

// addProcess counts the new processes among those that live.
func (o *openBytes) addProcess() {
	for by := range o.fresh {
		for c, n := range o.fresh[by] {
			o.carried[by][c] += n
		}
	}
	o.fresh = [2]levels{}
}

func loggedBytes(all []*edges.Edge) (sent, received int64) {
	for _, e := range all {
		sent += int64(e.Logged.Sent)
		received += int64(e.Logged.Received)
	}
	return sent, received
}
