package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/process"
)

// graph is what the API says of the whole recording.
type graph struct {
	Edges []struct {
		Source, Destination, Service, Protocol, Security, Waypoint, Health string

		Port        int
		Connections struct{ Opened, Closed, Failed, Active uint64 }
		Failures    map[string]uint64
		Bytes       struct{ Sent, Received uint64 }
		Requests    struct{ Total, Errors uint64 }
	}
}

// replay runs a recording through a collector as fast as it can and asks its API what came of it.
func replay(ctx context.Context, binary, config, recording string) (result *outcome, err error) {
	folder, err := os.MkdirTemp("", "recording-")
	if err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	ports, err := process.FreePorts(ctx, 1)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("localhost:%d", ports[0])
	collector, err := process.Start(ctx, binary, folder, []string{
		"NEPHILIA_RECORDING=" + recording, "NEPHILIA_REPLAY_SPEED=max", "NEPHILIA_API=" + address, "NEPHILIA_DATA=" + folder + "/data",
	}, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, collector.Stop()) }()
	api := "http://" + address + "/api/v1/"
	if err := collector.Await(ctx, "the replay is done", func() error { return done(ctx, api) }); err != nil {
		return nil, err
	}
	var g graph
	if err := process.Get(ctx, api+"graph", &g); err != nil {
		return nil, err
	}
	result = &outcome{edges: g.edges(), outages: map[string]string{}}
	var list struct{ Outages []*outage.Outage }
	if err := process.Get(ctx, api+"outages?limit=10000", &list); err != nil {
		return nil, err
	}
	for _, o := range list.Outages {
		name, said := describe(o)
		result.outages[name] = said
	}
	return result, nil
}

func done(ctx context.Context, api string) error {
	var status struct{ Replay struct{ State string } }
	if err := process.Get(ctx, api+"status", &status); err != nil {
		return err
	}
	if status.Replay.State != "done" {
		return fmt.Errorf("the replay is %q", status.Replay.State)
	}
	return nil
}

func (g *graph) edges() map[string]string {
	all := make(map[string]string, len(g.Edges))
	for i := range g.Edges {
		e := &g.Edges[i]
		name := fmt.Sprintf("%s → %s %s:%d %s %s", e.Source, e.Destination, e.Service, e.Port, e.Protocol, e.Security)
		said := fmt.Sprintf("%s, opened %d, closed %d, failed %d", e.Health, e.Connections.Opened, e.Connections.Closed, e.Connections.Failed)
		for _, reason := range slices.Sorted(maps.Keys(e.Failures)) {
			said += fmt.Sprintf(" (%s %d)", reason, e.Failures[reason])
		}
		said += fmt.Sprintf(", active %d, sent %d B, received %d B", e.Connections.Active, e.Bytes.Sent, e.Bytes.Received)
		if e.Requests.Total > 0 {
			said += fmt.Sprintf(", requests %d, errors %d", e.Requests.Total, e.Requests.Errors)
		}
		if e.Waypoint != "" {
			name += " through " + e.Waypoint
		}
		all[name] = said
	}
	return all
}

// describe names an outage by its kind, root and beginning.
func describe(o *outage.Outage) (name, said string) {
	const clock = "15:04:05"
	root := strings.Trim(o.Root.Namespace+"/"+o.Root.Name, "/")
	name = fmt.Sprintf("%s %s %s of %s", o.StartedAt.Format(clock), o.Severity, o.Kind, root)
	ended := "open"
	if o.EndedAt != nil {
		ended = "ended " + o.EndedAt.Format(clock)
	}
	return name, fmt.Sprintf("detected %s, %s. %s", o.DetectedAt.Format(time.TimeOnly), ended, o.Summary)
}
