package replay

import (
	"io"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// format is a kind of files that a recording may have.
type format struct {
	kind Kind
	// prefix and suffix surround the name of a node or of a waypoint, which documented stands for; a file of all has only a prefix.
	prefix, documented, suffix string
	// jitter is by how much the parts of one file may be out of order.
	jitter time.Duration
	// open reads a file's parts; all are the recording's files, name what is between prefix and suffix.
	open func(in io.Reader, limits Limits, all []recordingFile, name string) source
}

// formats are all kinds of files.
var formats = []format{
	{kind: KindXDS, prefix: "xds.binpb", open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return &xdsBinarySource{in: in, limit: limits.Part}
	}},
	{kind: KindXDS, prefix: "xds.jsonl", open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return &xdsJSONSource{newLineReader(in, limits.Part, skipLong)}
	}},
	{kind: KindConfigDump, prefix: "config_dump-", documented: "NODE", suffix: ".jsonl", open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return &dumpSource{newLineReader(in, limits.Part, skipLong)}
	}},
	{kind: KindScrape, prefix: "metrics-", documented: "NAME", suffix: ".prom", open: func(in io.Reader, limits Limits, all []recordingFile, name string) source {
		node := slices.ContainsFunc(all, func(other recordingFile) bool {
			return other.node == name && (other.kind == KindEntry || other.kind == KindConfigDump)
		})
		return &scrapeSource{lines: newLineReader(in, limits.Part, skipLong), limit: limits.Part, ztunnel: node}
	}},
	// A ztunnel's threads write its log.
	{kind: KindEntry, prefix: "ztunnel-", documented: "NODE", suffix: ".log", jitter: time.Second, open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return newEntrySource(in, limits, accesslog.Style{})
	}},
	// An Envoy's threads write their lines when a request ends, or a second later.
	{kind: KindRequest, prefix: "waypoint-", documented: "NAMESPACE-NAME", suffix: ".log", jitter: 2 * time.Second, open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return newRequestSource(in, limits, false)
	}},
	{kind: KindRequest, prefix: "gateway-", documented: "NAMESPACE-NAME", suffix: ".log", jitter: 2 * time.Second, open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return newRequestSource(in, limits, true)
	}},
	{kind: KindCNI, prefix: "istio-cni-", documented: "NODE", suffix: ".log", jitter: time.Second, open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return newEntrySource(in, limits, accesslog.Style{})
	}},
	// Several applications send their requests to one file.
	{kind: KindSpans, prefix: "otlp-traces.jsonl", jitter: 5 * time.Second, open: func(in io.Reader, limits Limits, _ []recordingFile, _ string) source {
		return &spanSource{lines: newLineReader(in, limits.Part, skipLong), decoder: ptrace.JSONUnmarshaler{}}
	}},
}

// recordingFile is a file of a recording.
type recordingFile struct {
	*format
	// name is the file's, node what it is about.
	name, node string
}

// parseName tells what a file is by its name.
func parseName(name string) (file recordingFile, ok bool) {
	plain := strings.TrimSuffix(name, ".gz")
	for i := range formats {
		f := &formats[i]
		if f.suffix == "" {
			if plain == f.prefix {
				return recordingFile{format: f, name: name}, true
			}
			continue
		}
		node, ok := strings.CutPrefix(plain, f.prefix)
		if !ok {
			continue
		}
		if node, ok = strings.CutSuffix(node, f.suffix); ok && node != "" {
			return recordingFile{format: f, name: name, node: node}, true
		}
	}
	return recordingFile{}, false
}

// fileNames lists the names of files, for messages.
func fileNames() string {
	names := make([]string, len(formats))
	for i := range formats {
		names[i] = formats[i].prefix + formats[i].documented + formats[i].suffix
	}
	return strings.Join(names, ", ")
}
