package record

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// maxNames bounds the names that are known. Beyond it nothing is recorded any more, rather than a name.
const maxNames = 500_000

var errNames = errors.New("there are too many names to replace")

// scrubber replaces names and addresses by others, the same by the same. What is a name it learns from where names stand (fields of access
// logs, labels, istiod's resources), word by word, and then replaces it wherever it stands, in messages, too. Addresses become others of their
// kind, one by one, so that no two become the same. Ports, times, counts, codes and reasons stay.
type scrubber struct {
	key   []byte
	words map[string]string   // bounded by maxNames
	names map[string]struct{} // whose words are known; bounded by maxNames
}

// newScrubber returns a scrubber; without a key it takes a random one.
func newScrubber(key []byte) *scrubber {
	if len(key) == 0 {
		key = make([]byte, sha256.Size)
		_, _ = rand.Read(key) // It never fails.
	}
	return &scrubber{key: key, words: map[string]string{}, names: map[string]struct{}{}}
}

func (s *scrubber) sum(kind byte, text []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	_, _ = mac.Write(append([]byte{kind}, text...)) // It never fails.
	return mac.Sum(nil)
}

var (
	word   = regexp.MustCompile(`[A-Za-z0-9_]+`)
	kept   = regexp.MustCompile(`^(v?\d+|\d+(ns|us|ms|s|m|h)|.|[0-9_]*)$`)
	v4     = regexp.MustCompile(`\b(?:\d{1,3}\.){3}\d{1,3}\b`)
	v4Name = regexp.MustCompile(`\bip-(?:\d{1,3}-){3}\d{1,3}\b`) // as cloud providers name nodes

	// Where names stand in text.
	fields = regexp.MustCompile(`(?:src|dst)\.(?:workload|namespace|identity|service|cluster|node)"?\s*[=:]\s*"?([^"\s,]+)`)
	others = regexp.MustCompile(`denied by:\s*([^"\s,]+)|/ns/([^/\s"]+)/sa/([^/\s",;]+)|(?:name|namespace|service_account|node):\s*"([^"]+)"`)
	hosts  = regexp.MustCompile(`(?:[A-Za-z0-9_-]+\.)+[A-Za-z]{2,}\b`)
	labels = regexp.MustCompile(`(?:workload|namespace|principal|service|service_name|app|version|revision|cluster|locality|node|pod|instance)="([^"]*)"`)
	query  = regexp.MustCompile(`\?[^\s"]*`)
)

// learn takes the words of a name.
func (s *scrubber) learn(name string) {
	if _, known := s.names[name]; known {
		return
	}
	if len(s.names) < maxNames {
		s.names[strings.Clone(name)] = struct{}{}
	}
	for _, w := range word.FindAllString(v4Name.ReplaceAllString(v4.ReplaceAllString(name, ""), ""), -1) {
		if _, known := s.words[w]; known || kept.MatchString(w) || slices.Contains(vocabulary, w) || len(s.words) > maxNames {
			continue
		}
		s.words[strings.Clone(w)] = s.other(w)
	}
}

// other is the word that stands for another: of its length where that tells what it is, such as the end of a pod's name.
func (s *scrubber) other(w string) string {
	const letters, all, least, suffix = "bcdfghjklmnpqrstvwxz", "bcdfghjklmnpqrstvwxz2456789", 8, 5
	length := len(w)
	if length != suffix {
		length = min(max(length, least), sha256.Size)
	}
	out := s.sum('w', []byte(w))[:length]
	for i := range out {
		if out[i] = all[int(out[i])%len(all)]; i == 0 {
			out[i] = letters[int(out[i])%len(letters)]
		}
	}
	return string(out)
}

// part is a byte of a word, an address or a host's name.
func part(c byte) bool { return wordly(c) || c == '.' || c == ':' }

func wordly(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c == '_'
}

// replace replaces what is known, and addresses.
func (s *scrubber) replace(text string) string {
	if strings.Contains(text, "ip-") {
		text = v4Name.ReplaceAllStringFunc(text, func(name string) string {
			address, _ := netip.ParseAddr(strings.ReplaceAll(name[len("ip-"):], "-", "."))
			return "ip-" + strings.ReplaceAll(s.address(address).String(), ".", "-")
		})
	}
	out := make([]byte, 0, len(text)+len(text)/4)
	for at := 0; at < len(text); {
		end := at
		for end < len(text) && part(text[end]) {
			end++
		}
		if end == at {
			out = append(out, text[at])
			at++
			continue
		}
		out = s.replacePart(out, text[at:end])
		at = end
	}
	return string(out)
}

