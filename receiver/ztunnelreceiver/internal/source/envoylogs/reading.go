package envoylogs

const (
	// recentLines is about how many of a log's last lines tell how well it is read.
	recentLines = 64
	// leastForeign is how many lines must not be understood before that is a problem, leastStrange how many where none is.
	leastForeign = 5
	leastStrange = 2
)

// reading says how well a proxy's log is read. Lines of the proxy's own log and its agent's do not count.
type reading struct {
	// understood and foreign are of about the last lines.
	understood, foreign int
	ails                bool
}

// line notes a line and tells whether there is a problem since it, or none any more.
func (r *reading) line(understood bool) (changed bool) {
	if understood {
		r.understood++
	} else {
		r.foreign++
	}
	if r.understood+r.foreign == recentLines {
		r.understood /= 2
		r.foreign /= 2
	}
	before := r.ails
	r.ails = r.problem() != ""
	return r.ails != before
}

// problem says in a sentence what is wrong; nothing if all is well.
func (r *reading) problem() string {
	switch {
	case r.understood == 0 && r.foreign >= leastStrange:
		return "lines come, and none of them is one of an access log whose format is known; envoy_logs::format tells another one."
	case r.foreign >= leastForeign && r.foreign > r.understood:
		return "lines come, and most of them are none of an access log whose format is known."
	}
	return ""
}
