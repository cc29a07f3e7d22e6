package pathtemplate

import "strings"

// Match tells whether a path has the form of a template. A segment's {name} stands for anything that is not empty within the segment, and
// so does *; as the last segment * stands for all that follows.
func Match(template, path string) bool {
	for {
		t, restT, moreT := strings.Cut(template, "/")
		if t == "*" && !moreT {
			return true
		}
		p, restP, moreP := strings.Cut(path, "/")
		if !matchSegment(t, p) || moreT != moreP {
			return false
		}
		if !moreT {
			return true
		}
		template, path = restT, restP
	}
}

// matchSegment compares what stands before the first hole, after the last one, and in between.
func matchSegment(template, segment string) bool {
	before, rest, hole := cutHole(template)
	if !hole {
		return template == segment
	}
	if !strings.HasPrefix(segment, before) {
		return false
	}
	segment = segment[len(before):]
	for {
		literal, next, more := cutHole(rest)
		if !more {
			return len(segment) > len(literal) && strings.HasSuffix(segment, literal)
		}
		if segment == "" {
			return false
		}
		at := strings.Index(segment[1:], literal)
		if at < 0 {
			return false
		}
		segment, rest = segment[1+at+len(literal):], next
	}
}

// cutHole cuts a segment of a template around its first {name} or *.
func cutHole(template string) (before, after string, found bool) {
	at := strings.IndexAny(template, "{*")
	if at < 0 {
		return template, "", false
	}
	if template[at] == '*' {
		return template[:at], template[at+1:], true
	}
	end := strings.IndexByte(template[at:], '}')
	if end < 0 {
		return template, "", false
	}
	return template[:at], template[at+end+1:], true
}
