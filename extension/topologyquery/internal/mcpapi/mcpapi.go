// Package mcpapi offers assistants what is known of the mesh as tools of the Model Context Protocol: what broke and why, who feels it,
// what changed, and, under the names and shapes of Jaeger's own tools, traces. Every answer is bounded, says what was left out, and says how
// fresh it is.
package mcpapi

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/nephilia/nephilia/extension/topologyquery/internal/changes"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/flows"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/graph"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/history"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/inventory"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/sources"
	"github.com/nephilia/nephilia/extension/topologyquery/internal/traces"
	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
)

// maxBody bounds a call, in bytes.
const maxBody = 1 << 20

//go:embed INSTRUCTIONS.md
var instructions string

//go:embed skills
var skills embed.FS

// Outages are the outages that are kept. outages.Store is one.
type Outages interface {
	List(start, end time.Time, state string) []*outage.Outage
	Get(id string) *outage.Outage
}

// Changes are the changes that are kept. changes.Store is one.
type Changes interface {
	List(filter changes.Filter, after *changes.Cursor, limit int) (list []changes.Change, total int, next *changes.Cursor)
}

// Mesh is what the mesh consists of. inventory.Inventory is one.
type Mesh interface {
	Workloads() []*inventory.Workload
	Policies() []*mesh.Policy
	// Policy also returns one that is gone; present is false then.
	Policy(key string) (policy *mesh.Policy, present bool)
}

// Flows are the records of connections and requests. flows.Store is one.
type Flows interface {
	List(ctx context.Context, filter flows.Filter, before uint64, limit int) (list []*flows.Flow, next uint64, err error)
}

// Sources tell which telemetry arrives. sources.Tracker is one.
type Sources interface {
	Clock() (first, now int64)
	Nodes() []sources.Node
	Replay() (r sources.Replay, ok bool)
}

// Graphs makes the graph of a window. release gives its memory back: nothing of it may be used afterwards.
type Graphs interface {
	Graph(ctx context.Context, options graph.Options) (g *graph.Graph, release func(), err error)
}

// Settings of the server.
type Settings struct {
	Version string
	Outages Outages
	Changes Changes
	Mesh    Mesh
	Flows   Flows
	Traces  traces.Reader
	Graphs  Graphs
	Sources Sources
	// Engine evaluates PromQL over the mesh's series.
	Engine history.Engine
	// MaxRange bounds a window.
	MaxRange time.Duration
	// Wall is the wall clock, by which the age of the data is told.
	Wall func() time.Time
}

// server answers calls.
type server struct{ Settings }

// New returns the handler of the endpoint: streamable HTTP, without sessions.
func New(settings Settings) http.Handler {
	s := &server{settings}
	m := mcp.NewServer(&mcp.Implementation{Name: "nephilia", Title: "Nephilia: the mesh and its outages", Version: s.Version}, &mcp.ServerOptions{
		Instructions: instructions,
		Logger:       slog.New(slog.DiscardHandler),
	})
	outageTools{s}.add(m)
	graphTools{s}.add(m)
	queryTools{s}.add(m)
	traceTools{s}.add(m)
	s.addSkills(m)
	return mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return m }, &mcp.StreamableHTTPOptions{
		// Nobody's state is kept, and what a call costs ends with its answer.
		Stateless: true, JSONResponse: true, MaxRequestBodyBytes: maxBody,
		// The API checks whom requests are for, for all of its routes.
		DisableLocalhostProtection: true,
	})
}

// add adds a tool that reads.
func add[In, Out any](m *mcp.Server, name, description string, answer func(ctx context.Context, in In) (Out, error)) {
	tool := &mcp.Tool{Name: name, Description: description, Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true}}
	mcp.AddTool(m, tool, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		out, err := answer(ctx, in)
		return nil, out, err
	})
}

// Fresh says how fresh an answer is.
type Fresh struct {
	DataTime string `json:"data_time,omitempty" jsonschema:"The newest time of the data, to which relative times refer"`
	Warning  string `json:"warning,omitempty" jsonschema:"Why the answer may be incomplete: what is silent is unknown, not healthy"`
}

// staleAfter is how old live data may be before that is said.
const staleAfter = 2 * time.Minute

