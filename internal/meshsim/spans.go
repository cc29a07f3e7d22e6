package meshsim

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// traceContext is what a request carries from one instrumented workload to the next.
type traceContext struct {
	traceID [16]byte
	parent  [8]byte
	valid   bool
}

type span struct {
	writer  *spanWriter
	context traceContext
	parent  [8]byte
	pod     *pod
}

// spanWriter writes one ExportTraceServiceRequest a span, as an application without batching sends it.
type spanWriter struct {
	out    *part
	random *rand.Rand
	queue  *effects
	buffer []byte
}

func (w *spanWriter) newTrace() traceContext {
	var t traceContext
	fill(t.traceID[:8], w.random.Uint64())
	fill(t.traceID[8:], w.random.Uint64())
	t.valid = true
	return t
}

func fill(b []byte, v uint64) {
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
}

// start returns nil for a workload that sends no spans.
func (w *spanWriter) start(trace traceContext, p *pod, instrumented bool) *span {
	if !instrumented || !trace.valid {
		return nil
	}
	sp := &span{writer: w, parent: trace.parent, pod: p, context: trace}
	fill(sp.context.parent[:], w.random.Uint64()|1)
	return sp
}

// context is what goes on to the callee: without a span of its own a workload passes the context on.
func (sp *span) child(trace traceContext) traceContext {
	if sp == nil {
		return trace
	}
	return sp.context
}

func (sp *span) finishClient(c *call, start, end int64, status int, failed bool) {
	if sp == nil {
		return
	}
	attributes := fmt.Sprintf(`{"key":"server.address","value":{"stringValue":%q}},{"key":"network.peer.address","value":{"stringValue":"%s:%d"}}`,
		c.to.app, c.to.vip, c.to.port)
	name := c.to.app
	if c.to.http {
		name = "GET " + c.route
		attributes += fmt.Sprintf(`,{"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"url.template","value":{"stringValue":%q}}`, c.route)
	}
	sp.write(name, 3, start, end, attributes, status, failed, c.to.http)
}

func (sp *span) finishServer(c *call, conn *connection, start, end int64, status int) {
	if sp == nil {
		return
	}
	source, _ := conn.ends(false)
	attributes := fmt.Sprintf(`{"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"http.route","value":{"stringValue":%q}},`+
		`{"key":"client.address","value":{"stringValue":"%s:%d"}}`, c.route, source.ip, conn.port)
	sp.write("GET "+c.route, 2, start, end, attributes, status, status >= 500, true)
}

func (sp *span) write(name string, kind int, start, end int64, attributes string, status int, failed, http bool) {
	if http && status != 0 {
		attributes += fmt.Sprintf(`,{"key":"http.response.status_code","value":{"intValue":"%d"}}`, status)
	}
	code := "{}"
	if failed {
		code = `{"code":2}`
	}
	parent := ""
	if sp.parent != [8]byte{} {
		parent = `"parentSpanId":"` + hex.EncodeToString(sp.parent[:]) + `",`
	}
	out := sp.writer
	epoch := Epoch.UnixNano()
	out.queue.schedule(end, func() {
		b := out.buffer[:0]
		b = fmt.Appendf(b, `{"resourceSpans":[{"resource":{"attributes":[%s]},`+
			`"scopeSpans":[{"scope":{"name":"meshsim"},"spans":[{"traceId":"%x","spanId":"%x",%s"name":%q,"kind":%d,`,
			sp.pod.resource(), sp.context.traceID, sp.context.parent, parent, name, kind)
		b = append(b, `"startTimeUnixNano":"`...)
		b = strconv.AppendInt(b, epoch+start, 10)
		b = append(b, `","endTimeUnixNano":"`...)
		b = strconv.AppendInt(b, epoch+end, 10)
		b = append(b, `","attributes":[`...)
		b = append(b, attributes...)
		b = append(b, `],"status":`...)
		b = append(b, code...)
		b = append(b, "}]}]}]}\n"...)
		out.out.write(b)
		out.buffer = b
	})
}
