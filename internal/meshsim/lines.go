package meshsim

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ztunnel is one node's ztunnel: it writes the access log and keeps the counters that a scrape shows.
type ztunnel struct {
	node     string
	json     bool
	quiet    bool // nothing below warnings is logged
	old      bool // of 1.22
	log      *part
	counters map[seriesKey]*counters
	order    []seriesKey
	messages map[string]int // xDS messages by type
	// xDS connections that could not be had, and that ended as they should.
	drops, completed int
	buffer           []byte
	own              *own // nil if it tells nothing of itself
}

type counters struct {
	labels                 string
	opened, closed, failed int64
	sent, recv             int64 // in the client's sense
	hasFailed              bool
}

func (z *ztunnel) reset() {
	z.counters, z.order = map[seriesKey]*counters{}, nil
	z.messages = map[string]int{}
}

func (z *ztunnel) opened(conn *connection, outbound bool, _ int64) {
	if conn.early {
		return
	}
	z.series(conn, outbound, "-").opened++
	z.own.count(outbound, 1)
}

// carried adds to the byte counters what an open connection has carried since it was last looked at.
func (z *ztunnel) carried(conn *connection, outbound bool, _ int64) {
	c := z.series(conn, outbound, "-")
	c.sent += conn.sent - conn.live[0]
	c.recv += conn.recv - conn.live[1]
}

func (z *ztunnel) closed(conn *connection, outbound bool, at int64) {
	failure, flag := conn.sourceError, conn.sourceFlag
	if !outbound {
		failure, flag = conn.destinationError, conn.destinationFlag
	}
	if !conn.early {
		if flag == "" {
			flag = "-"
		}
		c := z.series(conn, outbound, flag)
		c.closed++
		z.own.count(outbound, -1)
		if flag != "-" {
			c.failed++
			c.hasFailed = true
		}
		z.carried(conn, outbound, at)
	}
	z.access(conn, outbound, at, failure)
}

// stamp is a time as ztunnel writes it.
func stamp(at int64) string {
	return Epoch.Add(time.Duration(at)).Format("2006-01-02T15:04:05.000000Z")
}

type field struct {
	name, value string
	quoted      bool
}

func (z *ztunnel) access(conn *connection, outbound bool, at int64, failure string) {
	level, message := "info", "connection complete"
	if failure != "" {
		level = "error"
	}
	to := conn.to
	source, destination := conn.ends(outbound)
	var fields []field
	// 1.22 quotes identities only.
	add := func(name, value string) {
		fields = append(fields, field{name, value, !z.old || strings.HasSuffix(name, "identity") || name == "error" || name == "duration" || name == "direction"})
	}
	bare := func(name, value string) { fields = append(fields, field{name, value, false}) }
	direction := "outbound"
	port, opened := conn.port, conn.opened
	sent, recv := conn.sent, conn.recv
	if !outbound {
		direction = "inbound"
		opened = max(opened, conn.accepted)
		port = conn.tunnelPort
		sent, recv = recv, sent
	}
	if conn.early {
		level, message = "warn", "connection failed"
		bare("src.addr", fmt.Sprintf("%s:%d", source.ip, conn.port))
		bare("dst.addr", fmt.Sprintf("%s:%d", to.vip, to.port))
		add("direction", direction)
		add("error", failure)
		z.write(at, level, "access", message, fields)
		return
	}
	tunnelled := source.workload.mesh && to.mesh
	if !tunnelled {
		port = conn.port
	}
	bare("src.addr", fmt.Sprintf("%s:%d", source.ip, port))
	if !source.workload.hostNetwork {
		add("src.workload", source.name)
		add("src.namespace", source.workload.namespace)
	}
	if tunnelled {
		add("src.identity", source.workload.identity())
	}
	if !source.workload.hostNetwork {
		add("src.cluster", "Kubernetes")
	}
	if tunnelled {
		called := destination.ip
		if destination == conn.via {
			called = to.vip.String()
		}
		bare("dst.addr", destination.ip+":15008")
		bare("dst.hbone_addr", fmt.Sprintf("%s:%d", called, to.port))
	} else {
		bare("dst.addr", fmt.Sprintf("%s:%d", destination.ip, to.port))
	}
	if !to.outside {
		add("dst.service", to.host())
		add("dst.workload", destination.name)
		add("dst.namespace", destination.workload.namespace)
		if tunnelled {
			add("dst.identity", destination.workload.identity())
		}
		add("dst.cluster", "Kubernetes")
	}
	add("direction", direction)
	bare("bytes_sent", strconv.FormatInt(sent, 10))
	bare("bytes_recv", strconv.FormatInt(recv, 10))
	add("duration", strconv.FormatInt((at-opened)/1_000_000, 10)+"ms")
	if failure != "" {
		if z.old {
			failure, _, _ = strings.Cut(failure, ": explicitly denied by")
		}
		add("error", failure)
	}
	z.write(at, level, "access", message, fields)
}

// write appends one line in the form that this ztunnel uses.
func (z *ztunnel) write(at int64, level, scope, message string, fields []field) {
	if z.quiet && level == "info" {
		return
	}
	b := z.buffer[:0]
	if z.json {
		b = append(b, `{"level":`...)
		b = strconv.AppendQuote(b, level)
		b = append(b, `,"time":"`...)
		b = append(b, stamp(at)...)
		b = append(b, `","scope":`...)
		b = strconv.AppendQuote(b, scope)
		b = append(b, `,"message":`...)
		b = strconv.AppendQuote(b, message)
		for _, f := range fields {
			b = append(b, ',')
			b = strconv.AppendQuote(b, f.name)
			b = append(b, ':')
			if number(f) {
				b = append(b, f.value...)
			} else {
				b = strconv.AppendQuote(b, f.value)
			}
		}
		b = append(b, '}')
	} else {
		b = append(b, stamp(at)...)
		b = append(b, '\t')
		b = append(b, level...)
		b = append(b, '\t')
		b = append(b, scope...)
		b = append(b, '\t')
		b = append(b, message...)
		b = append(b, '\t')
		for i, f := range fields {
			if i > 0 {
				b = append(b, ' ')
			}
			b = append(b, f.name...)
			b = append(b, '=')
			if f.quoted {
				b = strconv.AppendQuote(b, f.value)
			} else {
				b = append(b, f.value...)
			}
		}
	}
	b = append(b, '\n')
	z.log.write(b)
	z.buffer = b
}

func number(f field) bool { return f.name == "bytes_sent" || f.name == "bytes_recv" }
