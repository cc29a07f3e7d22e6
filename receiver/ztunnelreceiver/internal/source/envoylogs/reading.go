package envoylogs

import "bytes"

const (
	// recentLines is about how many of a log's last lines tell how well it is read.
	recentLines = 64
	// leastForeign is how many lines must not be understood before that is a problem, leastStrange how many where none is.
	leastForeign = 5
	leastStrange = 2
	// maxContinued is how many lines may go on with one of the agent's: it prints its configuration as YAML.
	maxContinued = 48
)

// reading says how well a proxy's log is read. Lines of the proxy's own log and its agent's do not count.
type reading struct {
	// understood and foreign are of about the last lines.
	understood, foreign int
	ails                bool
	// continued is how many lines may still go on with the agent's last one.
	continued int
}

// own notes a line of the proxy's own or its agent's.
func (r *reading) own() { r.continued = maxContinued }

// goesOn tells whether a line of no access log goes on with the agent's: it begins with a key of YAML.
func (r *reading) goesOn(line []byte) bool {
	key, rest, ok := bytes.Cut(line, []byte{':'})
	if r.continued == 0 || !ok || len(key) == 0 || len(rest) > 0 && rest[0] != ' ' {
		return false
	}
	for _, c := range key {
		if (c|0x20)-'a' >= 26 {
			return false
		}
	}
	r.continued--
	return true
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