// replacePart replaces an address, with or without a port, or words.
func (s *scrubber) replacePart(out []byte, run string) []byte {
	if strings.Count(run, ".") >= 3 || strings.Count(run, ":") >= 2 {
		trimmed := strings.TrimRight(run, ".:")
		if address, err := netip.ParseAddr(trimmed); err == nil {
			return append(append(out, s.address(address).String()...), run[len(trimmed):]...)
		}
		if with, err := netip.ParseAddrPort(trimmed); err == nil {
			return append(append(out, netip.AddrPortFrom(s.address(with.Addr()), with.Port()).String()...), run[len(trimmed):]...)
		}
	}
	for at := 0; at < len(run); {
		end := at
		for end < len(run) && wordly(run[end]) {
			end++
		}
		if other, ok := s.words[run[at:end]]; ok {
			out = append(out, other...)
		} else {
			out = append(out, run[at:end]...)
		}
		if at = end; at < len(run) {
			out = append(out, run[at])
			at++
		}
	}
	return out
}

func (s *scrubber) name(text string) string {
	s.learn(text)
	return s.replace(text)
}

func (s *scrubber) done(text string) ([]byte, error) {
	if len(s.words) > maxNames {
		return nil, errNames
	}
	return []byte(text), nil
}

func (s *scrubber) learnFrom(text string, where ...*regexp.Regexp) {
	for _, pattern := range where {
		for _, found := range pattern.FindAllStringSubmatch(text, -1) {
			for _, name := range found[min(1, pattern.NumSubexp()):] {
				s.learn(name)
			}
		}
	}
}

// entry is an entry of a ztunnel's log. One of several lines, such as its configuration at its start, is left out.
func (s *scrubber) entry(entry []byte) ([]byte, error) {
	if bytes.IndexByte(bytes.TrimRight(entry, "\r\n"), '\n') >= 0 || bytes.Contains(entry, []byte(`\n`)) {
		return nil, nil
	}
	text := string(entry)
	s.learnFrom(text, fields, others, hosts)
	return s.done(s.replace(text))
}

// request is a line of an Envoy's log. Queries of paths go.
func (s *scrubber) request(line []byte) ([]byte, error) {
	text := query.ReplaceAllString(string(line), "")
	s.learnFrom(text, others, hosts)
	return s.done(s.replace(text))
}

func (s *scrubber) exposition(body []byte) ([]byte, error) {
	text := string(body)
	s.learnFrom(text, labels)
	return s.done(s.replace(text))
}

// named are the fields of resources and dumps that hold names.
var named = []string{
	"uid", "name", "namespace", "network", "hostname", "node", "localNode", "serviceAccount", "canonicalName", "canonicalRevision", "workloadName", "clusterId", "trustDomain",
	"identity", "applicationTunnel", "destination", "workloadUid", "ztunnelWorkload", "exact", "prefix", "suffix", "subjectAltNames", "proxyWorkloadInfo", "waypoint",
}

// dump is a config dump. Certificates' texts go.
func (s *scrubber) dump(dump []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(dump))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		return nil, fmt.Errorf("reading config dump: %w", err)
	}
	s.learnTree(tree, "")
	encoded, err := json.Marshal(s.replaceTree(tree, ""))
	if err != nil {
		return nil, fmt.Errorf("writing config dump: %w", err)
	}
	return s.done(string(encoded))
}

func (s *scrubber) learnTree(node any, field string) {
	switch node := node.(type) {
	case map[string]any:
		for name, value := range node {
			if strings.ContainsAny(name, "/.") {
				s.learn(name)
			}
			s.learnTree(value, name)
		}
	case []any:
		for _, value := range node {
			s.learnTree(value, field)
		}
	case string:
		if slices.Contains(named, field) {
			s.learn(node)
		}
		s.learnFrom(node, others, hosts)
	}
}

