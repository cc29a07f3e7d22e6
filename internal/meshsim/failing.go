package meshsim

// fails tells whether the connection cannot be had, and until when the client waits for that.
func (s *simulation) fails(conn *connection, c *call, at int64) (bool, int64) {
	done := at + 300_000 + s.random.Int64N(700_000)
	source, to := conn.source, c.to
	refused := func() {
		conn.sourceError, conn.sourceFlag = "http status: 503 Service Unavailable", "CONNECT"
		conn.destinationError, conn.destinationFlag = "connection failed: Connection refused (os error 111)", "CONNECT"
	}
	timedOut := func() {
		done = at + connectTimeout
		conn.sourceError, conn.sourceFlag = "http status: 503 Service Unavailable", "CONNECT"
		conn.destinationError, conn.destinationFlag = "connection failed: Connection timed out (os error 110)", "CONNECT"
	}
	tunnelled := source.workload.mesh && to.mesh
	if !tunnelled {
		// Without a tunnel the client's ztunnel, if there is one, sees for itself.
		refused = func() {
			conn.fail("io error: Connection refused (os error 111)", "connection failed: Connection refused (os error 111)")
		}
		timedOut = func() {
			done = at + connectTimeout
			conn.fail("io error: Connection timed out (os error 110)", "connection failed: Connection timed out (os error 110)")
		}
	}
	switch {
	case tunnelled && s.incidents.hits(at, FaultIdentityError, source.workload) != nil:
		conn.sourceError = "identity error: signing gRPC error (status: The service is currently unavailable, message: certificate request failed)"
		conn.sourceFlag, conn.destinationSilent = "IDENTITY_ERROR", true
	case conn.destination == nil:
		conn.sourceError = "no healthy upstream: " + to.vip.String()
		conn.early, conn.destinationSilent = true, true
	case s.denies(c, source.workload, at) != "":
		conn.sourceError, conn.sourceFlag = "http status: 401 Unauthorized", "CONNECT"
		conn.destinationError = "connection closed due to policy rejection: explicitly denied by: " + to.namespace + "/" + s.denies(c, source.workload, at)
		if s.incidents.hits(at, FaultAllowList, to) != nil {
			conn.destinationError = "connection closed due to policy rejection: allow policies exist, but none allowed"
		}
		conn.destinationFlag = "DENY"
	case tunnelled && s.proxies.revoked(conn, at):
	case s.incidents.uncaptured(conn.destination, at) != nil:
		conn.sourceError, conn.sourceFlag, conn.destinationSilent = "io error: Connection refused (os error 111)", "CONNECT", true
	case s.incidents.nodeDead(at, conn.destination.node) != nil:
		conn.destinationSilent = true
		switch {
		case s.incidents.nodeDead(at, conn.destination.node).whole:
			done = at + connectTimeout
			conn.sourceError, conn.sourceFlag = "connection timed out, maybe a NetworkPolicy is blocking HBONE port 15008: deadline has elapsed", "CONNECT"
			if !tunnelled {
				conn.sourceError = "io error: Connection timed out (os error 110)"
			}
		case tunnelled:
			conn.sourceError, conn.sourceFlag = "io error: Connection refused (os error 111)", "CONNECT"
		default:
			// Nobody stands between the two.
			return false, 0
		}
	case s.incidents.cutOff(at, source, conn.destination) != nil:
		return true, s.swallow(conn, s.incidents.cutOff(at, source, conn.destination), c, at)
	case s.refuses(conn.destination, at):
		refused()
	case s.incidents.hits(at, FaultConnectionTimeout, to) != nil:
		timedOut()
	case tunnelled && s.breaksHandshake(to, at):
		conn.sourceError, conn.sourceFlag = "tls error: tls handshake error: received fatal alert: CertificateUnknown", "TLS_FAILURE"
		conn.destinationSilent = true
	default:
		return false, 0
	}
	if conn.destination != nil {
		conn.tunnelPort = s.tunnel(source, conn.destination)
	}
	conn.through()
	s.open(conn)
	s.close(conn, done)
	return true, done
}

// fail sets what either side's ztunnel says, if there is one.
func (conn *connection) fail(source, destination string) {
	conn.sourceError, conn.sourceFlag = source, "CONNECT"
	conn.destinationError, conn.destinationFlag = destination, "CONNECT"
}

// denies is the name of the policy that denies a call, empty if none does.
func (s *simulation) denies(c *call, source *workload, at int64) string {
	if s.denied == c {
		return "always-denied"
	}
	if s.incidents.hits(at, FaultAllowList, c.to) != nil && source.mesh {
		return allowNobody
	}
	if i := s.incidents.hits(at, FaultPolicyDenied, c.to); i != nil && i.caller == source {
		return policyNamespace
	}
	return ""
}

// refuses tells whether nobody listens in a pod: by a fault, or as it is being replaced.
func (s *simulation) refuses(p *pod, at int64) bool {
	if p.deaf > 0 && at >= p.until-p.deaf {
		return true
	}
	if i := s.incidents.hits(at, FaultPartialRefused, p.workload); i != nil && i.pod == p {
		return true
	}
	if p.workload.refusals > 0 && s.random.Float64() < p.workload.refusals || s.incidents.hits(at, FaultCrashLoop, p.workload).crashed(at) {
		return true
	}
	return s.incidents.hits(at, FaultConnectionRefused, p.workload) != nil
}

// breaksHandshake tells whether a workload's ztunnel cannot identify itself to those who call it.
func (s *simulation) breaksHandshake(to *workload, at int64) bool {
	// A tunnel that is there already needs no certificate.
	if i := s.incidents.hits(at, FaultIdentityError, to); i != nil && i.whole && s.random.IntN(2) == 0 {
		return true
	}
	return s.incidents.hits(at, FaultTLSFailure, to) != nil
}
