package outagealertexporter

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
)

// alert is an alert as POST /api/v2/alerts takes it.
type alert struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

// alertName is the alertname of every outage, as in deploy/alerts.
const alertName = "MeshOutage"

// ownLabels are those that an alert gets from its outage. They identify it at the Alertmanager.
var ownLabels = []string{
	"alertname", semconv.LabelOutageID, semconv.LabelKind, semconv.LabelSeverity, semconv.LabelRootType, semconv.LabelRootNamespace, semconv.LabelRootName,
}

// labelNamespace is what routes of the Prometheus operator's AlertmanagerConfigs match.
const labelNamespace = "namespace"

// labelsOf are the labels under which an outage is told, the configured ones among them.
func labelsOf(o *outage.Outage, more map[string]string) map[string]string {
	labels := make(map[string]string, len(ownLabels)+1+len(more))
	// An empty label is no label to an Alertmanager.
	if o.Root.Namespace != "" {
		labels[labelNamespace] = o.Root.Namespace
		labels[semconv.LabelRootNamespace] = o.Root.Namespace
	}
	for name, value := range more {
		labels[name] = value
	}
	labels["alertname"] = alertName
	labels[semconv.LabelOutageID] = o.ID
	labels[semconv.LabelKind] = o.Kind
	labels[semconv.LabelSeverity] = o.Severity
	labels[semconv.LabelRootType] = o.Root.Type
	labels[semconv.LabelRootName] = o.Root.Name
	return labels
}

const (
	// shownEvidence and shownImpact are how much of each an alert tells.
	shownEvidence = 5
	shownImpact   = 10
	maxAnnotation = 2000
)

// annotationsOf say what a person wants to read about an outage.
func annotationsOf(o *outage.Outage, runbook string) map[string]string {
	annotations := map[string]string{"summary": shortened(o.Summary)}
	if runbook != "" {
		annotations["runbook_url"] = runbook + "#" + o.Kind
	}
	var evidence []string
	for _, e := range o.Evidence[:min(len(o.Evidence), shownEvidence)] {
		evidence = append(evidence, fmt.Sprintf("%s %s: %s", e.Time.UTC().Format("15:04:05"), e.Source, e.Text))
	}
	if len(evidence) > 0 {
		annotations["description"] = shortened(strings.Join(evidence, "\n"))
	}
	var impact []string
	for _, i := range o.Impact[:min(len(o.Impact), shownImpact)] {
		impact = append(impact, joined(i.Namespace, i.Name.Name))
	}
	if more := len(o.Impact) - len(impact); more > 0 {
		impact = append(impact, fmt.Sprintf("%d more", more))
	}
	if len(impact) > 0 {
		annotations["impact"] = shortened(strings.Join(impact, ", "))
	}
	if o.Policy != "" {
		annotations["policy"] = shortened(o.Policy)
	}
	return annotations
}

func joined(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}

func shortened(text string) string {
	if len(text) <= maxAnnotation {
		return text
	}
	return strings.ToValidUTF8(text[:maxAnnotation], "") + "…"
}

func pageOf(externalURL, id string) string {
	return strings.TrimSuffix(externalURL, "/") + "/outages/" + url.PathEscape(id)
}