func (s *scrubber) replaceTree(node any, field string) any {
	switch node := node.(type) {
	case map[string]any:
		out := make(map[string]any, len(node))
		for name, value := range node {
			other := name
			if strings.ContainsAny(name, "/.-:") {
				other = s.replace(name)
			}
			out[other] = s.replaceTree(value, name)
		}
		return out
	case []any:
		for i := range node {
			node[i] = s.replaceTree(node[i], field)
		}
	case string:
		if field == "pem" {
			return ""
		}
		return s.replace(node)
	}
	return node
}

// response is what istiod sent.
func (s *scrubber) response(response *discoveryv3.DeltaDiscoveryResponse) (*discoveryv3.DeltaDiscoveryResponse, error) {
	out := proto.CloneOf(response)
	contents := make([]proto.Message, len(out.Resources))
	for i, resource := range out.Resources {
		content, err := resource.GetResource().UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("reading istiod's resource: %w", err)
		}
		s.learn(resource.GetName())
		s.walk(content.ProtoReflect(), s.learnField)
		contents[i] = content
	}
	for i, resource := range out.Resources {
		s.walk(contents[i].ProtoReflect(), s.replaceField)
		packed, err := anypb.New(contents[i])
		if err != nil {
			return nil, fmt.Errorf("writing istiod's resource: %w", err)
		}
		resource.Name, resource.Resource, resource.Aliases = s.replace(resource.Name), packed, nil
	}
	for i, name := range out.RemovedResources {
		out.RemovedResources[i] = s.name(name)
	}
	_, err := s.done("")
	return out, err
}

// walk calls do with each text and each bytes of a message, which it may replace.
func (s *scrubber) walk(message protoreflect.Message, do func(field string, value protoreflect.Value) protoreflect.Value) {
	message.Range(func(fd protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		each := func(fd protoreflect.FieldDescriptor, value protoreflect.Value) protoreflect.Value {
			switch fd.Kind() {
			case protoreflect.MessageKind:
				s.walk(value.Message(), do)
				return value
			case protoreflect.StringKind, protoreflect.BytesKind:
				return do(fd.JSONName(), value)
			default:
				return value
			}
		}
		switch {
		case fd.IsMap():
			with := message.NewField(fd).Map()
			value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				if fd.MapKey().Kind() == protoreflect.StringKind {
					key = do("name", key.Value()).MapKey()
				}
				with.Set(key, each(fd.MapValue(), value))
				return true
			})
			message.Set(fd, protoreflect.ValueOfMap(with))
		case fd.IsList():
			for i := range value.List().Len() {
				value.List().Set(i, each(fd, value.List().Get(i)))
			}
		default:
			message.Set(fd, each(fd, value))
		}
		return true
	})
}

func (s *scrubber) learnField(field string, value protoreflect.Value) protoreflect.Value {
	if text, ok := value.Interface().(string); ok {
		if slices.Contains(named, field) {
			s.learn(text)
		}
		s.learnFrom(text, others, hosts)
	}
	return value
}

func (s *scrubber) replaceField(_ string, value protoreflect.Value) protoreflect.Value {
	switch content := value.Interface().(type) {
	case string:
		return protoreflect.ValueOfString(s.replace(content))
	case []byte:
		if address, ok := netip.AddrFromSlice(content); ok {
			return protoreflect.ValueOfBytes(s.address(address).AsSlice())
		}
	}
	return value
}

// ordinary tells whether an address is of the kind that pods, nodes and hosts have. Others mean something by themselves.
func ordinary(a netip.Addr) bool {
	first := a.AsSlice()[0]
	return a.IsGlobalUnicast() && !a.Is4In6() && (!a.Is4() || first != 0 && first < 224 && first != 127)
}

// address is the one that stands for another: a permutation of the ordinary ones of its family (a Feistel network; what leaves them goes on).
func (s *scrubber) address(a netip.Addr) netip.Addr {
	if !a.IsValid() || !ordinary(a) {
		return a
	}
	const rounds = 4
	for {
		b := a.AsSlice()
		half := len(b) / 2
		for round := range byte(rounds) {
			mixed := s.sum('a'+round+byte(len(b)), b[half:])
			for i := range half {
				b[i] ^= mixed[i]
			}
			left := slices.Clone(b[:half])
			copy(b, b[half:])
			copy(b[half:], left)
		}
		a, _ = netip.AddrFromSlice(b)
		if ordinary(a) {
			return a
		}
	}
}
