package envoylog

import "bytes"

// parseText reads Istio's text format, of today or of an earlier release:
//
//	[TIME] "METHOD PATH PROTOCOL" CODE FLAGS … RECEIVED SENT DURATION UPSTREAM_TIME "XFF" "USER AGENT" "ID" "AUTHORITY" "UPSTREAM" CLUSTER …
//
// From 1.9 on there are details, termination details and "transport failure" after the flags, from 1.6 the last alone, from 1.2 two texts
// in quotes of which it is the second, and before that nothing; the route at the end came with 1.2.
//
// The method's beginning and everything after the last quote are Envoy's own. The place of code and flags, between a path and headers that
// clients choose, is certain if there is only one.
func parseText(line []byte, rec *Record) error {
	end := bytes.IndexByte(line[:min(len(line), 48)], ']')
	if end < 0 || !hasPrefix(line[end:], `] "`) {
		return ErrForeign
	}
	v := &rec.Values
	v[StartTime] = line[1:end]
	request := line[end+len(`] "`):]
	var rest []byte
	for from := 0; ; {
		quote := bytes.IndexByte(request[from:], '"')
		if quote < 0 {
			break
		}
		quote += from
		from = quote + 1
		protocol := protocolLength(request[:quote], rest == nil)
		if protocol == 0 {
			continue
		}
		var response response
		after, ok := parseResponse(request[quote+1:], &response)
		if !ok {
			continue
		}
		if rest != nil {
			return ErrAmbiguous
		}
		rest = after
		copy(v[Code:], response[:])
		v[Protocol] = request[quote-protocol : quote]
		method, path, _ := bytes.Cut(request[:quote-protocol], space)
		v[Method], v[Path] = method, bytes.TrimSuffix(path, space)
		from = len(request) - len(after)
	}
	if rest == nil {
		return ErrCut
	}
	return parseUpstream(rest, v)
}

// protocolLength is the length of the protocol that a request's text ends with, 0 if there is none. Only the first text can be that of
// a connection, which has none.
func protocolLength(request []byte, first bool) int {
	n := len(request)
	switch {
	case n >= 6 && isDigit(request[n-1]) && string(request[n-6:n-1]) == "HTTP/":
		return 6
	case n >= 8 && isDigit(request[n-1]) && request[n-2] == '.' && isDigit(request[n-3]) && string(request[n-8:n-3]) == "HTTP/":
		return 8
	case first && string(request) == "- - -":
		return 1
	}
	return 0
}

// response are the fields from the code to the upstream's time.
type response [UpstreamTime - Code + 1][]byte

// parseResponse reads from the code to the upstream's time and returns what follows, which begins with a quote.
func parseResponse(s []byte, v *response) (rest []byte, ok bool) {
	if len(s) == 0 || s[0] != ' ' {
		return nil, false
	}
	code := &v[0]
	*code, s = word(s[1:])
	if len(*code) != 3 && string(*code) != "0" || !isDigit((*code)[0]) {
		return nil, false
	}
	v[Flags-Code], s = word(s)
	if !areFlags(v[Flags-Code]) || len(s) == 0 {
		return nil, false
	}
	if !isDigit(s[0]) {
		if s[0] != '"' {
			quote := bytes.IndexByte(s, '"')
			if quote < 2 || s[quote-1] != ' ' {
				return nil, false
			}
			details := s[:quote-1]
			last := bytes.LastIndexByte(details, ' ')
			if last <= 0 {
				return nil, false
			}
			v[Details-Code], v[Termination-Code], s = details[:last], details[last+1:], s[quote:]
		}
		if s, ok = parseTransportFailure(s, v); !ok {
			return nil, false
		}
	}
	for _, field := range [...]Field{BytesReceived, BytesSent, Duration, UpstreamTime} {
		v[field-Code], s = word(s)
		if _, ok := number(v[field-Code]); !ok && (field < Duration || string(v[field-Code]) != "-") {
			return nil, false
		}
	}
	return s, len(s) > 0 && s[0] == '"'
}

