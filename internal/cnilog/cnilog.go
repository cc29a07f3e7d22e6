// Package cnilog knows what istio-cni-node, the agent that hands pods over to the ztunnel of its node, logs: which pods it could not hand over.
// The outage detector and the query extension use it.
package cnilog

import (
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/nephilia/nephilia/internal/semconv"
)

// The agent's messages about a pod, by how they begin. Source: istio/istio, cni/pkg/nodeagent; the last of failed is that of older releases.
var (
	failed = [...]string{
		"failed to add pod to ztunnel", "Unable to send pod to ztunnel. Will retry", "Failed capturing pod, will not retry",
		"failed to add workload", "add-workload: got ack error", "failed to update POD inpod",
	}
	tried   = [...]string{"adding pod to the mesh", "sending pod add to ztunnel", "sending pod to ztunnel as part of snapshot"}
	removed = [...]string{"removing pod from mesh"}
)

const (
	unhealthyBegins, unhealthySays = "pod: ", " was not enrolled and is unhealthy"

	// maxPods bounds the pods of an agent that are known to have failed.
	maxPods = 1024
	// persists is for how long a pod is not handed over until that is no matter of a restart.
	persists = pcommon.Timestamp(10 * time.Second)
	// answers is within what time a ztunnel answers: an attempt of which no failure was told by then went well.
	answers = pcommon.Timestamp(6 * time.Second)
)

// Pod is a pod that an agent could not hand over to its ztunnel.
type Pod struct {
	// First and Last are when it failed, since it was well last.
	First, Last pcommon.Timestamp
	// Text is the newest error.
	Text string

	tried pcommon.Timestamp
	told  bool
}

// Pods are the pods of a node that its agent could not hand over, by "namespace/name". The zero value has none.
type Pods struct {
	byName map[string]*Pod // bounded by maxPods
}

// Take takes over a line of the agent.
func (p *Pods) Take(record plog.LogRecord, text string, at pcommon.Timestamp) {
	name := nameOf(record.Attributes(), text)
	if name == "" {
		return
	}
	pod := p.byName[name]
	switch {
	case begins(text, removed[:]):
		delete(p.byName, name)
	case begins(text, tried[:]):
		if pod != nil {
			pod.tried = max(pod.tried, at)
		}
	case begins(text, failed[:]), strings.Contains(text, unhealthySays):
		if pod == nil {
			if len(p.byName) >= maxPods {
				return
			}
			if p.byName == nil {
				p.byName = map[string]*Pod{}
			}
			pod = &Pod{First: at}
			p.byName[strings.Clone(name)] = pod
		}
		if pod.served(at) {
			pod.First, pod.told = at, false
		}
		if at >= pod.Last {
			pod.Last, pod.Text = at, strings.Clone(text)
		}
	}
}

// served tells whether the newest attempt went well.
func (p *Pod) served(now pcommon.Timestamp) bool {
	return p.tried > p.Last && now-min(p.tried, now) > answers
}

// Waits tells whether a pod is not handed over at a time, and for how long that is so that it is no matter of a restart.
func (p *Pod) Waits(now pcommon.Timestamp) bool {
	switch {
	case p.served(now):
		p.told = false
	case p.tried <= p.Last:
		p.told = p.told || now-min(p.First, now) >= persists
	}
	return p.told
}

// Waiting calls visit with every pod that is not handed over at a time. Those that are served for long are forgotten.
func (p *Pods) Waiting(now pcommon.Timestamp, visit func(namespace, name string, pod *Pod)) {
	for key, pod := range p.byName {
		if pod.Waits(now) {
			namespace, name, _ := strings.Cut(key, "/")
			visit(namespace, name, pod)
		} else if pod.served(now) {
			delete(p.byName, key)
		}
	}
}

// Text is why a pod is not handed over at a time; empty where it is, or nothing is known.
func (p *Pods) Text(namespace, name string, now pcommon.Timestamp) string {
	if pod, ok := p.byName[namespace+"/"+name]; ok && pod.tried <= pod.Last && now-min(pod.First, now) >= persists {
		return pod.Text
	}
	return ""
}

// nameOf is "namespace/name" of the pod that a line is about, empty if it is about none.
func nameOf(attrs pcommon.Map, text string) string {
	if rest, ok := strings.CutPrefix(text, unhealthyBegins); ok {
		if name, _, ok := strings.Cut(rest, unhealthySays); ok && strings.Count(name, "/") == 1 {
			return name
		}
	}
	namespace, name := field(attrs, "ns"), field(attrs, "name")
	if namespace == "" {
		namespace = field(attrs, "namespace")
	}
	if namespace == "" || name == "" {
		return ""
	}
	return namespace + "/" + name
}

func field(attrs pcommon.Map, name string) string {
	value, _ := attrs.Get(semconv.AttrFieldPrefix + name)
	return value.Str()
}

func begins(text string, beginnings []string) bool {
	for _, beginning := range beginnings {
		if strings.HasPrefix(text, beginning) {
			return true
		}
	}
	return false
}
