package servicegraphprocessor

// carry follows the bytes of connections that are open, which no access log has told yet: what the counters of the
// processes that live have seen, less what the log told of those processes' connections. A ztunnel that dies takes its
// open connections along: no log will ever tell them, and the edge then stands still until the log has caught up, so
// that an edge's bytes are in the end those of the log.
type carry struct {
	// carried are the counters of the processes that live, lost those of processes that died since writeOff.
	carried, lost [2]levels
	// fresh are the counters of the processes that came in their place.
	fresh [2]levels
	// beforeSent and beforeReceived are the bytes that the log told of connections of dead processes.
	beforeSent, beforeReceived int64
}

func (c *carry) reporter() side {
	if c.carried[bySource].opened == 0 && c.lost[bySource].opened == 0 {
		return byDestination
	}
	return bySource
}

// open is the number of bytes that open connections have carried.
func (c *carry) open(edges []*edgeState) (sent, received uint64) {
	living := c.carried[c.reporter()]
	loggedSent, loggedReceived := loggedBytes(edges)
	return uint64(max(0, living.sent-(loggedSent-c.beforeSent))), uint64(max(0, living.received-(loggedReceived-c.beforeReceived)))
}

// writeOff takes the connections of dead processes out of the account. Which of the bytes that no log told were theirs
// is not known where other processes hold connections of the same edge: the share of open connections decides.
func (c *carry) writeOff(edges []*edgeState) {
	if c.lost == [2]levels{} && c.fresh == [2]levels{} {
		return
	}
	by := c.reporter()
	lost, living := c.lost[by], c.carried[by]
	c.lost = [2]levels{}
	defer c.welcome()
	loggedSent, loggedReceived := loggedBytes(edges)
	share := 1.0
	if open := lost.active() + living.active(); open > 0 {
		share = float64(lost.active()) / float64(open)
	}
	gone := func(lost, living, logged, before int64) int64 {
		untold := max(0, living+lost-(logged-before))
		return lost - int64(share*float64(untold))
	}
	c.beforeSent += gone(lost.sent, living.sent, loggedSent, c.beforeSent)
	c.beforeReceived += gone(lost.received, living.received, loggedReceived, c.beforeReceived)
}

// welcome counts the new processes among those that live.
func (c *carry) welcome() {
	for by, levels := range c.fresh {
		living := &c.carried[by]
		living.opened += levels.opened
		living.closed += levels.closed
		living.sent += levels.sent
		living.received += levels.received
	}
	c.fresh = [2]levels{}
}

func loggedBytes(edges []*edgeState) (sent, received int64) {
	for _, e := range edges {
		sent += int64(e.sent)
		received += int64(e.received)
	}
	return sent, received
}
