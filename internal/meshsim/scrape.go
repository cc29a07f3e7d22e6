package meshsim

import (
	"fmt"
	"sort"
	"strconv"
	"time"
)

type seriesKey struct {
	source, destination *workload
	service             *workload // that was called
	sourceZone, zone    string
	outbound            bool
	flag                string
}

func (z *ztunnel) series(conn *connection, outbound bool, flag string) *counters {
	source, destination := conn.ends(outbound)
	key := seriesKey{
		source: source.workload, destination: destination.workload, service: conn.to,
		sourceZone: source.zone, zone: destination.zone, outbound: outbound, flag: flag,
	}
	c, ok := z.counters[key]
	if !ok {
		c = &counters{labels: key.labels()}
		z.counters[key] = c
		z.order = append(z.order, key)
	}
	return c
}

func (k seriesKey) labels() string {
	reporter := "destination"
	if k.outbound {
		reporter = "source"
	}
	s, d := k.source, k.destination
	security, principal := "mutual_tls", s.identity()
	if !s.mesh || !d.mesh {
		security, principal = "unknown", "unknown"
	}
	if s.hostNetwork {
		// Whose a node's address is no ztunnel knows.
		s = &workload{app: "unknown", namespace: "unknown", version: "unknown"}
	}
	if d.outside {
		return outsideLabels(s, k.flag, k.sourceZone)
	}
	return fmt.Sprintf(`reporter=%q,source_workload=%q,source_canonical_service=%q,source_canonical_revision=%q,`+
		`source_workload_namespace=%q,source_principal=%q,source_app=%q,source_version=%q,source_cluster="Kubernetes",`+
		`destination_service=%q,destination_service_namespace=%q,destination_service_name=%q,destination_workload=%q,`+
		`destination_canonical_service=%q,destination_canonical_revision=%q,destination_workload_namespace=%q,`+
		`destination_principal=%q,destination_app=%q,destination_version=%q,destination_cluster="Kubernetes",`+
		`request_protocol="tcp",response_flags=%q,connection_security_policy=%q,source_region="eu-west",source_zone=%q,`+
		`destination_region="eu-west",destination_zone=%q`,
		reporter, s.name(), s.app, s.version, s.namespace, principal, s.app, s.version,
		k.service.host(), k.service.namespace, k.service.app, d.name(), d.app, d.version, d.namespace, d.identity(), d.app, d.version,
		k.flag, security, k.sourceZone, k.zone)
}

// scrape writes one exposition, or the mark of one that failed.
func (z *ztunnel) scrape(out *part, at int64, fails bool, further func()) {
	when := Epoch.Add(time.Duration(at)).Format(time.RFC3339Nano)
	if fails {
		out.print("## scrape %s failed\n", when)
		return
	}
	out.print("## scrape %s ok\n", when)
	out.print("# HELP istio_build Istio component build info.\n# TYPE istio_build gauge\nistio_build{component=\"ztunnel\",tag=%q} 1\n", z.tag())
	out.print("# HELP istio_xds_message Total number of messages received (unstable).\n# TYPE istio_xds_message counter\n")
	for _, name := range sorted(z.messages) {
		out.print("istio_xds_message_total{url=%q} %d\n", name, z.messages[name])
	}
	if z.drops+z.completed > 0 {
		out.print("# HELP istio_xds_connection_terminations The total number of completed connections to xds server (unstable).\n" +
			"# TYPE istio_xds_connection_terminations counter\n")
		for _, ended := range []struct {
			reason string
			n      int
		}{{"Complete", z.completed}, {"ConnectionError", z.drops}} {
			if ended.n > 0 {
				out.print("istio_xds_connection_terminations_total{reason=%q} %d\n", ended.reason, ended.n)
			}
		}
	}
	z.family(out, "istio_tcp_connections_opened", "The total number of TCP connections opened.", func(c *counters, flag string) int64 { return present(c.opened, flag) })
	z.family(out, "istio_tcp_connections_closed", "The total number of TCP connections closed.", func(c *counters, _ string) int64 { return present(c.closed, "") })
	// Sent and received are the other way round than in the access log (istio#32399).
	z.family(out, "istio_tcp_received_bytes", "The size of total bytes received during request in case of a TCP connection.", func(c *counters, flag string) int64 { return present(c.sent, flag) })
	z.family(out, "istio_tcp_sent_bytes", "The size of total bytes sent during response in case of a TCP connection.", func(c *counters, flag string) int64 { return present(c.recv, flag) })
	if z.old {
		out.print("# EOF\n")
		return
	}
	further()
	z.family(out, "istio_tcp_connections_failed", "The total number of TCP connections that failed to establish (unstable).", func(c *counters, _ string) int64 {
		if !c.hasFailed {
			return absent
		}
		return c.failed
	})
	out.print("# EOF\n")
}

func (z *ztunnel) tag() string {
	if z.old {
		return "1.22.0"
	}
	return "unknown"
}

const absent = -1

// Only connections without a failure open a series and carry bytes.
func present(value int64, flag string) int64 {
	if flag != "" && flag != "-" {
		return absent
	}
	return value
}

func (z *ztunnel) family(out *part, name, help string, value func(*counters, string) int64) {
	header := false
	for _, key := range z.order {
		v := value(z.counters[key], key.flag)
		if v == absent {
			continue
		}
		if !header {
			header = true
			out.print("# HELP %s %s\n# TYPE %s counter\n", name, help, name)
		}
		out.text(name)
		out.text("_total{")
		out.text(z.counters[key].labels)
		out.text("} ")
		out.text(strconv.FormatInt(v, 10))
		out.text("\n")
	}
}

func sorted(m map[string]int) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// outsideLabels are those of a connection to somebody whom istiod does not know.
func outsideLabels(s *workload, flag, zone string) string {
	const unknown = `destination_service="unknown",destination_service_namespace="unknown",destination_service_name="unknown",destination_workload="unknown",` +
		`destination_canonical_service="unknown",destination_canonical_revision="unknown",destination_workload_namespace="unknown",destination_principal="unknown",` +
		`destination_app="unknown",destination_version="unknown",destination_cluster="unknown"`
	return fmt.Sprintf(`reporter="source",source_workload=%q,source_canonical_service=%q,source_canonical_revision=%q,source_workload_namespace=%q,`+
		`source_principal="unknown",source_app=%q,source_version=%q,source_cluster="Kubernetes",%s,request_protocol="tcp",response_flags=%q,`+
		`connection_security_policy="unknown",source_region="eu-west",source_zone=%q,destination_region="unknown",destination_zone="unknown"`,
		s.name(), s.app, s.version, s.namespace, s.app, s.version, unknown, flag, zone)
}