// fresh says how fresh the data is.
func (s *server) fresh() Fresh {
	_, now := s.Sources.Clock()
	if now == 0 {
		return Fresh{Warning: "no telemetry has arrived yet: nothing is known, which does not mean that all is well"}
	}
	f := Fresh{DataTime: format(time.UnixMilli(now))}
	var warnings []string
	if _, replay := s.Sources.Replay(); replay {
		warnings = append(warnings, "this is a recording that is replayed")
	} else if age := s.Wall().Sub(time.UnixMilli(now)); age > staleAfter {
		warnings = append(warnings, "the newest data is "+age.Round(time.Second).String()+" old")
	}
	if troubled := s.troubled(); len(troubled) > 0 {
		warnings = append(warnings, fmt.Sprintf("telemetry is missing from %d sources (get_status lists them), so that what they would tell is unknown", len(troubled)))
	}
	f.Warning = strings.Join(warnings, "; ")
	return f
}

// now is the data's time, and the wall clock's before there is any.
func (s *server) now() time.Time {
	if _, now := s.Sources.Clock(); now != 0 {
		return time.UnixMilli(now).UTC()
	}
	return s.Wall().UTC()
}

func format(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// at reads a time: RFC 3339, unix seconds, now, or so long before it, such as -15m. The data's clock says what now is.
func (s *server) at(name, text string, fallback time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return fallback, nil
	case text == "now":
		return s.now(), nil
	case strings.HasPrefix(text, "-"):
		ago, err := time.ParseDuration(text[1:])
		if err != nil {
			return time.Time{}, fmt.Errorf("%s: %q is not a time such as -15m", name, text)
		}
		return s.now().Add(-ago), nil
	}
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e10 {
		return time.UnixMilli(int64(seconds * 1000)).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %q is neither an RFC 3339 time, nor now, nor so long before it, such as -15m", name, text)
	}
	return t.UTC(), nil
}

// Window is a range of time that a tool is asked for.
type Window struct {
	Start string `json:"start,omitempty" jsonschema:"Start of the window: RFC 3339, or relative to the newest data, such as -15m. Default: -15m"`
	End   string `json:"end,omitempty" jsonschema:"End of the window: RFC 3339, or relative to the newest data, such as -5m. Default: now"`
}

// defaultWindow is a window of which only an end is known.
const defaultWindow = 15 * time.Minute

func (s *server) window(w Window) (start, end time.Time, err error) {
	if end, err = s.at("end", w.End, s.now()); err != nil {
		return start, end, err
	}
	if start, err = s.at("start", w.Start, end.Add(-defaultWindow)); err != nil {
		return start, end, err
	}
	switch {
	case !start.Before(end):
		err = errors.New("start must lie before end")
	case end.Sub(start) > s.MaxRange:
		err = fmt.Errorf("the window is longer than %s", s.MaxRange)
	}
	return start, end, err
}

// bounded is how many to list of what is asked for.
func bounded(asked, fallback, most int) int {
	if asked <= 0 {
		return fallback
	}
	return min(asked, most)
}

// cut keeps the first of a list and says how many there are in all.
func cut[T any](list []T, limit int) (kept []T, total int, truncated bool) {
	return list[:min(limit, len(list))], len(list), len(list) > limit
}

// addSkills adds the tool that reads skills, and outages as resources.
func (s *server) addSkills(m *mcp.Server) {
	type in struct {
		Path string `json:"path" jsonschema:"Relative path of a skill, such as SKILL.md or triage-outage/SKILL.md"`
	}
	type out struct {
		Instructions string `json:"instructions"`
	}
	add(m, "read_skill", "Read how to go about a task. Begin with SKILL.md, which names the others.", func(_ context.Context, in in) (out, error) {
		text, err := fs.ReadFile(skills, "skills/"+strings.TrimPrefix(in.Path, "/"))
		if err != nil {
			return out{}, fmt.Errorf("there is no skill %q; begin with SKILL.md", in.Path)
		}
		return out{string(text)}, nil
	})
	const scheme = "nephilia://outages/"
	m.AddResourceTemplate(&mcp.ResourceTemplate{
		Name: "outage", Title: "An outage", URITemplate: scheme + "{id}", MIMEType: "application/json",
		Description: "All that is known of an outage, as the topology API serves it.",
	}, func(_ context.Context, request *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		o := s.Outages.Get(strings.TrimPrefix(request.Params.URI, scheme))
		if o == nil {
			return nil, mcp.ResourceNotFoundError(request.Params.URI)
		}
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: request.Params.URI, MIMEType: "application/json", Text: encode(o)}}}, nil
	})
}