// parseTransportFailure reads the text in quotes before the numbers; before 1.6 one of Mixer's stood before it.
func parseTransportFailure(s []byte, v *response) (rest []byte, ok bool) {
	for range 2 {
		if len(s) == 0 || s[0] != '"' {
			break
		}
		quote := bytes.IndexByte(s[1:], '"') + 1
		if quote < 1 || len(s) < quote+3 || s[quote+1] != ' ' {
			return nil, false
		}
		v[TransportFailure-Code], s, ok = s[1:quote], s[quote+2:], true
	}
	return s, ok
}

// parseUpstream reads what follows the upstream's time. In the headers, which clients choose, quotes may stand that Envoy does not
// escape: then only what is after the last quote is told apart.
func parseUpstream(s []byte, v *[numFields][]byte) error {
	last := bytes.LastIndexByte(s, '"')
	first := bytes.LastIndexByte(s[:max(last, 0)], '"')
	if first < 3 || !hasPrefix(s[first-2:], `" `) || last+2 >= len(s) || s[last+1] != ' ' {
		return ErrCut
	}
	v[UpstreamHost] = s[first+1 : last]
	headers, tail := s[:first-1], s[last+2:]
	if !isUpstream(v[UpstreamHost]) {
		return ErrCut
	}
	for _, field := range [...]Field{Cluster, UpstreamLocal, DownstreamLocal, DownstreamRemote, ServerName} {
		if len(tail) == 0 {
			return ErrCut
		}
		v[field], tail = word(tail)
	}
	v[Route] = tail
	if !isAddress(v[UpstreamLocal]) || !isAddress(v[DownstreamLocal]) || !isAddress(v[DownstreamRemote]) {
		return ErrCut
	}
	return parseHeaders(headers, v)
}

// separatorOfHeaders stands between two headers in quotes.
var separatorOfHeaders = []byte(`" "`)

func parseHeaders(s []byte, v *[numFields][]byte) error {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return ErrCut
	}
	s = s[1 : len(s)-1]
	if bytes.Count(s, separatorOfHeaders) != 3 {
		v[RequestID] = onlyID(s)
		return nil
	}
	for _, field := range [...]Field{ForwardedFor, UserAgent, RequestID, Authority} {
		v[field], s, _ = bytes.Cut(s, separatorOfHeaders)
	}
	return nil
}

// onlyID finds the request's ID among headers that cannot be told apart: the only one that looks like Envoy's.
func onlyID(headers []byte) (id []byte) {
	for part := range bytes.SplitSeq(headers, separatorOfHeaders) {
		if isUUID(part) {
			if id != nil {
				return nil
			}
			id = part
		}
	}
	return id
}

func isUUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !isDigit(c) && (c|0x20)-'a' >= 6 {
			return false
		}
	}
	return true
}

// word returns a text's first word and what follows the space behind it.
func word(s []byte) (first, rest []byte) {
	if i := bytes.IndexByte(s, ' '); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, nil
}

// areFlags tells whether a word may be response flags, in short or in long.
func areFlags(s []byte) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	if len(s) == 1 && s[0] == '-' {
		return true
	}
	for _, c := range s {
		if (c|0x20)-'a' >= 26 && !isDigit(c) && c != ',' && c != '_' {
			return false
		}
	}
	return true
}

// isUpstream tells whether a text may be that of an upstream's address: one word.
func isUpstream(s []byte) bool { return len(s) > 0 && bytes.IndexByte(s, ' ') < 0 }

// isAddress tells whether a word may be an address as Envoy prints it.
func isAddress(s []byte) bool {
	return len(s) > 0 && (s[0] == '-' && len(s) == 1 || s[0] == '[' || isDigit(s[0]) || bytes.IndexByte(s, '/') >= 0)
}

func hasPrefix(s []byte, prefix string) bool {
	return len(s) >= len(prefix) && string(s[:len(prefix)]) == prefix
}
