package pathtemplate

import "strings"

// form is what the characters of a segment tell.
type form uint8

const (
	// word: a name of the API, or a value that looks like one.
	word form = iota
	// value: a number, a UUID, a hash, a date, a token: no API has it as a name.
	value
	// version: v1, v2beta1, v1.56.
	version
)

// maxSegment bounds a name of an API; what is longer is a value.
const maxSegment = 64

// split cuts what a value may carry off a segment's end, so that 4711.json and 4711:cancel have a value each.
func split(segment string) (base, suffix string) {
	at := strings.LastIndexAny(segment, ".:")
	if at <= 0 || len(segment)-at > 16 || len(segment)-at < 2 || strings.IndexByte(segment, '@') >= 0 {
		return segment, ""
	}
	for i := at + 1; i < len(segment); i++ {
		if !isLetter(segment[i]) {
			return segment, ""
		}
	}
	return segment[:at], segment[at:]
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }

// counts are the kinds of characters of a segment.
type counts struct {
	digits, lower, upper, hex, marks int
	// turns is how often letters and digits take turns.
	turns int
	// pairs are the neighbouring letters of one case, rare those of them that words seldom have.
	pairs, rare int
	// odd: there are characters that no name has.
	odd bool
}

func count(segment string) (c counts) {
	previous := byte('.')
	for i := range len(segment) {
		b := segment[i]
		switch {
		case isDigit(b):
			c.digits++
			c.hex++
			if isLetter(previous) {
				c.turns++
			}
		case isLetter(b):
			if b >= 'a' {
				c.lower++
			} else {
				c.upper++
			}
			if b|0x20 <= 'f' {
				c.hex++
			}
			if isDigit(previous) {
				c.turns++
			} else if isLetter(previous) && (b >= 'a' || previous < 'a') { // A capital in the middle begins a word.
				c.pairs++
				if followers[previous|0x20-'a']>>(b|0x20-'a')&1 == 0 {
					c.rare++
				}
			}
		case b == '-' || b == '_' || b == '.':
			c.marks++
		case b == '%' || b == '@' || b == ':' || b == '=' || b == ',' || b == '+' || b == '~' || b == '$' || b == '!' || b == '(' || b == ' ' || b >= 0x80:
			c.odd = true
		}
		previous = b
	}
	return c
}

// formOf tells what a segment looks like. Of several parts one is enough to be a value: order-5f2a9c01.
func formOf(segment string) form {
	if len(segment) > maxSegment {
		return value
	}
	is := formOfPart(segment)
	for rest := segment; is == word; {
		at := strings.IndexAny(rest, "-_.")
		if at < 0 {
			if len(rest) < len(segment) && formOfPart(rest) == value && !isNumber(rest) {
				return value
			}
			break
		}
		if formOfPart(rest[:at]) == value && !isNumber(rest[:at]) {
			return value
		}
		rest = rest[at+1:]
	}
	return is
}

// isNumber tells of digits; a few of them may belong to a name: top-10.
func isNumber(part string) bool { return strings.Trim(part, "0123456789") == "" }

func formOfPart(segment string) form {
	if segment == "" {
		return word
	}
	c := count(segment)
	letters := c.lower + c.upper
	switch {
	case c.odd:
		if c.digits == 0 && letters > 0 && strings.IndexByte(segment, '%') < 0 && strings.IndexByte(segment, '@') <= 0 {
			return word // $batch, @me, ~name, things:search
		}
		return value
	case letters == 0:
		if c.digits == 0 {
			return word
		}
		return value // a number, a date, an address
	case isVersion(segment):
		return version
	case c.marks == 0 && letters >= 6 && c.rare >= 3 && c.rare*5 >= c.pairs*2, c.marks == 0 && c.upper >= 3 && c.lower >= 3 && c.rare >= 2 && c.rare*4 >= c.pairs:
		return value // letters at random
	case c.digits == 0:
		return word
	case c.digits >= 3 && !shortName(segment, &c):
		return value
	case c.hex == letters+c.digits && len(segment) >= 6 && c.turns >= 2:
		return value
	case c.marks > 0:
		return word
	case c.turns >= 3 && len(segment) >= 5, len(segment) >= 6 && c.turns >= 2 && c.rare > 0, len(segment) >= 6 && c.rare > 1:
		return value
	case len(segment) >= 8 && c.upper >= 2 && c.lower > 0 && (c.turns >= 2 || c.rare > 1), isDigit(segment[0]) && c.turns >= 2 && len(segment) > 4:
		return value
	}
	return word
}

// followers are, for each letter from a to z, the letters that follow it in English words more often than once in 4,000 pairs.
var followers = func() (masks [26]uint32) {
	for letter, after := range [26]string{
		"bcdfgiklmnprstuvwxy", "aeilorsuy", "aceghikloprstuy", "abcdefghilmnoprstuvy",
		"abcdefghilmnopqrstuvwxy", "aefilorstuy", "aeghilmnorstu", "aeimortu",
		"abcdefglmnoprstvxz", "ae", "aeilnsu", "abcdefilopstuvy",
		"abdeimopstu", "abcdefghiklmnoprstuvw", "abcdefgiklmnoprstuvwx", "acehiloprstu",
		"u", "abcdefghiklmnoprstuvwy", "acdefghiklmnoprstuwy", "abcdefhilmnoprstuwxy",
		"abcdefgilmnoprst", "aeio", "acehinors", "ceiptxy",
		"ceimnprst", "ei",
	} {
		for i := range len(after) {
			masks[letter] |= 1 << (after[i] - 'a')
		}
	}
	return masks
}()

// shortName tells of sha256, x509, iso8601 and the like that their digits belong to a name.
func shortName(segment string, c *counts) bool {
	return c.marks == 0 && c.turns == 1 && isLetter(segment[0]) && len(segment) <= 7 && c.upper == 0 && c.digits <= 4
}

// isVersion tells of v1, v2beta1, v1.56 and the like.
func isVersion(segment string) bool {
	if segment[0]|0x20 != 'v' || len(segment) < 2 || len(segment) > 12 || !isDigit(segment[1]) {
		return false
	}
	rest := strings.TrimLeft(segment[1:], "0123456789.")
	for _, stage := range [...]string{"alpha", "beta", "rc", "preview"} {
		if after, ok := strings.CutPrefix(rest, stage); ok {
			rest = strings.TrimLeft(after, "0123456789")
			break
		}
	}
	return rest == ""
}

// method tells of names as procedures have them, chat.postMessage and getUser: values rarely look so.
func method(segment string) bool {
	for i := 1; i < len(segment)-1; i++ {
		b, next := segment[i], segment[i+1]
		if b == '.' && isLetter(segment[i-1]) && isLetter(next) || segment[i-1] >= 'a' && segment[i-1] <= 'z' && b >= 'A' && b <= 'Z' && next >= 'a' && next <= 'z' {
			return true
		}
	}
	return false
}

// isGRPC tells of the paths of gRPC, /package.Service/Method, and of Twirp's.
func isGRPC(path string) bool {
	service, name, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || service == "" || name == "" || strings.IndexByte(name, '/') >= 0 {
		return false
	}
	last := service[strings.LastIndexByte(service, '.')+1:]
	return len(last) < len(service) && last != "" && last[0] >= 'A' && last[0] <= 'Z' && name[0] >= 'A' && name[0] <= 'Z'
}
