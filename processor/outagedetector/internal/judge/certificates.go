package judge

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Certificate is an identity with a fault.
type Certificate struct {
	Root  outage.Subject
	Fault observe.Fault
	Nodes []string
	// Text says what is wrong; Evidence is the kind of evidence that it is.
	Text, Evidence string
}

// Certificates are the identities with a fault: those about to expire, and ztunnels that cannot get any.
type Certificates struct {
	All []Certificate

	store *observe.Store
	// checked is when anything was looked at last, expiring what was found at expiries.
	checked, expiries int64
	expiring          []Certificate
}

// certificatesEvery is how often the certificates of all ztunnels are looked through.
const certificatesEvery = int64(30 * time.Second)

func (j *Certificates) judge(now int64) {
	if now-j.checked < certificatesEvery && len(j.All) == 0 {
		return
	}
	j.checked = now
	base := j.store.Catalogue.Base()
	if rule := base.Get(rules.CertificateExpiry); rule != nil && now-j.expiries >= certificatesEvery {
		j.expiries = now
		j.expire(rule, now)
	}
	j.All = append(j.All[:0], j.expiring...)
	for i := range j.All {
		j.All[i].Fault.LastBad = now
	}
	if rule := base.Get(rules.CertificateFailures); rule != nil {
		j.fail(rule, now)
	}
}

// Istiod is the control plane as outages name it.
var Istiod = outage.Subject{Type: "control_plane", Namespace: "istio-system", Name: "istiod"}

// fail finds ztunnels that cannot get certificates. Where several cannot, it is who signs them.
func (j *Certificates) fail(rule *rules.Rule, now int64) {
	for _, n := range j.store.Nodes.ByName {
		if n.Name == "" || !n.Certificates.Failing(now, rule.Window) || n.Certificates.Count < rule.MinCount {
			continue
		}
		j.All = append(j.All, Certificate{
			Root: outage.Subject{Type: "node", Name: n.Name}, Nodes: []string{n.Name}, Text: n.Certificates.Evidence.Text, Evidence: outage.EvidenceLog,
			Fault: observe.Fault{
				On: true, Rule: rule, Since: n.Certificates.First, Fired: now, LastBad: now, Kind: rule.Kind,
				Tally: observe.Tally{Ratio: 1, Failed: n.Certificates.Count, Total: n.Certificates.Count},
			},
		})
	}
	failing := j.All[len(j.expiring):]
	slices.SortFunc(failing, func(a, b Certificate) int { return strings.Compare(a.Root.Name, b.Root.Name) })
	if len(failing) > 1 {
		shared := &failing[0]
		shared.Root = Istiod
		for i := range failing[1:] {
			other := &failing[1+i]
			shared.Nodes = append(shared.Nodes, other.Nodes...)
			shared.Fault.Since = min(shared.Fault.Since, other.Fault.Since)
			shared.Fault.Failed += other.Fault.Failed
			shared.Fault.Total += other.Fault.Total
		}
		j.All = j.All[:len(j.expiring)+1]
	}
}

// expire finds certificates that are about to expire.
func (j *Certificates) expire(rule *rules.Rule, now int64) {
	found := map[string]*Certificate{}
	at := time.Unix(0, now)
	for _, z := range j.store.Mesh.Ztunnels() {
		for i := range z.Certificates {
			c := &z.Certificates[i]
			due, is := dueAt(c, rule, at)
			if !is {
				continue
			}
			entry, ok := found[c.Identity]
			if !ok {
				entry = &Certificate{
					Root: j.owner(c.Identity), Evidence: outage.EvidenceObservation,
					Text: "certificate of " + c.Identity + " expires at " + c.NotAfter.UTC().Format(time.RFC3339),
					Fault: observe.Fault{
						On: true, Rule: rule, Since: due.UnixNano(), Fired: now, LastBad: now, Kind: rule.Kind, Tally: observe.Tally{Ratio: 0.1},
					},
				}
				found[c.Identity] = entry
			}
			if !slices.Contains(entry.Nodes, z.Node) {
				entry.Nodes = append(entry.Nodes, z.Node)
			}
			if !at.Before(c.NotAfter) {
				entry.Fault.Ratio = 1
			}
		}
	}
	j.expiring = j.expiring[:0]
	for _, identity := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[identity].Nodes)
		j.expiring = append(j.expiring, *found[identity])
	}
}

// dueAt is when a certificate in use should have been renewed, and whether it should by now.
func dueAt(c *mesh.Certificate, rule *rules.Rule, now time.Time) (due time.Time, is bool) {
	if c.NotAfter.IsZero() || c.NotBefore.IsZero() || !now.After(c.NotBefore) {
		return due, false
	}
	lifetime := c.NotAfter.Sub(c.NotBefore)
	due = c.NotAfter.Add(-time.Duration(float64(lifetime) * rule.MinRatio))
	return due, !now.Before(due)
}

// owner is the workload behind spiffe://domain/ns/NAMESPACE/sa/ACCOUNT.
func (j *Certificates) owner(identity string) outage.Subject {
	var namespace, account string
	parts := strings.Split(identity, "/")
	for i := 0; i+1 < len(parts); i++ {
		switch parts[i] {
		case "ns":
			namespace = parts[i+1]
		case "sa":
			account = parts[i+1]
		}
	}
	name := j.store.Mesh.Owner(namespace, account)
	return outage.Subject{Type: "workload", Namespace: name.Namespace, Name: name.Name}
}
